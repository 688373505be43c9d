// The table of sites.

const columns = () => [
  [
    "bytes",
    sentence(state.selected ? "obtained, kept" : report.views[state.view]).slice(0, -1),
    "c-bytes num",
  ],
  ["count", "Blocks", "c-count num"],
  ["age", "Oldest", "c-age num"],
  [null, "Kept, by time", "c-growth"],
  ["where", "Where", "where"],
];

function drawHead() {
  fill(
    $("site-head"),
    columns().map(([key, name, kind]) =>
      el(
        "th",
        {
          scope: "col",
          role: "columnheader",
          class: kind,
          "aria-sort":
            key && (table.sort === key ? (table.down ? "descending" : "ascending") : "none"),
        },
        key
          ? el("button", { type: "button", "data-sort": key, click: () => sortBy(key) }, name)
          : name,
      ),
    ),
  );
}

function sortBy(key) {
  table.down = table.sort === key ? !table.down : key !== "where";
  table.sort = key;
  drawSites();
  $("site-head").querySelector(`[data-sort="${key}"]`).focus();
}

function toggle(row) {
  if (table.open.has(row.group)) table.open.delete(row.group);
  else table.open.set(row.group, 0);
  const held = document.activeElement.closest && document.activeElement.closest("td.where");
  drawRows();
  if (held)
    $("site-rows")
      .querySelectorAll("tr.site")
      [table.rows.indexOf(row)]?.querySelector("button")
      .focus();
}

function drawRows() {
  const shown = table.rows.slice(0, table.shown);
  fill(
    $("site-rows"),
    shown.map((row) => [
      rowOf(row),
      table.open.has(row.group) && row.weighing.length > 0 && stackRow(row),
    ]),
  );
  if (!shown.length)
    fill(
      $("site-rows"),
      el(
        "tr",
        { role: "row" },
        el(
          "td",
          { colspan: 5, role: "cell" },
          $("site-filter").value ? "No site matches." : `Nothing ${weightWords()}.`,
        ),
      ),
    );
  const left = table.rows.length - shown.length;
  $("site-more").hidden = left <= 0;
  fill($("site-more"), `Show ${Math.min(PAGE, left)} of ${count(left)} more`);
}

function drawSites() {
  const all = grouping(table.by)
    .map(weigh)
    .filter((row) => row.count > 0 || row.bytes > 0);
  table.rows = sorted(filtered(all));
  table.shown = PAGE;
  drawHead();
  drawRows();
  const some = {
    bytes: sum(table.rows.map((row) => row.bytes)),
    count: sum(table.rows.map((row) => row.count)),
  };
  fill($("site-sum"), `${amountWords(some)} at ${plural(table.rows.length, table.by)}`);
}

function showSites() {
  $("group").value = table.by;
  $("group").addEventListener("change", (event) => {
    table.by = event.target.value;
    table.open.clear();
    drawSites();
  });
  $("site-filter").addEventListener("input", drawSites);
  $("site-more").addEventListener("click", () => {
    table.shown += PAGE;
    drawRows();
  });
  fill(
    $("site-hint"),
    "Not each of these is a leak: a cache, or a block freed after the window, looks the same. A row opens to its largest stack.",
  );
  onChange(drawSites);
}
