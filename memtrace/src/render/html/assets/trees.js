// The stacks as a tree from the root, or from the allocation functions, made as far as it is looked
// at: {frame, bytes, count, age, parent, depth, kids()}.

const links = (() => {
  const first = new Int32Array(tree.nodes).fill(-1), next = new Int32Array(tree.nodes).fill(-1);
  for (let node = tree.nodes - 1; node > 0; node--) {
    next[node] = first[tree.parent[node]];
    first[tree.parent[node]] = node;
  }
  return { first, next };
})();

const byBytes = (one, other) => other.bytes - one.bytes || one.frame - other.frame;

// The sums of the nodes below, for all nodes.
function totals() {
  const [size, blocks, age] = [0, 1, 2].map(() => new Float64Array(tree.nodes));
  for (let site = 0; site < sites.count; site++) {
    const leaf = sites.leaf[site], weight = state.weights.bytes[site];
    size[leaf] += weight;
    blocks[leaf] += state.weights.count[site];
    age[leaf] += weight * sites.median[site];
  }
  for (let node = tree.nodes - 1; node > 0; node--) {
    const parent = tree.parent[node];
    size[parent] += size[node];
    blocks[parent] += blocks[node];
    age[parent] += age[node];
  }
  return { size, blocks, age };
}

function fromTheRoot() {
  const { size, blocks, age } = totals();
  const make = (node, parent) => ({
    frame: tree.frame[node], bytes: size[node], count: blocks[node], age: age[node] / (size[node] || 1),
    parent, depth: parent ? parent.depth + 1 : 0,
    kids() {
      const kids = [];
      for (let kid = links.first[node]; kid >= 0; kid = links.next[kid]) if (size[kid] > 0) kids.push(make(kid, this));
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
    const node = { frame, bytes: 0, count: 0, age: 0, parent, depth: parent ? parent.depth + 1 : 0 };
    for (const [site] of members) {
      node.bytes += weights.bytes[site];
      node.count += weights.count[site];
      node.age += weights.bytes[site] * sites.median[site];
    }
    node.age /= node.bytes || 1;
    node.kids = () => {
      const kids = callers(members).map(([frame, members]) => make(frame, members, node)).sort(byBytes);
      node.kids = () => kids;
      return kids;
    };
    return node;
  };
  const all = [];
  for (let site = 0; site < sites.count; site++) if (weights.bytes[site] > 0) all.push([site, sites.leaf[site]]);
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
