// Selecting a part of the window: by dragging, or by two handles that keys move.

const binAt = (x) => Math.min(bins - 1, Math.max(0, Math.floor(chart.ns(x) / binNs)));

function attachBrush(picture) {
  const place = (event) => event.clientX - picture.getBoundingClientRect().left;
  let start = null;
  picture.addEventListener("pointerdown", (event) => {
    if (!bins || event.button !== 0 || event.target.closest(".handle")) return;
    start = place(event);
    picture.setPointerCapture(event.pointerId);
  });
  picture.addEventListener("pointermove", (event) => {
    readOut(chart.ns(place(event)));
    if (start !== null && Math.abs(place(event) - start) > 3)
      drawBrush(between(start, place(event)));
  });
  picture.addEventListener("pointerup", (event) => {
    if (start === null) return;
    const chosen = between(start, place(event));
    const again =
      state.selected &&
      Math.abs(place(event) - start) <= 3 &&
      String(chosen) === String(state.selected);
    start = null;
    select(again ? null : chosen);
    drawBrush();
  });
  picture.addEventListener("pointercancel", () => {
    start = null;
    drawBrush();
  });
  picture.addEventListener("pointerleave", () => {
    if (start === null) readOut(null);
  });
}

const between = (one, other) => [binAt(Math.min(one, other)), binAt(Math.max(one, other)) + 1];

function drawBrush(range = state.selected) {
  if (!bins || !$("brush")) return;
  const focused = document.activeElement && document.activeElement.dataset.edge;
  const [from, until] = range || [0, bins];
  const [left, right] = [from, until].map((bin) => chart.x(Math.min(bin * binNs, chart.end)));
  fill(
    $("brush"),
    range &&
      svg("rect", {
        class: "brush",
        x: left,
        y: chart.top,
        width: right - left,
        height: chart.total - chart.top - 4,
      }),
    range &&
      [left, right].map((x) =>
        svg("line", { class: "edge", x1: x, x2: x, y1: chart.top, y2: chart.total - 4 }),
      ),
    handle("from", left, from, 0, until - 1),
    handle("until", right, until, from + 1, bins),
  );
  if (focused) $("brush").querySelector(`[data-edge="${focused}"]`).focus({ preventScroll: true });
}

const handle = (edge, x, bin, least, most) =>
  svg("rect", {
    class: "handle",
    "data-edge": edge,
    role: "slider",
    tabindex: 0,
    x: x - 4,
    y: chart.total - chart.strip / 2 - 14,
    width: 8,
    height: 20,
    rx: 3,
    "aria-label": edge === "from" ? "Selection starts" : "Selection ends",
    "aria-valuemin": least,
    "aria-valuemax": most,
    "aria-valuenow": bin,
    "aria-valuetext": duration(bin * binNs),
    keydown: (event) => moveHandle(event, edge, bin, least, most),
    pointerdown: (event) => dragHandle(event, edge),
  });

function moveHandle(event, edge, bin, least, most) {
  const page = Math.max(1, Math.round(bins / 10));
  const steps = {
    ArrowLeft: -1,
    ArrowDown: -1,
    ArrowRight: 1,
    ArrowUp: 1,
    PageDown: -page,
    PageUp: page,
    Home: least - bin,
    End: most - bin,
  };
  if (event.key === "Escape") select(null);
  if (!(event.key in steps)) return;
  event.preventDefault();
  const moved = Math.min(most, Math.max(least, bin + steps[event.key]));
  select(withEdge(edge, moved));
  readOut(Math.min(moved * binNs, chart.end));
}

function withEdge(edge, bin) {
  const [from, until] = state.selected || [0, bins];
  return edge === "from" ? [Math.min(bin, until - 1), until] : [from, Math.max(bin, from + 1)];
}

function dragHandle(event, edge) {
  event.preventDefault();
  const picture = $("time-chart").firstChild;
  const at = (moved) =>
    binAt(moved.clientX - picture.getBoundingClientRect().left) + (edge === "until" ? 1 : 0);
  const move = (moved) => drawBrush(withEdge(edge, at(moved)));
  const end = (moved) => {
    removeEventListener("pointermove", move);
    removeEventListener("pointercancel", end);
    select(withEdge(edge, at(moved)));
    drawBrush();
  };
  addEventListener("pointermove", move);
  addEventListener("pointerup", end, { once: true });
  addEventListener("pointercancel", end, { once: true });
}
