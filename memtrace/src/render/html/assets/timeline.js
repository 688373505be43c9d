// RSS and what is in use over time: lines that part are the answer.

const born = (() => {
  const all = new Float64Array(Math.max(bins, 1));
  for (let site = 0; site < sites.count; site++)
    eachBirth(site, (bin, size) => {
      all[Math.min(bin, bins - 1)] += size;
    });
  return all;
})();

// What was obtained when, and never freed: below the lines.
function strip() {
  if (!bins) return null;
  const largest = Math.max(...born) || 1,
    base = chart.total - 4;
  const bars = Array.from(born, (size, bin) => {
    const [from, until] = [bin, bin + 1].map((it) => chart.x(Math.min(it * binNs, chart.end)));
    const height = size ? Math.max(1.5, (size / largest) * (chart.strip - 18)) : 0;
    return svg("rect", {
      x: from + 0.5,
      y: base - height,
      width: Math.max(0.5, until - from - 1),
      height,
      fill: "var(--in-use)",
    });
  });
  return [
    svg("line", {
      class: "grid",
      x1: chart.left,
      x2: chart.width - chart.right,
      y1: base,
      y2: base,
    }),
    svg("text", { x: chart.left - 8, y: base - 4, "text-anchor": "end" }, "kept"),
    bars,
  ];
}

function drawTimeline() {
  const box = $("time-chart");
  chart.width = Math.max(280, box.clientWidth);
  chart.height = chart.width < 600 ? 210 : 280;
  chart.total = chart.height + (bins ? chart.strip : 0);
  chart.end = Math.max(
    report.window.duration_ns,
    samples.length ? samples[samples.length - 1].at_ns : 0,
    1,
  );
  const largest = Math.max(
    report.timeline.rss_peak_bytes,
    ...shownSeries.flatMap((it) => it.points.map((point) => point[1])),
    1024,
  );
  chart.top_bytes = largest * 1.08;
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${chart.width} ${chart.total}`,
      height: chart.total,
      role: "group",
      "aria-label": "Memory over time, with a selectable window",
    },
    axes(),
    strip(),
    shownSeries.map((it) => [line(it), dots(it)]),
    peakMark(),
    changeMarks(),
    svg("g", { id: "brush" }),
    svg("line", {
      id: "cursor",
      class: "cursor",
      y1: chart.top,
      y2: chart.total,
      visibility: "hidden",
    }),
  );
  fill(box, picture);
  attachBrush(picture);
  readOut(null);
}

// The legend tells the values at a time, or those at the end.
function readOut(ns) {
  const at = ns === null ? chart.end : ns;
  const nearest = (points) =>
    points.reduce((one, other) => (Math.abs(other[0] - at) < Math.abs(one[0] - at) ? other : one));
  const items = shownSeries.map((series) =>
    el(
      "li",
      null,
      svg(
        "svg",
        { width: 26, height: 8, "aria-hidden": "true" },
        svg("line", {
          x1: 0,
          x2: 26,
          y1: 4,
          y2: 4,
          stroke: `var(--${series.colour})`,
          "stroke-width": 3,
          "stroke-dasharray": series.dash || null,
        }),
      ),
      series.name + " ",
      el("b", null, bytes(nearest(series.points)[1])),
    ),
  );
  const when = el("li", null, ns === null ? "at the end" : "at " + duration(at));
  const bin = bins ? Math.min(bins - 1, Math.floor(at / binNs)) : -1;
  const kept =
    bin >= 0 &&
    el(
      "li",
      null,
      swatch("var(--in-use)"),
      ns === null ? "kept in all " : "obtained then and kept ",
      el("b", null, bytes(ns === null ? sum(born) : born[bin])),
    );
  fill($("time-legend"), when, items, kept, changeAt(ns));
  const cursor = $("cursor");
  cursor.setAttribute("visibility", ns === null ? "hidden" : "visible");
  for (const end of ["x1", "x2"]) cursor.setAttribute(end, chart.x(at));
}

function showTimeline() {
  const hint = bins
    ? "Drag over the chart, or move its two handles by the arrow keys, to see only what was obtained in that time and never freed."
    : "There is no record of when what survived was obtained, so that no time can be selected.";
  fill(
    $("time-hint"),
    samples.length ? hint : "There are no samples: the window was over at once. " + hint,
  );
  drawTimeline();
  onChange(drawBrush);
  new ResizeObserver(() => {
    if ($("time-chart").clientWidth !== chart.width) {
      drawTimeline();
      drawBrush();
    }
  }).observe($("time-chart"));
}
