// The lines of the timeline and their axes.

const SERIES = [
  { field: "rss_bytes", name: "RSS", colour: "text", dash: "" },
  {
    field: "heap_resident_bytes",
    name: "heap, resident",
    colour: "cached",
    dash: "7 3",
    dots: true,
  },
  { field: "in_use_bytes", name: "in use", colour: "in-use", dash: "2 2", dots: true },
  {
    field: "trapped_bytes",
    name: "free but trapped",
    colour: "trapped",
    dash: "9 3 2 3",
    dots: true,
  },
  { field: "live_bytes", name: "allocated since attach, live", colour: "live", dash: "" },
];
const PEAKS = {
  samples: "highest sample",
  high_water_mark: "exact: VmHWM",
  reset_high_water_mark: "exact: VmHWM, reset at the start",
};

const chart = {
  left: 66,
  right: 12,
  top: 16,
  bottom: 22,
  strip: 46,
  width: 0,
  height: 0,
  end: 1,
  top_bytes: 1,
};
const samples = report.timeline.samples;

chart.x = (ns) => chart.left + (ns / chart.end) * (chart.width - chart.left - chart.right);
chart.ns = (x) =>
  Math.min(1, Math.max(0, (x - chart.left) / (chart.width - chart.left - chart.right))) * chart.end;
chart.y = (value) =>
  chart.height -
  chart.bottom -
  (value / chart.top_bytes) * (chart.height - chart.bottom - chart.top);

const shownSeries = SERIES.map((series) => ({
  ...series,
  points: samples
    .filter((it) => typeof it[series.field] === "number")
    .map((it) => [it.at_ns, it[series.field]]),
})).filter((series) => series.points.length > 0);

// Round steps in the unit that the largest has.
function ticks(largest, units) {
  const unit = units.filter((it) => largest >= it).pop() || units[0];
  const rough = largest / unit / 4;
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 2.5, 5, 10].map((it) => it * power).find((it) => it >= rough) * unit;
  return {
    step,
    all: Array.from({ length: Math.floor(largest / step + 1e-9) + 1 }, (_, at) => at * step),
  };
}

const BYTE_UNITS = [1, 1024, 1024 ** 2, 1024 ** 3, 1024 ** 4];
const TIME_UNITS = [1e3, 1e6, 1e9, 60e9, 3600e9];
const tickBytes = (value) => (value ? bytes(value).replace(/\.0 /, " ") : "0");
const tickTime = (ns) => (ns ? duration(ns).replace(/\.0 /, " ") : "0");

function axes() {
  const rows = ticks(chart.top_bytes, BYTE_UNITS).all.map((value) => [
    svg("line", {
      class: "grid",
      x1: chart.left,
      x2: chart.width - chart.right,
      y1: chart.y(value),
      y2: chart.y(value),
    }),
    svg(
      "text",
      { x: chart.left - 8, y: chart.y(value) + 4, "text-anchor": "end" },
      tickBytes(value),
    ),
  ]);
  const times = ticks(chart.end, TIME_UNITS).all.map((ns) =>
    svg(
      "text",
      {
        x: chart.x(ns),
        y: chart.height - 6,
        "text-anchor": chart.x(ns) > chart.width - 40 ? "end" : "middle",
      },
      tickTime(ns),
    ),
  );
  return [rows, times];
}

const line = (series) =>
  svg("path", {
    class: "series",
    stroke: `var(--${series.colour})`,
    "stroke-dasharray": series.dash || null,
    d: series.points
      .map(
        ([ns, value], at) =>
          `${at ? "L" : "M"}${chart.x(ns).toFixed(1)} ${chart.y(value).toFixed(1)}`,
      )
      .join(""),
  });

const dots = (series) =>
  (series.dots || series.points.length === 1) &&
  series.points.length < 60 &&
  series.points.map(([ns, value]) =>
    svg("circle", { cx: chart.x(ns), cy: chart.y(value), r: 3, fill: `var(--${series.colour})` }),
  );

function peakMark() {
  const { rss_peak_bytes: peak, rss_peak_source: source } = report.timeline;
  if (!source || !samples.length) return null;
  const of = (it) => Math.max(it.rss_bytes, it.rss_peak_bytes || 0);
  const at = samples.reduce((one, other) => (of(other) > of(one) ? other : one)).at_ns;
  const [x, y] = [chart.x(at), chart.y(peak)];
  const right = x > chart.width / 2;
  return [
    svg("circle", { cx: x, cy: y, r: 5, fill: "none", stroke: "var(--text)", "stroke-width": 2 }),
    svg(
      "text",
      {
        x: x + (right ? -10 : 10),
        y: y - 4,
        "text-anchor": right ? "end" : "start",
        style: { fill: "var(--text)" },
      },
      `peak ${bytes(peak)} (${PEAKS[source]})`,
    ),
  ];
}
