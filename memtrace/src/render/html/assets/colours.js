// What frames are coloured by. The hues are Paul Tol's "light" scheme, which people who see colours
// differently can tell apart (SRON/EPS/TN/09-002, issue 3.2, section 2).

const HUES = [
  "#77aadd",
  "#ee8866",
  "#44bb99",
  "#ffaabb",
  "#99ddff",
  "#bbcc33",
  "#c3a5e0",
  "#aaaa00",
];
const YELLOW = "#eedd88",
  GREY = "#d5d8dc",
  CALL_GREY = "#b9bfc7";
// Light to dark: young to old (Tol's "YlOrBr", section 4).
const AGES = ["#fff7bc", "#fee391", "#fec44f", "#fb9a29", "#ec7014", "#cc4c02"];

const isPython = (frame) => frames.kind[frame] === PYTHON;

// The modules that most bytes go through have a colour of their own, the same in all views. Where
// a stack comes to a module from another, all of it counts.
const moduleColours = (() => {
  const size = new Float64Array(tree.nodes),
    { bytes: weights } = amounts(report.view),
    seen = new Map();
  for (let site = 0; site < sites.count; site++) size[sites.leaf[site]] += weights[site] + 1e-6;
  for (let node = tree.nodes - 1; node > 0; node--) {
    const parent = tree.parent[node],
      frame = tree.frame[node],
      module = frames.module[frame];
    size[parent] += size[node];
    if (frames.kind[frame] !== NATIVE || (parent && frames.module[tree.frame[parent]] === module))
      continue;
    seen.set(module, (seen.get(module) || 0) + size[node]);
  }
  const largest = [...seen].sort((one, other) => other[1] - one[1]).slice(0, HUES.length);
  return new Map(largest.map(([module], at) => [module, HUES[at]]));
})();

const plainColour = (frame) => {
  if (isPython(frame)) return YELLOW;
  return frames.kind[frame] === CALL ? CALL_GREY : GREY;
};

const oldest = Math.max(report.window.duration_ns / 1e6, 1);

const COLOURS = {
  module: {
    of: (frame) => moduleColours.get(frames.module[frame]) || plainColour(frame),
    legend: () => [
      ...[...moduleColours].map(([module, colour]) => [colour, text(module) || "anonymous memory"]),
      frames.kind.includes(PYTHON) && [YELLOW, "Python"],
      [GREY, "other modules"],
      [CALL_GREY, "allocation function"],
    ],
  },
  language: {
    of: (frame) =>
      isPython(frame) ? YELLOW : frames.kind[frame] === NATIVE ? HUES[0] : plainColour(frame),
    legend: () => [
      [HUES[0], "compiled"],
      [YELLOW, "Python"],
      [CALL_GREY, "allocation function"],
    ],
  },
  age: {
    of: (frame, node) =>
      AGES[Math.min(AGES.length - 1, Math.floor((node.age / oldest) * AGES.length))],
    legend: () =>
      AGES.map((colour, at) => [
        colour,
        at === 0 ? "young" : at === AGES.length - 1 ? "as old as the window" : "",
      ]),
  },
};

// For each frame whether the pattern is in its name; null where there is none, false where it is no
// regular expression.
function matcher(pattern) {
  if (!pattern) return null;
  let regex;
  try {
    regex = new RegExp(pattern, "i");
  } catch {
    return false;
  }
  const matched = new Uint8Array(frames.count);
  for (let frame = 0; frame < frames.count; frame++) {
    matched[frame] =
      regex.test(titleOf(frame)) ||
      regex.test(moduleOf(frame)) ||
      regex.test(text(frames.file[frame]));
  }
  return matched;
}

// For each site whether one of its frames matches.
function matchedSites(matched) {
  const below = new Uint8Array(tree.nodes);
  for (let node = 1; node < tree.nodes; node++)
    below[node] = below[tree.parent[node]] || matched[tree.frame[node]];
  return Uint8Array.from(sites.leaf, (leaf) => below[leaf]);
}
