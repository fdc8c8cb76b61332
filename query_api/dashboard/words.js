// Numbers and times as people read them.
import { now } from "./api.js";
import { select } from "./dom.js";

const MGDL_PER_MMOLL = 18.016;
/** A forecast is the present one for so long. */
export const PRESENT_SECONDS = 15 * 60;

const KEPT_UNIT = "glucast-unit";

export function restoreUnit() {
  select("unit").value = localStorage.getItem(KEPT_UNIT) === "mmol/L" ? "mmol/L" : "mg/dL";
}

export function keepUnit() {
  localStorage.setItem(KEPT_UNIT, unit());
}

const KEPT_ZONE = "glucast-zone";
const deviceZone = () => {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  return timeZone === "Etc/Unknown" ? undefined : timeZone;
};

/** They are hundreds, which nobody looks at before there is a forecast. */
const ZONES_MILLISECONDS = 1000;

/** The clocks that there are, that of the device first; all of them a moment later, or when somebody wants to choose. */
export function restoreZone() {
  const kept = localStorage.getItem(KEPT_ZONE) || "";
  const own = deviceZone();
  const list = select("zone");
  list.replaceChildren(new Option(own ? `${own} (here)` : "here", ""));
  if (isZone(kept)) list.append(new Option(kept, kept));
  list.value = isZone(kept) ? kept : "";
  let isWhole = false;
  const complete = () => {
    if (isWhole) return;
    isWhole = true;
    const { value } = list;
    const names = ["UTC", ...Intl.supportedValuesOf("timeZone").filter((name) => name !== "UTC")];
    list.replaceChildren(list.options[0], ...names.map((name) => new Option(name, name)));
    list.value = value;
    if (list.value !== value) { list.append(new Option(value, value)); list.value = value; } // by an older name
  };
  for (const event of ["pointerdown", "focus"]) list.addEventListener(event, complete);
  setTimeout(complete, ZONES_MILLISECONDS);
}

/** @param {string} name */
function isZone(name) {
  try { return name !== "" && Boolean(new Intl.DateTimeFormat(undefined, { timeZone: name })); } catch { return false; }
}

export function keepZone() {
  localStorage.setItem(KEPT_ZONE, select("zone").value);
}

/** Of the clock that is shown; undefined where the device names none. */
export const zone = () => select("zone").value || deviceZone();

/** @returns {"mg/dL" | "mmol/L"} */
export const unit = () => (select("unit").value === "mmol/L" ? "mmol/L" : "mg/dL");

const dark = matchMedia("(prefers-color-scheme: dark)");

/** The colours that the page has now. @returns {"dark" | "light"} */
export const theme = () => (dark.matches ? "dark" : "light");

/** @param {() => void} change is called when the page gets other colours */
export function onTheme(change) {
  dark.addEventListener("change", change);
}

/** In the chosen unit, in the page's colours, on the chosen clock. */
export function drawQuery() {
  const timezone = zone();
  return String(new URLSearchParams({ unit: unit(), theme: theme(), ...(timezone ? { timezone } : {}) }));
}

/** @param {number} number */
function even(number) {
  const floor = Math.floor(number);
  return Math.abs(number - floor - 0.5) < 1e-9 ? floor + (floor % 2) : Math.round(number);
}

/**
 * In the chosen unit and with its digits. A half goes to the even neighbour, as in the plots, which the server draws.
 * @param {number} mgdl
 */
export function glucose(mgdl) {
  if (unit() === "mmol/L") return (mgdl / MGDL_PER_MMOLL).toFixed(1);
  return String(even(mgdl));
}

/** A difference or a spread, with its digit. @param {number} mgdl */
export const spread = (mgdl) => (unit() === "mmol/L" ? (mgdl / MGDL_PER_MMOLL).toFixed(2) : mgdl.toFixed(1));

/** @param {number} glucoseValue @param {string} ofUnit */
export const toMgdl = (glucoseValue, ofUnit) => (ofUnit === "mmol/L" ? glucoseValue * MGDL_PER_MMOLL : glucoseValue);

/** A share of nearly none is not none, and one of nearly all not all. @param {number} chance */
export const percent = (chance) => (chance <= 0.005 ? "<1 %" : chance >= 0.995 ? ">99 %" : `${even(100 * chance)} %`);

/** The same of what was counted, where none is none and all is all. @param {number} part */
export const portion = (part) => (part === 0 || part === 1 ? `${100 * part} %` : percent(part));

/** @param {string | number | Date} time */
export const clock = (time) =>
  new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", timeZone: zone() });

/** With its day where that is not today. @param {string | number | Date} time */
export function moment(time) {
  const date = new Date(time);
  const timeZone = zone();
  const [day, today] = [date, new Date(now())].map((each) => each.toLocaleDateString("en-CA", { timeZone }));
  if (day === today) return clock(date);
  return `${date.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short", timeZone })}, ${clock(date)}`;
}

/** The interface says times in words with their clock; here they are on that of who looks. @param {string} words */
export const onThisClock = (words) => words.replace(
  /(\d{4}-\d\d-\d\d) (\d\d:\d\d) UTC([+-]\d\d:\d\d)?/g,
  (_, day, time, offset) => moment(`${day}T${time}${offset || "Z"}`),
);

/** @param {string | number | Date} time */
export function age(time) {
  const minutes = Math.floor((now() - new Date(time).getTime()) / 60000);
  if (minutes < 1) return minutes < -2 ? "ahead of now" : "just now";
  if (minutes < 120) return `${minutes} min ago`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h ago` : `${Math.floor(minutes / 1440)} days ago`;
}

/** @type {Record<string, [string, string]>} */
const TRENDS = {
  TripleUp: ["⇈", "rising very fast"], DoubleUp: ["⇈", "rising fast"], SingleUp: ["↑", "rising"],
  FortyFiveUp: ["↗", "rising slowly"], Flat: ["→", "steady"], FortyFiveDown: ["↘", "falling slowly"],
  SingleDown: ["↓", "falling"], DoubleDown: ["⇊", "falling fast"], TripleDown: ["⇊", "falling very fast"],
};

/** Arrow and words of a trend; both empty where it is not known. @param {string} direction @returns {[string, string]} */
export const trend = (direction) => TRENDS[direction] || ["", ""];

/** Readings further apart say nothing about the trend now: as the server has it, half a step more than a quarter of an hour. */
export const TREND_MILLISECONDS = 1050000;
const STEP_MILLISECONDS = 300000;
/** No sensor is punctual to the second. */
const NEARLY_MILLISECONDS = 30000;

/** @typedef {{mgdl: number, time: number, device?: string}} Value */

/**
 * As the server decides where the sensor does not say (agents/core/directions.py): of about five minutes, whatever the
 * sensor's step, in mg/dL a minute.
 * @param {Value} reading @param {Value[]} older those before it, the newest first
 */
export function directionOf(reading, older) {
  /** @param {Value} each */
  const apart = (each) => reading.time - each.time;
  const near = older.filter((each) => each.device === reading.device && apart(each) <= TREND_MILLISECONDS);
  const before = near.find((each) => apart(each) >= STEP_MILLISECONDS - NEARLY_MILLISECONDS) || near.at(-1);
  if (!before || apart(before) < STEP_MILLISECONDS / 2) return "NONE"; // less would make much of little
  const rate = (reading.mgdl - before.mgdl) / (apart(before) / 60000);
  const steep = Math.abs(rate) >= 3 ? "Double" : Math.abs(rate) >= 2 ? "Single" : Math.abs(rate) >= 1 ? "FortyFive" : "";
  return steep ? steep + (rate > 0 ? "Up" : "Down") : "Flat";
}

/** The chances of the whole hour: of its path where that is known, else of its worst step. @param {any} chart */
export function riskOf(chart) {
  const path = chart.p_path;
  return {
    low: path ? path.below_70[3] : Math.max(...chart.p_below_70),
    high: path ? path.above_180[3] : Math.max(...chart.p_above_180),
  };
}

/** @type {Record<string, string>} */
export const KINDS = {
  urgent_low: "Urgent low", low: "Low", high: "High", urgent_high: "Urgent high",
  falling_fast: "Falling fast", stale_data: "No readings", sensor_error: "Sensor errors",
};

/** What an alert of a kind is about, as its snooze has it. @param {string} kind @returns {"low" | "high" | "data"} */
export const side = (kind) =>
  (kind.endsWith("low") || kind === "falling_fast" ? "low" : kind.endsWith("high") ? "high" : "data");

/**
 * The kinds that hold now, the most urgent first: an hour that was spoken of goes by though no event comes.
 * @param {{holding: string[], holding_until: Record<string, string>}} told
 */
export const holdingNow = ({ holding, holding_until }) => holding.filter(
  (kind) => !(kind in holding_until) || Date.parse(holding_until[kind]) > now(),
);
