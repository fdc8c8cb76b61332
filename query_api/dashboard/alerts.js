// Alerts of one person: what holds, what was told and what became of it, quiet for a while, and how they are wanted.
import { call, now, ofSubject, Problem, send } from "./api.js";
import { byId, element, say, select, setText } from "./dom.js";
import { person } from "./people.js";
import {
  clock, glucose, holdingNow, KINDS, moment, onThisClock, percent, PRESENT_SECONDS, side, spread, unit, zone,
} from "./words.js";

const DIRECTIONS = { low: "lows", high: "highs", data: "missing readings" };
/** @typedef {keyof typeof DIRECTIONS} Direction */
const OF_KIND = /** @type {Array<[string, number]>} */ (
  [["urgent_low", 54], ["low", 70], ["high", 180], ["urgent_high", 250]]
);
/** @type {Record<string, number[]>} Other thresholds that may be chosen, mg/dL. */
const OWN = { urgent_low: [50, 60], low: [65, 75, 80, 90], high: [160, 200, 220], urgent_high: [230, 270, 300] };
/** @type {Record<string, {name: string, label: string, options: Array<[string, number]>}>} Kinds without a level. */
const OTHERS = {
  falling_fast: {
    name: "rate_mgdl_per_minute", label: "by",
    options: [["2 mg/dL (0.1 mmol/L) a minute", 2], ["3 mg/dL (0.2 mmol/L) a minute", 3]],
  },
  stale_data: { name: "minutes", label: "after", options: [["15 min", 15], ["20 min", 20], ["30 min", 30], ["60 min", 60]] },
  sensor_error: { name: "readings", label: "after", options: [["1 error", 1], ["3 in a row", 3], ["6 in a row", 6]] },
};
/** @type {Record<string, string>} What each preset is, as it was measured on people that nothing was fitted to. */
const PRESETS = {
  quiet: "Fewest: of lows 0.7 to 0.9 false alerts a day.",
  balanced: "As a start: of lows 1.3 to 1.7 false alerts a day.",
  early: "Earliest: of lows 2.2 to 2.7 false alerts a day; highs too.",
};

/** Another key is needed, or another person. */
const FOR_GOOD = [401, 403, 404];

const state = {
  subject: "", alerts: /** @type {any} */ (null), settings: /** @type {any} */ (null), changed: false, refused: false, shown: "",
  told: 0, saves: 0, asks: 0, turn: 0, filled: /** @type {Map<string, string>} */ (new Map()),
};

export function begin() {
  for (const direction of /** @type {Direction[]} */ (Object.keys(DIRECTIONS))) {
    byId(`snooze-${direction}`).addEventListener("click", () => snooze(direction, Number(select("snooze-for").value)));
  }
  byId("settings").addEventListener("input", () => { state.changed = true; setText("saved", ""); explain(); });
  byId("settings").addEventListener("submit", save);
  byId("undo").addEventListener("click", () => { state.changed = false; fill(); });
}

/** @param {string} subject */
export function choose(subject) {
  Object.assign(state, { subject, alerts: null, settings: null, changed: false, refused: false, shown: "", turn: state.turn + 1 });
  byId("settings").hidden = true;  // until it is that person's
  byId("told").replaceChildren();
  byId("holding").hidden = true;
  byId("quiet").replaceChildren();
  setText("saved", "");
}

export async function refresh() {
  const { subject } = state;
  if (!subject) return;
  const { told: before, saves } = state;
  state.asks += 1;
  // What holds is shown also where the settings are refused.
  const answers = await Promise.allSettled([
    call(ofSubject(subject, "/alerts")).then(({ body }) => {
      if (state.told === before) take(body);  // else the answer may be from before what was told
    }),
    call(ofSubject(subject, "/alerts/settings")).then(({ body }) => {
      if (subject !== state.subject || saves !== state.saves) return;
      state.settings = body;
      if (!state.changed) fill();
    }),
  ]);
  state.asks -= 1;
  for (const answer of answers) {
    if (answer.status === "fulfilled" || !(answer.reason instanceof Problem) || subject !== state.subject) continue;
    say(answer.reason.message);
    state.refused ||= FOR_GOOD.includes(answer.reason.status);
  }
}

/** Time passes: what was refused for now is asked for again. */
export function tick() {
  show();
  if (state.subject && !state.asks && !state.refused && !(state.alerts && state.settings)) refresh();
}

/** @param {any} alerts that an event tells */
export function told(alerts) {
  if (alerts.subject_id === state.subject) state.told += 1;
  take(alerts);
}

/** @param {any} alerts as GET …/alerts answers */
function take(alerts) {
  if (alerts.subject_id !== state.subject) return;
  state.alerts = alerts;
  show();
}

/** Also as time passes, and in another unit. */
export function show() {
  const { alerts } = state;
  if (!alerts) return;
  const snoozed = Object.entries(/** @type {Record<Direction, string>} */ (alerts.snoozed_until))
    .filter(([, until]) => Date.parse(until) > now());
  // Whoever is on a button of a row stays on it as long as nothing has changed.
  const kinds = holdingNow(alerts);
  const words = kinds.map(holdingWords).join(" ");
  const shown = JSON.stringify([alerts, snoozed, unit(), zone(), words]);
  if (shown === state.shown) return;
  state.shown = shown;
  const holding = byId("holding");
  holding.hidden = kinds.length === 0;
  const sides = /** @type {string[]} */ (kinds.map(side));
  holding.className = ["low", "high"].find((each) => sides.includes(each)) || "data";
  setText("holding-words", words);
  byId("quiet").replaceChildren(...snoozed.map(([name, until]) => {
    const direction = /** @type {Direction} */ (name);
    return element(
      "li", {}, `No alerts of ${DIRECTIONS[direction]} until ${clock(until)}. `,
      element("button", { type: "button", click: () => snooze(direction, 0) }, "End"),
    );
  }));
  byId("told").replaceChildren(...alerts.recent.map(row));
  byId("none-told").hidden = alerts.recent.length > 0;
  byId("judged").textContent = alerts.last_judged ? `Last looked at the forecast of ${moment(alerts.last_judged)}.` : "";
}

/** @param {string} kind */
function holdingWords(kind) {
  // The newest of it, whatever has become of it: an alert that was hit still holds, at its own threshold.
  const told = state.alerts.recent.find(
    (/** @type {any} */ each) => each.kind === kind && !["missed", "ended"].includes(each.status),
  );
  const level = OF_KIND.find(([name]) => name === kind);
  if (!level) return told ? `${KINDS[kind]} since ${clock(told.issue_time)}.` : `${KINDS[kind]}.`;
  const reading = person(state.subject).reading;
  const limit = told ? told.threshold_mgdl : state.settings?.[kind].threshold_mgdl ?? level[1];
  const isBeyond = reading && (side(kind) === "low" ? reading.mgdl < limit : reading.mgdl > highestWithin(limit));
  const where = `${beyond(kind)} ${glucose(limit)} ${unit()}`;
  if (isBeyond) {
    return isPresent(reading) ? `${KINDS[kind]}: glucose is ${where}.`
      : `${KINDS[kind]}: glucose was ${where} at ${moment(reading.time)}.`;
  }
  const words = `${KINDS[kind]}: glucose may go ${where}`;
  if (!told || told.status !== "raised") return `${words}.`;
  return `${words} within ${told.horizon_minutes} min of ${clock(told.issue_time)} (${percent(told.probability)}` +
    `${first(told) && `; ${first(told)}`}).`;
}

/** A simulated one has a clock of its own. @param {{time: number, simulated: boolean}} reading */
const isPresent = (reading) => reading.simulated || now() - reading.time <= 1000 * PRESENT_SECONDS;

/** As the server has it: 10.0 mmol/L are 180.16 mg/dL and not above 180. @param {number} limit */
const highestWithin = (limit) => limit + 0.5;

/** @param {string} kind one of a level */
const beyond = (kind) => (side(kind) === "low" ? "below" : "above");

/** @param {any} alert */
function row(alert) {
  return element(
    "li", { class: side(alert.kind) },
    element("time", { datetime: alert.issue_time }, moment(alert.issue_time)), " ",
    element("strong", {}, KINDS[alert.kind]), " ",
    element("span", {}, alert.status === "missed" ? "" : chanceWords(alert)), " ",
    element("span", { class: `became ${alert.status}` }, became(alert)),
  );
}

/** @param {any} alert */
function chanceWords(alert) {
  const at = alert.glucose_mgdl === null ? "" : `at ${glucose(alert.glucose_mgdl)}`;
  if (alert.rate_mgdl_per_minute !== null) return `${at}: ${spread(alert.rate_mgdl_per_minute)} ${unit()} a minute`;
  if (alert.threshold_mgdl === null) return [at, onThisClock(alert.reason)].filter(Boolean).join(": ");
  return `${at}: ${alert.calibrated === false ? "about " : ""}${percent(alert.probability)} ${beyond(alert.kind)} ${glucose(alert.threshold_mgdl)} ` +
    `within ${alert.horizon_minutes} min${first(alert) && `, ${first(alert)}`}`;
}

/** In which quarter of the time that it speaks of it is likeliest to begin; nothing where that is not known. @param {any} alert */
function first(alert) {
  const chances = /** @type {number[]} */ (alert.first_crossing).slice(0, Math.ceil(alert.horizon_minutes / 15));
  if (!chances.length) return "";
  const quarter = chances.indexOf(Math.max(...chances));
  return `likeliest from ${clock(Date.parse(alert.issue_time) + quarter * 900000)} to ` +
    clock(Date.parse(alert.issue_time) + (quarter + 1) * 900000);
}

/** @param {any} alert */
function became(alert) {
  switch (alert.status) {
    case "hit": return `it came ${alert.lead_minutes} min later`;
    case "false": return "it did not come";
    case "missed": return `began at ${clock(alert.onset_time)}, and no alert came before`;
    case "unknown": return "no readings tell what became of it";
    case "ended": return alert.ended_time ? `over at ${clock(alert.ended_time)}` : "over";
    default: return alert.threshold_mgdl === null ? "goes on" : "not decided yet";
  }
}

/** @param {Direction} direction @param {number} minutes */
async function snooze(direction, minutes) {
  const { subject } = state;
  try {
    take(await send("POST", ofSubject(subject, "/alerts/snooze"), { direction, minutes }));
    if (subject !== state.subject) return;
    say(minutes ? `No alerts of ${DIRECTIONS[direction]} for ${minutes} minutes.` : `Alerts of ${DIRECTIONS[direction]} come again.`);
  } catch (error) {
    if (error instanceof Problem) refused(error, subject);
  }
}

/** Whoever has gone on to somebody else learns all the same what was not done. @param {Problem} problem @param {string} subject */
const refused = (problem, subject) =>
  say(subject === state.subject ? problem.message : `not done for ${subject}: ${problem.message}`);

/** The form as the settings are. */
function fill() {
  const { settings } = state;
  if (!settings) return;
  byId("settings").hidden = false;
  pick("preset", settings.preset);
  pick("cooldown", String(settings.cooldown_minutes));
  pick("repeat", settings.repeat_minutes === null ? "" : String(settings.repeat_minutes), "every ");
  byId("rules").replaceChildren(
    ...OF_KIND.map(([kind, threshold]) => rule(kind, threshold, settings[kind])),
    ...Object.keys(OTHERS).map((kind) => other(kind, settings[kind])),
  );
  state.filled = values();
  explain();
}

/** What the form says, by the names of its fields. @returns {Map<string, string>} */
const values = () => new Map([...new FormData(/** @type {HTMLFormElement} */ (byId("settings")))].map(
  ([name, value]) => [name, String(value)],
));

/** A list lacks some of the minutes that may be stored. @param {string} id @param {string} value @param {string} [before] */
function pick(id, value, before = "") {
  const list = select(id);
  if (![...list.options].some((each) => each.value === value)) list.append(new Option(`${before}${value} min`, value));
  list.value = value;
}

function explain() {
  byId("preset-words").textContent = PRESETS[select("preset").value] || "";
  byId("unsaved").hidden = !state.changed;
}

/** @param {string} kind @param {string} name @param {Array<[string, string]>} options @param {string} chosen */
function choice(kind, name, options, chosen) {
  const made = /** @type {HTMLSelectElement} */ (element("select", { name: `${kind}-${name}` }));
  made.append(...options.map(([text, value]) => new Option(text, value, false, value === chosen)));
  return element("label", {}, `${name[0].toUpperCase()}${name.slice(1)} `, made);
}

/** @param {string} kind @param {any} change */
const whether = (kind, change) => choice(
  kind, "alerts", [["as the preset", ""], ["on", "on"], ["off", "off"]],
  change.enabled === null ? "" : change.enabled ? "on" : "off",
);

/** @param {string} kind @param {any} change */
function when(kind, change) {
  const band = change.active || "";
  const bands = /** @type {Array<[string, string]>} */ (
    [["always", ""], ["at night, 22 to 7", "22:00-07:00"], ["by day, 7 to 22", "07:00-22:00"]]
  );
  if (band && !bands.some(([, value]) => value === band)) bands.push([band, band]);
  return choice(kind, "when", bands, band);
}

/** @param {string} kind one without a level @param {any} change */
function other(kind, change) {
  const { name, label, options } = OTHERS[kind];
  const chosen = change[name] === null ? "" : String(change[name]);
  const known = options.map(([text, value]) => /** @type {[string, string]} */ ([text, String(value)]));
  if (chosen && !known.some(([, value]) => value === chosen)) known.push([chosen, chosen]);
  return element(
    "fieldset", {}, element("legend", {}, KINDS[kind]), whether(kind, change),
    choice(kind, label, [["as the preset", ""], ...known], chosen), when(kind, change),
  );
}

/** @param {string} kind @param {number} threshold @param {any} change */
function rule(kind, threshold, change) {
  const probability = change.probability === null ? "" : String(Number((100 * change.probability).toFixed(4)));
  const chances = ["10", "15", "20", "28", "40", "55", "70", "80", "90"];
  if (probability && !chances.includes(probability)) chances.push(probability);
  const own = change.threshold_mgdl === null ? "" : String(change.threshold_mgdl);
  const thresholds = OWN[kind].map(String);
  if (own && !thresholds.includes(own)) thresholds.push(own);
  return element(
    "fieldset", {},
    element("legend", {}, KINDS[kind]),
    whether(kind, change),
    choice(kind, beyond(kind), [[`${glucose(threshold)} ${unit()}`, ""], ...thresholds.map(
      (each) => /** @type {[string, string]} */ ([`${glucose(Number(each))} ${unit()}`, each]))], own),
    choice(kind, "from", [["as the preset", ""], ...chances.map((each) => /** @type {[string, string]} */ ([`${each} % chance`, each]))],
      probability),
    choice(kind, "within", [["as the preset", ""], ...["15", "30", "45", "60"].map(
      (each) => /** @type {[string, string]} */ ([`${each} min`, each]))],
      change.horizon_minutes === null ? "" : String(change.horizon_minutes)),
    when(kind, change),
  );
}

/** Where a field's value is in the settings, and what its text means there. @typedef {[string, (text: string) => unknown]} Place */

/** @type {Record<string, Place>} */
const PLACES = {
  preset: ["preset", String], cooldown: ["cooldown_minutes", Number], repeat: ["repeat_minutes", Number],
};

/** Of a field of one kind, by its name behind that of the kind. @type {Record<string, Place>} */
const PLACES_OF_KIND = {
  alerts: ["enabled", (text) => text === "on"], when: ["active", String], within: ["horizon_minutes", Number],
  from: ["probability", (text) => Number(text) / 100], below: ["threshold_mgdl", Number], above: ["threshold_mgdl", Number],
};

/** The settings with a field's value; an empty one is none of one's own. @param {any} settings @param {string} field @param {string} text */
function withField(settings, field, text) {
  const [kind, name] = field.split("-");
  const known = OTHERS[kind];
  const [key, meant] = name === undefined ? PLACES[kind]
    : known && name === known.label ? /** @type {Place} */ ([known.name, Number]) : PLACES_OF_KIND[name];
  const value = { [key]: text ? meant(text) : null };
  return name === undefined ? { ...settings, ...value } : { ...settings, [kind]: { ...settings[kind], ...value } };
}

/** What was changed here is changed in what is stored now: the rest may have been changed elsewhere meanwhile. @param {Event} event */
async function save(event) {
  event.preventDefault();
  const { subject, turn, filled } = state;
  const path = ofSubject(subject, "/alerts/settings");
  const sent = values();
  try {
    let { body: wanted } = await call(path);
    for (const [field, text] of sent) if (text !== filled.get(field)) wanted = withField(wanted, field, text);
    const settings = await send("PUT", path, wanted);
    state.saves += 1;  // an answer of before does not know it
    if (turn !== state.turn) { refresh(); return; }  // the form is somebody else's, or one that was read before
    state.settings = settings;
    if ([...values()].every(([field, text]) => text === sent.get(field))) {
      state.changed = false;
      fill();
    } else state.filled = sent;
    setText("saved", "Saved: it holds from the next forecast on.");
  } catch (error) {
    if (error instanceof Problem) refused(error, subject);
  }
}
