// The figures that the server draws, fitted to the page: they come with a fixed size and light colours.

const [HEIGHT, NARROW_HEIGHT] = [500, 380];
const PAPER = { dark: "#1d2329", light: "#ffffff" };
const dark = matchMedia("(prefers-color-scheme: dark)");
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
  if (dark.matches) {
    Object.assign(layout, { paper_bgcolor: PAPER.dark, plot_bgcolor: PAPER.dark });
    layout.font.color = "#e6eaee";
    layout.title.text = layout.title.text.replaceAll("#66727f", "#a9b4bf");
    for (const note of layout.annotations) {
      note.font.color = note.font.color === "#2c8a5c" ? "#6fd3a0" : "#a9b4bf";
    }
    for (const trace of data) {
      if (trace.fillcolor) trace.fillcolor = trace.fillcolor.replace("88,86,160", "168,166,240");
      for (const part of [trace.line, trace.marker]) {
        if (part && part.color === "#1f6fd1") part.color = "#6ea8f0";
        if (part && part.color === "#d3322d") part.color = "#ff7b72";
      }
    }
    for (const axis of [layout.xaxis, layout.yaxis]) Object.assign(axis, { gridcolor: "#2b333b", linecolor: "#4a545e" });
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

/** Anew, where colours or widths have changed. */
export function redraw() {
  for (const [id, figure] of shown) {
    const place = /** @type {HTMLElement} */ (document.getElementById(id));
    if (place.offsetParent !== null) draw(id, figure, place.getAttribute("aria-label") || "");
  }
}

dark.addEventListener("change", redraw);
let waiting = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(redraw, 150);
});
