"use strict";
// Data of the page -> rows -> charts and tables. Draws by Vega-Lite with its expression interpreter: nothing is evaluated.
const DATA = JSON.parse(document.getElementById("data").textContent);
const WORDS = { P: "pass", F: "fail", I: "inconclusive", N: "no baseline", X: "xfail", "-": "" };
const SHAPES = { P: "circle", F: "cross", I: "diamond", N: "triangle-up", X: "square", "-": "circle" };
const INTERVALS_UP_TO = 3; // lines
const DOTS_UP_TO = 150; // runs; of more, only those that are no pass have a dot
const AXIS = 40; // pixels below a chart
const CHARACTER = 6.2; // pixels, of a commit
const COMMIT_ROWS = 6;
const COLOURS = 8;

const rankOf = (select) => {
  const names = [...document.forms.filters.elements[select].options].map((option) => option.value).filter((v) => v && v !== "*");
  return (name) => Math.max(0, names.indexOf(name)) % COLOURS;
};
const qconfigRank = rankOf("qconfig");
const suiteRank = rankOf("suite");
const colour = (rank) => `var(--s${rank})`;
const at = (column, index) => (Array.isArray(column) ? column[index] : column);
const shown = (value, digits, unit) => (value === null ? "" : `${value.toFixed(digits)} ${unit}`.trim());
const fits = (filter, name) => !filter || filter === name;

// Every point of a history chart that fits the filters. `x` counts the runs of this chart, so that bursts do not crowd.
function historyRows(chart, filters) {
  const series = chart.series.filter((s) => fits(filters.qconfig, s.qconfig) && fits(filters.machine, s.machine));
  const runs = [...new Set(series.flatMap((s) => DATA.shared[s.runs]))].sort((a, b) => a - b);
  const place = new Map(runs.map((run, index) => [run, index]));
  const points = [];
  const changes = new Map();
  for (const s of series) {
    const mine = DATA.shared[s.runs];
    const ink = colour(qconfigRank(s.qconfig));
    mine.forEach((run, i) => points.push({
      x: place.get(run), run, series: `${s.qconfig} ${s.machine}`, qconfig: s.qconfig, machine: s.machine, ink,
      value: s.value[i], low: at(s.low, i), high: at(s.high, i), bound: at(s.bound, i), recorded: at(s.recorded, i),
      verdict: s.verdicts[i],
    }));
    for (const [i, before, after, p, worse] of s.changes) {
      const run = mine[i];
      const key = `${run} ${s.qconfig}`;
      const told = `${s.qconfig}: ${shown(before, chart.digits, "")} → ${shown(after, chart.digits, chart.unit)}, ${worse ? "worse" : "better"} (p ${p})`;
      changes.set(key, { x: place.get(run) - 0.5, run, ink, commit: "", tip: `Change at ${runName(run)}\n${told}` });
    }
  }
  const named = new Set();
  for (const change of changes.values()) {
    change.commit = named.has(change.run) ? "" : DATA.runs.commit[change.run] || DATA.runs.time[change.run].slice(0, 10);
    named.add(change.run);
  }
  return { runs, points, changes: [...changes.values()] };
}

function runName(run) {
  const subject = DATA.runs.subject[run];
  return `${DATA.runs.name[run]}${subject ? ` “${subject}”` : ""}`;
}

function pointTip(chart, point) {
  const lines = [
    `${point.qconfig}: ${shown(point.value, chart.digits, chart.unit)} ${WORDS[point.verdict]}`.trim(),
    point.low === null ? "" : `95 % ${shown(point.low, chart.digits, "")} to ${shown(point.high, chart.digits, "")}`,
    point.bound === null ? "" : `limit ${point.bound} ${chart.unit}`,
    point.recorded === null ? "" : `recorded ${shown(point.recorded, chart.digits, chart.unit)}`,
    runName(point.run), `${DATA.runs.time[point.run]}, ${point.machine}`,
  ];
  return lines.filter(Boolean).join("\n");
}

// Stretches of runs on one kind of machine; every other kind is shaded. Interleaved runs would make stripes: none then.
function bands(runs) {
  const found = [];
  const kinds = [...new Set(runs.map((run) => DATA.runs.machines[run]))];
  if (kinds.length < 2) return found;
  runs.forEach((run, i) => {
    const name = DATA.runs.machines[run];
    const last = found[found.length - 1];
    if (last && last.name === name) last.to = i + 0.5;
    else found.push({ name, from: i - 0.5, to: i + 0.5, fill: kinds.indexOf(name) % 2 ? "var(--band)" : "transparent" });
  });
  return found.length > 12 ? [] : found;
}

// No line across a stretch of runs on another machine.
function breakLines(points) {
  const last = new Map();
  for (const point of points) {
    const before = last.get(point.series);
    const part = before ? before.part + (point.x > before.x + 1 ? 1 : 0) : 0;
    last.set(point.series, { x: point.x, part });
    point.series = `${point.series} ${part}`;
  }
}

// Commits stand beside their change points, one above the other where they would cover one another.
function placeCommits(changes, runs, width) {
  const step = (width - 55) / runs;
  const ends = [];
  for (const change of changes.sort((a, b) => a.x - b.x)) {
    const room = change.commit ? change.commit.length * CHARACTER + 8 : 0;
    const at = (change.x + 0.5) * step;
    change.side = at < room ? 1 : -1;
    const from = change.side > 0 ? at : at - room;
    const free = ends.findIndex((end) => end <= from);
    change.row = free < 0 ? ends.length : free;
    if (change.row >= COMMIT_ROWS) change.commit = "";
    else if (room) ends[change.row] = from + room;
  }
}

// Names of what lies on the front, as far as they do not cover one another.
function labelSpots(spots) {
  const spread = (values) => Math.max(...values) - Math.min(...values) || 1;
  const xs = spread(spots.map((s) => Math.log(s.ms)));
  const fastest = Math.min(...spots.map((s) => s.ms));
  const ys = spread(spots.map((s) => s.top1));
  const labelled = [];
  for (const spot of spots.filter((s) => s.front).sort((a, b) => b.top1 - a.top1)) {
    const free = labelled.every((l) => Math.abs(Math.log(l.ms / spot.ms)) / xs > 0.2 || Math.abs(l.top1 - spot.top1) / ys > 0.07);
    spot.label = free ? spot.name : "";
    spot.side = Math.log(spot.ms / fastest) / xs > 0.7 ? -1 : 1;
    if (free) labelled.push(spot);
  }
}

const BUILD = {
  history(chart, spec, width, filters) {
    const { runs, points, changes } = historyRows(chart, filters);
    const few = runs.length <= DOTS_UP_TO;
    for (const point of points) {
      const plain = "P-".includes(point.verdict);
      point.shape = plain && !few ? "" : SHAPES[point.verdict];
      point.size = plain ? (runs.length > 60 ? 12 : 26) : 70;
      point.dot = point.verdict === "F" || point.verdict === "N" ? "var(--bad)" : point.ink;
      point.tip = pointTip(chart, point);
    }
    const labels = {};
    const marks = Math.max(2, Math.min(runs.length, Math.floor(width / 110)));
    for (let k = 0; k < marks; k++) {
      const i = marks === 1 ? 0 : Math.round((k * (runs.length - 1)) / (marks - 1));
      const run = runs[i];
      if (run !== undefined) labels[i] = DATA.runs.commit[run].slice(0, 7) || DATA.runs.time[run].slice(5, 10);
    }
    spec.encoding.x.axis.values = Object.keys(labels).map(Number);
    spec.encoding.x.scale.domain = [-0.5, runs.length - 0.5];
    spec.params.find((p) => p.name === "labels").value = labels;
    placeCommits(changes, runs.length, width);
    const stretches = bands(runs);
    for (const stretch of stretches) {
      const room = Math.floor((((stretch.to - stretch.from) / runs.length) * (width - 40)) / 5.6);
      stretch.label = room >= stretch.name.length ? stretch.name : room > 5 ? `${stretch.name.slice(0, room - 1)}…` : "";
    }
    if (stretches.length) breakLines(points);
    spec.datasets = { points, changes, bands: stretches };
    // What has no value is left out, not drawn as nothing; and many intervals on one another say nothing.
    const crowded = new Set(points.map((p) => p.series)).size > INTERVALS_UP_TO;
    const empty = (name) => points.every((p) => p[name] === null) || (name === "low" && crowded);
    spec.layer = spec.layer.filter((layer) => !["low", "bound", "recorded"].includes(layer.name) || !empty(layer.name));
    return points.length > 0;
  },
  scatter(chart, spec, width, filters) {
    const kept = chart.points.filter((p) => fits(filters.suite, p.suite) && (p.precision === "fp32" || fits(filters.qconfig, p.qconfig)));
    spec.datasets = {
      points: kept.map((p) => {
        const ink = colour(suiteRank(p.suite));
        const solid = p.precision === "int8";
        return { ...p, ink, fill: solid ? ink : "var(--bg)", shape: "circle", tip: `${p.name}\n${p.ms} ms, top-1 ${p.top1} %${p.front ? "\non the Pareto front" : ""}` };
      }),
    };
    labelSpots(spec.datasets.points);
    return kept.length > 0;
  },
  ratios(chart, spec) {
    spec.height = 22 * chart.spread.length + AXIS;
    spec.datasets = {
      pairs: chart.pairs.flatMap((ratios, i) => ratios.map((ratio) => ({ process: String(i + 1), ratio }))),
      spread: chart.spread.map((s) => ({ ...s, tip: `${s.process === "all" ? "all pairs" : `process ${s.process}`}\nmedian ${s.middle}\nmiddle half ${s.quarter} to ${s.three_quarters}` })),
      judged: [chart.judged],
    };
    return true;
  },
  layers(chart, spec) {
    spec.height = 20 * chart.layers.length + AXIS;
    spec.datasets = {
      layers: chart.layers.map((l) => ({
        ...l, fill: l.fell ? "var(--bad)" : "var(--s0)",
        tip: `${l.name}\n${l.kind}\n${l.db} dB${l.was === null ? "" : `, was ${l.was} dB`}`,
      })),
    };
    return true;
  },
};
BUILD.scatter_log = BUILD.scatter;

const CONFIG = {
  background: null, font: "inherit", view: { stroke: null },
  axis: {
    labelColor: "var(--muted)", titleColor: "var(--muted)", gridColor: "var(--line)", domainColor: "var(--line)",
    tickColor: "var(--line)", labelFontSize: 11, titleFontSize: 11, titleFontWeight: 400, labelFont: "inherit", titleFont: "inherit",
  },
  text: { font: "inherit" },
};

// A name is data for a tooltip, never markup.
const tip = Object.assign(document.createElement("div"), { id: "tip", hidden: true });
tip.setAttribute("aria-hidden", "true");
document.body.append(tip);
function showTip(_, event, item, value) {
  tip.hidden = value === null || value === undefined || value === "";
  if (tip.hidden) return;
  tip.textContent = String(value);
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(6, Math.min(event.clientX + 14, innerWidth - width - 6))}px`;
  tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
}

const drawn = new Map(); // element -> what it was drawn for, and the view

async function draw(element, filters) {
  const chart = DATA.charts[element.dataset.chart];
  const width = Math.floor(element.clientWidth);
  const state = JSON.stringify([width, filters]);
  const last = drawn.get(element);
  if (!width || (last && last.state === state)) return;
  drawn.set(element, { state, view: last && last.view });
  const spec = structuredClone(DATA.specs[chart.kind]);
  spec.width = width;
  spec.autosize = { type: "fit", contains: "padding" };
  const something = BUILD[chart.kind](chart, spec, width, filters);
  if (last && last.view) last.view.finalize();
  element.replaceChildren();
  if (!something) {
    element.textContent = "Nothing fits these filters.";
    return;
  }
  // Vega names what it draws into; the name of the plot is the page's own.
  const canvas = element.appendChild(document.createElement("div"));
  canvas.setAttribute("aria-hidden", "true");
  const result = await vegaEmbed(canvas, spec, { actions: false, ast: true, defaultStyle: false, renderer: "svg", tooltip: showTip, config: CONFIG });
  if (drawn.get(element).state === state) drawn.get(element).view = result.view;
  else result.view.finalize();
}

function table(caption, heads, rows, more) {
  const box = Object.assign(document.createElement("div"), { className: "scroll", tabIndex: 0 });
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", caption);
  const made = document.createElement("table");
  made.createCaption().textContent = caption;
  made.caption.className = "sr";
  const head = made.createTHead().insertRow();
  for (const [text, number] of heads) {
    const th = Object.assign(document.createElement("th"), { textContent: text, scope: "col", className: number ? "n" : "" });
    head.append(th);
  }
  const body = made.createTBody();
  for (const row of rows) {
    const tr = body.insertRow();
    row.forEach((text, i) => {
      const cell = document.createElement(i ? "td" : "th");
      if (!i) cell.scope = "row";
      cell.textContent = text;
      if (heads[i][1]) cell.className = "n";
      tr.append(cell);
    });
  }
  box.append(made);
  if (more) box.append(Object.assign(document.createElement("p"), { textContent: more }));
  return box;
}

const ROWS_IN_TABLE = 500;
function historyTable(id, filters) {
  const chart = DATA.charts[id];
  const { points } = historyRows(chart, filters);
  points.sort((a, b) => b.run - a.run || (a.series < b.series ? -1 : 1));
  const heads = [["run"], ["time"], ["qconfig"], ["machine"], [chart.unit || "value", 1], ["95 % interval", 1], ["limit", 1], ["recorded", 1], ["verdict"]];
  const number = (value) => shown(value, chart.digits, "");
  const rows = points.slice(0, ROWS_IN_TABLE).map((p) => [
    DATA.runs.name[p.run], DATA.runs.time[p.run], p.qconfig, p.machine, number(p.value),
    p.low === null ? "" : `${number(p.low)} to ${number(p.high)}`, p.bound === null ? "" : String(p.bound), number(p.recorded), WORDS[p.verdict],
  ]);
  const more = points.length > ROWS_IN_TABLE ? `The newest ${ROWS_IN_TABLE} of ${points.length} values.` : "";
  return table(`${chart.title} by run, the newest first`, heads, rows, more);
}
