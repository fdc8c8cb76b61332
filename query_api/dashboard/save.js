// What one can hand on of a person: the present forecast, the day and the report, as files.
import { blobOf, now, ofSubject, Problem } from "./api.js";
import { byId, element, say } from "./dom.js";
import { drawQuery, unit } from "./words.js";

const state = { subject: "" };

/** By the id of its button: where it is, and how its file is named. @type {Record<string, () => [string, string]>} */
const PARTS = {
  "save-forecast": () => [`/forecast/plot?format=png&scale=2&age=true&${drawQuery()}`, `forecast ${stamp()}.png`],
  "save-day": () => [`/day/plot?format=png&scale=2&${drawQuery()}`, `day ${stamp()}.png`],
  "save-report": () => [`/report?format=pdf&${withoutTheme()}`, `report ${state.subject} ${stamp()}.pdf`],
  "save-report-page": () => [`/report?format=html&${withoutTheme()}`, `report ${state.subject} ${stamp()}.html`],
};

export function begin() {
  for (const id of Object.keys(PARTS)) byId(id).addEventListener("click", () => save(id));
}

/** @param {string} subject */
export function choose(subject) {
  state.subject = subject;
}

/** A key is sent as a header, so a plain link would not do. @param {string} id */
async function save(id) {
  const { subject } = state;
  const [path, name] = PARTS[id]();
  byId(id).toggleAttribute("disabled", true);
  try {
    const address = URL.createObjectURL(await blobOf(ofSubject(subject, path)));
    element("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    say("");
  } catch (error) {
    if (error instanceof Problem) say(error.message);
  } finally {
    byId(id).toggleAttribute("disabled", false);
  }
}

/** A report is for paper. */
function withoutTheme() {
  const query = new URLSearchParams(drawQuery());
  query.delete("theme");
  query.set("unit", unit());
  return String(query);
}

/** A file's name holds no colon. */
const stamp = () => new Date(now()).toISOString().slice(0, 16).replace(":", "");
