// The table that adds up to RSS.

// The same colour for the same thing: in this table, over time, and in the heap.
const RSS_COLOURS = {
  in_use: "in-use",
  mapped_blocks: "mapped",
  free_returnable: "returnable",
  free_trapped: "trapped",
  allocator_cache: "cached",
  top: "top",
  allocator_metadata: "metadata",
  heap_unknown: "unknown",
  pymalloc_in_use: "python",
  pymalloc_free_in_pools: "python-free",
  pymalloc_free_pools: "python-free",
  other_anonymous: "unknown",
  opaque_allocator: "in-use",
  remainder: "trapped",
};

function showRss() {
  const table = report.rss_table,
    before = report.rss_table_before;
  if (!table) {
    fill(
      $("rss"),
      head("rss", "RSS"),
      el("p", { class: "hint" }, "The heap was not walked: what RSS consists of is not known."),
    );
    return;
  }
  const [now, then] = [table, before].map(
    (it) => new Map(it ? it.rows.map((row) => [row.kind, row.resident_bytes]) : []),
  );
  const rows = Object.keys(report.rss_labels).filter((kind) => now.get(kind) || then.get(kind));
  rows.sort((one, other) => (now.get(other) || 0) - (now.get(one) || 0));
  const line = (kind) => [
    report.rss_labels[kind],
    now.get(kind) || 0,
    (now.get(kind) || 0) - (then.get(kind) || 0),
    RSS_COLOURS[kind] || "files",
  ];
  fill(
    $("rss"),
    head("rss", "What RSS consists of"),
    el(
      "table",
      { class: "rss" },
      el(
        "thead",
        null,
        el(
          "tr",
          null,
          ["What", "", "Resident", "Share", before && "Since attach"]
            .filter((it) => it !== null)
            .map((it, at) =>
              el(
                "th",
                { scope: "col", class: at > 1 ? (it === "Share" ? "num share" : "num") : null },
                it,
              ),
            ),
        ),
      ),
      el(
        "tbody",
        null,
        rows.map((kind) => rssRow(line(kind), table.rss_bytes, before)),
      ),
      el(
        "tfoot",
        null,
        el(
          "tr",
          null,
          el("th", { scope: "row" }, "RSS"),
          el("td"),
          el("td", { class: "num" }, bytes(table.rss_bytes)),
          el("td", { class: "num share" }),
          before && el("td", { class: "num" }, signedBytes(table.rss_bytes - before.rss_bytes)),
        ),
      ),
    ),
    rssRemarks(),
  );
}

const rssRow = ([label, now, grown, colour], whole, before) =>
  el(
    "tr",
    null,
    el("th", { scope: "row", style: { color: "inherit" } }, label),
    el("td", null, meter([[`var(--${colour})`, now]], whole)),
    el("td", { class: "num" }, bytes(now)),
    el("td", { class: "num share" }, share(now, whole)),
    before &&
      el(
        "td",
        { class: grown > whole / 100 ? "num grown" : "num" },
        grown ? signedBytes(grown) : "",
      ),
  );

function rssRemarks() {
  const { heap } = report;
  if (!heap) return [];
  const older = heap.allocated_before_bytes;
  return [
    older !== null &&
      `Of the ${bytes(heap.in_use_bytes)} in use by the allocator's count, ${bytes(older)} were allocated before the attach.`,
    heap.trim_bytes > 0 && `malloc_trim(0) would give back ${bytes(heap.trim_bytes)} now.`,
    heap.error_bound_bytes > 0 &&
      `The process went on meanwhile: any sum can be off by ${bytes(heap.error_bound_bytes)}.`,
    report.rss_table.huge_bytes > 0 &&
      `${bytes(report.rss_table.huge_bytes)} of it all are in huge pages.`,
    report.rss_table.swap_bytes > 0 &&
      `${bytes(report.rss_table.swap_bytes)} are swapped out, besides.`,
    ...heap.refusals.map((it) => `Not looked into: ${it.part}: ${it.reason}.`),
  ]
    .filter(Boolean)
    .map((it) => el("p", { class: "hint" }, it));
}
