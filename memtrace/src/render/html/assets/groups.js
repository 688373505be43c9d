// Sites, taken together by line or whatever is asked for: what each group weighs, in what order.

const PAGE = 50;
const table = {
  by: report.grouped_by,
  sort: "bytes",
  down: true,
  shown: PAGE,
  rows: [],
  open: new Map(),
};

// Equal for the frames of one group; the same rules as in the report.
const KEYS = {
  line: (frame) => [
    frames.name[frame],
    frames.module[frame],
    frames.file[frame],
    frames.line[frame],
    frames.kind[frame],
  ],
  function: (frame) => [
    frames.name[frame],
    frames.module[frame],
    isPython(frame) ? frames.file[frame] : 0,
    frames.kind[frame],
  ],
  module: (frame) => [
    frames.kind[frame] === CALL ? frames.name[frame] : 0,
    frames.pack[frame],
    frames.kind[frame],
  ],
};

const groupings = {};
function grouping(by) {
  if (groupings[by]) return groupings[by];
  const slots = new Int32Array(sites.count),
    groups = [],
    known = new Map(),
    ofFrame = new Map();
  for (let site = 0; site < sites.count; site++) {
    const frame = keyFrame(site);
    const key = by === "stack" ? site : (ofFrame.get(frame) ?? KEYS[by](frame).join());
    if (by !== "stack") ofFrame.set(frame, key);
    if (!known.has(key)) {
      known.set(key, groups.length);
      groups.push({ frame, by, sites: [] });
    }
    slots[site] = known.get(key);
    groups[slots[site]].sites.push(site);
  }
  if (by === report.grouped_by)
    for (const facts of report.groups) groups[slots[facts.site]].facts = facts;
  return (groupings[by] = groups);
}

function nameOf({ frame, by }) {
  if (by === "module" && frames.kind[frame] !== CALL)
    return [text(frames.pack[frame]) || "anonymous memory", ""];
  return [functionOf(frame), by === "function" ? moduleOf(frame) : placeOf(frame)];
}

// A group with what it weighs now.
function weigh(group) {
  const row = { group, bytes: 0, count: 0, median: 0, oldest: 0, youngest: Infinity, weighing: [] };
  for (const site of group.sites) {
    const size = state.weights.bytes[site],
      blocks = state.weights.count[site];
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
  const matched =
    wanted && (matcher(wanted) || matcher(wanted.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")));
  if (!matched) return rows;
  const hit = matchedSites(matched);
  return rows.filter((row) => row.weighing.some((site) => hit[site]));
}

const ORDER = {
  bytes: (row) => row.bytes,
  count: (row) => row.count,
  age: (row) => row.oldest,
  where: (row) => row.name.join(" ").toLowerCase(),
};

function sorted(rows) {
  const of = ORDER[table.sort],
    sign = table.down ? -1 : 1;
  const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
  return rows
    .map((row) => [of(row), row])
    .sort(([one, a], [other, b]) => sign * compare(one, other) || b.bytes - a.bytes)
    .map(([, row]) => row);
}
