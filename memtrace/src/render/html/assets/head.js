// Who was traced, and what is lost.

const { target, window: traced, completeness } = report;

const facts = (list) =>
  list
    .filter(([, value]) => value)
    .map(([name, value]) => [el("dt", null, name), el("dd", null, value)]);

const list = (items) =>
  el(
    "ul",
    null,
    items.map((item) => el("li", null, item)),
  );

function showHead() {
  const name = `${target.command} (pid ${target.pid})`;
  document.title = clean(`${name}: memtrace report`);
  fill($("title"), name);
  fill(
    $("when"),
    `traced for ${duration(traced.duration_ns)} from ${traced.started_at}, ${report.ended}`,
  );
  const { rss } = report;
  const limit = rss.limit_bytes ? `, limit ${bytes(rss.limit_bytes)}` : "";
  fill(
    $("facts"),
    facts([
      ["Container", report.place],
      ["Command", target.command_line.join(" ").slice(0, 300)],
      [
        "Allocator",
        target.allocators.map((it) => `${it.name} ${it.version || ""} (${it.path})`).join("; "),
      ],
      ["Python", target.python && pythonWords(target.python)],
      [
        "RSS",
        `${bytes(rss.start_bytes)} → ${bytes(rss.end_bytes)} (${signedBytes(rss.end_bytes - rss.start_bytes)}), peak ${bytes(rss.peak_bytes)}${limit}`,
      ],
      ["Estimates", estimateWords()],
      [
        "Complete",
        completeness.complete
          ? `${count(completeness.events)} events, none lost`
          : el("strong", { class: "stranded" }, "no: see below"),
      ],
    ]),
  );
}

const pythonWords = ({ version, path, refused }) =>
  `${version || "of unknown version"} (${path})${refused ? `; its frames are missing: ${refused}` : ""}`;

// What was sampled, and how sure the sum is.
function estimateWords() {
  const whole = intervalWords(report.totals.survivors);
  return report.sampled && [report.sampled, whole && `never freed: ${whole}`].filter(Boolean).join(". ");
}

const losses = () => completeness.losses.map((loss) => `${count(loss.count)} ${loss.sentence}`);

function showLoss() {
  const box = $("loss");
  box.hidden = completeness.complete;
  if (completeness.complete) return;
  const fake = completeness.losses.some((loss) => loss.can_fake_a_survivor);
  fill(
    box,
    el("strong", null, "Incomplete: events were lost."),
    fake &&
      el(
        "p",
        null,
        "A free may be among them: some of what is called never freed here may have been freed.",
      ),
    list(losses()),
  );
}
