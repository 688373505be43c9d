// What the flamegraph does when it is pointed at, typed at or asked.

function nodeAt(event) {
  const area = $("flame-canvas").getBoundingClientRect();
  const [x, y] = [event.clientX - area.left, event.clientY - area.top];
  return (flame.rows[Math.floor(y / flame.row)] || []).find(
    (box) => x >= box.x && x < box.x + box.width,
  );
}

function hover(event) {
  const box = event.pointerType !== "touch" && nodeAt(event);
  if (!box) return tip.hide();
  const [title, ...lines] = box.node
    ? detailOf(box.node)
    : ["Too narrow to be shown", "zoom in to see them"];
  tip.show(event.clientX, event.clientY, title, lines);
}

function press(event) {
  const box = nodeAt(event);
  if (!box || !box.node) return;
  tip.hide();
  zoom(box.node);
}

// Where an arrow key leads from a node.
const STEPS = {
  ArrowDown: (node) => node.kids()[0],
  ArrowUp: (node) => node.parent,
  ArrowLeft: (node) => neighbour(node, -1),
  ArrowRight: (node) => neighbour(node, 1),
};

function neighbour(node, step) {
  const boxes = (flame.rows[node.depth] || []).filter((box) => box.node);
  const at = boxes.findIndex((box) => box.node === node) + step;
  return boxes[at] && boxes[at].node;
}

function typed(event) {
  const cursor = flame.cursor || flame.focus;
  if (event.key in STEPS) {
    event.preventDefault();
    const next = flame.cursor ? STEPS[event.key](cursor) : cursor;
    if (next && boxOf(next)) point(next);
    drawFlame();
    reveal();
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    zoom(cursor);
  } else if (event.key === "Escape") {
    zoom(flame.root);
  } else if (event.key === "Home") {
    event.preventDefault();
    point(flame.focus);
    drawFlame();
  }
}

function reveal() {
  const box = $("flame-box"),
    top = flame.cursor ? flame.cursor.depth * flame.row : 0;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top + flame.row > box.scrollTop + box.clientHeight)
    box.scrollTop = top + flame.row - box.clientHeight;
}

function searchFlame() {
  const field = $("flame-search"),
    matched = matcher(field.value);
  field.setAttribute("aria-invalid", matched === false);
  flame.matched = matched || null;
  fill(
    $("flame-matched"),
    matched === false ? "not a regular expression" : matched ? matchedWords(matched) : "",
  );
  drawFlame();
}

function matchedWords(matched) {
  const hit = matchedSites(matched);
  let size = 0;
  for (let site = 0; site < sites.count; site++) if (hit[site]) size += state.weights.bytes[site];
  return `matched ${bytes(size)} (${share(size, state.total.bytes)})`;
}

function findInFlame(pattern) {
  $("flame-search").value = pattern;
  searchFlame();
  $("flame").scrollIntoView({
    behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
  });
}

function showColours() {
  flame.colour = COLOURS[$("flame-colour").value];
  fill(
    $("flame-legend"),
    flame.colour
      .legend()
      .filter(Boolean)
      .map(([colour, name]) => el("li", null, swatch(colour), name)),
  );
  drawFlame();
}

function showFlame() {
  const box = $("flame-box"),
    views = Object.keys(report.views).filter((view) => amounts.has(view));
  fill(
    $("view"),
    views.map((view) =>
      el("option", { value: view, selected: view === state.view }, report.views[view]),
    ),
  );
  $("view").addEventListener("change", (event) => showView(event.target.value));
  $("flame-colour").addEventListener("change", showColours);
  $("flame-invert").addEventListener("change", (event) => {
    flame.invert = event.target.checked;
    growFlame();
  });
  $("flame-search").addEventListener("input", searchFlame);
  $("flame-search").addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.target.value = "";
      searchFlame();
      box.focus();
    }
  });
  $("flame-reset").addEventListener("click", () => zoom(flame.root));
  box.addEventListener("pointermove", hover);
  box.addEventListener("pointerleave", () => tip.hide());
  box.addEventListener("click", press);
  box.addEventListener("keydown", typed);
  addEventListener("keydown", (event) => {
    if (
      event.key !== "/" ||
      event.ctrlKey ||
      event.metaKey ||
      /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)
    )
      return;
    event.preventDefault();
    $("flame-search").focus();
  });
  onChange(() => {
    growFlame();
    searchFlame();
  });
  new ResizeObserver(() => {
    if (box.clientWidth !== flame.width) drawFlame();
  }).observe(box);
}
