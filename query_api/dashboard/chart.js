// The figures that the server draws, in the page's colours, fitted to it: they come with a fixed size.

const [HEIGHT, NARROW_HEIGHT] = [500, 380];
/** @type {Map<string, any>} */
const shown = new Map();

/** @param {string} id of the element @param {any} figure @param {string} words what it shows, for who does not see it */
export function draw(id, figure, words) {
  shown.set(id, figure);
  const place = /** @type {HTMLElement} */ (document.getElementById(id));
  place.hidden = false;
  place.setAttribute("aria-label", words);
  const width = place.clientWidth || innerWidth;
  const narrow = width < 560;
  const { data, layout } = structuredClone(figure);
  delete layout.width;
  layout.height = narrow ? NARROW_HEIGHT : HEIGHT;
  place.style.height = `${layout.height}px`;
  layout.autosize = true;
  const [first] = layout.title.text.split("<br>");
  if (narrow) {
    layout.title.text = first.replace("Glucose forecast from", "Forecast from");
    layout.title.font.size = 14;
    layout.title.y = 0.97;
    layout.margin = { l: 40, r: 34, t: 44, b: 64 };
    layout.annotations.at(-1).text = layout.annotations.at(-1).text.split("  ")[0];
    layout.annotations.at(-1).yshift = -54;
    layout.xaxis.title.text = "";
    layout.xaxis.nticks = 6;
    const every = layout.xaxis.tickvals.filter((/** @type {number} */ _, /** @type {number} */ place) => place % 2 === 0);
    const names = layout.xaxis.ticktext.filter((/** @type {string} */ _, /** @type {number} */ place) => place % 2 === 0);
    Object.assign(layout.xaxis, { tickvals: every, ticktext: names });
    layout.showlegend = false;
    layout.yaxis.title.text = "";
  }
  window.Plotly.react(id, data, layout, { displayModeBar: false, responsive: true });
}

/** @param {string} id */
export function clear(id) {
  shown.delete(id);
  const place = /** @type {HTMLElement} */ (document.getElementById(id));
  place.hidden = true;
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
