// A row of the table of sites: when what it kept was obtained, and its stacks.

// Bars of what was kept of each time, and how that adds up.
function spark(group) {
  if (!bins) return null;
  const wide = Math.min(bins, 60),
    born = new Float64Array(wide),
    scale = wide / bins;
  for (const site of group.sites)
    eachBirth(site, (bin, size) => {
      born[Math.min(wide - 1, Math.floor(bin * scale))] += size;
    });
  const all = sum(born),
    largest = Math.max(...born);
  if (!all) return null;
  const inside = (at) =>
    !state.selected || (at / scale >= state.selected[0] - 1 && at / scale < state.selected[1]);
  const bars = Array.from(
    born,
    (size, at) =>
      size > 0 &&
      svg("rect", {
        x: at,
        width: 0.9,
        y: 20 - Math.max(1, (size / largest) * 19),
        height: Math.max(1, (size / largest) * 19),
        class: inside(at) ? null : "out",
      }),
  );
  let grown = 0;
  const path =
    "M0 20" +
    Array.from(born, (size, at) => `H${at}V${(20 - ((grown += size) / all) * 19).toFixed(1)}`).join(
      "",
    ) +
    `H${wide}`;
  return svg(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${wide} 20`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": "when it was obtained",
    },
    bars,
    svg("path", { d: path }),
  );
}

const ageWords = (row) => {
  if (!hasAges() || !row.count) return "";
  const [young, old] = [row.youngest, row.oldest].map((ms) => duration(ms * 1e6));
  return row.count === 1 || young === old
    ? `age ${old}`
    : `age ${young} to ${old}, median ${duration(row.median * 1e6)}`;
};

const sizeWords = ({ survivors: of }) =>
  of.count < 2
    ? null
    : `${of.smallest_bytes === of.largest_bytes ? "each" : "typically"} ${bytes(of.median_bytes)}`;

// Narrow screens lay the table out in blocks, which would take its meaning away without roles.
const cell = (kind, ...children) => el("td", { class: kind, role: "cell" }, children);

function rowOf(row) {
  const {
      group,
      name: [name, place],
    } = row,
    { facts } = group;
  const told = facts && !state.selected && state.view === "never_freed";
  const words = [
    told && facts.pattern,
    told && intervalWords(facts.survivors),
    told && sizeWords(facts),
    ageWords(row),
    row.weighing.length > 1 && `on ${plural(row.weighing.length, "stack")}`,
  ];
  const open = table.open.has(group);
  const button = el(
    "button",
    {
      type: "button",
      "aria-expanded": String(open),
      click: (event) => {
        event.stopPropagation();
        toggle(row);
      },
    },
    shortened(name, 180),
    place && el("span", { class: "place" }, ` (${shortened(place, 80)})`),
  );
  return el(
    "tr",
    { class: "site", role: "row", click: () => toggle(row) },
    cell(
      "c-bytes num bytes",
      el("b", null, (report.sampled ? "~ " : "") + bytes(row.bytes)),
      meter([["var(--in-use)", row.bytes]], state.total.bytes || 1),
    ),
    cell("c-count num", (report.sampled ? "~ " : "") + count(row.count)),
    cell("c-age num", hasAges() && row.count ? duration(row.oldest * 1e6) : ""),
    cell("c-growth", spark(group)),
    cell(
      "where",
      button,
      el("small", { class: "only-narrow" }, plural(row.count, "block")),
      el("small", null, words.filter(Boolean).join(" · ")),
    ),
  );
}

function stackRow(row) {
  const { group } = row,
    at = Math.min(table.open.get(group), row.weighing.length - 1);
  const site = row.weighing[at],
    key = sites.key[site];
  const frame = (node, level) => {
    const it = tree.frame[node],
      place = longPlaceOf(it);
    return el(
      "li",
      {
        class: [isPython(it) && "python", level === key && "key"].filter(Boolean).join(" ") || null,
        "aria-current": level === key ? "true" : null,
      },
      functionOf(it),
      place && !functionOf(it).startsWith(place) && el("span", null, ` ${place}`),
      frames.inlined[it] ? el("span", null, " inlined") : null,
    );
  };
  const step = (to) => () => {
    table.open.set(group, to);
    drawRows();
  };
  const many = row.weighing.length > 1;
  return el(
    "tr",
    { class: "stack", role: "row" },
    el(
      "td",
      { colspan: 5, role: "cell" },
      el(
        "div",
        { class: "tools" },
        el(
          "span",
          null,
          `${amountWords({ bytes: state.weights.bytes[site], count: state.weights.count[site] })} ${weightWords()}` +
            (many ? `, stack ${at + 1} of ${row.weighing.length}` : ""),
        ),
        many && el("button", { type: "button", disabled: at === 0, click: step(at - 1) }, "Larger"),
        many &&
          el(
            "button",
            { type: "button", disabled: at + 1 === row.weighing.length, click: step(at + 1) },
            "Smaller",
          ),
        el(
          "button",
          {
            type: "button",
            click: () =>
              findInFlame(functionOf(group.frame).replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")),
          },
          "Find in the flamegraph",
        ),
      ),
      el("ol", null, nodesOf(site).map(frame)),
    ),
  );
}
