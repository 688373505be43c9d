// The report as it was embedded, with its columns unpacked. docs/html.md describes them.

const report = JSON.parse($("data").textContent);

// LEB128 in base64: numbers of seven bits a byte, the lowest first.
function column(text) {
  const raw = atob(text),
    length = raw.length,
    numbers = new Float64Array(length);
  let found = 0,
    value = 0,
    scale = 1;
  for (let at = 0; at < length; at++) {
    const byte = raw.charCodeAt(at);
    if (byte < 128) {
      numbers[found++] = value + byte * scale;
      value = 0;
      scale = 1;
    } else {
      value += (byte - 128) * scale;
      scale *= 128;
    }
  }
  return numbers.slice(0, found);
}

// Differences with their sign in the lowest bit.
const signed = (number) => (number % 2 ? -(number + 1) / 2 : number / 2);

const frames = (() => {
  const { function: name, module, file, line, package: pack, kind } = report.frames;
  return {
    name: column(name),
    module: column(module),
    file: column(file),
    line: column(line),
    pack: column(pack),
    kind: column(kind).map((it) => it & 3),
    inlined: column(kind).map((it) => it >> 2),
  };
})();
frames.count = frames.name.length;
const [NATIVE, PYTHON, CALL, MISSING] = [0, 1, 2, 3];

// Node 0 is all stacks together; each comes before its children. `leaf` is the last node of each
// site's stack, that of its allocation function.
const tree = (() => {
  const up = column(report.tree.up),
    down = column(report.tree.down),
    code = column(report.tree.frame);
  const nodes = code.length + 1,
    below = Array.from({ length: frames.count + 1 }, () => []);
  const it = {
    nodes,
    parent: new Int32Array(nodes),
    frame: new Int32Array(nodes),
    leaf: new Int32Array(up.length),
  };
  it.parent[0] = it.frame[0] = -1;
  for (let site = 0, node = 0, made = 0; site < up.length; site++) {
    for (let levels = up[site]; levels > 0; levels--) node = it.parent[node];
    for (let levels = down[site]; levels > 0; levels--) {
      const parent = node,
        known = below[it.frame[parent] + 1];
      node = ++made;
      const number = code[node - 1],
        is_new = number % 2;
      if (is_new) known.push((number - 1) / 2);
      it.parent[node] = parent;
      it.frame[node] = is_new ? known[known.length - 1] : known[number / 2];
    }
    it.leaf[site] = node;
  }
  return it;
})();

const sites = (() => {
  const raw = report.sites,
    { leaf } = tree;
  const youngest = column(raw.youngest_age),
    median = column(raw.median_age);
  const oldest = column(raw.oldest_age);
  for (let at = 0; at < leaf.length; at++) {
    median[at] += youngest[at];
    oldest[at] += median[at];
  }
  const births = column(raw.births),
    start = new Int32Array(leaf.length);
  for (let at = 0, site = 0; site < leaf.length; site++) {
    start[site] = at;
    at += 1 + 3 * births[at];
  }
  return {
    count: leaf.length,
    leaf,
    key: column(raw.key),
    youngest,
    median,
    oldest,
    births,
    start,
  };
})();

// Bytes and counts of all sites in a view.
const amounts = (() => {
  const raw = report.sites;
  const pair = (of) => ({ bytes: column(of.bytes), count: column(of.count) });
  const sum = (one, difference, sign = 1) => {
    const add = (field) => one[field].map((it, at) => it * sign + signed(difference[field][at]));
    return { bytes: add("bytes"), count: add("count") };
  };
  const gone = (allocated, live) => ({
    bytes: allocated.bytes.map((it, at) => it - live.bytes[at]),
    count: allocated.count.map((it, at) => it - live.count[at]),
  });
  const makers = {
    never_freed: () => pair(raw.never_freed),
    live: () => sum(amounts("never_freed"), pair(raw.live)),
    allocated: () => pair(raw.allocated),
    freed: () => sum(gone(amounts("allocated"), amounts("live")), pair(raw.freed)),
    peak: raw.peak && (() => sum(amounts("live"), pair(raw.peak))),
    temporary: raw.temporary && (() => pair(raw.temporary)),
    resident: raw.resident && (() => pair(raw.resident)),
    trapped: raw.trapped && (() => pair(raw.trapped)),
  };
  const known = {};
  const amounts = (view) => (known[view] ||= makers[view]());
  amounts.has = (view) => Boolean(makers[view]);
  return amounts;
})();

// Calls visit(bin, bytes, count) for the survivors of a site.
function eachBirth(site, visit) {
  const { births, start } = sites;
  let bin = 0;
  for (let at = start[site] + 1, left = births[start[site]]; left > 0; left--, at += 3) {
    bin += births[at];
    visit(bin, births[at + 1], births[at + 2]);
  }
}

const text = (number) => report.strings[number];
const functionOf = (frame) => text(frames.name[frame]);
const moduleOf = (frame) => text(frames.module[frame]);

// A file's name; every Python package has an __init__.py.
function lastPart(path) {
  const parts = path.split("/");
  const name = parts.pop();
  return name.startsWith("__") && parts.length ? parts.pop() + "/" + name : name;
}

// `model.cc:42`, or the module where the source is not known.
function placeOf(frame) {
  const file = text(frames.file[frame]),
    line = frames.line[frame];
  if (file) return lastPart(file) + (line ? ":" + line : "");
  const module = moduleOf(frame);
  return functionOf(frame).startsWith(module) ? "" : module;
}

function longPlaceOf(frame) {
  const file = text(frames.file[frame]),
    line = frames.line[frame];
  return file ? file + (line ? ":" + line : "") : moduleOf(frame);
}

const titles = new Array(frames.count);
const titleOf = (frame) => {
  if (titles[frame] === undefined) {
    const place = placeOf(frame);
    titles[frame] = clean(functionOf(frame) + (place ? ` (${place})` : ""));
  }
  return titles[frame];
};

// The frame to look at first, or the allocation function where there is none.
const keyFrame = (site) => {
  let node = sites.leaf[site];
  for (let levels = sites.key[site]; levels > 0; levels--) node = tree.parent[node];
  return tree.frame[node];
};

// The site's nodes, the allocation function first.
const nodesOf = (site) => {
  const nodes = [];
  for (let node = sites.leaf[site]; node > 0; node = tree.parent[node]) nodes.push(node);
  return nodes;
};
