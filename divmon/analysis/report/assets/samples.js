// The browser of samples: a prompt's completions at a step, side by side by run, grouped, with what changed.
const HUES = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"];
const OTHER = "#888888";
const hue = (g) => HUES[g] || OTHER;
const letter = (g) => (g < 26 ? String.fromCharCode(65 + g) : `${String.fromCharCode(65 + (g % 26))}${Math.floor(g / 26)}`);
const view = { task: facts.main.task, prompt: null, answers: null, step: null, steps: [], only: "all", words: "" };
// A row: text, verdict, finish, tokens, reason, and its number among those of its run and step.
const ONLY = { all: () => true, wrong: (r) => r[1] === false, correct: (r) => r[1] === true,
  none: (r) => r[1] === null, truncated: (r) => r[2] === "length" };
const isFiltered = () => view.only !== "all" || view.words !== "";
const passes = (row, answers) => ONLY[view.only](row) &&
  (view.words === "" || answers.texts[row[0]].toLowerCase().includes(view.words));

async function unpacked(place) {
  const text = document.getElementById(`s${place}`).textContent;
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function listPrompts() {
  const asked = $("find").value.trim().toLowerCase();
  const own = facts.prompts.filter((p) => p.task === view.task && `${p.id} ${p.text}`.toLowerCase().includes(asked));
  $("prompt").replaceChildren(...own.map((p) => element("option", { value: p.place }, `${p.id}: ${p.text}`)));
  if (!own.length) $("prompt").append(element("option", { value: "" }, "no prompt has these words"));
  return own;
}

async function open(place, step) {
  const prompt = facts.prompts[place];
  if (view.task !== prompt.task || ![...$("prompt").options].some((o) => o.value === String(place))) {
    view.task = $("sample-task").value = prompt.task;
    $("find").value = "";
    listPrompts();
  }
  $("prompt").value = place;
  view.prompt = place;
  const answers = await unpacked(place);
  if (view.prompt !== place) return;  // another was chosen meanwhile
  for (const steps of Object.values(answers.runs)) for (const rows of Object.values(steps)) rows.forEach((r, i) => { r[5] = i; });
  view.answers = answers;
  // As many side by side of every run and step, though a reference has more.
  view.equal = Math.min(...Object.values(answers.runs).flatMap((s) => Object.values(s).map((r) => r.length)));
  view.steps = [...new Set(Object.values(answers.runs).flatMap((s) => Object.keys(s).map(Number)))].sort((a, b) => a - b);
  const wanted = step ?? view.step ?? view.steps.at(-1);
  view.step = view.steps.includes(wanted) ? wanted : view.steps.at(-1);
  $("asked").replaceChildren(element("strong", {}, `${prompt.task}, prompt ${prompt.id}: `), answers.prompt.trim(),
    ...(answers.gold ? [element("span", { class: "quiet" }, `\nReference answer: ${answers.gold}`)] : []));
  showStep();
}

function showStep() {
  $("step").max = Math.max(0, view.steps.length - 1);
  $("step").value = view.steps.indexOf(view.step);
  $("step").setAttribute("aria-valuetext", `step ${view.step}`);
  $("step-now").textContent = ` ${view.step} of ${view.steps.at(-1)}`;
  $("columns").replaceChildren(...facts.runs.map((run) => column(run.name, view.answers.runs[run.name] || {})));
}

function column(run, steps) {
  const all = steps[view.step], rows = all?.slice(0, view.equal);
  const made = element("section", { "aria-label": run }, element("h3", {}, `${run}, step ${view.step}`), strip(steps),
    element("p", { class: "quiet" }, "Above: the sizes of the groups at each step; a color is one group, in every run."));
  if (!rows) return made.append(element("p", { class: "note" }, "No samples of this prompt at this step.")), made;
  const kept = rows.filter((r) => passes(r, view.answers)), more = all.slice(rows.length).filter((r) => passes(r, view.answers));
  const groups = gathered(kept, (r) => view.answers.group[r[0]]);
  const sorted = [...groups].sort((a, b) => b[1].length - a[1].length);
  const distinct = new Set(kept.map((r) => r[0])).size;
  const right = rows.filter((r) => r[1] === true).length, judged = rows.filter((r) => r[1] !== null).length;
  const texts = distinct === 1 ? (kept.length === 1 ? "" : ", all identical") : `, ${distinct} different texts`;
  const counted = isFiltered() ? `${kept.length} of ${counts(rows.length, "completion")} shown` : counts(rows.length, "completion");
  made.append(element("p", { class: "big" }, kept.length ? `${counted}, ${counts(groups.size, "group")}${texts}` : `${counted}`),
  element("p", { class: "quiet" }, judged ? `${right} of ${judged} graded are correct` : "ungraded"));
  for (const [g, own] of sorted) made.append(group(g, own, rows.length, run));
  if (more.length) made.append(beyond(more, all.length - rows.length, run));
  return made;
}

const counts = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

// Details that are filled when they are opened, by a reader or by a link to what is in them.
function later(summary, fill) {
  const made = element("details", {}, element("summary", {}, summary));
  made.fill = () => made.children.length < 2 && made.append(...fill());
  made.addEventListener("toggle", () => made.open && made.fill());
  return made;
}

// What a step has more of than the others, apart from them.
function beyond(more, all, run) {
  const some = isFiltered() ? `${more.length} of ${all} more completions` : counts(all, "more completion");
  return later(`${some} of this step, beyond the ${view.equal} that every run and step has`,
    () => [...gathered(more, (r) => view.answers.group[r[0]])].map(([g, own]) => group(g, own, all, run)));
}

function gathered(rows, key) {
  const found = new Map();
  for (const row of rows) (found.get(key(row)) ?? found.set(key(row), []).get(key(row))).push(row);
  return found;
}

// Cluster sizes over training: a bar a step, also there to choose the step by pointer (the slider does it by keyboard).
function strip(steps) {
  const bars = view.steps.filter((s) => steps[s]).map((s) => {
    const counts = [...gathered(steps[s].slice(0, view.equal), (r) => view.answers.group[r[0]])].map(([g, own]) => [g, own.length]).sort((a, b) => a[0] - b[0]);
    const total = view.equal;
    const said = `step ${s}: ${counts.map(([g, n]) => `group ${letter(g)} ${n}`).join(", ")} of ${total}`;
    const bar = element("button", { type: "button", title: said, "aria-label": said, tabindex: -1,
      ...(s === view.step ? { "aria-current": "step" } : {}) });
    for (const [g, n] of counts) {
      const part = element("i");
      part.style.cssText = `flex: ${n} 0 0; background: ${hue(g)}`;
      bar.append(part);
    }
    if (view.steps.length <= 12) bar.append(element("span", {}, String(s)));
    bar.addEventListener("click", () => { view.step = s; showStep(); });
    return bar;
  });
  return element("div", { class: "strip", role: "group", "aria-label": "Sizes of the groups at each step" }, ...bars);
}

function group(g, own, total, run) {
  const texts = [...gathered(own, (r) => r[0])].sort((a, b) => b[1].length - a[1].length);
  const made = element("div", { class: "group" }, element("h4", {}, `Group ${letter(g)}: ${own.length} of ${total}`));
  made.style.setProperty("--hue", hue(g));
  const shown = texts.slice(0, 4), more = texts.slice(4);
  made.append(...shown.map(([text, same]) => said(text, same, run)));
  if (more.length) made.append(later(counts(more.length, "more different text"), () => more.map(([t, same]) => said(t, same, run))));
  return made;
}

function said(text, same, run) {
  const [, correct, finish, tokens, reason] = same[0];
  const verdict = correct === true ? ["right", "✓ correct"] : correct === false ? ["wrong", "✗ wrong"] : ["quiet", view.answers.reasons[reason] ? "? ungradable" : "? ungraded"];
  const why = view.answers.reasons[reason];
  const about = [tokens === null ? "" : `${tokens} tokens`, finish === "length" ? "truncated by the token limit" : "", why];
  const words = view.answers.texts[text], prompt = facts.prompts[view.prompt];
  const link = [prompt.task, prompt.id, view.step, run, same[0][5]].map(encodeURIComponent).join("/");
  const made = element("div", { class: "said", tabindex: -1, "data-samples": same.map((r) => r[5]).join(" ") },
    element("span", { class: "quiet" }, same.length > 1 ? `${same.length} times the same: ` : ""),
    element("span", { class: verdict[0] }, verdict[1]),
    element("span", { class: "quiet" }, about.filter(Boolean).map((a) => `, ${a}`).join("")), " ",
    element("a", { href: `#sample/${link}`, "aria-label": `Link to sample ${same[0][5]} of ${run}` }, "link"));
  made.append($("diff").checked ? difference(words, run) : element("pre", {}, words || "(empty)"));
  return made;
}

// Against the reference completion of the same run that shares most words with it.
function difference(text, run) {
  const steps = view.answers.runs[run], first = Math.min(...Object.keys(steps).map(Number));
  const now = split(text), bag = new Set(now);
  let nearest = "", best = -1;
  for (const id of new Set(steps[first].map((r) => r[0]))) {
    const other = new Set(split(view.answers.texts[id]));
    const shared = [...other].filter((w) => bag.has(w)).length / Math.max(1, other.size + bag.size);
    if (shared > best) [best, nearest] = [shared, view.answers.texts[id]];
  }
  const made = element("pre");
  if (nearest === text) return made.append(text), element("div", {}, element("span", { class: "quiet" }, `as at step ${first}`), made);
  for (const [how, piece] of aligned(split(nearest), now)) made.append(how === " " ? piece : element(how === "+" ? "ins" : "del", {}, piece));
  return made;
}

const split = (text) => text.match(/\s+|\w+|[^\w\s]/gu) || [];

// Longest common subsequence of words; what is long beyond reading is shown without.
function aligned(before, after) {
  const n = before.length, m = after.length;
  if (n * m > 4e6) return [["-", "(too long to compare)\n"], [" ", after.join("")]];
  const length = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
  for (let i = n - 1; i >= 0; i--) for (let j = m - 1; j >= 0; j--) {
    length[i][j] = before[i] === after[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
  }
  const found = [];
  const add = (how, word) => (found.at(-1)?.[0] === how ? (found.at(-1)[1] += word) : found.push([how, word]));
  let i = 0, j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && before[i] === after[j]) add(" ", (i++, after[j++]));
    else if (j >= m || (i < n && length[i + 1][j] >= length[i][j + 1])) add("-", before[i++]);
    else add("+", after[j++]);
  }
  return found;
}

// To the next prompt with a completion that the filter lets through, at the step that is shown.
async function turn(by) {
  const places = [...$("prompt").options].map((o) => Number(o.value));
  for (let i = places.indexOf(view.prompt) + by; i >= 0 && i < places.length; i += by) {
    const answers = isFiltered() && await unpacked(places[i]);
    const shown = (steps) => (steps[view.step] ?? []).some((r) => passes(r, answers));
    if (!answers || Object.values(answers.runs).some(shown)) return open(places[i]);
  }
}

function filter() {
  view.only = $("only").value;
  view.words = $("words").value.trim().toLowerCase();
  if (view.answers) showStep();
}

// "#sample/TASK/PROMPT/STEP/RUN/NUMBER" -> that completion, whatever is chosen and folded.
async function follow() {
  if (!location.hash.startsWith("#sample/")) return;
  const [task, id, step, run, number] = location.hash.slice(8).split("/").map(decodeURIComponent);
  const prompt = facts.prompts.find((p) => p.task === task && String(p.id) === id);
  if (!prompt) return;
  $("only").value = "all";
  $("words").value = "";
  filter();
  await open(prompt.place, Number(step));
  const place = [...$("columns").children].find((section) => section.getAttribute("aria-label") === run);
  const there = () => [...place?.querySelectorAll(".said") ?? []].find((one) => one.dataset.samples.split(" ").includes(number));
  for (let folded; place && !there() && (folded = place.querySelectorAll("details:not([open])")).length;) {
    for (const details of folded) { details.fill(); details.open = true; }
  }
  const target = there();
  if (!target) return $("samples").scrollIntoView();
  target.classList.add("linked");
  target.focus({ preventScroll: true });
  target.scrollIntoView({ block: "center" });
}

if (facts.prompts.length) {
  options($("sample-task"), [...new Set(facts.prompts.map((p) => p.task))], view.task);
  view.task = $("sample-task").value;
  $("sample-task").addEventListener("change", (e) => { view.task = e.target.value; const own = listPrompts(); if (own.length) open(own[0].place); });
  $("find").addEventListener("input", () => { const own = listPrompts(); if (own.length) open(own[0].place); });
  $("prompt").addEventListener("change", (e) => e.target.value && open(Number(e.target.value)));
  $("step").addEventListener("input", (e) => { view.step = view.steps[Number(e.target.value)]; showStep(); });
  $("diff").addEventListener("change", showStep);
  $("only").addEventListener("change", filter);
  $("words").addEventListener("input", filter);
  addEventListener("hashchange", follow);
  $("previous").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));
  for (const button of document.querySelectorAll("[data-open]")) {
    button.addEventListener("click", async () => { await open(Number(button.dataset.open), Number(button.dataset.step)); $("samples").scrollIntoView(); $("prompt").focus({ preventScroll: true }); });
  }
  listPrompts();
  open(facts.read ?? Number($("prompt").value)).then(follow);
} else {
  $("browser").hidden = true;
  $("columns").append(element("p", { class: "note" }, "No samples are stored with these runs."));
}
