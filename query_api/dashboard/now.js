// The present forecast of one person, or why there is none and when one is expected.
import { call, now, ofSubject, Problem } from "./api.js";
import * as chart from "./chart.js";
import { byId, element, facts, say } from "./dom.js";
import { forecastOf, person, value, when } from "./people.js";
import { age, clock, directionOf, drawQuery, glucose, moment, onThisClock, percent, riskOf, trend, unit } from "./words.js";

/** From the event of a forecast to its drawing, as the page measures it: the last one alone is kept. */
const MEASURE = "glucast-drawn";
/** Who speaks here: what others said stays when all is well with the forecast. */
const BY = "forecast";

const state = {
  subject: "", tag: /** @type {string | null} */ (null), chart: /** @type {any} */ (null), asked: 0, came: 0,
};

/** The newest known last point of the chosen person's forecasts; 0 where none is known. */
export const newestIssue = () => (state.chart ? Date.parse(state.chart.issue_time) : 0);

/** @param {string} subject */
export function choose(subject) {
  state.subject = subject;
  state.asked += 1;  // what was asked for before is somebody else's
  drop();
  byId("nothing").hidden = true;
  head();
}

/** A forecast of the chosen person is there: from now on until it is drawn time is measured. */
export function came() {
  state.came ||= performance.now();
}

/** Value, trend and age of the latest reading, above everything. */
export function head() {
  const known = person(state.subject);
  byId("who").textContent = state.subject;
  byId("latest").replaceChildren(value(known));
  byId("latest-age").textContent = state.subject ? when(known) : "";
}

/** Anew in another unit, or in other colours. */
export function again() {
  state.tag = null;
  return refresh();
}

/** Ask for the present forecast; what is unchanged is not sent again. */
export async function refresh() {
  const { subject } = state;
  if (!subject) return;
  const asked = ++state.asked;
  /** @type {Record<string, string>} */
  const headers = state.tag ? { "if-none-match": state.tag } : {};
  try {
    // Where nothing is drawn yet the drawing is asked for at once, not when it is known that there is one.
    const early = state.tag || isKnownWithout(subject) ? null : plotOf(subject);
    early?.catch(() => {}); // what went wrong with it counts where it is used
    const latest = await call(ofSubject(subject, "/forecast?or_reason=true"), { headers });
    if (asked !== state.asked) return;
    const onlyOlder = state.tag && state.chart && latest.body && drawn(latest.body) === drawn(state.chart);
    if (onlyOlder) Object.assign(state, { tag: latest.tag, chart: latest.body });
    if (latest.unchanged || onlyOlder) { state.came = 0; say("", BY); tick(); return; }
    let plot = await (early || plotOf(subject));
    if (early && !isOf(plot, latest.body)) plot = await plotOf(subject); // a newer one came between the two
    if (asked !== state.asked) return;
    Object.assign(state, { tag: latest.tag, chart: latest.body });
    byId("nothing").hidden = true;
    byId("save-forecast").hidden = false;
    say("", BY);
    tell();
    await chart.draw("plot", plot.body, byId("sentence").textContent || "");
    if (asked === state.asked) measure(latest.body.issue_time);
  } catch (error) {
    if (asked !== state.asked || !(error instanceof Problem)) return;
    if (error.code === "no_forecast") none(error);
    else if (state.chart && now() < Date.parse(state.chart.valid_until)) {
      if (error.status || byId("connection").hidden) say(error.message, BY); // else it is said already
    } else { drop(); say(error.message, BY); }
  }
}

/** @param {string} subject */
const plotOf = (subject) => call(ofSubject(subject, `/forecast/plot?or_reason=true&${drawQuery()}`));

/** @param {{issued: string | null}} plot @param {any} chart */
const isOf = ({ issued }, chart) => !issued || Date.parse(issued) === Date.parse(chart.issue_time);

/** Whether the list of people says that there is no forecast. @param {string} subject */
function isKnownWithout(subject) {
  const known = person(subject);
  return known.reading !== null && forecastOf(known) === null;
}

/** What is shown of a forecast but its age: one of the same readings may be drawn anew, with another fan. @param {any} chart */
const drawn = (chart) => JSON.stringify({ ...chart, age_seconds: 0, valid_until: "", newest_reading_time: "" });

/** @param {string} issueTime */
function measure(issueTime) {
  if (!state.came) return;
  performance.clearMeasures(MEASURE);
  performance.measure(MEASURE, { start: state.came, end: performance.now(), detail: issueTime });
  state.came = 0;
}

/** @param {Problem} problem */
function none(problem) {
  drop();
  say("", BY);
  byId("nothing").hidden = false;
  const at = problem.expectedAt;
  // The interface says the expected time behind the reason; here it has a sentence of its own.
  const reason = at ? problem.message.split("; with a reading every")[0] : problem.message;
  byId("why").textContent = sentenceOf(onThisClock(reason));
  byId("expected").textContent = at ? `Expected with the reading of ${moment(at)}, if one comes every 5 minutes until then.` : "";
}

/** @param {string} text */
const sentenceOf = (text) => `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;

/** Nothing is shown as the present that is not. */
function drop() {
  Object.assign(state, { tag: null, chart: null, came: 0 });
  chart.clear("plot");
  byId("sentence").textContent = "";
  byId("doubts").replaceChildren();
  byId("save-forecast").hidden = true;
  facts("facts", []);
}

function tell() {
  const { chart: found } = state;
  const [at5, at95] = [0.05, 0.95].map((level) => found.quantiles_mgdl[found.quantile_levels.indexOf(level)]);
  const risk = riskOf(found);
  /** @param {number} step */
  const range = (step) => `90 %: ${glucose(at5[step])} to ${glucose(at95[step])}`;
  /** @param {number} step */
  const inMinutes = (step) => `about ${glucose(found.median_mgdl[step])} (${range(step)})`;
  // Of the forecast's own last point and those before it, not of a reading that may be newer.
  const [before, last] = found.past_mgdl.slice(-2);
  const issued = Date.parse(found.issue_time);
  const words = trend(directionOf({ mgdl: last, time: issued }, [{ mgdl: before, time: issued - 300000 }]))[1];
  byId("sentence").textContent = (
    `At ${moment(issued)}: ${glucose(last)} ${unit()}, ${words}. In 30 minutes ${inMinutes(5)}, in an hour ${inMinutes(11)}. Within the hour: ` +
    `${percent(risk.low)} chance below ${glucose(70)}, ${percent(risk.high)} above ${glucose(180)}.`
  ).replaceAll(" %", "\u00a0%");
  byId("doubts").replaceChildren(...doubts(found).map((each) => element("li", {}, each)));
  facts("facts", [
    ["In 30 min", `${glucose(found.median_mgdl[5])} ${unit()}`, range(5)],
    ["In 60 min", `${glucose(found.median_mgdl[11])} ${unit()}`, range(11)],
    [`Below ${glucose(70)}`, percent(risk.low), "within the hour"],
    [`Above ${glucose(180)}`, percent(risk.high), "within the hour"],
    ["Last known point", moment(found.issue_time) + (found.simulated ? " (simulated)" : ""), element("span", { id: "age" })],
  ]);
  tick();
}

/** All that the forecast says of the readings behind it, as sentences: each is "NAME: description". @param {any} found */
const doubts = (found) =>
  (/** @type {string[]} */ (found.warnings || [])).map((warning) => sentenceOf(warning.replace(/^[A-Z_]+: /, "")));

/** Time passes: ages are counted here, and a forecast that holds no longer is taken away and asked for anew. */
export function tick() {
  head();
  if (!state.chart) return;
  const until = Date.parse(state.chart.valid_until);
  if (now() > until) {
    const { issue_time: issued } = state.chart;
    drop();
    // It stays there until an answer says more: none may come.
    byId("nothing").hidden = false;
    byId("why").textContent = `The forecast of ${moment(issued)} no longer holds (${age(issued)}).`;
    byId("expected").textContent = "";
    refresh();
    return;
  }
  const minutes = Math.max(0, Math.floor(15 - (until - now()) / 60000));
  const place = document.getElementById("age");
  if (place) place.textContent = `${minutes} min, holds until ${clock(until)}`;
}
