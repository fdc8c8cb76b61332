// A first picture of a figure, before plotly has been compiled that then draws the same in its place, and can be zoomed.
// It knows what our figures have: lines, points and closed shapes over axes, bands, words. Lengths are those of plotly.
import { LEGEND_PIXELS, measured, rowsOf, widest, widthOf } from "./fit.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
/** Plotly's: of a line of words to the next one, and from the edge of an annotation to its words. */
const [LINE_HEIGHT, PADDING] = [1.3, 2];
const [TICK_LENGTH, AXIS_WIDTH, LABEL_HEIGHT, TITLE_SCALE] = [5, 1, 1.2, 1.2];
/** A title of one line hangs from its place, one of several stands on it with the first. */
const CAPITAL = 0.7;
/** Of an item of the legend: where its words begin, and the middle of its line. */
const [WORDS_AT, LEGEND_LINE] = [40, 14.5];
/** Points of several sizes let through what lies below them. */
const [SIZES_OPACITY, LEAST_POINT] = [0.7, 2];

let drawn = 0;

/** @typedef {Record<string, string | number | undefined>} Attributes */
/** @typedef {{left: number, top: number, width: number, height: number, x: (x: number) => number, y: (y: number) => number}} Frame */

/** @param {string} tag @param {Attributes} attributes @param {...Node} children @returns {SVGElement} */
function shape(tag, attributes, ...children) {
  const made = /** @type {SVGElement} */ (document.createElementNS(NAMESPACE, tag));
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** @param {{data: any[], layout: any}} fitted as fit.js does @returns {SVGElement} */
export function picture({ data, layout }) {
  const { width, height, margin, xaxis, yaxis } = layout;
  const [wide, high] = [width - margin.l - margin.r, height - margin.t - margin.b];
  /** @type {Frame} */
  const frame = {
    left: margin.l, top: margin.t, width: wide, height: high,
    x: (x) => margin.l + (wide * (x - xaxis.range[0])) / (xaxis.range[1] - xaxis.range[0]),
    y: (y) => margin.t + (high * (yaxis.range[1] - y)) / (yaxis.range[1] - yaxis.range[0]),
  };
  drawn += 1;
  const clip = `picture-${drawn}`;
  const inside = shape("rect", { x: frame.left, y: frame.top, width: wide, height: high });
  return shape(
    "svg", { class: "picture", width, height, "aria-hidden": "true", "font-family": layout.font.family, "font-size": layout.font.size },
    shape("clipPath", { id: clip }, inside),
    shape("rect", { width, height, fill: layout.paper_bgcolor }),
    shape("g", { "clip-path": `url(#${clip})` }, ...layout.shapes.map((/** @type {any} */ each) => mark(each, frame))),
    ...axes(layout, frame),
    shape("g", { "clip-path": `url(#${clip})` }, ...data.map((each) => trace(each, frame))),
    ...legend(data, layout, frame),
    title(layout),
    ...layout.annotations.map((/** @type {any} */ each) => annotation(each, layout, frame)),
  );
}

/** @param {any} layout */
function title({ height, margin, font, title: { text, y, font: { size } } }) {
  const hangs = text.includes("<br>") ? 0 : CAPITAL * size;
  return words(text, margin.l, height * (1 - y) + hangs, { fill: font.color, "font-size": size });
}

/** A band or a line below all: where it counts in shares of the plot, plotly says "paper". @param {any} of @param {Frame} frame */
function mark({ type, xref, yref, x0, x1, y0, y1, line, fillcolor }, frame) {
  const [left, right] = [x0, x1].map((x) => (xref === "paper" ? frame.left + frame.width * x : frame.x(x)));
  const [bottom, top] = [y0, y1].map((y) => (yref === "paper" ? frame.top + frame.height * (1 - y) : frame.y(y)));
  if (type === "line") return shape("path", { d: `M${left},${bottom}L${right},${top}`, ...stroke(line) });
  return shape("rect", { x: left, y: top, width: right - left, height: bottom - top, fill: fillcolor });
}

/** @param {{width: number, color: string, dash?: string}} line @returns {Attributes} */
function stroke({ width, color, dash }) {
  const long = { dot: Math.max(width, 3), dash: 3 * Math.max(width, 3) }[dash || ""];
  return { fill: "none", stroke: color, "stroke-width": width, "stroke-dasharray": long && `${long},${long}` };
}

/** The grid, the axes and what is written beside them. @param {any} layout @param {Frame} frame */
function axes({ font, xaxis, yaxis }, frame) {
  const bottom = frame.top + frame.height;
  /** @param {string} d @param {string} color */
  const line = (d, color) => shape("path", { d, fill: "none", stroke: color, "shape-rendering": "crispEdges" });
  /** @type {Attributes} */
  const middle = { fill: font.color, "text-anchor": "middle" };
  const parts = xaxis.tickvals.flatMap((/** @type {number} */ minute, /** @type {number} */ place) => [
    line(`M${frame.x(minute)},${frame.top}v${frame.height}`, xaxis.gridcolor),
    line(`M${frame.x(minute)},${bottom + AXIS_WIDTH}v${TICK_LENGTH}`, xaxis.tickcolor),
    words(xaxis.ticktext[place], frame.x(minute), bottom + AXIS_WIDTH + TICK_LENGTH + LABEL_HEIGHT * font.size, middle),
  ]);
  let widest = 0;
  const first = Math.ceil(yaxis.range[0] / yaxis.dtick);
  for (let level = first; level * yaxis.dtick <= yaxis.range[1]; level += 1) {
    const text = String(Number((level * yaxis.dtick).toPrecision(6)));
    const y = frame.y(level * yaxis.dtick);
    widest = Math.max(widest, widthOf(text, font.size, { font }));
    parts.push(
      line(`M${frame.left},${y}h${frame.width}`, yaxis.gridcolor),
      words(text, frame.left - AXIS_WIDTH - 0.2 * font.size, y + 0.35 * font.size, { fill: font.color, "text-anchor": "end" }),
    );
  }
  parts.push(
    line(`M${frame.left - AXIS_WIDTH},${bottom + AXIS_WIDTH / 2}h${frame.width + AXIS_WIDTH}`, xaxis.linecolor),
    line(`M${frame.left - AXIS_WIDTH / 2},${frame.top}v${frame.height}`, yaxis.linecolor),
  );
  const large = { ...middle, "font-size": Math.round(TITLE_SCALE * font.size) };
  if (xaxis.title.text) parts.push(words(xaxis.title.text, frame.left + frame.width / 2, bottom + 35.3 + xaxis.title.standoff, large));
  if (yaxis.title.text) {
    const [x, y] = [frame.left - 8.7 - widest - yaxis.title.standoff, frame.top + frame.height / 2];
    parts.push(words(yaxis.title.text, x, y, { ...large, transform: `rotate(-90,${x},${y})` }));
  }
  return parts;
}

/** Lines, their points, and what they enclose. @param {any} of @param {Frame} frame */
function trace({ x, y, line, marker, mode, fill, fillcolor }, frame) {
  let path = "";
  let pen = "M";
  const points = [];
  for (const [place, value] of y.entries()) {
    if (value === null) { pen = "M"; continue; }
    const at = `${frame.x(x[place]).toFixed(2)},${frame.y(value).toFixed(2)}`;
    path += pen + at;
    pen = "L";
    if (mode.includes("markers")) points.push(point(marker, place, at));
  }
  return shape("g", { class: "trace" }, shape("path", { d: path, ...stroke(line), fill: fill ? fillcolor : "none" }), ...points);
}

/** @param {any} marker @param {number} place @param {string} at */
function point({ size, color, symbol }, place, at) {
  const several = Array.isArray(size);
  const [cx, cy] = at.split(",");
  const opacity = several ? SIZES_OPACITY : undefined;
  const colours = symbol === "circle-open" ? { fill: "none", stroke: color } : { fill: color };
  return shape("circle", { cx, cy, r: (several ? size[place] : size) / 2, opacity, ...colours });
}

/** What each line is, in as many rows as it takes. @param {any[]} data @param {any} layout @param {Frame} frame */
function legend(data, layout, frame) {
  const { x, y, xanchor, yanchor } = layout.legend;
  const rows = rowsOf(data, layout);
  const left = frame.left + frame.width * x - (xanchor === "right" ? widest(rows) : 0);
  const top = frame.top + frame.height * (1 - y) - (yanchor === "bottom" ? LEGEND_PIXELS * rows.length : 0);
  return rows.flatMap((row, place) => {
    let begin = left;
    return row.map(({ of, width }) => {
      const made = item(of, layout, begin, Math.round(top) + LEGEND_PIXELS * place + LEGEND_LINE);
      begin += width;
      return made;
    });
  });
}

/** @param {any} of a line @param {any} layout @param {number} x @param {number} y */
function item({ name, line, marker, fill, fillcolor }, { font, legend: { font: { size } } }, x, y) {
  const parts = [shape("path", { d: fill ? "M5,-2h30" : "M5,0h30", ...stroke(line) })];
  if (fill) parts.push(shape("path", { d: "M5,-2h30v6h-30z", fill: fillcolor }));
  if (marker) {
    const sizes = [marker.size].flat();
    const usual = Math.max(LEAST_POINT, sizes.reduce((sum, each) => sum + each, 0) / sizes.length);
    parts.push(point({ ...marker, size: sizes.length > 1 ? [usual] : usual }, 0, "20,0"));
  }
  parts.push(words(name, WORDS_AT, 0.39 * size, { fill: font.color, "font-size": size }));
  return shape("g", { class: "item", transform: `translate(${x},${y})` }, ...parts);
}

/** Words beside a place of the plot. @param {any} of @param {any} layout @param {Frame} frame */
function annotation({ text, font, x, y, xref, yref, xanchor, yanchor, xshift = 0, yshift = 0 }, layout, frame) {
  const lines = text.split("<br>");
  const box = measured(lines[0], font.size, layout);
  const [ascent, descent] = [box.fontBoundingBoxAscent, box.fontBoundingBoxDescent].map(Math.round);
  const high = ascent + descent + (lines.length - 1) * LINE_HEIGHT * font.size + 2 * PADDING;
  const wide = Math.max(...lines.map((/** @type {string} */ line) => widthOf(line, font.size, layout)));
  const at = (xref === "paper" ? frame.left + frame.width * x : frame.x(x)) + xshift;
  const middle = at + { left: PADDING + wide / 2, right: -PADDING - wide / 2 }[/** @type {"left" | "right"} */ (xanchor)];
  const level = (yref === "paper" ? frame.top + frame.height * (1 - y) : frame.y(y)) - yshift;
  const top = level - (yanchor === "middle" ? high / 2 : yanchor === "top" ? 0 : high);
  return words(text, middle, Math.round(top) + PADDING + ascent, { fill: font.color, "font-size": font.size, "text-anchor": "middle" });
}

/**
 * Words with the tags that plotly knows, of which our figures have these few.
 * @param {string} text with br, b and span @param {number} x @param {number} y of the first line @param {Attributes} attributes
 */
function words(text, x, y, attributes) {
  const size = Number(attributes["font-size"]);
  const made = shape("text", { x, y, ...attributes });
  /** @type {Attributes[]} */
  const styles = [{}];
  let line = 0;
  /** @type {Attributes} */
  let begins = {};
  for (const [, closes, tag, more, plain] of text.matchAll(/<(\/?)(\w+)([^>]*)>|([^<]+)/g)) {
    if (tag === "br") { line += 1; begins = { x, y: y + LINE_HEIGHT * size * line }; }
    else if (closes) styles.pop();
    else if (tag) {
      const [pixels, color] = [/font-size:([\d.]+)px/, /[; '"]color:(#\w+)/].map((pattern) => pattern.exec(more)?.[1]);
      styles.push({ ...styles.at(-1), ...(tag === "b" ? { "font-weight": "bold" } : { "font-size": pixels, fill: color }) });
    } else {
      const part = shape("tspan", { ...styles.at(-1), ...begins });
      part.textContent = plain.replaceAll("&lt;", "<").replaceAll("&gt;", ">");
      made.append(part);
      begins = {};
    }
  }
  return made;
}
