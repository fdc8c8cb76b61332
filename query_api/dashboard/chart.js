// The figures that the server draws, in the page's colours, fitted to it: they come with a fixed size.

const [HEIGHT, NARROW_HEIGHT] = [500, 400];
const NARROW = 560;
/** Letters that are smaller are not read: what does not fit then is broken, or left to the sentence beside the plot. */
const [LEAST_PIXELS, LEAST_TITLE_PIXELS] = [10, 13];
/** @type {Map<string, any>} */
const shown = new Map();
/** What a line is, where there is little room to say it. @type {Record<string, string>} */
const SHORT_NAMES = { "predicted density": "density", "model uncertainty": "density", "forecast median": "forecast" };
const pen = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));

/**
 * @param {string} id of the element @param {any} figure @param {string} words what it shows, for who does not see it
 * @returns {Promise<unknown>} when it is drawn
 */
export function draw(id, figure, words) {
  shown.set(id, figure);
  const place = /** @type {HTMLElement} */ (document.getElementById(id));
  place.hidden = false;
  place.setAttribute("aria-label", words);
  const width = place.clientWidth || innerWidth;
  const narrow = width < NARROW;
  const { data, layout } = structuredClone(figure);
  delete layout.width;
  layout.height = narrow ? NARROW_HEIGHT : HEIGHT;
  place.style.height = `${layout.height}px`;
  layout.autosize = true;
  const [lastKnown, foot] = layout.annotations.slice(-2);
  Object.assign(lastKnown, { y: 1, yanchor: "bottom" }); // above the plot, where no line crosses its words
  if (narrow) {
    layout.margin = { l: 40, r: 36, t: 62, b: 82 };
    foot.yshift = -72;
    for (const line of data) line.name = SHORT_NAMES[line.name] || line.name;
    Object.assign(layout.legend, { x: -0.1, xanchor: "left", y: -0.09, yanchor: "top", font: { size: 10 }, itemwidth: 30 });
    layout.xaxis.title.text = "";
    const every = layout.xaxis.tickvals.filter((/** @type {number} */ _, /** @type {number} */ place) => place % 2 === 0);
    const names = layout.xaxis.ticktext.filter((/** @type {string} */ _, /** @type {number} */ place) => place % 2 === 0);
    Object.assign(layout.xaxis, { tickvals: every, ticktext: names });
    layout.yaxis.title.text = "";
  }
  layout.title.x = layout.margin.l / width;
  layout.title.text = titleOf(layout, width - layout.margin.l - 8, narrow);
  const room = width - layout.margin.l - 8;
  if (widthOf(foot.text, foot.font.size, layout) > room) [foot.text] = foot.text.split("  ");
  foot.font.size = fitting(foot.text, foot.font.size, room, layout);
  return window.Plotly.react(id, data, layout, { displayModeBar: false, responsive: true });
}

/**
 * What stands above a plot: of what and when it is, and in a wide one what matters in it, in letters that have room.
 * @param {any} layout @param {number} room pixels @param {boolean} narrow
 */
function titleOf(layout, room, narrow) {
  const [whole, ...summary] = /** @type {string[]} */ (layout.title.text.split("<br>"));
  const title = narrow ? whole.replace("Glucose forecast from", "Forecast from") : whole;
  const most = narrow ? 14 : layout.title.font.size;
  const size = fitting(title, most, room, layout);
  if (size < LEAST_TITLE_PIXELS) {
    // The clock's name and what follows it goes to a line of its own.
    const [, first, second] = /^<b>(.*?\d\d:\d\d) (.*)<\/b>$/.exec(title) || [];
    if (!second) { layout.title.font.size = size; return title; }
    layout.title.font.size = fitting(`<b>${first}</b>`, most, room, layout);
    return `<b>${first}</b><br><span style="font-size:${fitting(second, 12, room, layout)}px">${second}</span>`;
  }
  layout.title.font.size = size;
  if (narrow) return title;
  const pixels = Math.min(...summary.map((line) => fitting(line, 14, room, layout)));
  if (pixels <= LEAST_PIXELS) return title;
  return [title, ...summary.map((line) => line.replace(/font-size:\d+px/, `font-size:${pixels}px`))].join("<br>");
}

/** How wide a line is. @param {string} line with its tags @param {number} pixels @param {any} layout */
function widthOf(line, pixels, layout) {
  pen.font = `${line.includes("<b>") ? "bold " : ""}${pixels}px ${layout.font.family}`;
  return pen.measureText(line.replace(/<[^>]*>/g, "").replaceAll("&lt;", "<").replaceAll("&gt;", ">")).width;
}

/**
 * The size at which a line has room.
 * @param {string} line @param {number} pixels at most @param {number} room @param {any} layout
 */
function fitting(line, pixels, room, layout) {
  const wide = widthOf(line, pixels, layout);
  return wide <= room ? pixels : Math.max(8, Math.floor((pixels * room) / wide));
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
