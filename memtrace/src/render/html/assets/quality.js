// What is missing, and what else a reader must know.

function showQuality() {
  const check = report.heap && report.heap.survivor_check;
  const percentiles = (of, show) =>
    of &&
    `median ${show(of.p50)}, p90 ${show(of.p90)}, p99 ${show(of.p99)}, most ${show(of.max)} (${plural(of.count, "block")})`;
  fill(
    $("quality"),
    head("quality", "Completeness and notes"),
    el(
      "p",
      null,
      completeness.complete
        ? `${count(completeness.events)} events were received, and none was lost.`
        : el(
            "strong",
            { class: "stranded" },
            `${count(completeness.events)} events were received, and some were lost:`,
          ),
    ),
    list([...losses(), ...completeness.notes]),
    el(
      "dl",
      { class: "facts" },
      facts([
        [
          "Calls cut",
          completeness.cut_calls > 0 &&
            `${count(completeness.cut_calls)} in flight when the window opened or closed`,
        ],
        [
          "Forks",
          completeness.forks > 0 &&
            `${plural(completeness.forks, "fork")}: children are not followed`,
        ],
        [
          "Execs",
          completeness.execs > 0 &&
            `${plural(completeness.execs, "exec")}: ${amountWords(completeness.discarded_by_exec)} went with the old program`,
        ],
        [
          "Older",
          report.totals.unmatched_frees > 0 &&
            `${plural(report.totals.unmatched_frees, "free")} of blocks from before the window`,
        ],
        [
          "Survivors",
          check &&
            `${count(check.in_use)} of what survives was found in use in the heap, ${count(check.freed.count)} found free and left out, ${count(check.unknown + check.unchecked)} not looked at`,
        ],
        [
          "Youngest",
          traced.min_age_ns > 0 &&
            `blocks younger than ${duration(traced.min_age_ns)} at the end do not count as never freed`,
        ],
        ["Sizes", percentiles(report.sizes, bytes)],
        ["Lifetimes", percentiles(report.lifetimes, duration)],
        [
          "Walks",
          report.heap &&
            `${count(report.heap.walks)} of the heap, ${duration(report.heap.walks_cpu_ns)} of a CPU in all`,
        ],
        [
          "Cost",
          `attached in ${duration(traced.attach_ns)}, detached in ${duration(traced.detach_ns)}, memtrace used ${bytes(report.rss.own_peak_bytes)}`,
        ],
      ]),
    ),
  );
  fill(
    $("foot"),
    `memtrace ${report.version}`,
    el("button", { type: "button", id: "download", click: download }, "Save the data as JSON"),
    "This page holds everything in it and asks the network for nothing.",
  );
}

function download() {
  const data = new Blob([$("data").textContent], { type: "application/json" });
  const link = el("a", {
    href: URL.createObjectURL(data),
    download: `memtrace-${target.pid}.json`,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
