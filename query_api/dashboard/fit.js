// The figures that the server draws, fitted to the page: they come with a fixed size, here they have what room there is.

export const HEIGHT = 500;
const NARROW_HEIGHT = 400;
const NARROW = 560;
const TITLE_LINE_PIXELS = 16;
/** Letters that are smaller are not read: what does not fit then is broken, or left to the sentence beside the plot. */
const [LEAST_PIXELS, LEAST_TITLE_PIXELS] = [10, 13];
/** Between two levels of the vertical axis at least, and how many of them: as plotly has it. */
const [TICK_PIXELS, FEWEST_TICKS, MOST_TICKS] = [40, 4, 9];
/** What a line is, where there is little room to say it. @type {Record<string, string>} */
const SHORT_NAMES = { "predicted density": "density", "model uncertainty": "density", "forecast median": "forecast" };
/** Of the legend: a row of it, and from item to item besides the words: as plotly has it. */
export const LEGEND_PIXELS = 29;
const ITEM_PIXELS = 45;
const pen = /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));

/**
 * @param {any} figure as the server draws it @param {number} width pixels that there are
 * @returns {{data: any[], layout: any}} of that width, in which nothing is left to who draws it: see picture.js
 */
export function fit(figure, width) {
  const narrow = width < NARROW;
  const { data, layout } = structuredClone(figure);
  Object.assign(layout, { width, height: narrow ? NARROW_HEIGHT : HEIGHT });
  const [lastKnown, foot] = layout.annotations.slice(-2);
  Object.assign(lastKnown, { y: 1, yanchor: "bottom" }); // above the plot, where no line crosses its words
  if (narrow) {
    layout.margin = { l: 40, r: 36, t: 62, b: 82 };
    foot.yshift = -72;
    Object.assign(layout.legend, { x: -0.1, xanchor: "left", y: -0.09, yanchor: "top", font: { size: 10 }, itemwidth: 30 });
    layout.xaxis.title.text = "";
    const every = layout.xaxis.tickvals.filter((/** @type {number} */ _, /** @type {number} */ place) => place % 2 === 0);
    const names = layout.xaxis.ticktext.filter((/** @type {string} */ _, /** @type {number} */ place) => place % 2 === 0);
    Object.assign(layout.xaxis, { tickvals: every, ticktext: names });
    layout.yaxis.title.text = "";
  }
  const lastKnownAt = -layout.xaxis.range[0] / (layout.xaxis.range[1] - layout.xaxis.range[0]);
  const rows = rowsOf(data, layout);
  if (narrow || rows.length > 1 || widest(rows) > widthWithin(layout) * (1 - lastKnownAt)) {
    for (const line of data) line.name = SHORT_NAMES[line.name] || line.name;
  }
  const more = narrow ? LEGEND_PIXELS * (rowsOf(data, layout).length - 1) : 0; // below which stands the foot
  foot.yshift -= more;
  layout.margin.b += more;
  layout.height += more;
  layout.margin.autoexpand = false;
  Object.assign(layout.yaxis, { tick0: 0, dtick: levelsOf(layout) });
  layout.title.x = layout.margin.l / width;
  layout.title.text = titleOf(layout, width - layout.margin.l - 8, narrow);
  if (narrow && layout.title.text.includes("<br>")) {
    layout.margin.t += TITLE_LINE_PIXELS;
    layout.height += TITLE_LINE_PIXELS;
  }
  const room = width - layout.margin.l - 8;
  if (widthOf(foot.text, foot.font.size, layout) > room) [foot.text] = foot.text.split("  ");
  foot.font.size = fitting(foot.text, foot.font.size, room, layout);
  return { data, layout };
}

/** @param {any} layout */
const widthWithin = ({ width, margin }) => width - margin.l - margin.r;

/** @typedef {{of: any, width: number}} Item */

/** The items of the legend, in rows that are not wider than the plot; one that begins left of it may begin at the edge. @param {any[]} data @param {any} layout @returns {Item[][]} */
export function rowsOf(data, layout) {
  const { x, font: { size } } = layout.legend;
  const most = widthWithin(layout) + (x < 0 ? layout.margin.l : 0);
  /** @type {Item[][]} */
  const rows = [[]];
  let left = 0;
  for (const of of data) {
    if (of.showlegend === false) continue;
    const width = ITEM_PIXELS + widthOf(of.name, size, layout);
    if (left && left + width > most) { rows.push([]); left = 0; }
    /** @type {Item[]} */ (rows.at(-1)).push({ of, width });
    left += width;
  }
  return rows;
}

/** @param {Item[][]} rows */
export const widest = (rows) => Math.ceil(Math.max(...rows.map((row) => row.reduce((sum, each) => sum + each.width, 0))));

/** How far apart the levels of the vertical axis are: 2, 5 or 10 of a power of ten. @param {any} layout */
function levelsOf({ height, margin, yaxis }) {
  const most = Math.min(Math.max((height - margin.t - margin.b) / TICK_PIXELS, FEWEST_TICKS), MOST_TICKS) + 1;
  const least = (yaxis.range[1] - yaxis.range[0]) / most;
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([2, 5].find((each) => least <= each * power) || 10);
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

/** Letters of a line, as they are measured. @param {string} line with its tags @param {number} pixels @param {any} layout */
export function measured(line, pixels, layout) {
  pen.font = `${line.includes("<b>") ? "bold " : ""}${pixels}px ${layout.font.family}`;
  return pen.measureText(line.replace(/<[^>]*>/g, "").replaceAll("&lt;", "<").replaceAll("&gt;", ">"));
}

/** How wide a line is. @param {string} line with its tags @param {number} pixels @param {any} layout */
export const widthOf = (line, pixels, layout) => measured(line, pixels, layout).width;

/**
 * The size at which a line has room.
 * @param {string} line @param {number} pixels at most @param {number} room @param {any} layout
 */
function fitting(line, pixels, room, layout) {
  const wide = widthOf(line, pixels, layout);
  return wide <= room ? pixels : Math.max(8, Math.floor((pixels * room) / wide));
}
