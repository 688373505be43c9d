// What is shown: a view of all of the window, or what was obtained in a selected part of it.

const state = {
  view: report.view,
  // Bins of births, the second not included; null without a selection.
  selected: null,
  weights: null,
  total: null,
};

const listeners = [];
const onChange = (listener) => listeners.push(listener);

const bins = report.births.bins;
const binNs = report.births.bin_ns;

function bornIn(from, until) {
  const weights = { bytes: new Float64Array(sites.count), count: new Float64Array(sites.count) };
  for (let site = 0; site < sites.count; site++) {
    eachBirth(site, (bin, bytes, blocks) => {
      if (bin < from || bin >= until) return;
      weights.bytes[site] += bytes;
      weights.count[site] += blocks;
    });
  }
  return weights;
}

const sum = (numbers) => numbers.reduce((total, it) => total + it, 0);

function update() {
  state.weights = state.selected ? bornIn(...state.selected) : amounts(state.view);
  state.total = { bytes: sum(state.weights.bytes), count: sum(state.weights.count) };
  showSelection();
  listeners.forEach((listener) => listener());
}

function select(range) {
  const all = !range || (range[0] <= 0 && range[1] >= bins);
  const same = String(all ? null : range) === String(state.selected);
  state.selected = all ? null : range;
  // Only of survivors is it known when they were obtained.
  if (state.selected) state.view = $("view").value = "never_freed";
  if (!same) update();
}

function showView(view) {
  state.view = view;
  state.selected = null;
  update();
}

// What the weights are: the end of `12 MiB ...`.
const weightWords = () =>
  state.selected ? "obtained then and never freed" : report.views[state.view];

// Ages are those of all survivors of a site, not of some.
const hasAges = () =>
  !state.selected && ["never_freed", "live", "resident", "trapped"].includes(state.view);

// Trapped memory is not in the blocks that keep it.
const amountWords = ({ bytes: size, count: blocks }) =>
  `${bytes(size)} ${state.view === "trapped" ? "by" : "in"} ${plural(blocks, "block")}`;

function selectedTimes() {
  const [from, until] = state.selected;
  return [from * binNs, Math.min(until * binNs, report.window.duration_ns)];
}

function showSelection() {
  $("selection").hidden = !state.selected;
  if (!state.selected) return;
  const [from, until] = selectedTimes().map(duration);
  fill(
    $("selection-text"),
    `From ${from} to ${until}: ${amountWords(state.total)} obtained then and never freed`,
  );
}
