"use strict";
// Filters, theme, and when which chart is drawn: those in sight first, then the rest while nothing else is to do.
const form = document.forms.filters;
const chosen = () => Object.fromEntries(["suite", "qconfig", "metric", "machine"].map((name) => [name, form.elements[name].value]));
let filters = chosen();

for (const swatch of document.querySelectorAll("[data-colour]")) swatch.classList.add(`c${qconfigRank(swatch.dataset.colour)}`);
for (const swatch of document.querySelectorAll("[data-suite-colour]")) swatch.classList.add(`c${suiteRank(swatch.dataset.suiteColour)}`);

const waiting = new Set();
let idle = false;
// A browser may find no idle moment for long, as while a pointer moves: then it is drawn all the same.
const whenIdle = (work) => (window.requestIdleCallback ? requestIdleCallback(work, { timeout: 100 }) : setTimeout(work, 30));

function drawNext() {
  idle = false;
  const element = waiting.values().next().value;
  if (!element) {
    document.documentElement.dataset.drawn = "yes";
    return;
  }
  waiting.delete(element);
  draw(element, filters).catch((error) => console.error(error)).finally(schedule);
}
function schedule() {
  if (idle) return;
  idle = true;
  whenIdle(drawNext);
}
const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting && waiting.delete(target)) draw(target, filters).catch((error) => console.error(error));
  }
}, { rootMargin: "200px" });
const plots = [...document.querySelectorAll(".plot")];

function drawAll() {
  delete document.documentElement.dataset.drawn;
  for (const plot of plots) {
    watcher.unobserve(plot);
    waiting.delete(plot);
    if (plot.closest("[hidden], details:not([open])")) continue;
    waiting.add(plot);
    watcher.observe(plot);
  }
  schedule();
}

// What says nothing of a name fits any choice of it.
function fitsAll(element) {
  return ["suite", "qconfig", "machine"].every((name) => !filters[name] || element.dataset[name] === undefined || element.dataset[name] === filters[name]);
}
function metricFits(key, judged) {
  if (filters.metric === "*") return true;
  return filters.metric ? filters.metric === key : judged;
}

function apply() {
  filters = chosen();
  let rows = 0;
  for (const row of document.querySelectorAll(".matrix tr.row")) {
    row.hidden = !fitsAll(row);
    rows += row.hidden ? 0 : 1;
  }
  for (const divider of document.querySelectorAll(".matrix .divider")) {
    divider.hidden = ![...divider.parentElement.querySelectorAll("tr.row")].some((row) => !row.hidden);
  }
  for (const cell of document.querySelectorAll(".matrix [data-metric]")) cell.hidden = !metricFits(cell.dataset.metric, true);
  let charts = 0;
  for (const figure of document.querySelectorAll("figure.history")) {
    const lines = [...figure.querySelectorAll(".legend li")];
    for (const line of lines) line.hidden = !fitsAll(line);
    figure.hidden = !fitsAll(figure) || !metricFits(figure.dataset.metric, figure.dataset.judged === "yes") || lines.every((line) => line.hidden);
    charts += figure.hidden ? 0 : 1;
    fillTable(figure.querySelector("details"));
  }
  const none = document.getElementById("no-history");
  none.hidden = charts > 0 || !document.querySelector("figure.history");
  for (const element of document.querySelectorAll(".finding, figure:not(.history), .card")) element.hidden = !fitsAll(element);
  for (const fold of document.querySelectorAll(".rest")) {
    const inside = [...fold.querySelectorAll("figure")].filter((figure) => !figure.hidden).length;
    fold.hidden = inside === 0;
    fold.querySelector("summary b").textContent = inside;
  }
  const any = Object.values(filters).some(Boolean);
  document.getElementById("status").textContent = any ? `${rows} row${rows === 1 ? "" : "s"}, ${charts} histor${charts === 1 ? "y" : "ies"} shown` : "";
  drawAll();
}

function fillTable(details) {
  if (!details || !details.dataset.table) return;
  details.querySelector(".scroll")?.remove();
  if (details.open) details.append(historyTable(details.dataset.table, filters));
}
document.addEventListener("toggle", (event) => {
  fillTable(event.target);
  if (event.target.classList.contains("rest") && event.target.open) drawAll();
}, true);

form.addEventListener("change", apply);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(apply));

// A value of the matrix leads to its history, also where a filter hides that.
addEventListener("hashchange", reveal);
function reveal() {
  const target = document.getElementById(location.hash.slice(1));
  const fold = target && target.closest(".rest");
  const hidden = target && (target.hidden || (fold && !fold.open));
  if (fold) fold.open = true;
  if (target && target.hidden) {
    form.reset();
    form.elements.metric.value = target.dataset.judged === "no" ? target.dataset.metric : "";
    apply();
  }
  if (hidden) target.scrollIntoView();
  if (target) target.focus({ preventScroll: true });
}

const store = {
  get() { try { return localStorage.getItem("ptq-theme") || "auto"; } catch { return "auto"; } },
  set(value) { try { localStorage.setItem("ptq-theme", value); } catch { /* a file may have no storage */ } },
};
function theme(value) {
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
}
const radios = [...document.querySelectorAll('input[name="theme"]')];
for (const radio of radios) {
  radio.checked = radio.value === store.get();
  radio.addEventListener("change", () => { theme(radio.value); store.set(radio.value); });
}
theme(store.get());

let resized;
new ResizeObserver(() => { clearTimeout(resized); resized = setTimeout(drawAll, 150); }).observe(document.querySelector("main"));
apply();
if (location.hash) reveal();
