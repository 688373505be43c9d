// The heap as it was at the end: what each arena's resident memory is.

const PARTS = [
  ["in_use_bytes", "in use", "in-use"], ["trapped_bytes", "free but trapped", "trapped"],
  ["returnable_bytes", "free, returnable", "returnable"], ["cached_bytes", "in tcaches and fastbins", "cached"],
  ["top_bytes", "unused end (top)", "top"], ["metadata_bytes", "the allocator's own", "metadata"],
  ["unknown_bytes", "not understood", "unknown"],
];
const ARENAS = 32;
// Per cent of the largest arena's: the parts of a small one are to be seen, too.
const NARROWEST = 15;

const residentOf = (resident) => sum(PARTS.map(([field]) => resident[field] || 0));
const isStranded = (arena) => arena.index > 0 && arena.attached_threads === 0;

const partsOf = (resident) => PARTS.map(([field, name, colour]) => [`var(--${colour})`, resident[field] || 0, `${name}: ${bytes(resident[field] || 0)}`]);

const partWords = (resident) => PARTS.filter(([field]) => resident[field] > 0).map(([field, name]) => `${name} ${bytes(resident[field])}`).join(", ");

function threadWords(arena) {
  if (isStranded(arena)) return el("span", { class: "stranded" }, "stranded: no thread");
  return arena.attached_threads === null ? "" : plural(arena.attached_threads, "thread");
}

// Page by page where the walk tells it, as runs of [part, pages]; else a bar.
function picture(arena, largest) {
  if (arena.cells) return cells(arena.cells);
  const size = residentOf(arena.resident);
  return meter(partsOf(arena.resident), size || 1, Math.max(NARROWEST, (size / largest) * 100) + "%");
}

function cells(runs) {
  const pages = sum(runs.map(([, length]) => length)), wide = 128, side = 4;
  const canvas = el("canvas", { class: "cells", width: wide * side, height: Math.ceil(pages / wide) * side, role: "img", "aria-label": `${count(pages)} pages` });
  const context = canvas.getContext("2d"), inks = PARTS.map(([, , colour]) => colourOf(colour));
  let page = 0;
  for (const [part, length] of runs) {
    context.fillStyle = inks[part] || "transparent";
    for (const end = page + length; page < end; page++) context.fillRect((page % wide) * side, Math.floor(page / wide) * side, side - 1, side - 1);
  }
  return canvas;
}

const arenaRow = (name, about, resident, drawn) => el("tr", { role: "row" },
  el("th", { scope: "row", role: "rowheader", class: "name", style: { color: "inherit" } }, name, el("br"), el("span", { class: "hint" }, about)),
  el("td", { class: "parts", role: "cell" }, drawn, el("span", { class: "hint" }, partWords(resident))),
  el("td", { class: "num size", role: "cell" }, el("b", null, bytes(residentOf(resident))), el("span", { class: "wide hint" }, " resident")));

function glibcTable(heap) {
  const all = [...heap.arenas].sort((one, other) => residentOf(other.resident) - residentOf(one.resident));
  const largest = Math.max(1, ...all.map((arena) => residentOf(arena.resident)));
  const name = (arena) => (arena.index === 0 ? "main arena" : `arena ${arena.index}`);
  const row = (arena) => arenaRow(name(arena), threadWords(arena), arena.resident, picture(arena, largest));
  const body = el("tbody", { role: "rowgroup" }, all.slice(0, ARENAS).map(row));
  const more = all.length > ARENAS && el("button", { type: "button", click: (event) => { event.target.remove(); body.append(...all.slice(ARENAS).map(row)); } }, `Show ${all.length - ARENAS} more arenas`);
  const stranded = all.filter(isStranded);
  return [
    el("h3", null, `glibc ${heap.version || ""}: ${plural(all.length, "arena")}`),
    stranded.length > 0 && el("p", { class: "stranded" }, `${plural(stranded.length, "arena")} with ${bytes(sum(stranded.map((it) => residentOf(it.resident))))} resident ${stranded.length === 1 ? "has" : "have"} no thread left.`),
    el("table", { class: "arenas", role: "table", "aria-label": "Arenas" }, body), more,
    el("p", { class: "hint" }, [
      heap.mapped.count > 0 && `${plural(heap.mapped.count, "block")} mapped one by one, ${bytes(heap.mapped_resident_bytes)} resident.`,
      `malloc_trim(0) would give back ${bytes(heap.trim_bytes)}.`,
      `mmap threshold ${bytes(heap.parameters.mmap_threshold_bytes)}, trim threshold ${bytes(heap.parameters.trim_threshold_bytes)}`
        + (heap.parameters.arena_max ? `, at most ${heap.parameters.arena_max} arenas.` : "."),
      heap.error_bound_bytes > 0 && `Sums can be off by ${bytes(heap.error_bound_bytes)}.`,
    ].filter(Boolean).join(" ")),
  ];
}

const otherTable = (title, heap) => [
  el("h3", null, title),
  el("table", { class: "arenas", role: "table", "aria-label": title }, el("tbody", { role: "rowgroup" }, arenaRow("all of it", "", heap.resident, picture(heap, Math.max(1, residentOf(heap.resident)))))),
];

function showHeap() {
  const { heap } = report;
  if (!heap) {
    fill($("heap"), head("heap", "The heap"), el("p", { class: "hint" }, "It was not walked."));
    return;
  }
  const hasUnknown = (it) => it[0] !== "unknown_bytes" || heap.glibc.some((one) => one.arenas.some((arena) => arena.resident.unknown_bytes > 0));
  fill($("heap"), head("heap", "The heap"),
    el("p", { class: "hint" }, "Resident memory of each arena at the end. Trapped is free memory on pages that blocks in use keep."),
    el("ul", { class: "legend" }, PARTS.filter(hasUnknown).map(([, name, colour]) => el("li", null, swatch(`var(--${colour})`), name))),
    heap.glibc.map(glibcTable),
    heap.pymalloc.map((it) => otherTable(`Python ${it.version}, small objects (pymalloc): ${plural(it.arenas, "arena")}`, it)),
    heap.musl.map((it) => otherTable("musl", it)),
    heap.opaque.map((it) => el("p", null, `${it.name} (${it.path}) was recognised; its heap is not walked.`)));
}
