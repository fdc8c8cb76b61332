// The list of people: latest value, trend, age, and what the next hour may bring.
import { call, now } from "./api.js";
import { byId, element } from "./dom.js";
import {
  age, directionOf, glucose, holdingNow, KINDS, percent, PRESENT_SECONDS, riskOf, side, toMgdl, trend, TREND_MILLISECONDS, unit,
} from "./words.js";

/**
 * @typedef {{mgdl: number, time: number, device: string}} Value
 * @typedef {Value & {direction: string, simulated: boolean, before: Value[], unforecast: boolean}} Reading
 * @typedef {object} Person
 * @property {string} id
 * @property {Reading | null} reading with those of the quarter of an hour before it, the newest first
 * @property {{until: number, issued: number, low: number, high: number} | null} forecast
 * @property {number[]} withheld last points of forecasts that hold no more
 * @property {string[]} holding
 * @property {Record<string, string>} holding_until
 */

/** Of the slots that forecasts are made of. */
const HALF_SLOT_MILLISECONDS = 150000;
/** A chance is told from here on. */
const TOLD_CHANCE = 0.1;

/** @type {Map<string, Person>} */
const people = new Map();
/** @type {Map<string, HTMLElement>} */
const buttons = new Map();
let chosen = "";
let listed = "";
/** Before that nobody knows whether there is somebody. */
let isAnswered = false;
/** @type {(subject: string) => void} */
let onChoose = () => {};

/** @param {(subject: string) => void} choose is called with who was chosen */
export function begin(choose) {
  onChoose = choose;
  byId("people").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const rows = [...byId("people").querySelectorAll("button")];
    const place = rows.findIndex((each) => each === document.activeElement);
    const next = event.key === "Home" ? 0 : event.key === "End" ? rows.length - 1 : step ? place + step : -1;
    if (place < 0 || !rows[next]) return;
    event.preventDefault();
    rows[next].focus();
  });
}

/** What was told while somebody asked, whose answer may be from before it. @type {(() => void)[]} */
const meanwhile = [];
let asked = 0;

/** Take what is told by an event. @param {() => void} take */
export function heed(take) {
  take();
  if (asked) meanwhile.push(take);
}

/** Ask for everybody anew. @returns {Promise<string[]>} their ids */
export async function load() {
  asked += 1;
  try {
    const { body } = await call("/overview");
    answered(body);
    for (const take of meanwhile) take();
  } finally {
    asked -= 1;
    if (!asked) meanwhile.length = 0;
  }
  show();
  return [...people.keys()];
}

/** @param {any} body of the overview */
function answered(body) {
  people.clear();
  for (const each of body.subjects) {
    people.set(each.subject_id, {
      id: each.subject_id,
      reading: each.reading && {
        mgdl: each.reading.glucose_mgdl, time: Date.parse(each.reading.time), direction: each.reading.direction,
        simulated: each.reading.simulated, device: each.reading.device || "",
        unforecast: each.reading.without_forecast,
        before: (each.reading.before || []).map((/** @type {any} */ one) => (
          { mgdl: one.glucose_mgdl, time: Date.parse(one.time), device: each.reading.device || "" })),
      },
      forecast: each.forecast && {
        until: Date.parse(each.forecast.valid_until), issued: Date.parse(each.forecast.issue_time),
        low: each.forecast.p_below_70, high: each.forecast.p_above_180,
      },
      withheld: (each.withheld_times || []).map(Date.parse),
      holding: each.holding, holding_until: each.holding_until,
    });
  }
  isAnswered = true;
  byId("more-people").hidden = body.more === 0;
  byId("more-people").textContent = `${body.more} more, whose readings are older, are not listed.`;
}

/** @param {string} subject @returns {Person} */
export function person(subject) {
  const known = people.get(subject);
  return known || { id: subject, reading: null, forecast: null, withheld: [], holding: [], holding_until: {} };
}

/** @param {string} subject @returns {Person} */
function kept(subject) {
  const known = person(subject);
  people.set(subject, known);
  return known;
}

/** @param {any} outcome of a reading */
export function takeReading(outcome) {
  const came = outcome.reading;
  if (!came) return;
  const row = kept(outcome.subject_id);
  const reading = {
    mgdl: toMgdl(came.glucose, came.unit), time: Date.parse(came.time), simulated: came.simulated,
    device: came.device || "",
  };
  const known = row.reading;
  const corrects = known !== null && known.time === reading.time; // of two readings of one time the later one counts
  const issued = outcome.issue_times.map(Date.parse);
  row.withheld = [...row.withheld, ...(outcome.withheld_times || []).map(Date.parse)].filter((end) => !issued.includes(end));
  if (outcome.code === "other_device") { show(); return; } // another one is preferred, and speaks
  if (!known || known.time < reading.time || (corrects && outcome.status !== "duplicate")) {
    const unforecast = outcome.status === "no_forecast";
    if (!corrects || Math.abs(known.mgdl - reading.mgdl) >= 0.1) { // else it is the same once more
      const older = known ? (corrects ? known.before : [valueOf(known), ...known.before]) : [];
      const before = older.filter((each) => reading.time - each.time <= TREND_MILLISECONDS);
      row.reading = { ...reading, direction: came.direction || directionOf(reading, before), unforecast, before };
    }
  } else if (outcome.status !== "duplicate" && known.time - reading.time <= TREND_MILLISECONDS) {
    const others = known.before.filter((each) => each.time !== reading.time);
    const isTold = known.direction === directionOf(known, known.before) || !trend(known.direction)[0]; // else it is the sensor's own word
    known.before = [...others, valueOf(reading)].sort((one, other) => other.time - one.time);
    if (isTold) known.direction = directionOf(known, known.before);
  }
  show();
}

/** @param {Value} reading @returns {Value} */
const valueOf = ({ mgdl, time, device }) => ({ mgdl, time, device });

/** @param {any} chart */
export function takeForecast(chart) {
  const row = kept(chart.subject_id);
  const issued = Date.parse(chart.issue_time);
  if (row.forecast && row.forecast.issued > issued) return;
  const counted = chart.simulated ? Math.max(issued, Date.parse(chart.computed_at)) : issued;
  row.forecast = { until: counted + 1000 * PRESENT_SECONDS, issued, ...riskOf(chart) };
  show();
}

/**
 * The forecast, unless a newer reading got none, or one that it was made of was corrected and it was not made anew.
 * @param {Person} row
 */
export function forecastOf({ forecast, reading, withheld }) {
  if (!forecast || withheld.includes(forecast.issued)) return null;
  return reading?.unforecast && reading.time - forecast.issued > HALF_SLOT_MILLISECONDS ? null : forecast;
}

/** @param {any} alerts */
export function takeAlerts(alerts) {
  const { holding, holding_until } = alerts;
  Object.assign(kept(alerts.subject_id), { holding, holding_until });
  show();
}

/** @param {string} subject */
export function choose(subject) {
  chosen = subject;
  show();
  buttons.get(subject)?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** Rows in the order of their names: none moves away under a finger. */
export function show() {
  const rows = [...people.values()].sort((one, other) => one.id.localeCompare(other.id));
  const ids = rows.map((row) => row.id).join("\n");
  if (ids !== listed) {
    listed = ids;
    for (const id of buttons.keys()) if (!people.has(id)) buttons.delete(id);
    byId("people").replaceChildren(...rows.map((row) => element("li", {}, buttonOf(row.id))));
    byId("subjects").replaceChildren(...rows.map((row) => new Option(row.id, row.id)));
  }
  byId("nobody").hidden = rows.length > 0 || !isAnswered;
  for (const row of rows) fill(buttonOf(row.id), row);
}

/** A person's button stays the same one, so that whoever is on it stays there. @param {string} id */
function buttonOf(id) {
  let made = buttons.get(id);
  if (!made) {
    made = element("button", { type: "button", class: "person", click: () => onChoose(id) });
    made.dataset.subject = id;
    buttons.set(id, made);
  }
  return made;
}

/** @param {HTMLElement} button @param {Person} row */
function fill(button, row) {
  const { kind, text } = riskWords(row);
  const parts = [
    element("span", { class: "name" }, row.id), value(row), element("span", { class: "when" }, when(row)),
    element("span", { class: `risk ${kind}` }, text),
  ];
  const changed = element("div", {}, ...parts);
  if (changed.innerHTML !== button.innerHTML) button.replaceChildren(...changed.childNodes);
  if (row.id === chosen) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
}

/** @param {Person} row */
export function value(row) {
  const made = element("span", { class: "value" });
  if (!row.reading) return made;
  const [arrow, words] = trend(row.reading.direction);
  made.append(`${glucose(row.reading.mgdl)} `, element("small", {}, unit()));
  if (arrow) {
    made.append(" ", element("span", { class: "arrow", "aria-hidden": "true" }, arrow));
    made.append(element("span", { class: "spoken" }, `, ${words}`));
  }
  return made;
}

/** @param {Person} row */
export function when(row) {
  if (!row.reading) return "no reading";
  return row.reading.simulated ? "simulated" : age(row.reading.time);
}

/** @param {Person} row @returns {{kind: string, text: string}} */
function riskWords(row) {
  const [alert] = holdingNow(row);
  if (alert) return { kind: side(alert), text: `Alert: ${KINDS[alert].toLowerCase()}` };
  const forecast = forecastOf(row);
  if (!forecast || forecast.until < now()) return { kind: "none", text: "no forecast" };
  const { low, high } = forecast;
  if (low >= TOLD_CHANCE && low >= high) return { kind: "low", text: `low ${percent(low)}` };
  if (high >= TOLD_CHANCE) return { kind: "high", text: `high ${percent(high)}` };
  return { kind: "fine", text: "in range" };
}
