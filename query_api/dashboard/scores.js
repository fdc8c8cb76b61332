// How the forecasts of one person did against what was measured.
import { call, ofSubject, Problem } from "./api.js";
import { byId, element, facts, select } from "./dom.js";
import { moment, portion, spread, unit } from "./words.js";

const CLAIMS = ["50", "80", "90", "95"];
/** Fewer targets than these say little. */
const FEW = 50;

const state = { subject: "", card: /** @type {any} */ (null) };

export function begin() {
  select("score-days").addEventListener("change", show);
}

/** @param {string} subject */
export function choose(subject) {
  Object.assign(state, { subject, card: null });
  byId("scores-body").hidden = true;
  byId("score-rows").replaceChildren();
  byId("scores-words").textContent = "";
}

export async function refresh() {
  const { subject } = state;
  if (!subject) return;
  try {
    const { body } = await call(ofSubject(subject, "/scores?or_reason=true"));
    take(body);
  } catch (error) {
    if (!(error instanceof Problem) || subject !== state.subject) return;
    byId("scores-body").hidden = true;
    byId("scores-words").textContent = `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
  }
}

/** @param {any} card as GET …/scores answers */
export function take(card) {
  if (card.subject_id !== state.subject) return;
  state.card = card;
  show();
}

export function show() {
  const { card } = state;
  if (!card) return;
  byId("scores-words").textContent = "";
  byId("scores-body").hidden = false;
  const days = Number(select("score-days").value);
  const horizons = horizonsOf(card, days);
  const beside = horizonsOf(card.trial, days);
  byId("score-rows").replaceChildren(...horizons.flatMap((/** @type {any} */ each) => {
    const same = beside.find((/** @type {any} */ other) => other.minutes_ahead === each.minutes_ahead);
    const served = row(each, `${each.minutes_ahead} min`);
    return same ? [served, row(same, `${each.minutes_ahead} min, on trial`)] : [served];
  }));
  byId("trial-words").hidden = !card.trial;
  for (const place of document.querySelectorAll(".of-unit")) place.textContent = unit();
  const last = horizons.at(-1);
  const lastBeside = last && beside.find((/** @type {any} */ each) => each.minutes_ahead === last.minutes_ahead);
  byId("claims").replaceChildren(
    ...(last ? CLAIMS.map((claim) => bar(claim, last.covered[claim], lastBeside?.covered[claim])) : []),
  );
  byId("claims-words").textContent = !last ? "Nothing was measured in these days."
    : last.targets < FEW ? `Of ${last.targets} targets so far: too few to judge by.`
      : `Of ${last.targets} targets, ${last.minutes_ahead} minutes ahead. The line is where each bar should end.`;
  facts("score-facts", [
    ["Scored so far", card.scored], ["Not measured", card.unmeasured],
    ["Fan is fitted to", `${Math.round(card.calibration.readings)} readings`],
    ["Newest forecast", moment(card.newest_forecast_time)],
    ["Model", card.model],
    ...(card.trial ? [/** @type {[string, string]} */ (["Model on trial", card.trial.model])] : []),
  ]);
}

/** @param {any} card of a model, or none @param {number} days */
const horizonsOf = (card, days) =>
  card?.windows.find((/** @type {any} */ each) => each.days === days)?.horizons || [];

/** @param {any} of a horizon @param {string} name */
const row = (of, name) => element(
  "tr", {},
  element("th", { scope: "row" }, name),
  ...[of.targets, spread(of.mae_mgdl), spread(of.rmse_mgdl), spread(of.crps_mgdl), portion(of.covered["90"]),
    spread(of.width_90_mgdl), portion((of.clarke.A || 0) + (of.clarke.B || 0))].map((value) => element("td", {}, value)),
);

/**
 * @param {string} claim percent that an interval claims @param {number} share that fell inside
 * @param {number} [onTrial] the share of the model on trial
 */
function bar(claim, share, onTrial) {
  const filled = element("span", { class: "filled" });
  filled.style.width = `${100 * share}%`;
  const mark = element("span", { class: "mark" });
  mark.style.left = `${claim}%`;
  return element(
    "li", {}, element("span", { class: "claim" }, `${claim} % range`),
    element("span", { class: "bar", "aria-hidden": "true" }, filled, mark), element("span", {}, `${portion(share)} inside${onTrial === undefined ? "" : `; on trial ${portion(onTrial)}`}`),
  );
}
