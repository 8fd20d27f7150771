// What is chosen, the theme, and the charts: each drawn when first seen, and again when a choice changes it.
const facts = JSON.parse(document.getElementById("facts").textContent);
const $ = (id) => document.getElementById(id);
const INK = { light: "#1b1f24", dark: "#e8ebef" };
const state = { task: facts.main.task, metric: facts.main.metric, axis: "step", theme: "light" };

// Every text goes in as text, never as markup: completions may hold anything.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Rows travel as columns.
const rows = {};
for (const [name, columns] of Object.entries(facts.rows)) {
  const keys = Object.keys(columns);
  rows[name] = keys.length ? columns[keys[0]].map((_, i) => Object.fromEntries(keys.map((k) => [k, columns[k][i]]))) : [];
}
const CHARTS = ["curve", "change", "difference", "equal", "frontier"];
const COLUMNS = {
  curve: ["run", "step", "tokens", "examples", "value", "low", "high", "n", "alert", "trouble"],
  change: ["run", "step", "reference", "now", "value", "low", "high", "n"],
  difference: ["pair", "at", "value_first", "value_second", "difference", "low", "high", "p", "told", "n", "trouble"],
  parts: ["run", "step", "part", "value", "low", "high", "n", "label"],
  frontier: ["run", "step", "accuracy", "accuracy_low", "accuracy_high", "value", "low", "high", "n", "best"],
};
COLUMNS.equal = COLUMNS.difference;

const chosen = (name) => rows[name].filter((r) => r.task === state.task && r.metric === state.metric);
const drawn = {
  curve: () => chosen("curve"),
  change: () => chosen("change"),
  difference: () => chosen("difference").filter((r) => r.by === facts.by && facts.by !== "accuracy"),
  equal: () => chosen("difference").filter((r) => r.by === "accuracy"),
  frontier: () => chosen("frontier"),
};
// A chart without rows is one line: what is missing, and what would show it.
const MISSING = {
  change: "no change since the reference can be computed: it takes a second snapshot with this metric, or an earlier run as the reference.",
  difference: "nothing to compare here: give two runs of the same prompts (divmon compare RUN RUN).",
  equal: "no accuracy that both runs pass: it takes graded answers (a task with a verifier) and runs that meet.",
  frontier: "needs a diversity metric (such as sbert) and graded answers (a task with a verifier).",
  parts: "a decomposition takes a reference (an earlier snapshot, or an earlier run) and a pairwise metric (such as sbert) of " +
    "graded answers (a task with a verifier).",
};

function filled(spec, values, words) {
  let text = JSON.stringify(spec);
  for (const [name, word] of Object.entries(words)) {
    const whole = JSON.stringify(word);
    text = text.replaceAll(`"{${name}}"`, () => whole).replaceAll(`{${name}}`, () => whole.replace(/^"|"$/g, ""));
  }
  const made = { ...JSON.parse(text), data: { values } };
  // Of fewer than five prompts there is no interval, and a band of nothing has no scale.
  const drawn = (field) => !/low$/.test(field ?? "") || values.some((r) => Number.isFinite(r[field]));
  if (made.layer) made.layer = made.layer.filter((l) => drawn(l.encoding?.x?.field) && drawn(l.encoding?.y?.field));
  return made;
}

function words(by) {
  const along = by === "accuracy" ? "accuracy" : by;
  return { metric: state.metric, unit: facts.figures[state.metric]?.[1] || "value", axis: state.axis,
    axis_title: facts.axes[state.axis], by, by_title: facts.axes[along] || "accuracy",
    format: by === "accuracy" ? ".0%" : "~s", ink: INK[state.theme],
    domain: facts.domains[state.task]?.[state.metric] || [0, 0] };
}

function config(name) {
  const ink = INK[state.theme], line = state.theme === "dark" ? "#3a424c" : "#d3d9e0";
  return { background: null, font: "system-ui, sans-serif", view: { stroke: null }, text: { color: ink, fontSize: 12 },
    axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12,
      titleFontSize: 12, titleFontWeight: "normal", titleLimit: 0, labelOverlap: true },
    legend: { disable: name === "parts", labelColor: ink, titleColor: ink, labelFontSize: 12} };
}

// What failed is said before what a reader might lack.
function failed(place, name) {
  const kind = name === "parts" ? "/decomposition" : "";
  const runs = name === "parts" ? [place.dataset.run] : facts.runs.map((r) => r.name);
  const reason = runs.map((run) => facts.failed[run]?.[`${state.task}/${state.metric}${kind}`]).find(Boolean);
  return reason && `it failed: ${reason}`;
}

async function draw(place, name, values, about) {
  const chart = place.querySelector(".chart");
  place.values = values;
  const details = place.querySelector(":scope > details");
  if (details.open) fillTable(details, name, values);
  details.hidden = !values.length;
  if (!values.length) return chart.replaceChildren(element("span", { class: "note" }, ` – ${failed(place, name) || MISSING[name] || "nothing was measured."}`));
  const spec = filled(facts.specs[name === "equal" ? "difference" : name], values, words(name === "equal" ? "accuracy" : facts.by));
  const file = `${name}-${state.task}-${state.metric}`.replace(/[^\w-]+/g, "_");
  await vegaEmbed(chart, { ...spec, description: about }, { mode: "vega-lite", renderer: "svg", ast: true, config: config(name),
    actions: { export: true, source: false, compiled: false, editor: false }, downloadFileName: file,
    tooltip: { theme: state.theme } });
}

function tableOf(place, name) {
  const details = element("details", {}, element("summary", {}, "The numbers"));
  details.addEventListener("toggle", () => details.open && place.values && fillTable(details, name, place.values));
  return details;
}

const round = (v) => (typeof v === "number" && !Number.isInteger(v) ? v.toFixed(3).replace("-", "−") : v ?? "–");
function fillTable(details, name, values) {
  const names = COLUMNS[name].filter((c) => values.some((r) => r[c] !== null && r[c] !== undefined && r[c] !== ""));
  const head = element("tr", {}, ...names.map((c) => element("th", { scope: "col" }, c.replaceAll("_", " "))));
  const body = values.map((r) => element("tr", {}, ...names.map((c) =>
    element("td", typeof r[c] === "number" ? { class: "number" } : {}, String(round(r[c]))))));
  const caption = `${state.metric} of ${state.task}; low and high bound the 95 % interval, n is the number of prompts`;
  const table = element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body));
  details.querySelector(".scroll")?.remove();
  details.append(element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, table));
}

function describe(place) {
  const title = place.querySelector("h3").textContent;
  return `${title}: ${state.metric} of ${state.task}. The numbers are in the table below the chart.`;
}

const idle = window.requestIdleCallback || ((later) => setTimeout(later, 200));
// A chart out of sight waits until it is scrolled to.
const seen = new Set();
const waiting = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) if (isIntersecting && !seen.has(target)) show(target);
}, { rootMargin: "300px" });

const nameOf = (place) => (place.dataset.run === undefined ? place.id : "parts");

function valuesOf(place) {
  const name = nameOf(place);
  return name === "parts" ? chosen("parts").filter((r) => r.run === place.dataset.run) : drawn[name]();
}

async function show(place) {
  seen.add(place);
  const name = nameOf(place), values = valuesOf(place);
  await draw(place, name, values, describe(place));
}

function redraw() {
  const metric = facts.figures[state.metric] || ["", ""];
  const n = Math.max(0, ...chosen("curve").map((r) => r.n || 0));
  $("meaning").textContent = `${state.metric}: ${[metric[0], metric[1]].filter(Boolean).join("; ") || "a metric of your own"}; ` +
    `n = ${n} prompts of ${state.task}.`;
  for (const place of document.querySelectorAll("figure")) {
    place.classList.toggle("empty", !valuesOf(place).length);  // before it is drawn, so that nothing moves later
    if (seen.has(place)) show(place);
  }
}

function options(select, values, now, label = (v) => v) {
  select.replaceChildren(...values.map((v) => element("option", { value: v }, label(v))));
  select.value = values.includes(now) ? now : values[0];
  return select.value;
}

function choose() {
  const metrics = [...new Set(rows.curve.filter((r) => r.task === state.task).map((r) => r.metric))];
  const ranked = [...facts.ranked.filter((m) => metrics.includes(m)), ...metrics.filter((m) => !facts.ranked.includes(m))];
  state.metric = options($("metric"), ranked, state.metric);
  const axes = Object.keys(facts.axes).filter((a) => chosen("curve").some((r) => r[a] !== null && r[a] !== undefined));
  state.axis = options($("axis"), axes, state.axis, (a) => facts.axes[a]);
  redraw();
}

function theme(name) {
  state.theme = name;
  document.documentElement.classList.toggle("dark", name === "dark");
  $("theme").setAttribute("aria-pressed", String(name === "dark"));
  redraw();
}

for (const run of facts.runs) {
  $("parts").append(element("figure", { "data-run": run.name, id: `parts-${facts.runs.indexOf(run)}` }, element("h3", {}, run.name)));
}
for (const [what, colour] of facts.terms) {
  const swatch = element("i");
  swatch.style.background = colour;
  $("key").append(element("li", {}, swatch, what));
}
// Room for each before it is drawn: what lies below does not move under the reader's pointer.
for (const place of document.querySelectorAll("figure")) place.append(element("div", { class: "chart" }), tableOf(place, nameOf(place)));
if (facts.groups.length < 2) for (const name of ["difference", "equal"]) $(name).hidden = true;
options($("task"), facts.tasks, state.task);
for (const name of ["task", "metric", "axis"]) {
  $(name).addEventListener("change", (event) => { state[name] = event.target.value; choose(); });
}
for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
const preferred = matchMedia("(prefers-color-scheme: dark)");
preferred.addEventListener("change", (event) => theme(event.matches ? "dark" : "light"));
$("theme").addEventListener("click", () => theme(state.theme === "dark" ? "light" : "dark"));
choose();
theme(preferred.matches ? "dark" : "light");
show($("curve")).then(() => {
  document.documentElement.dataset.ready = Math.round(performance.now());  // milliseconds from opening to the first chart
  for (const place of document.querySelectorAll("figure")) waiting.observe(place);
  // The rest when there is time, and before printing: a page that is captured whole has all its charts.
  const rest = () => [...document.querySelectorAll("figure:not([hidden])")].filter((place) => !seen.has(place));
  const next = () => rest().length && show(rest()[0]).then(() => idle(next));
  idle(next);
  addEventListener("beforeprint", () => rest().forEach(show));
});
