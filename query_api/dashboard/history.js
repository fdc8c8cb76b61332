// The forecasts of the past: the curve of the kept time, a slider over it, and what came of the forecast made then.
import { call, ofSubject, Problem } from "./api.js";
import * as chart from "./chart.js";
import { byId, facts, input } from "./dom.js";
import { clock, drawQuery, glucose, moment, spread, unit } from "./words.js";

const WAIT_MILLISECONDS = 200;
/** As the server has it for windows: half a step more than the three that readings may be apart. */
const LONGEST_GAP_MILLISECONDS = 1050000;
const TOLD_STEPS = [6, 12];
const [WIDTH, HEIGHT] = [720, 110];
const [LOWEST, HIGHEST] = [40, 300];

const state = {
  subject: "", first: 0, last: 0, at: 0, earlier: /** @type {string | null} */ (null),
  later: /** @type {string | null} */ (null), readings: /** @type {Array<[number, number]>} */ ([]), asked: 0,
  timer: 0, follows: true, shown: 0,
};

export function begin() {
  input("then").addEventListener("input", () => { state.follows = false; seek(1000 * Number(input("then").value)); });
  byId("earlier").addEventListener("click", () => jump(state.earlier));
  byId("later").addEventListener("click", () => jump(state.later));
}

/** @param {string} subject */
export function choose(subject) {
  clearTimeout(state.timer);
  const asked = state.asked + 1;  // what was asked for before is somebody else's
  Object.assign(state, {
    subject, first: 0, last: 0, at: 0, earlier: null, later: null, readings: [], follows: true, shown: 0, asked,
  });
  byId("history-body").hidden = true;
  byId("history-empty").hidden = true;
  byId("strip").replaceChildren();
  empty();
  byId("history-words").textContent = "";
}

function empty() {
  chart.clear("then-plot");
  facts("then-facts", []);
}

/** @param {string | null} time */
function jump(time) {
  if (time === null) return;
  state.follows = false;
  seek(Date.parse(time), 0);
}

/** Ask anew what is kept; the newest stays chosen while nobody has looked further back. */
export async function refresh() {
  const { subject } = state;
  if (!subject) return;
  try {
    const [oldest, measured] = await Promise.all([
      call(ofSubject(subject, "/forecasts?limit=1")),
      call(ofSubject(subject, "/readings?limit=2880")),
    ]);
    if (subject !== state.subject) return;
    const [first] = oldest.body.forecasts;
    byId("history-empty").hidden = Boolean(first);
    byId("history-body").hidden = !first;
    if (!first) return;
    state.first = Date.parse(first.issue_time);
    state.readings = measured.body.readings.map(
      (/** @type {any} */ each) => [Date.parse(each.time), each.glucose],
    );
    const newest = await call(ofSubject(subject, `/forecasts/${encodeURIComponent("9998-01-01T00:00:00Z")}`));
    if (subject !== state.subject) return;
    state.last = Date.parse(newest.body.forecast.issue_time);
    Object.assign(input("then"), {
      min: String(state.first / 1000), max: String(state.last / 1000), step: "300",
    });
    await seek(state.follows ? state.last : Math.max(state.at, state.first), 0);
  } catch (error) {
    if (error instanceof Problem && subject === state.subject) byId("history-words").textContent = error.message;
  }
}

/** @param {number} time @param {number} [wait] */
async function seek(time, wait = WAIT_MILLISECONDS) {
  const asked = ++state.asked;
  const { subject } = state;
  state.at = time;
  input("then").value = String(Math.round(time / 1000));
  byId("then-text").textContent = moment(time);
  input("then").setAttribute("aria-valuetext", moment(time));
  strip();
  clearTimeout(state.timer);
  await new Promise((done) => { state.timer = setTimeout(done, wait); });
  const path = ofSubject(subject, `/forecasts/${encodeURIComponent(new Date(time).toISOString())}`);
  try {
    const [found, plot] = await Promise.all([call(path), call(`${path}/plot?${drawQuery()}`)]);
    if (asked !== state.asked) return;
    Object.assign(state, { earlier: found.body.earlier, later: found.body.later });
    for (const [id, there] of [["earlier", state.earlier], ["later", state.later]]) {
      byId(/** @type {string} */ (id)).toggleAttribute("disabled", !there);
    }
    byId("then-text").textContent = moment(found.body.forecast.issue_time);
    state.shown = time;
    tell(found.body.forecast, plot.body);
  } catch (error) {
    if (asked !== state.asked || !(error instanceof Problem)) return;
    byId("history-words").textContent = error.message;
    if (state.shown !== time) empty();  // it is of another time than what stands above it
  }
}

/** @param {any} then @param {any} figure */
function tell(then, figure) {
  const [at5, at95] = [0.05, 0.95].map((level) => then.quantiles_mgdl[then.quantile_levels.indexOf(level)]);
  const issued = Date.parse(then.issue_time);
  const newest = state.readings.length ? state.readings[state.readings.length - 1][0] : state.last;
  const pairs = TOLD_STEPS.map((step) => {
    const [said, came] = [then.median_mgdl[step - 1], then.truth_mgdl[step - 1]];
    const at = clock(issued + step * 300000);
    if (came === null) {
      const gone = issued + step * 300000 <= newest ? "not measured" : "no reading yet";
      return /** @type {[string, string]} */ ([`At ${at}`, `${glucose(said)} said, ${gone}`]);
    }
    const inside = came >= at5[step - 1] && came <= at95[step - 1];
    const error = said - came;
    return /** @type {[string, string]} */ ([
      `At ${at}, ${step * 5} min later`,
      `${glucose(said)} said, ${glucose(came)} ${unit()} came (${error > 0 ? "+" : "−"}${spread(Math.abs(error))}), ` +
      `${inside ? "inside" : "outside"} the 90 % range`,
    ]);
  });
  facts("then-facts", pairs);
  const words = `The forecast of ${moment(issued)}: ${pairs.map(([name, value]) => `${name}: ${value}`).join("; ")}.`;
  byId("history-words").textContent = "";
  chart.draw("then-plot", figure, words);
}

/** The glucose of the kept time as one curve, with the place that is looked at. */
function strip() {
  const svg = byId("strip");
  const { first, last, readings, at } = state;
  const from = first - 3600000;
  const to = last + 3600000;
  /** @param {number} time */
  const x = (time) => ((WIDTH * (time - from)) / (to - from)).toFixed(1);
  /** @param {number} mgdl */
  const y = (mgdl) => (HEIGHT * (1 - (Math.min(Math.max(mgdl, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST))).toFixed(1);
  let path = "";
  let before = 0;
  for (const [time, value] of readings) {
    if (time < from || time > to) continue;
    path += `${before && time - before <= LONGEST_GAP_MILLISECONDS ? "L" : "M"}${x(time)} ${y(value)}`;
    before = time;
  }
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  /** @param {string} tag @param {Record<string, string>} attributes */
  const shape = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const [top, bottom] = [Number(y(180)), Number(y(70))];
  svg.replaceChildren(
    shape("rect", { class: "target", x: "0", width: String(WIDTH), y: String(top), height: String(bottom - top) }),
    shape("path", { class: "curve", d: path || "M0 0" }),
    shape("line", { class: "cursor", x1: x(at), x2: x(at), y1: "0", y2: String(HEIGHT) }),
  );
  svg.onclick = (event) => {
    const box = svg.getBoundingClientRect();
    const time = from + ((to - from) * (event.clientX - box.left)) / box.width;
    state.follows = false;
    seek(Math.min(Math.max(Math.round(time / 300000) * 300000, first), last), 0);
  };
}
