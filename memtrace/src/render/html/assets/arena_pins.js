// Who keeps CPython's arenas: nothing where nothing is trapped in them.

const arenaPinRow = (name, pins, words) =>
  el(
    "tr",
    { role: "row" },
    el(
      "th",
      { scope: "row", role: "rowheader", class: "where" },
      name,
      el("span", { class: "hint" }, " " + words),
    ),
    el("td", { role: "cell", class: "num" }, el("b", null, bytes(pins.trapped_bytes))),
    el("td", { role: "cell", class: "num wide" }, `${bytes(pins.drop_bytes)} less without them`),
  );

const arenaPinWords = (pins) =>
  `${plural(pins.live.count, "object")}, ${bytes(pins.live.bytes)}, in ${plural(pins.arenas, "arena")}`;

const unownedName = (pins) =>
  pins.is_traced
    ? "objects from before the window, or that were not sampled"
    : "objects that were not traced: attach --pymalloc tells whose they are";

function arenaPinTable() {
  const pins = report.arena_pins;
  if (!pins || pins.trapped_bytes === 0) return false;
  const rows = pins.places
    .slice(0, 20)
    .map((place, at) => arenaPinRow(report.arena_pin_names[at], place, arenaPinWords(place)));
  if (pins.unowned.trapped_bytes > 0)
    rows.push(arenaPinRow(unownedName(pins), pins.unowned, arenaPinWords(pins.unowned)));
  return [
    el("h3", null, "Who keeps Python's arenas"),
    el(
      "p",
      { class: "hint" },
      `${bytes(pins.trapped_bytes)} are free in ${plural(pins.arenas, "arena")} and stay: an arena goes back only as a whole, when its last object has gone.`,
    ),
    el(
      "table",
      { id: "arena-pins", class: "pins", role: "table", "aria-label": "Who keeps Python's arenas" },
      el("tbody", { role: "rowgroup" }, rows),
    ),
  ];
}
