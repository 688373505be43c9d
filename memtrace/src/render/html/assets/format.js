// Numbers as people read them: the same as in the text report.

function bytes(value) {
  if (value < 0) return "-" + bytes(-value);
  if (value < 1024) return Math.round(value) + " B";
  let unit = -1;
  do {
    value /= 1024;
    unit += 1;
  } while (value >= 1023.95 && unit < 4);
  return value.toFixed(1) + " " + ["KiB", "MiB", "GiB", "TiB", "PiB"][unit];
}

const signedBytes = (value) => (value < 0 ? bytes(value) : "+" + bytes(value));

const count = (value) => Math.round(value).toLocaleString("en-US");

function duration(ns) {
  if (ns < 1e3) return Math.round(ns) + " ns";
  if (ns < 1e6) return (ns / 1e3).toFixed(1) + " us";
  if (ns < 1e9) return (ns / 1e6).toFixed(1) + " ms";
  if (ns < 100e9) return (ns / 1e9).toFixed(1) + " s";
  const seconds = Math.floor(ns / 1e9);
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  if (seconds < 3600) return Math.floor(seconds / 60) + "m " + two(seconds % 60) + "s";
  return Math.floor(seconds / 3600) + "h " + two((seconds % 3600) / 60) + "m";
}

function share(part, whole) {
  const percent = (part * 100) / (whole || 1);
  if (part > 0 && percent < 0.05) return "<0.1 %";
  return percent.toFixed(1) + " %";
}

// Numbers that are estimates have an interval that they are in with 95 % confidence.
const intervalWords = ({ estimate: of }) =>
  of ? `${bytes(of.low_bytes)} to ${bytes(of.high_bytes)} (95 %)` : null;

const plural = (number, word) => count(number) + " " + word + (number === 1 ? "" : "s");

// Control characters and those that turn the direction of writing mislead a reader.
const clean = (text) =>
  String(text).replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufffe\uffff]/g, "?");

// The middle of a very long name says least.
const shortened = (name, most) =>
  name.length <= most
    ? name
    : name.slice(0, Math.ceil(most * 0.7)) + " … " + name.slice(-Math.floor(most * 0.25));

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/[.\s]*$/, ".");
