// The heap as it was at the end: what each arena's resident memory is.

const PARTS = [
  ["in_use_bytes", "in use", "in-use"],
  ["trapped_bytes", "free but trapped", "trapped"],
  ["returnable_bytes", "free, returnable", "returnable"],
  ["cached_bytes", "in tcaches and fastbins", "cached"],
  ["top_bytes", "unused end (top)", "top"],
  ["metadata_bytes", "the allocator's own", "metadata"],
  ["unknown_bytes", "not understood", "unknown"],
];
const ARENAS = 32;
// Squares of an arena that is drawn page by page.
const MOST_CELLS = 16384;
// Per cent of the largest arena's: the parts of a small one are to be seen, too.
const NARROWEST = 15;

const residentOf = (resident) => sum(PARTS.map(([field]) => resident[field] || 0));
const isStranded = (arena) => arena.index > 0 && arena.attached_threads === 0;

const partsOf = (resident) =>
  PARTS.map(([field, name, colour]) => [
    `var(--${colour})`,
    resident[field] || 0,
    `${name}: ${bytes(resident[field] || 0)}`,
  ]);

const partWords = (resident) =>
  PARTS.filter(([field]) => resident[field] > 0)
    .map(([field, name]) => `${name} ${bytes(resident[field])}`)
    .join(", ");

function threadWords(arena) {
  if (isStranded(arena)) return el("span", { class: "stranded" }, "stranded: no thread");
  return arena.attached_threads === null ? "" : plural(arena.attached_threads, "thread");
}

// Page by page where the walk tells it, as runs of [part, pages]; else a bar.
function picture(arena, largest) {
  if (arena.cells) return cells(arena.cells);
  const size = residentOf(arena.resident);
  return meter(
    partsOf(arena.resident),
    size || 1,
    Math.max(NARROWEST, (size / largest) * 100) + "%",
  );
}

// Of a large arena several pages are one square, of what most of them are.
function cells(runs) {
  const pages = sum(runs.map(([, length]) => length)),
    each = Math.ceil(pages / MOST_CELLS) || 1;
  const wide = 128,
    side = 4,
    tally = Array.from({ length: Math.ceil(pages / each) }, () => []);
  let page = 0;
  for (const [part, length] of runs) {
    for (const end = page + length; page < end;) {
      const at = Math.floor(page / each),
        next = Math.min(end, (at + 1) * each);
      tally[at][part] = (tally[at][part] || 0) + next - page;
      page = next;
    }
  }
  const canvas = el("canvas", {
    class: "cells",
    width: wide * side,
    height: Math.ceil(tally.length / wide) * side,
    role: "img",
    "aria-label": `${count(pages)} pages` + (each > 1 ? `, ${each} a square` : ""),
  });
  const context = canvas.getContext("2d"),
    inks = PARTS.map(([, , colour]) => colourOf(colour));
  tally.forEach((counts, at) => {
    const part = counts.reduce((most, it, part) => (it > (counts[most] || 0) ? part : most), -1);
    context.fillStyle = inks[part] || "transparent";
    context.fillRect((at % wide) * side, Math.floor(at / wide) * side, side - 1, side - 1);
  });
  return canvas;
}

const arenaRow = (name, about, resident, drawn) =>
  el(
    "tr",
    { role: "row" },
    el(
      "th",
      { scope: "row", role: "rowheader", class: "name", style: { color: "inherit" } },
      name,
      el("br"),
      el("span", { class: "hint" }, about),
    ),
    el(
      "td",
      { class: "parts", role: "cell" },
      drawn,
      el("span", { class: "hint" }, partWords(resident)),
    ),
    el(
      "td",
      { class: "num size", role: "cell" },
      el("b", null, bytes(residentOf(resident))),
      el("span", { class: "wide hint" }, " resident"),
    ),
  );

const arenaName = (arena) => (arena.index === 0 ? "main arena" : `arena ${arena.index}`);

function mappedRow(heap, largest) {
  const mapped = { resident: { in_use_bytes: heap.mapped_resident_bytes } };
  const blocks = plural(heap.mapped.count, "block");
  return arenaRow("mapped one by one", blocks, mapped.resident, picture(mapped, largest));
}

function strandedWords(arenas) {
  const stranded = arenas.filter(isStranded);
  if (!stranded.length) return null;
  const resident = bytes(sum(stranded.map((it) => residentOf(it.resident))));
  const verb = stranded.length === 1 ? "has" : "have";
  const words = `${plural(stranded.length, "arena")} with ${resident} resident ${verb} no thread left.`;
  return el("p", { class: "stranded" }, words);
}

function settings({ parameters: of, trim_bytes: trim, error_bound_bytes: bound }) {
  const most = of.arena_max ? `, at most ${of.arena_max} arenas` : "";
  return [
    `malloc_trim(0) would give back ${bytes(trim)}. `,
    `mmap threshold ${bytes(of.mmap_threshold_bytes)}, `,
    `trim threshold ${bytes(of.trim_threshold_bytes)}${most}.`,
    bound > 0 && ` Sums can be off by ${bytes(bound)}.`,
  ];
}

function glibcTable(heap) {
  const all = [...heap.arenas].sort(
    (one, other) => residentOf(other.resident) - residentOf(one.resident),
  );
  const sizes = all.map((arena) => residentOf(arena.resident));
  const largest = Math.max(1, heap.mapped_resident_bytes, ...sizes);
  const row = (arena) =>
    arenaRow(arenaName(arena), threadWords(arena), arena.resident, picture(arena, largest));
  const mapped = heap.mapped.count > 0 && mappedRow(heap, largest);
  const body = el("tbody", { role: "rowgroup" }, mapped, all.slice(0, ARENAS).map(row));
  const showAll = (event) => {
    event.target.remove();
    body.append(...all.slice(ARENAS).map(row));
  };
  const left = all.length - ARENAS;
  return [
    el("h3", null, `glibc ${heap.version || ""}: ${plural(all.length, "arena")}`),
    strandedWords(all),
    el("table", { class: "arenas", role: "table", "aria-label": "Arenas" }, body),
    left > 0 && el("button", { type: "button", click: showAll }, `Show ${left} more arenas`),
    el("p", { class: "hint" }, settings(heap)),
  ];
}

const otherTable = (title, heap) => [
  el("h3", null, title),
  el(
    "table",
    { class: "arenas", role: "table", "aria-label": title },
    el(
      "tbody",
      { role: "rowgroup" },
      arenaRow(
        "all of it",
        "",
        heap.resident,
        picture(heap, Math.max(1, residentOf(heap.resident))),
      ),
    ),
  ),
];

function showHeap() {
  const { heap } = report;
  if (!heap) {
    fill($("heap"), head("heap", "The heap"), el("p", { class: "hint" }, "It was not walked."));
    return;
  }
  const hasUnknown = (it) =>
    it[0] !== "unknown_bytes" ||
    heap.glibc.some((one) => one.arenas.some((arena) => arena.resident.unknown_bytes > 0));
  fill(
    $("heap"),
    head("heap", "The heap"),
    el(
      "p",
      { class: "hint" },
      "Resident memory of each arena at the end. Trapped is free memory on pages that blocks in use keep.",
    ),
    el(
      "ul",
      { class: "legend" },
      PARTS.filter(hasUnknown).map(([, name, colour]) =>
        el("li", null, swatch(`var(--${colour})`), name),
      ),
    ),
    heap.glibc.map(glibcTable),
    heap.pymalloc.map((it) =>
      otherTable(
        `Python ${it.version}, small objects (pymalloc): ${plural(it.arenas, "arena")}`,
        it,
      ),
    ),
    heap.musl.map((it) => otherTable("musl", it)),
    heap.opaque.map((it) =>
      el("p", null, `${it.name} (${it.path}) was recognised; its heap is not walked.`),
    ),
  );
}
