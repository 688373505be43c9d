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
// The numbers of a cell of an arena's map, in their order: name and colour.
const MAP_PARTS = [
  ["in use", "in-use"],
  ["free, returnable", "returnable"],
  ["free but trapped", "trapped"],
  ["in tcaches and fastbins", "cached"],
  ["unused end (top)", "top"],
  ["the allocator's own", "metadata"],
];
// What is drawn from below upwards: what keeps a page first, and then what it keeps.
const STACKED = [0, 2, 3, 5, 4, 1];
const CELLS_A_LINE = 64;
// Of cells that others are shown among.
const PALE = 0.2;
// Of a cell, its gap included.
const CELL = { wide: 12, high: 16 };
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

// Where the walk tells it, what is where; else a bar.
function picture(arena, largest, key) {
  if (arena.map && arena.map.cell_bytes > 0) return arenaMap(arena.map, key);
  const size = residentOf(arena.resident);
  return meter(
    partsOf(arena.resident),
    size || 1,
    Math.max(NARROWEST, (size / largest) * 100) + "%",
  );
}

// The memory of an arena by address, from left to right and line by line. Each cell is filled from
// below with what is resident of it.
function arenaMap({ cell_bytes: size, segments }, key) {
  const cells = segments.flatMap(({ start, end, cells }) =>
    cells.map((parts, at) => {
      const from = Math.floor(start / size) * size + at * size;
      return { parts, from: Math.max(start, from), to: Math.min(end, from + size) };
    }),
  );
  const lines = Math.ceil(cells.length / CELLS_A_LINE);
  const canvas = el("canvas", {
    class: "cells",
    width: CELLS_A_LINE * CELL.wide,
    height: lines * CELL.high,
    role: "img",
    "aria-label": `${plural(cells.length, "cell")} of ${bytes(size)}, by address`,
  });
  const context = canvas.getContext("2d"),
    inks = MAP_PARTS.map(([, colour]) => colourOf(colour)),
    absent = colourOf("absent");
  // All of them, or all but some paler.
  const draw = (some) => {
    context.clearRect(0, 0, canvas.width, canvas.height);
    cells.forEach(({ parts }, at) => {
      context.globalAlpha = !some || some.has(at) ? 1 : PALE;
      drawCell(context, at, parts, size, inks, absent);
    });
    canvas.dataset.pins = some ? some.size : "";
  };
  draw(null);
  maps.set(key, { draw });
  canvas.addEventListener("mousemove", (event) => {
    const across = Math.floor((event.offsetX / canvas.clientWidth) * CELLS_A_LINE);
    const down = Math.floor((event.offsetY / canvas.clientHeight) * lines);
    const cell = cells[down * CELLS_A_LINE + across];
    canvas.title = cell ? cellWords(cell) : "";
  });
  return canvas;
}

function drawCell(context, at, parts, size, inks, absent) {
  const left = (at % CELLS_A_LINE) * CELL.wide,
    top = Math.floor(at / CELLS_A_LINE) * CELL.high,
    high = CELL.high - 1;
  context.fillStyle = absent;
  context.fillRect(left, top, CELL.wide - 1, high);
  let bottom = top + high;
  for (const part of STACKED) {
    const share = (parts[part] / size) * high;
    context.fillStyle = inks[part];
    context.fillRect(left, bottom - share, CELL.wide - 1, share);
    bottom -= share;
  }
}

function cellWords({ parts, from, to }) {
  const held = MAP_PARTS.map(([name], part) => [name, parts[part]]).filter(([, it]) => it > 0);
  const words = held.map(([name, it]) => `${name} ${bytes(it)}`).join(", ");
  return `0x${from.toString(16)} to 0x${to.toString(16)}: ${words || "not resident"}`;
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

function glibcTable(heap, number) {
  const all = [...heap.arenas].sort(
    (one, other) => residentOf(other.resident) - residentOf(one.resident),
  );
  const sizes = all.map((arena) => residentOf(arena.resident));
  const largest = Math.max(1, heap.mapped_resident_bytes, ...sizes);
  const row = (arena) =>
    arenaRow(
      arenaName(arena),
      threadWords(arena),
      arena.resident,
      picture(arena, largest, mapKey(number, heap.arenas.indexOf(arena))),
    );
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
  maps.clear();
  pinned.chosen = null;
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
    pinTable(),
    heap.glibc.map(glibcTable),
    heap.pymalloc.map((it) =>
      otherTable(
        `Python ${it.version}, small objects (pymalloc): ${plural(it.arenas, "arena")}`,
        it,
      ),
    ),
    arenaPinTable(),
    heap.musl.map((it) => otherTable("musl", it)),
    heap.opaque.map((it) =>
      el("p", null, `${it.name} (${it.path}) was recognised; its heap is not walked.`),
    ),
  );
}
