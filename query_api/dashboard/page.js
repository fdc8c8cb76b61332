// The page: who and what is shown, and what happens when an event comes or time passes.
import * as alerts from "./alerts.js";
import { clockIsDoubted, keepKey, now, Problem, restoreKey } from "./api.js";
import { redraw } from "./chart.js";
import { byId, input, say, setText } from "./dom.js";
import { follow } from "./events.js";
import * as file from "./file.js";
import * as history from "./history.js";
import * as present from "./now.js";
import * as people from "./people.js";
import * as save from "./save.js";
import * as scores from "./scores.js";
import { clock, keepUnit, keepZone, onTheme, restoreUnit, restoreZone } from "./words.js";

const TICK_MILLISECONDS = 5000;
const TOGETHER_MILLISECONDS = 250;
/** After a reset rows go one by one, each in the records of its own topic: ask once more when they have gone. */
const SETTLED_MILLISECONDS = 3000;
const TABS = ["now", "history", "alerts", "scores"];

const state = { mode: "live", tab: "now", subject: "", isLoaded: false, loads: 0, lost: 0, why: "" };

/** Everything that a tab shows is asked for when it is opened, and moved by events while it is. */
const refresh = { history: history.refresh, scores: scores.refresh };

function refreshTab() {
  present.refresh();
  alerts.refresh(); // what holds stands above all tabs
  if (state.tab === "history" || state.tab === "scores") refresh[state.tab]();
}

/** @param {string} subject */
function choose(subject) {
  if (!subject) return;
  state.subject = subject;
  say(""); // of whom it may have been
  input("subject").value = subject;
  byId("chosen").hidden = false;
  for (const part of [present, history, alerts, scores, save]) part.choose(subject);
  refreshTab(); // first, since answers take a while
  people.choose(subject);
  keepPlace();
}

/** @param {string} tab */
function open(tab) {
  state.tab = TABS.includes(tab) ? tab : "now";
  for (const name of TABS) {
    byId(`panel-${name}`).hidden = name !== state.tab;
    byId(`tab-${name}`).setAttribute("aria-selected", String(name === state.tab));
    byId(`tab-${name}`).tabIndex = name === state.tab ? 0 : -1;
  }
  keepPlace();
  redraw();
  if (state.subject) refreshTab();
}

/** @param {string} mode live or file */
function show(mode) {
  state.mode = mode;
  for (const name of ["live", "file"]) {
    byId(name).hidden = name !== mode;
    byId(`show-${name}`).setAttribute("aria-pressed", String(name === mode));
  }
  say("");
  redraw();
  if (mode === "file") file.show();
  else tick();
}

/** Who and what is shown stays when the page is loaded again. */
function keepPlace() {
  const place = new URLSearchParams({ subject: state.subject, tab: state.tab });
  window.history.replaceState(null, "", `#${place}`);
}

async function loadAll() {
  state.isLoaded = false;
  state.loads += 1;
  try {
    const ids = await people.load();
    state.isLoaded = true;
    if (!state.subject && ids.length) choose([...ids].sort((one, other) => one.localeCompare(other))[0]);
    else if (state.subject) refreshTab();
  } catch (error) {
    if (error instanceof Problem) say(error.message);
  } finally {
    state.loads -= 1;
  }
}

/** @type {Map<() => void, {again: boolean}>} */
const asked = new Map();

/** At once, and once more for all events that come close behind: a backlog is a few questions. @param {() => void} ask */
function soon(ask) {
  const before = asked.get(ask);
  if (before) { before.again = true; return; }
  const mine = { again: false };
  asked.set(ask, mine);
  ask();
  setTimeout(() => { asked.delete(ask); if (mine.again) soon(ask); }, TOGETHER_MILLISECONDS);
}

/** Whether a reading may end the forecast that is shown, or bring one back. @param {any} outcome */
const mayChange = ({ status, withheld_times: withheld = [], issue_times: issued = [] }) =>
  status === "no_forecast" || withheld.length > 0 || (issued.length > 0 && !present.newestIssue());

/** @param {import("./events.js").Told} told */
function take({ kind, data }) {
  const mine = data.subject_id === state.subject;
  switch (kind) {
    case "reading":
      people.heed(() => people.takeReading(data));
      if (!state.subject) choose(data.subject_id);
      else if (mine && mayChange(data)) soon(present.refresh);
      break;
    case "forecast":
      people.heed(() => people.takeForecast(data));
      if (!state.subject) choose(data.subject_id);
      else if (mine && Date.parse(data.issue_time) >= present.newestIssue()) { present.came(); soon(present.refresh); }
      if (mine && state.tab === "history") soon(history.refresh);
      break;
    case "alerts":
      people.heed(() => people.takeAlerts(data));
      alerts.told(data);
      break;
    case "scores":
      scores.take(data);
      break;
    case "reset":
      soon(loadAll);
      setTimeout(loadAll, SETTLED_MILLISECONDS);
      break;
  }
  present.head();
}

/** Follow first, ask second: what comes between the two is then not missed. @param {boolean} isResumed */
function connected(isResumed) {
  state.lost = 0;
  byId("connection").hidden = true;
  if (isResumed && state.isLoaded) refreshTab();
  else loadAll();
}

/** Where nobody can follow, what is stored is shown all the same. @param {Problem} problem @param {number} heard */
function disconnected(problem, heard) {
  state.lost ||= heard || now();
  state.why = problem.message;
  byId("connection").hidden = false;
  tellConnection();
  if (problem.status === 401 || problem.status === 403) say(problem.message);
  else if (!state.isLoaded) loadAll();
}

function tellConnection() {
  if (state.lost) setText("connection", `Not live since ${clock(state.lost)}: ${state.why}`);
}

function tick() {
  if (state.mode !== "live") return;
  if (!state.isLoaded && !state.loads && !state.lost) loadAll(); // an answer that was refused
  people.show();
  present.tick();
  alerts.tick();
  if (clockIsDoubted()) refreshTab();
}

/** In another unit, or in other colours: the server draws. */
function drawAnew() {
  present.again();
  if (state.tab === "history") history.refresh();
  if (state.mode === "file") file.show();
}

function tabKeys() {
  byId("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = TABS[(TABS.indexOf(state.tab) + step + TABS.length) % TABS.length];
    open(next);
    byId(`tab-${next}`).focus();
  });
  for (const name of TABS) byId(`tab-${name}`).addEventListener("click", () => open(name));
}

restoreKey();
// At once: the answer is there when the rest is done.
follow("/events", take, connected, disconnected);
restoreUnit();
restoreZone();
for (const part of [history, alerts, scores, save]) part.begin();
file.begin(() => show("file"));
people.begin(choose);
tabKeys();
byId("key").addEventListener("change", () => { keepKey(); location.reload(); });
byId("show-live").addEventListener("click", () => show("live"));
byId("show-file").addEventListener("click", () => show("file"));
input("subject").addEventListener("change", () => choose(input("subject").value.trim()));
/** In another unit, or on another clock. */
function sayAnew() {
  people.show();
  alerts.show();
  scores.show();
  if (state.tab === "alerts") alerts.refresh();
  drawAnew();
}

byId("unit").addEventListener("change", () => { keepUnit(); sayAnew(); });
byId("zone").addEventListener("change", () => { keepZone(); sayAnew(); });
onTheme(drawAnew);
for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
const place = new URLSearchParams(location.hash.slice(1));
open(place.get("tab") || "now");
if (place.get("subject")) choose(place.get("subject") || "");
setInterval(tick, TICK_MILLISECONDS);
document.addEventListener("visibilitychange", tick); // while nobody looks, browsers let time pass without it
