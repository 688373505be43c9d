// RSS and what is in use over time: lines that part are the answer.

const SERIES = [
  { field: "rss_bytes", name: "RSS", colour: "text", dash: "" },
  { field: "heap_resident_bytes", name: "heap, resident", colour: "cached", dash: "7 3", dots: true },
  { field: "in_use_bytes", name: "in use", colour: "in-use", dash: "2 2", dots: true },
  { field: "trapped_bytes", name: "free but trapped", colour: "trapped", dash: "9 3 2 3", dots: true },
  { field: "live_bytes", name: "allocated since attach, live", colour: "live", dash: "" },
];
const PEAKS = {
  samples: "highest sample", high_water_mark: "exact: VmHWM",
  reset_high_water_mark: "exact: VmHWM, reset at the start",
};

const chart = { left: 66, right: 12, top: 16, bottom: 22, strip: 46, width: 0, height: 0, end: 1, top_bytes: 1 };
const samples = report.timeline.samples;

chart.x = (ns) => chart.left + (ns / chart.end) * (chart.width - chart.left - chart.right);
chart.ns = (x) => Math.min(1, Math.max(0, (x - chart.left) / (chart.width - chart.left - chart.right))) * chart.end;
chart.y = (value) => chart.height - chart.bottom - (value / chart.top_bytes) * (chart.height - chart.bottom - chart.top);

const shownSeries = SERIES.map((series) => ({
  ...series,
  points: samples.filter((it) => typeof it[series.field] === "number").map((it) => [it.at_ns, it[series.field]]),
})).filter((series) => series.points.length > 0);

// Round steps in the unit that the largest has.
function ticks(largest, units) {
  const unit = units.filter((it) => largest >= it).pop() || units[0];
  const rough = largest / unit / 4;
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 2.5, 5, 10].map((it) => it * power).find((it) => it >= rough) * unit;
  return { step, all: Array.from({ length: Math.floor(largest / step + 1e-9) + 1 }, (_, at) => at * step) };
}

const BYTE_UNITS = [1, 1024, 1024 ** 2, 1024 ** 3, 1024 ** 4];
const TIME_UNITS = [1e3, 1e6, 1e9, 60e9, 3600e9];
const tickBytes = (value) => (value ? bytes(value).replace(/\.0 /, " ") : "0");
const tickTime = (ns) => (ns ? duration(ns).replace(/\.0 /, " ") : "0");

function axes() {
  const rows = ticks(chart.top_bytes, BYTE_UNITS).all.map((value) => [
    svg("line", { class: "grid", x1: chart.left, x2: chart.width - chart.right, y1: chart.y(value), y2: chart.y(value) }),
    svg("text", { x: chart.left - 8, y: chart.y(value) + 4, "text-anchor": "end" }, tickBytes(value)),
  ]);
  const times = ticks(chart.end, TIME_UNITS).all.map((ns) =>
    svg("text", { x: chart.x(ns), y: chart.height - 6, "text-anchor": chart.x(ns) > chart.width - 40 ? "end" : "middle" }, tickTime(ns)));
  return [rows, times];
}

const line = (series) => svg("path", {
  class: "series", stroke: `var(--${series.colour})`, "stroke-dasharray": series.dash || null,
  d: series.points.map(([ns, value], at) => `${at ? "L" : "M"}${chart.x(ns).toFixed(1)} ${chart.y(value).toFixed(1)}`).join(""),
});

const dots = (series) => (series.dots || series.points.length === 1) && series.points.length < 60 && series.points.map(([ns, value]) =>
  svg("circle", { cx: chart.x(ns), cy: chart.y(value), r: 3, fill: `var(--${series.colour})` }));

function peakMark() {
  const { rss_peak_bytes: peak, rss_peak_source: source } = report.timeline;
  if (!source || !samples.length) return null;
  const of = (it) => Math.max(it.rss_bytes, it.rss_peak_bytes || 0);
  const at = samples.reduce((one, other) => (of(other) > of(one) ? other : one)).at_ns;
  const [x, y] = [chart.x(at), chart.y(peak)];
  const right = x > chart.width / 2;
  return [
    svg("circle", { cx: x, cy: y, r: 5, fill: "none", stroke: "var(--text)", "stroke-width": 2 }),
    svg("text", { x: x + (right ? -10 : 10), y: y - 4, "text-anchor": right ? "end" : "start", style: { fill: "var(--text)" } }, `peak ${bytes(peak)} (${PEAKS[source]})`),
  ];
}

const born = (() => {
  const all = new Float64Array(Math.max(bins, 1));
  for (let site = 0; site < sites.count; site++) eachBirth(site, (bin, size) => { all[Math.min(bin, bins - 1)] += size; });
  return all;
})();

// What was obtained when, and never freed: below the lines.
function strip() {
  if (!bins) return null;
  const largest = Math.max(...born) || 1, base = chart.total - 4;
  const bars = Array.from(born, (size, bin) => {
    const [from, until] = [bin, bin + 1].map((it) => chart.x(Math.min(it * binNs, chart.end)));
    const height = size ? Math.max(1.5, (size / largest) * (chart.strip - 18)) : 0;
    return svg("rect", { x: from + 0.5, y: base - height, width: Math.max(0.5, until - from - 1), height, fill: "var(--in-use)" });
  });
  return [
    svg("line", { class: "grid", x1: chart.left, x2: chart.width - chart.right, y1: base, y2: base }),
    svg("text", { x: chart.left - 8, y: base - 4, "text-anchor": "end" }, "kept"), bars,
  ];
}

function drawTimeline() {
  const box = $("time-chart");
  chart.width = Math.max(280, box.clientWidth);
  chart.height = chart.width < 600 ? 210 : 280;
  chart.total = chart.height + (bins ? chart.strip : 0);
  chart.end = Math.max(report.window.duration_ns, samples.length ? samples[samples.length - 1].at_ns : 0, 1);
  const largest = Math.max(report.timeline.rss_peak_bytes, ...shownSeries.flatMap((it) => it.points.map((point) => point[1])), 1024);
  chart.top_bytes = largest * 1.08;
  const picture = svg("svg", { viewBox: `0 0 ${chart.width} ${chart.total}`, height: chart.total, role: "group", "aria-label": "Memory over time, with a selectable window" },
    axes(), strip(), shownSeries.map((it) => [line(it), dots(it)]), peakMark(), svg("g", { id: "brush" }), svg("line", { id: "cursor", class: "cursor", y1: chart.top, y2: chart.total, visibility: "hidden" }));
  fill(box, picture);
  attachBrush(picture);
  readOut(null);
}

// The legend tells the values at a time, or those at the end.
function readOut(ns) {
  const at = ns === null ? chart.end : ns;
  const nearest = (points) => points.reduce((one, other) => (Math.abs(other[0] - at) < Math.abs(one[0] - at) ? other : one));
  const items = shownSeries.map((series) => el("li", null,
    svg("svg", { width: 26, height: 8, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: `var(--${series.colour})`, "stroke-width": 3, "stroke-dasharray": series.dash || null })),
    series.name + " ", el("b", null, bytes(nearest(series.points)[1]))));
  const when = el("li", null, ns === null ? "at the end" : "at " + duration(at));
  const bin = bins ? Math.min(bins - 1, Math.floor(at / binNs)) : -1;
  const kept = bin >= 0 && el("li", null, swatch("var(--in-use)"), ns === null ? "kept in all " : "obtained then and kept ", el("b", null, bytes(ns === null ? sum(born) : born[bin])));
  fill($("time-legend"), when, items, kept);
  const cursor = $("cursor");
  cursor.setAttribute("visibility", ns === null ? "hidden" : "visible");
  for (const end of ["x1", "x2"]) cursor.setAttribute(end, chart.x(at));
}

function showTimeline() {
  const hint = bins
    ? "Drag over the chart, or move its two handles by the arrow keys, to see only what was obtained in that time and never freed."
    : "There is no record of when what survived was obtained, so that no time can be selected.";
  fill($("time-hint"), samples.length ? hint : "There are no samples: the window was over at once. " + hint);
  drawTimeline();
  onChange(drawBrush);
  new ResizeObserver(() => { if ($("time-chart").clientWidth !== chart.width) { drawTimeline(); drawBrush(); } }).observe($("time-chart"));
}
