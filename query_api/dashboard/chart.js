// The figures that the server draws, in the page's colours: a picture at once, then plotly's, which is large, in its place.
import { fit, HEIGHT } from "./fit.js";
import { picture } from "./picture.js";

const PLOTLY = "/static/plotly.min.js";
/** @type {Map<string, any>} */
const shown = new Map();
/** Of plotly: it is asked for once there is something to draw. */
let isAsked = false;

/**
 * @param {string} id of the element @param {any} figure @param {string} words what it shows, for who does not see it
 * @returns {Promise<void>} when it is drawn
 */
export async function draw(id, figure, words) {
  shown.set(id, figure);
  const place = /** @type {HTMLElement} */ (document.getElementById(id));
  place.hidden = false;
  place.setAttribute("aria-label", words);
  place.style.height ||= `${HEIGHT}px`; // with what a page has that scrolls
  const fitted = fit(figure, place.clientWidth || innerWidth);
  place.style.height = `${fitted.layout.height}px`;
  if (!window.Plotly) {
    withoutPicture(place);
    place.append(picture(fitted));
    askForPlotly();
    return;
  }
  await window.Plotly.react(id, fitted.data, fitted.layout, { displayModeBar: false });
  if (!shown.has(id)) window.Plotly.purge(id); // cleared meanwhile
  withoutPicture(place);
}

/** Once the picture is seen: plotly is evaluated where it is compiled, and nothing else is done meanwhile. */
function askForPlotly() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => setTimeout(() => {
    const script = document.createElement("script");
    script.src = PLOTLY;
    script.onload = redraw;
    script.onerror = () => { isAsked = false; script.remove(); }; // with the next drawing once more
    document.head.append(script);
  }));
}

/** @param {HTMLElement} place */
const withoutPicture = (place) => place.querySelector(".picture")?.remove();

/** @param {string} id */
export function clear(id) {
  shown.delete(id);
  const place = /** @type {HTMLElement} */ (document.getElementById(id));
  place.hidden = true;
  withoutPicture(place);
  if (window.Plotly) window.Plotly.purge(id);
}

/** Anew, where widths have changed. */
export function redraw() {
  for (const [id, figure] of shown) {
    const place = /** @type {HTMLElement} */ (document.getElementById(id));
    if (place.offsetParent !== null) draw(id, figure, place.getAttribute("aria-label") || "");
  }
}

let waiting = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(redraw, 150);
});
