// Who obtained what survives; where the capture has the events that tell.

const THREADS = 20;

function threadRow(thread) {
  const whole = report.threads.reduce((sum, it) => sum + it.survivors.bytes, 0) || 1;
  const part = thread.survivors.bytes;
  return el(
    "tr",
    null,
    el("th", { scope: "row" }, `${thread.name || "thread"} (${thread.tid})`),
    el("td", null, amountWords(thread.survivors)),
    el("td", null, meter([["var(--in-use)", part]], whole, "6rem"), ` ${Math.round((part * 100) / whole)} %`),
    el("td", null, bytes(thread.live.bytes)),
    el("td", null, bytes(thread.allocated.bytes)),
  );
}

function showThreads() {
  const threads = report.threads;
  $("threads").hidden = !threads.length;
  if (!threads.length) return;
  const titles = ["Thread", "Never freed", "Share", "Live", "Allocated"];
  const more = threads.length - THREADS;
  fill(
    $("threads"),
    head("threads", "Threads"),
    el("p", { class: "hint" }, "By who obtained it, whoever frees it."),
    el(
      "table",
      { class: "threads" },
      el("thead", null, el("tr", null, titles.map((it) => el("th", { scope: "col" }, it)))),
      el("tbody", null, threads.slice(0, THREADS).map(threadRow)),
    ),
    more > 0 && el("p", { class: "hint" }, `... and ${plural(more, "more thread")}`),
  );
}
