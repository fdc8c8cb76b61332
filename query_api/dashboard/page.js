"use strict";

const POLL_MILLISECONDS = 5000;
const byId = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const state = { mode: "live", subject: "", tag: null, handle: null, asked: 0, figure: null, validUntil: null };

async function call(path, options = {}) {
  const headers = { accept: "application/json", ...options.headers };
  const key = byId("key").value;
  if (key) headers["x-api-key"] = key;
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401 || response.status === 403) byId("key-label").hidden = false;
  if (response.status === 304) return { unchanged: true };
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail || response.statusText);
  return { body, tag: response.headers.get("etag") };
}

function post(path, body) {
  return call(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

function say(text) { byId("message").textContent = text; }

function clear() {
  state.figure = null;
  if (window.Plotly) Plotly.purge("plot");
  byId("facts").replaceChildren();
}

/* The served figure has a fixed size and light colours: here it fits the page. */
function draw(figure) {
  state.figure = figure;
  const narrow = innerWidth < 640;
  const { data, layout } = structuredClone(figure);
  delete layout.width;
  layout.height = narrow ? 420 : 560;
  layout.autosize = true;
  if (narrow) {
    layout.title.text = layout.title.text.split("<br>")[0].replace("Glucose forecast from", "Forecast from");
    layout.title.font.size = 14;
    layout.margin = { l: 52, r: 36, t: 70, b: 70 };
    layout.annotations.at(-1).text = layout.annotations.at(-1).text.split("  ")[0];
    layout.xaxis.title.text = "";
    layout.showlegend = false;
    layout.yaxis.title.text = "";
  }
  if (dark.matches) {
    Object.assign(layout, { paper_bgcolor: "#1d2329", plot_bgcolor: "#1d2329" });
    layout.font.color = "#e6eaee";
    for (const trace of data) {
      if (trace.fillcolor) trace.fillcolor = trace.fillcolor.replace("88,86,160", "168,166,240");
    }
    for (const axis of [layout.xaxis, layout.yaxis]) Object.assign(axis, { gridcolor: "#2b333b", linecolor: "#4a545e" });
  }
  Plotly.react("plot", data, layout, { displayModeBar: false, responsive: true });
}

function facts(pairs) {
  byId("facts").replaceChildren(...pairs.map(([name, value]) => {
    const pair = document.createElement("div");
    const term = document.createElement("dt");
    const detail = document.createElement("dd");
    term.textContent = name;
    detail.textContent = value;
    if (name === "Age") detail.id = "age";
    pair.append(term, detail);
    return pair;
  }));
}

const unit = () => byId("unit").value;
const query = () => `unit=${encodeURIComponent(unit())}`;
const percent = (value) => (value < 0.005 ? "<1 %" : value > 0.995 ? ">99 %" : `${Math.round(100 * value)} %`);

/* Counted here: a forecast that has not changed is not sent again. */
function tellAge() {
  const until = new Date(state.validUntil);
  const minutes = Math.max(0, Math.floor(15 - (until - Date.now()) / 60000));
  if (byId("age")) byId("age").textContent = `${minutes} min, holds until ${until.toLocaleTimeString()}`;
}

async function showSubject() {
  const subject = state.subject;
  if (!subject) return;
  const path = `/subjects/${encodeURIComponent(subject)}/forecast`;
  const headers = state.tag ? { "if-none-match": state.tag } : {};
  try {
    const latest = await call(`${path}?${query()}`, { headers });
    if (latest.unchanged) tellAge();
    if (latest.unchanged || state.mode !== "live" || subject !== state.subject) return;
    const plot = await call(`${path}/plot?${query()}`);
    state.tag = latest.tag;
    draw(plot.body);
    const chart = latest.body;
    const median = chart.median_mgdl || chart.median_mmoll;
    const digits = unit() === "mg/dL" ? 0 : 1;
    facts([
      ["In 30 min", `${median[5].toFixed(digits)} ${unit()}`],
      ["In 60 min", `${median[11].toFixed(digits)} ${unit()}`],
      ["Highest chance below 70 mg/dL", percent(Math.max(...chart.p_below_70))],
      ["Highest chance above 180 mg/dL", percent(Math.max(...chart.p_above_180))],
      ["Last known point", new Date(chart.issue_time).toLocaleString() + (chart.simulated ? " (simulated)" : "")],
      ["Age", ""],
    ]);
    state.validUntil = chart.valid_until;
    tellAge();
    say("");
  } catch (error) {
    if (subject === state.subject && state.mode === "live") { clear(); say(error.message); }
  }
}

async function listSubjects() {
  try {
    const { body } = await call("/subjects");
    byId("subjects").replaceChildren(...body.subjects.map((name) => new Option(name, name)));
    if (!state.subject && body.subjects.length) choose(body.subjects[0]);
    if (!body.subjects.length && state.mode === "live") say("No subject has a forecast yet: publish readings.");
  } catch (error) { say(error.message); }
}

function choose(subject) {
  Object.assign(state, { subject, tag: null });
  byId("subject").value = subject;
  clear();
  showSubject();
}

function base64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(text);
}

async function takeFile() {
  const file = byId("export").files[0];
  if (!file) return;
  clear();
  byId("slider-label").hidden = true;
  say(`Reading ${file.name} …`);
  try {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const timezone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
    const { body } = await post("/process_unified", { csv_base64: base64(bytes), timezone });
    state.handle = body.handle;
    byId("index").min = 1 - body.total_samples;
    byId("index").value = 0;
    byId("slider-label").hidden = false;
    facts([["Samples", body.total_samples], ...body.warnings.messages.map((text) => text.split(/: (.*)/s).slice(0, 2))]);
    showSample();
  } catch (error) { say(error.message); }
}

async function showSample() {
  if (!state.handle) return;
  const index = Number(byId("index").value);
  const number = ++state.asked;
  byId("index-text").textContent = index === 12 ? "12 (the real forecast)" : index === 0 ? "0 (last recorded hour)" : index;
  try {
    const { body } = await post("/draw_a_plot", { handle: state.handle, index, unit: unit() });
    if (number === state.asked && state.mode === "file") { draw(body); say(""); }
  } catch (error) { if (number === state.asked) say(error.message); }
}

function show(mode) {
  state.mode = mode;
  for (const name of ["live", "file"]) {
    byId(name).hidden = name !== mode;
    byId(`show-${name}`).setAttribute("aria-pressed", name === mode);
  }
  clear();
  say("");
  state.tag = null;
  if (mode === "live") showSubject(); else showSample();
}

addEventListener("DOMContentLoaded", () => {
  byId("key").value = sessionStorage.getItem("glucast-key") || "";
  byId("key").addEventListener("change", (event) => {
    sessionStorage.setItem("glucast-key", event.target.value);
    listSubjects();
  });
  byId("show-live").addEventListener("click", () => show("live"));
  byId("show-file").addEventListener("click", () => show("file"));
  byId("subject").addEventListener("change", (event) => choose(event.target.value.trim()));
  byId("export").addEventListener("change", takeFile);
  byId("index").addEventListener("input", showSample);
  byId("unit").addEventListener("change", () => { state.tag = null; if (state.mode === "live") showSubject(); else showSample(); });
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
  dark.addEventListener("change", () => state.figure && draw(state.figure));
  listSubjects();
  setInterval(() => { if (state.mode === "live" && !document.hidden) { state.subject ? showSubject() : listSubjects(); } },
    POLL_MILLISECONDS);
});
