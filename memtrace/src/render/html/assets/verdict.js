// What happens to the memory, and what to try.

const KINDS = {
  leak: ["Leak", "bad"],
  fragmentation: ["Fragmentation", "bad"],
  allocator_cache: ["Allocator cache", ""],
  not_the_heap: ["Not the heap", ""],
  live_growth: ["Growth of what is in use", ""],
  not_growing: ["Not growing", "good"],
  cannot_tell: ["Cannot tell", ""],
};

function showVerdict() {
  const { verdict } = report;
  if (!verdict) {
    fill(
      $("verdict"),
      head("verdict", "Summary"),
      report.summary.map((it) => el("p", null, it)),
    );
    return;
  }
  const [name, mood] = KINDS[verdict.kind] || [verdict.kind, ""];
  const { level, score, doubts } = verdict.confidence;
  fill(
    $("verdict"),
    head("verdict", "Verdict"),
    el(
      "p",
      null,
      el("span", { class: "kind " + mood }, name),
      el("span", { class: "confidence" }, `confidence ${level} (${score} of 100)`),
    ),
    el("p", { class: "headline" }, verdict.headline),
    part(
      "Because",
      verdict.evidence.map((it) => it.text),
    ),
    part("Try", verdict.remedies.map(remedy)),
    part("What makes it less sure", doubts.map(sentence)),
    part("And see", verdict.would_help_to_know),
  );
}

const part = (title, items) => items.length > 0 && [el("h3", null, title), list(items)];

const remedy = ({ action, why, expected_bytes: expected }) => [
  el("strong", null, action),
  expected ? ` (up to ${bytes(expected)})` : "",
  el("span", { class: "why" }, ": " + why.replace(/\.*$/, ".")),
];
