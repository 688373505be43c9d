// When the target was looked at more or less closely, to keep to the limit of what that may cost.

const changes = (report.cost && report.cost.changes) || [];

// Pixels from a mark that the pointer may be.
const NEAR = 6;

const changeWords = (change) =>
  `from ${duration(change.at_ns)} on: ${change.to}, not ${change.from}` +
  (change.why ? `, because ${change.why}` : "");

// Dashed lines over the whole height, each with its words for who hovers over it.
const changeMarks = () =>
  changes.map((change) => {
    const place = {
      x1: chart.x(change.at_ns),
      x2: chart.x(change.at_ns),
      y1: chart.top,
      y2: chart.total - 4,
    };
    return svg(
      "g",
      { class: "change" },
      svg("title", null, changeWords(change)),
      svg("line", { ...place, class: "target" }),
      svg("line", place),
    );
  });

// For the legend: what was changed where the pointer is; without one, how often.
function changeAt(ns) {
  if (!changes.length) return null;
  if (ns === null)
    return el("li", null, swatch("var(--trapped)"), plural(changes.length, "change") + " of setting");
  const distance = (change) => Math.abs(chart.x(change.at_ns) - chart.x(ns));
  const nearest = changes.reduce((one, other) => (distance(other) < distance(one) ? other : one));
  return distance(nearest) <= NEAR && el("li", { class: "changed" }, changeWords(nearest));
}
