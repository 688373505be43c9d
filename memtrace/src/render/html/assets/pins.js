// Who keeps free memory, and where: a row that is pointed at, or is chosen, shows its blocks in the
// maps of the arenas.

const maps = new Map();
const mapKey = (heap, arena) => heap + ":" + arena;

const pinned = { chosen: null };

// For each arena, the numbers of a row's cells.
const pinCells = (row) =>
  (row.found ||= new Map(
    row.arenas.map(({ heap, arena, cells }) => {
      let last = 0;
      return [mapKey(heap, arena), new Set([...column(cells)].map((step) => (last += step)))];
    }),
  ));

// Without a row all cells are as they are.
function showPins(row) {
  const cells = row && pinCells(row);
  for (const [key, map] of maps) map.draw(cells && (cells.get(key) || new Set()));
}

function choosePins(row, button) {
  pinned.chosen = pinned.chosen === row ? null : row;
  for (const other of $("pins").querySelectorAll("button"))
    other.setAttribute("aria-pressed", String(other === button && pinned.chosen === row));
  showPins(pinned.chosen);
}

function pinWords(row) {
  const cells = sum([...pinCells(row).values()].map((it) => it.size));
  if (!cells) return "in no arena that has a map";
  return `${plural(cells, "cell")} in ${plural(row.arenas.length, "arena")}`;
}

function pinRow(row) {
  const button = el(
    "button",
    {
      type: "button",
      "aria-pressed": "false",
      focus: () => showPins(row),
      blur: () => showPins(pinned.chosen),
      click: () => choosePins(row, button),
    },
    row.name,
  );
  return el(
    "tr",
    {
      role: "row",
      mouseenter: () => showPins(row),
      mouseleave: () => showPins(pinned.chosen),
    },
    el(
      "th",
      { scope: "row", role: "rowheader", class: "where" },
      button,
      el("span", { class: "hint" }, " " + pinWords(row)),
    ),
    el("td", { role: "cell", class: "num" }, el("b", null, bytes(row.trapped.bytes))),
    el("td", { role: "cell", class: "num wide" }, plural(row.trapped.count, "block")),
  );
}

// Nothing where nothing is trapped, or it is not known by whom.
const pinTable = () =>
  report.pins.length > 0 && [
    el("h3", null, "Who keeps free memory"),
    el(
      "p",
      { class: "hint" },
      "Free memory on pages that these lines' live blocks keep. A row shows where they lie in the maps below; the flamegraph has it, too: trapped.",
    ),
    el(
      "table",
      { id: "pins", class: "pins", role: "table", "aria-label": "Who keeps free memory" },
      el("tbody", { role: "rowgroup" }, report.pins.map(pinRow)),
    ),
  ];
