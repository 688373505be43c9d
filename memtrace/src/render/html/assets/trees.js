// The stacks as a tree from the root, or from the allocation functions, made as far as it is looked
// at: {frame, bytes, count, age, parent, depth, kids()}.

const links = (() => {
  const first = new Int32Array(tree.nodes).fill(-1),
    next = new Int32Array(tree.nodes).fill(-1);
  for (let node = tree.nodes - 1; node > 0; node--) {
    next[node] = first[tree.parent[node]];
    first[tree.parent[node]] = node;
  }
  return { first, next };
})();

const byBytes = (one, other) => other.bytes - one.bytes || one.frame - other.frame;

// For each node what the sites below it have of something, in sum.
function totals(of) {
  const sums = new Float64Array(tree.nodes),
    { parent } = tree;
  for (let site = 0; site < sites.count; site++) sums[sites.leaf[site]] += of[site];
  for (let node = tree.nodes - 1; node > 0; node--) sums[parent[node]] += sums[node];
  return sums;
}

const once = (make) => {
  let made;
  return () => (made ||= make());
};

function fromTheRoot() {
  const { bytes: weights, count: blocks } = state.weights,
    size = totals(weights);
  // Only what is pointed at needs these.
  const counts = once(() => totals(blocks));
  const ages = once(() => totals(weights.map((weight, site) => weight * sites.median[site])));
  const make = (node, parent) => ({
    frame: tree.frame[node],
    bytes: size[node],
    parent,
    depth: parent ? parent.depth + 1 : 0,
    get count() {
      return counts()[node];
    },
    get age() {
      return ages()[node] / (size[node] || 1);
    },
    kids() {
      const kids = [];
      for (let kid = links.first[node]; kid >= 0; kid = links.next[kid])
        if (size[kid] > 0) kids.push(make(kid, this));
      kids.sort(byBytes);
      this.kids = () => kids;
      return kids;
    },
  });
  return make(0, null);
}

// From the allocation functions to the callers. `members` are sites and the node that each is at.
function fromTheLeaves() {
  const weights = state.weights;
  const make = (frame, members, parent) => {
    const node = {
      frame,
      bytes: 0,
      count: 0,
      age: 0,
      parent,
      depth: parent ? parent.depth + 1 : 0,
    };
    for (const [site] of members) {
      node.bytes += weights.bytes[site];
      node.count += weights.count[site];
      node.age += weights.bytes[site] * sites.median[site];
    }
    node.age /= node.bytes || 1;
    node.kids = () => {
      const kids = callers(members)
        .map(([frame, members]) => make(frame, members, node))
        .sort(byBytes);
      node.kids = () => kids;
      return kids;
    };
    return node;
  };
  const all = [];
  for (let site = 0; site < sites.count; site++)
    if (weights.bytes[site] > 0) all.push([site, sites.leaf[site]]);
  return make(-1, all, null);
}

function callers(members) {
  const groups = new Map();
  for (const [site, node] of members) {
    if (node === 0) continue;
    const frame = tree.frame[node];
    const group = groups.get(frame);
    if (group) group.push([site, tree.parent[node]]);
    else groups.set(frame, [[site, tree.parent[node]]]);
  }
  return [...groups];
}
