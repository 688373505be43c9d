// Sites, taken together by line or whatever is asked for, as a table.

const PAGE = 50;
const table = { by: report.grouped_by, sort: "bytes", down: true, shown: PAGE, rows: [], open: new Map() };

// Equal for the frames of one group; the same rules as in the report.
const KEYS = {
  line: (frame) => [frames.name[frame], frames.module[frame], frames.file[frame], frames.line[frame], frames.kind[frame]],
  function: (frame) => [frames.name[frame], frames.module[frame], isPython(frame) ? frames.file[frame] : 0, frames.kind[frame]],
  module: (frame) => [frames.kind[frame] === CALL ? frames.name[frame] : 0, frames.pack[frame], frames.kind[frame]],
};

const groupings = {};
function grouping(by) {
  if (groupings[by]) return groupings[by];
  const slots = new Int32Array(sites.count), groups = [], known = new Map(), ofFrame = new Map();
  for (let site = 0; site < sites.count; site++) {
    const frame = keyFrame(site);
    const key = by === "stack" ? site : ofFrame.get(frame) ?? KEYS[by](frame).join();
    if (by !== "stack") ofFrame.set(frame, key);
    if (!known.has(key)) { known.set(key, groups.length); groups.push({ frame, by, sites: [] }); }
    slots[site] = known.get(key);
    groups[slots[site]].sites.push(site);
  }
  if (by === report.grouped_by) for (const facts of report.groups) groups[slots[facts.site]].facts = facts;
  return (groupings[by] = groups);
}

function nameOf({ frame, by }) {
  if (by === "module" && frames.kind[frame] !== CALL) return [text(frames.pack[frame]) || "anonymous memory", ""];
  return [functionOf(frame), by === "function" ? moduleOf(frame) : placeOf(frame)];
}

// A group with what it weighs now.
function weigh(group) {
  const row = { group, bytes: 0, count: 0, median: 0, oldest: 0, youngest: Infinity, weighing: [] };
  for (const site of group.sites) {
    const size = state.weights.bytes[site], blocks = state.weights.count[site];
    if (!size && !blocks) continue;
    row.weighing.push(site);
    row.bytes += size;
    row.count += blocks;
    row.oldest = Math.max(row.oldest, sites.oldest[site]);
    row.youngest = Math.min(row.youngest, sites.youngest[site]);
  }
  row.weighing.sort((one, other) => state.weights.bytes[other] - state.weights.bytes[one]);
  row.median = row.weighing.length ? sites.median[row.weighing[0]] : 0;
  if (group.facts && !state.selected) row.median = group.facts.survivors.median_age_ns / 1e6;
  row.name = nameOf(group);
  return row;
}

function filtered(rows) {
  const wanted = $("site-filter").value.trim();
  const matched = wanted && (matcher(wanted) || matcher(wanted.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")));
  if (!matched) return rows;
  const hit = matchedSites(matched);
  return rows.filter((row) => row.weighing.some((site) => hit[site]));
}

const ORDER = {
  bytes: (row) => row.bytes, count: (row) => row.count, age: (row) => row.oldest,
  where: (row) => row.name.join(" ").toLowerCase(),
};

function sorted(rows) {
  const of = ORDER[table.sort], sign = table.down ? -1 : 1;
  const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
  return rows.map((row) => [of(row), row])
    .sort(([one, a], [other, b]) => sign * compare(one, other) || b.bytes - a.bytes).map(([, row]) => row);
}

const columns = () => [
  ["bytes", sentence(state.selected ? "obtained, kept" : report.views[state.view]).slice(0, -1), "c-bytes num"],
  ["count", "Blocks", "c-count num"],
  ["age", "Oldest", "c-age num"],
  [null, "Kept, by time", "c-growth"],
  ["where", "Where", "where"],
];

function drawHead() {
  fill($("site-head"), columns().map(([key, name, kind]) => el("th", {
    scope: "col", role: "columnheader", class: kind, "aria-sort": key && (table.sort === key ? (table.down ? "descending" : "ascending") : "none"),
  }, key ? el("button", { type: "button", "data-sort": key, click: () => sortBy(key) }, name) : name)));
}

function sortBy(key) {
  table.down = table.sort === key ? !table.down : key !== "where";
  table.sort = key;
  drawSites();
  $("site-head").querySelector(`[data-sort="${key}"]`).focus();
}

// Bars of what was kept of each time, and how that adds up.
function spark(group) {
  if (!bins) return null;
  const wide = Math.min(bins, 60), born = new Float64Array(wide), scale = wide / bins;
  for (const site of group.sites) eachBirth(site, (bin, size) => { born[Math.min(wide - 1, Math.floor(bin * scale))] += size; });
  const all = sum(born), largest = Math.max(...born);
  if (!all) return null;
  const inside = (at) => !state.selected || (at / scale >= state.selected[0] - 1 && at / scale < state.selected[1]);
  const bars = Array.from(born, (size, at) => size > 0 && svg("rect", {
    x: at, width: 0.9, y: 20 - Math.max(1, (size / largest) * 19), height: Math.max(1, (size / largest) * 19), class: inside(at) ? null : "out",
  }));
  let grown = 0;
  const path = "M0 20" + Array.from(born, (size, at) => `H${at}V${(20 - ((grown += size) / all) * 19).toFixed(1)}`).join("") + `H${wide}`;
  return svg("svg", { class: "spark", viewBox: `0 0 ${wide} 20`, preserveAspectRatio: "none", role: "img", "aria-label": "when it was obtained" }, bars, svg("path", { d: path }));
}

const ageWords = (row) => {
  if (!hasAges() || !row.count) return "";
  const [young, old] = [row.youngest, row.oldest].map((ms) => duration(ms * 1e6));
  return row.count === 1 || young === old ? `age ${old}` : `age ${young} to ${old}, median ${duration(row.median * 1e6)}`;
};

const sizeWords = ({ survivors: of }) => (of.count < 2 ? null : `${of.smallest_bytes === of.largest_bytes ? "each" : "typically"} ${bytes(of.median_bytes)}`);

// Narrow screens lay the table out in blocks, which would take its meaning away without roles.
const cell = (kind, ...children) => el("td", { class: kind, role: "cell" }, children);

function rowOf(row) {
  const { group, name: [name, place] } = row, { facts } = group;
  const told = facts && !state.selected && state.view === "never_freed";
  const words = [told && facts.pattern, told && sizeWords(facts), ageWords(row), row.weighing.length > 1 && `on ${plural(row.weighing.length, "stack")}`];
  const open = table.open.has(group);
  const button = el("button", { type: "button", "aria-expanded": String(open), click: (event) => { event.stopPropagation(); toggle(row); } }, name, place && el("span", { class: "place" }, ` (${place})`));
  return el("tr", { class: "site", role: "row", click: () => toggle(row) },
    cell("c-bytes num bytes", el("b", null, bytes(row.bytes)), meter([["var(--in-use)", row.bytes]], state.total.bytes || 1)),
    cell("c-count num", count(row.count)),
    cell("c-age num", hasAges() && row.count ? duration(row.oldest * 1e6) : ""),
    cell("c-growth", spark(group)),
    cell("where", button, el("small", { class: "only-narrow" }, plural(row.count, "block")), el("small", null, words.filter(Boolean).join(" · "))));
}

function stackRow(row) {
  const { group } = row, at = Math.min(table.open.get(group), row.weighing.length - 1);
  const site = row.weighing[at], key = sites.key[site];
  const frame = (node, level) => {
    const it = tree.frame[node], place = longPlaceOf(it);
    return el("li", { class: [isPython(it) && "python", level === key && "key"].filter(Boolean).join(" ") || null, "aria-current": level === key ? "true" : null },
      functionOf(it), place && !functionOf(it).startsWith(place) && el("span", null, ` ${place}`), frames.inlined[it] ? el("span", null, " inlined") : null);
  };
  const step = (to) => () => { table.open.set(group, to); drawRows(); };
  const many = row.weighing.length > 1;
  return el("tr", { class: "stack", role: "row" }, el("td", { colspan: 5, role: "cell" },
    el("div", { class: "tools" },
      el("span", null, `${amountWords({ bytes: state.weights.bytes[site], count: state.weights.count[site] })} ${weightWords()}` + (many ? `, stack ${at + 1} of ${row.weighing.length}` : "")),
      many && el("button", { type: "button", disabled: at === 0, click: step(at - 1) }, "Larger"),
      many && el("button", { type: "button", disabled: at + 1 === row.weighing.length, click: step(at + 1) }, "Smaller"),
      el("button", { type: "button", click: () => findInFlame(functionOf(group.frame).replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")) }, "Find in the flamegraph")),
    el("ol", null, nodesOf(site).map(frame))));
}

function toggle(row) {
  if (table.open.has(row.group)) table.open.delete(row.group);
  else table.open.set(row.group, 0);
  const held = document.activeElement.closest && document.activeElement.closest("td.where");
  drawRows();
  if (held) $("site-rows").querySelectorAll("tr.site")[table.rows.indexOf(row)]?.querySelector("button").focus();
}

function drawRows() {
  const shown = table.rows.slice(0, table.shown);
  fill($("site-rows"), shown.map((row) => [rowOf(row), table.open.has(row.group) && row.weighing.length > 0 && stackRow(row)]));
  if (!shown.length) fill($("site-rows"), el("tr", { role: "row" }, el("td", { colspan: 5, role: "cell" }, $("site-filter").value ? "No site matches." : `Nothing ${weightWords()}.`)));
  const left = table.rows.length - shown.length;
  $("site-more").hidden = left <= 0;
  fill($("site-more"), `Show ${Math.min(PAGE, left)} of ${count(left)} more`);
}

function drawSites() {
  const all = grouping(table.by).map(weigh).filter((row) => row.count > 0 || row.bytes > 0);
  table.rows = sorted(filtered(all));
  table.shown = PAGE;
  drawHead();
  drawRows();
  const some = { bytes: sum(table.rows.map((row) => row.bytes)), count: sum(table.rows.map((row) => row.count)) };
  fill($("site-sum"), `${amountWords(some)} at ${plural(table.rows.length, table.by)}`);
}

function showSites() {
  $("group").value = table.by;
  $("group").addEventListener("change", (event) => { table.by = event.target.value; table.open.clear(); drawSites(); });
  $("site-filter").addEventListener("input", drawSites);
  $("site-more").addEventListener("click", () => { table.shown += PAGE; drawRows(); });
  fill($("site-hint"), "Not each of these is a leak: a cache, or a block freed after the window, looks the same. A row opens to its largest stack.");
  onChange(drawSites);
}
