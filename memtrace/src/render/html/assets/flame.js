// The flamegraph, the root on top. Only what is wide enough to be seen is looked at, so that it
// takes no longer with a hundred thousand stacks than with a hundred.

const flame = {
  root: null,
  focus: null,
  cursor: null,
  rows: [],
  matched: null,
  colour: COLOURS.module,
  invert: false,
  context: $("flame-canvas").getContext("2d"),
  row: 20,
  width: 0,
};
const NARROW = 0.6,
  MOST_ROWS = 400,
  FONT = "12px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";

function growFlame() {
  flame.root = flame.invert ? fromTheLeaves() : fromTheRoot();
  flame.focus = flame.root;
  flame.cursor = null;
  drawFlame();
}

// Rows of {node, x, width}; a node of null stands for those too narrow to be seen.
function layOut() {
  const rows = [];
  const put = (depth, box) => (rows[depth] ||= []).push(box);
  const above = [];
  for (let node = flame.focus.parent; node; node = node.parent) above.unshift(node);
  above.forEach((node, depth) => put(depth, { node, x: 0, width: flame.width, above: true }));
  const grow = (node, x, width) => {
    if (node.depth >= MOST_ROWS) return;
    put(node.depth, { node, x, width });
    let left = x;
    for (const kid of node.kids()) {
      const share = (kid.bytes / (node.bytes || 1)) * width;
      if (share < NARROW) {
        const rest = x + width * (1 - ownShare(node)) - left;
        if (rest >= 1) put(kid.depth, { node: null, x: left, width: rest });
        break;
      }
      grow(kid, left, share);
      left += share;
    }
  };
  if (flame.focus.bytes > 0) grow(flame.focus, 0, flame.width);
  return rows;
}

const ownShare = (node) => 1 - sum(node.kids().map((kid) => kid.bytes)) / (node.bytes || 1);

const labelOf = (node) => (node.frame < 0 ? "all: " + bytes(node.bytes) : titleOf(node.frame));

function drawFlame() {
  const canvas = $("flame-canvas"),
    { context } = flame;
  flame.width = $("flame-box").clientWidth;
  flame.row = matchMedia("(pointer: coarse)").matches ? 26 : 20;
  flame.rows = layOut();
  const height = Math.max(flame.rows.length, 1) * flame.row + 1,
    scale = Math.min(devicePixelRatio || 1, 32000 / height);
  canvas.width = Math.round(flame.width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.height = height + "px";
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.font = FONT;
  context.textBaseline = "middle";
  flame.letter = context.measureText("m").width;
  flame.ink = { mark: colourOf("mark"), faint: colourOf("files"), text: colourOf("text") };
  flame.rows.forEach((boxes, depth) => boxes.forEach((box) => drawBox(box, depth)));
  if (!flame.rows.length) drawNothing();
  drawCursor();
  $("flame-reset").disabled = flame.focus === flame.root;
}

function drawNothing() {
  flame.context.fillStyle = flame.ink.text;
  flame.context.fillText(`Nothing ${weightWords()}.`, 8, flame.row / 2);
}

const fillOf = (node) => {
  if (node.frame < 0) return GREY;
  if (flame.matched && flame.matched[node.frame]) return "#ff8ad1";
  return flame.colour.of(node.frame, node);
};

function drawBox({ node, x, width, above }, depth) {
  const { context, row } = flame;
  context.globalAlpha =
    above || (flame.matched && node && !(node.frame >= 0 && flame.matched[node.frame])) ? 0.5 : 1;
  context.fillStyle = node ? fillOf(node) : flame.ink.faint;
  context.fillRect(x, depth * row + 1, Math.max(width - (width > 3 ? 1 : 0.2), 0.4), row - 1);
  context.globalAlpha = above ? 0.75 : 1;
  const letters = Math.floor((width - 8) / flame.letter);
  if (!node || letters < 3) return;
  const label = labelOf(node);
  context.fillStyle = "#16191d";
  if (
    flame.matched &&
    context.globalAlpha === 1 &&
    darkGround() &&
    !(node.frame >= 0 && flame.matched[node.frame])
  )
    context.fillStyle = "#f0f2f5";
  context.fillText(
    label.length > letters ? label.slice(0, letters - 1) + "…" : label,
    x + 4,
    depth * row + row / 2 + 1,
  );
  context.globalAlpha = 1;
}

const darkGround = () =>
  getComputedStyle(document.documentElement).colorScheme === "dark" ||
  (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);

const boxOf = (node) => node && (flame.rows[node.depth] || []).find((box) => box.node === node);

function drawCursor() {
  const box = boxOf(flame.cursor);
  if (!box) return;
  const { context, row } = flame;
  context.strokeStyle = "#000";
  context.lineWidth = 2;
  context.strokeRect(box.x + 1, box.node.depth * row + 2, Math.max(box.width - 3, 2), row - 3);
}

const sharesOf = (node) => [
  `${amountWords(node)} ${weightWords()}`,
  `${share(node.bytes, flame.root.bytes)} of all` +
    (flame.focus !== flame.root && flame.focus.bytes
      ? `, ${share(node.bytes, flame.focus.bytes)} of what is shown`
      : ""),
  node.bytes > 0 && hasAges() && `median age ${duration(node.age * 1e6)}`,
];

function detailOf(node) {
  if (node.frame < 0) return ["All stacks", ...sharesOf(node)];
  const place = longPlaceOf(node.frame),
    module = moduleOf(node.frame);
  return [
    functionOf(node.frame),
    [
      place,
      module && !lastPart(place).startsWith(module) && `in ${module}`,
      frames.inlined[node.frame] && "inlined",
    ]
      .filter(Boolean)
      .join(" "),
    ...sharesOf(node),
  ];
}

function point(node) {
  flame.cursor = node;
  fill($("flame-detail"), node ? detailOf(node).filter(Boolean).join(" · ") : "");
}

function zoom(node) {
  flame.focus = node;
  point(node === flame.root ? null : node);
  drawFlame();
}
