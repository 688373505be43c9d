// All of it, once; then what changes.

function switchTheme() {
  document.documentElement.dataset.theme = darkGround() ? "light" : "dark";
  redrawColours();
}

function redrawColours() {
  drawFlame();
  showHeap();
}

showHead();
showLoss();
showVerdict();
showRss();
showTimeline();
showFlame();
showSites();
showThreads();
showHeap();
showQuality();
update();
showColours();

$("theme").addEventListener("click", switchTheme);
$("selection-clear").addEventListener("click", () => select(null));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawColours);
document.documentElement.dataset.ready = Math.round(performance.now());
