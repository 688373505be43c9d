// Who was traced, what is lost, the verdict, the table that adds up to RSS, and completeness.

const { target, window: traced, completeness } = report;

const KINDS = {
  leak: ["Leak", "bad"], fragmentation: ["Fragmentation", "bad"],
  allocator_cache: ["Allocator cache", ""], not_the_heap: ["Not the heap", ""],
  live_growth: ["Growth of what is in use", ""], not_growing: ["Not growing", "good"],
  cannot_tell: ["Cannot tell", ""],
};

// The same colour for the same thing: in this table, over time, and in the heap.
const RSS_COLOURS = {
  in_use: "in-use", mapped_blocks: "mapped", free_returnable: "returnable", free_trapped: "trapped",
  allocator_cache: "cached", top: "top", allocator_metadata: "metadata", heap_unknown: "unknown",
  pymalloc_in_use: "python", pymalloc_free_in_pools: "python-free", pymalloc_free_pools: "python-free",
  other_anonymous: "unknown", opaque_allocator: "in-use", remainder: "trapped",
};

const facts = (list) =>
  list.filter(([, value]) => value).map(([name, value]) => [el("dt", null, name), el("dd", null, value)]);

const list = (items) => el("ul", null, items.map((item) => el("li", null, item)));

function showHead() {
  const name = `${target.command} (pid ${target.pid})`;
  document.title = clean(`${name}: memtrace report`);
  fill($("title"), name);
  fill($("when"), `traced for ${duration(traced.duration_ns)} from ${traced.started_at}, ${report.ended}`);
  const { rss } = report;
  const limit = rss.limit_bytes ? `, limit ${bytes(rss.limit_bytes)}` : "";
  fill($("facts"), facts([
    ["Command", target.command_line.join(" ").slice(0, 300)],
    ["Allocator", target.allocators.map((it) => `${it.name} ${it.version || ""} (${it.path})`).join("; ")],
    ["Python", target.python && pythonWords(target.python)],
    ["RSS", `${bytes(rss.start_bytes)} → ${bytes(rss.end_bytes)} (${signedBytes(rss.end_bytes - rss.start_bytes)}), peak ${bytes(rss.peak_bytes)}${limit}`],
    ["Complete", completeness.complete ? `${count(completeness.events)} events, none lost` : el("strong", { class: "stranded" }, "no: see below")],
  ]));
}

const pythonWords = ({ version, path, refused }) =>
  `${version || "of unknown version"} (${path})${refused ? `; its frames are missing: ${refused}` : ""}`;

const losses = () => completeness.losses.map((loss) => `${count(loss.count)} ${loss.sentence}`);

function showLoss() {
  const box = $("loss");
  box.hidden = completeness.complete;
  if (completeness.complete) return;
  const fake = completeness.losses.some((loss) => loss.can_fake_a_survivor);
  fill(box, el("strong", null, "Incomplete: events were lost."),
    fake && el("p", null, "A free may be among them: some of what is called never freed here may have been freed."),
    list(losses()));
}

function showVerdict() {
  const { verdict } = report;
  if (!verdict) {
    fill($("verdict"), head("verdict", "Summary"), report.summary.map((it) => el("p", null, it)));
    return;
  }
  const [name, mood] = KINDS[verdict.kind] || [verdict.kind, ""];
  const { level, score, doubts } = verdict.confidence;
  fill($("verdict"), head("verdict", "Verdict"),
    el("p", null, el("span", { class: "kind " + mood }, name), el("span", { class: "confidence" }, `confidence ${level} (${score} of 100)`)),
    el("p", { class: "headline" }, verdict.headline),
    part("Because", verdict.evidence.map((it) => it.text)),
    part("Try", verdict.remedies.map(remedy)),
    part("What makes it less sure", doubts.map(sentence)),
    part("And see", verdict.would_help_to_know));
}

const part = (title, items) => items.length > 0 && [el("h3", null, title), list(items)];

const remedy = ({ action, why, expected_bytes: expected }) => [
  el("strong", null, action), expected ? ` (up to ${bytes(expected)})` : "",
  el("span", { class: "why" }, ": " + why.replace(/\.*$/, ".")),
];

function showRss() {
  const table = report.rss_table, before = report.rss_table_before;
  if (!table) {
    fill($("rss"), head("rss", "RSS"), el("p", { class: "hint" }, "The heap was not walked: what RSS consists of is not known."));
    return;
  }
  const [now, then] = [table, before].map((it) => new Map(it ? it.rows.map((row) => [row.kind, row.resident_bytes]) : []));
  const rows = Object.keys(report.rss_labels).filter((kind) => now.get(kind) || then.get(kind));
  rows.sort((one, other) => (now.get(other) || 0) - (now.get(one) || 0));
  const line = (kind) => [report.rss_labels[kind], now.get(kind) || 0, (now.get(kind) || 0) - (then.get(kind) || 0), RSS_COLOURS[kind] || "files"];
  fill($("rss"), head("rss", "What RSS consists of"),
    el("table", { class: "rss" },
      el("thead", null, el("tr", null, ["What", "", "Resident", "Share", before && "Since attach"].filter((it) => it !== null).map((it, at) =>
        el("th", { scope: "col", class: at > 1 ? (it === "Share" ? "num share" : "num") : null }, it)))),
      el("tbody", null, rows.map((kind) => rssRow(line(kind), table.rss_bytes, before))),
      el("tfoot", null, el("tr", null, el("th", { scope: "row" }, "RSS"), el("td"), el("td", { class: "num" }, bytes(table.rss_bytes)),
        el("td", { class: "num share" }), before && el("td", { class: "num" }, signedBytes(table.rss_bytes - before.rss_bytes))))),
    rssRemarks());
}

const rssRow = ([label, now, grown, colour], whole, before) => el("tr", null,
  el("th", { scope: "row", style: { color: "inherit" } }, label),
  el("td", null, meter([[`var(--${colour})`, now]], whole)),
  el("td", { class: "num" }, bytes(now)),
  el("td", { class: "num share" }, share(now, whole)),
  before && el("td", { class: grown > whole / 100 ? "num grown" : "num" }, grown ? signedBytes(grown) : ""));

function rssRemarks() {
  const { heap } = report;
  if (!heap) return [];
  const older = heap.allocated_before_bytes;
  return [
    older !== null && `Of the ${bytes(heap.in_use_bytes)} in use by the allocator's count, ${bytes(older)} were allocated before the attach.`,
    heap.trim_bytes > 0 && `malloc_trim(0) would give back ${bytes(heap.trim_bytes)} now.`,
    heap.error_bound_bytes > 0 && `The process went on meanwhile: any sum can be off by ${bytes(heap.error_bound_bytes)}.`,
    report.rss_table.huge_bytes > 0 && `${bytes(report.rss_table.huge_bytes)} of it all are in huge pages.`,
    report.rss_table.swap_bytes > 0 && `${bytes(report.rss_table.swap_bytes)} are swapped out, besides.`,
    ...heap.refusals.map((it) => `Not looked into: ${it.part}: ${it.reason}.`),
  ].filter(Boolean).map((it) => el("p", { class: "hint" }, it));
}

function showQuality() {
  const check = report.heap && report.heap.survivor_check;
  const percentiles = (of, show) => of && `median ${show(of.p50)}, p90 ${show(of.p90)}, p99 ${show(of.p99)}, most ${show(of.max)} (${plural(of.count, "block")})`;
  fill($("quality"), head("quality", "Completeness and notes"),
    el("p", null, completeness.complete ? `${count(completeness.events)} events were received, and none was lost.` : el("strong", { class: "stranded" }, `${count(completeness.events)} events were received, and some were lost:`)),
    list([...losses(), ...completeness.notes]),
    el("dl", { class: "facts" }, facts([
      ["Calls cut", completeness.cut_calls > 0 && `${count(completeness.cut_calls)} in flight when the window opened or closed`],
      ["Forks", completeness.forks > 0 && `${plural(completeness.forks, "fork")}: children are not followed`],
      ["Execs", completeness.execs > 0 && `${plural(completeness.execs, "exec")}: ${amountWords(completeness.discarded_by_exec)} went with the old program`],
      ["Older", report.totals.unmatched_frees > 0 && `${plural(report.totals.unmatched_frees, "free")} of blocks from before the window`],
      ["Survivors", check && `${count(check.in_use)} of what survives was found in use in the heap, ${count(check.freed.count)} found free and left out, ${count(check.unknown + check.unchecked)} not looked at`],
      ["Youngest", traced.min_age_ns > 0 && `blocks younger than ${duration(traced.min_age_ns)} at the end do not count as never freed`],
      ["Sizes", percentiles(report.sizes, bytes)],
      ["Lifetimes", percentiles(report.lifetimes, duration)],
      ["Walks", report.heap && `${count(report.heap.walks)} of the heap, ${duration(report.heap.walks_cpu_ns)} of a CPU in all`],
      ["Cost", `attached in ${duration(traced.attach_ns)}, detached in ${duration(traced.detach_ns)}, memtrace used ${bytes(report.rss.own_peak_bytes)}`],
    ])));
  fill($("foot"), `memtrace ${report.version}`,
    el("button", { type: "button", id: "download", click: download }, "Save the data as JSON"),
    "This page holds everything in it and asks the network for nothing.");
}

function download() {
  const data = new Blob([$("data").textContent], { type: "application/json" });
  const link = el("a", { href: URL.createObjectURL(data), download: `memtrace-${target.pid}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
