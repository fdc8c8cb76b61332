// Requests to glucast, with the key that the person has entered, and the server's clock.
import { byId, input } from "./dom.js";

/** Why a request brought nothing, in words for a person. */
export class Problem extends Error {
  /**
   * @param {string} text @param {number} status 0 where no answer came
   * @param {string} code @param {string | null} expectedAt of which time the reading is that brings a forecast
   */
  constructor(text, status = 0, code = "no_answer", expectedAt = null) {
    super(text);
    this.status = status;
    this.code = code;
    this.expectedAt = expectedAt;
  }
}

/** @typedef {Omit<RequestInit, "headers"> & {headers?: Record<string, string>}} Options of a request */

const KEPT_KEY = "glucast-key";
const NO_ANSWER = "glucast does not answer: is it running, and is this device online?";
/** The server's clock at its last answer, and what this device's two clocks showed then. */
let answered = { server: Date.now(), wall: Date.now(), steady: performance.now() };
let isDoubted = false;

/** Whether the clock was put forward, or the device slept: an answer tells which. */
export const clockIsDoubted = () => isDoubted;

/**
 * The server's clock, as far as its last answer told: ages must not depend on how this device's clock is set. Of the
 * time since then the longer one counts: a clock may be put back, and the steady one may stand while the device sleeps.
 */
export function now() {
  const [wall, steady] = [Date.now(), performance.now()];
  const [byWall, bySteady] = [wall - answered.wall, steady - answered.steady];
  const server = answered.server + Math.max(byWall, bySteady);
  isDoubted ||= byWall - bySteady > 2000;
  // From there on both are good again, whatever comes next.
  if (Math.abs(byWall - bySteady) > 2000) answered = { server, wall, steady };
  return server;
}

/** @returns {Record<string, string>} */
export function keyHeaders() {
  const key = input("key").value;
  return key ? { "x-api-key": key } : {};
}

export function restoreKey() {
  input("key").value = sessionStorage.getItem(KEPT_KEY) || "";
  byId("key-label").hidden = !input("key").value;
}

export function keepKey() {
  sessionStorage.setItem(KEPT_KEY, input("key").value);
}

/** @param {Response} response */
export function noteClock(response) {
  const date = Date.parse(response.headers.get("date") || "");
  isDoubted = false;  // no answer tells more
  if (Number.isNaN(date)) return;
  // The header tells whole seconds, and took a moment: less than two is no difference.
  const wall = Date.now();
  answered = { server: Math.abs(date - wall) < 2000 ? wall : date, wall, steady: performance.now() };
}

/**
 * @param {Response} response one that is not ok
 * @returns {Promise<Problem>}
 */
export async function problemOf(response) {
  if (response.status === 401 || response.status === 403) byId("key-label").hidden = false;
  let body = /** @type {any} */ ({});
  try { body = await response.json(); } catch { /* what stands before glucast may answer in its own words */ }
  const text = body.detail || `${response.status} ${response.statusText}`;
  return new Problem(text, response.status, body.code || "", body.expected_time || null);
}

/**
 * @param {string} path
 * @param {Options} options
 * @returns {Promise<Response>} Throws a Problem where there is none.
 */
async function answerTo(path, options) {
  try {
    const response = await fetch(path, { ...options, headers: { ...keyHeaders(), ...options.headers } });
    noteClock(response);
    return response;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(NO_ANSWER);
  }
}

/** A file. @param {string} path @returns {Promise<Blob>} Throws a Problem. */
export async function blobOf(path) {
  const response = await answerTo(path, {});
  if (!response.ok) throw await problemOf(response);
  return response.blob();
}

/**
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<{body: any, tag: string | null, unchanged: boolean, issued: string | null}>} Of a drawing also of which
 * time the forecast is that it shows. Throws a Problem.
 */
export async function call(path, options = {}) {
  const response = await answerTo(path, { ...options, headers: { accept: "application/json", ...options.headers } });
  const [tag, issued] = ["etag", "glucast-issue-time"].map((name) => response.headers.get(name));
  if (response.status === 304) return { body: null, tag, unchanged: true, issued };
  if (!response.ok) throw await problemOf(response);
  const body = await response.json();
  // Told with 200 on request: a browser writes every 404 to its console as an error, and this is none.
  if (body?.code === "no_forecast") throw new Problem(body.detail, 404, body.code, body.expected_time);
  return { body, tag, unchanged: false, issued };
}

/**
 * @param {string} method @param {string} path @param {unknown} body
 * @returns {Promise<any>}
 */
export async function send(method, path, body) {
  const headers = { "content-type": "application/json" };
  return (await call(path, { method, headers, body: JSON.stringify(body) })).body;
}

/**
 * Send a large body. Not with fetch, which does not tell how much of it has gone.
 * @param {string} path @param {unknown} body @param {(share: number) => void} onShare of the body, 0 to 1
 * @returns {Promise<any>} Throws a Problem.
 */
export async function upload(path, body, onShare) {
  const request = new XMLHttpRequest();
  request.open("POST", path);
  const headers = { accept: "application/json", "content-type": "application/json", ...keyHeaders() };
  for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
  request.upload.addEventListener("progress", (event) => { if (event.total) onShare(event.loaded / event.total); });
  await new Promise((done, fail) => {
    request.addEventListener("load", done);
    request.addEventListener("error", () => fail(new Problem(NO_ANSWER)));
    request.send(JSON.stringify(body));
  });
  const date = request.getResponseHeader("date") || "";
  const response = new Response(request.responseText, { status: request.status, headers: { date } });
  noteClock(response);
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

/** @param {string} subject @param {string} [rest] */
export const ofSubject = (subject, rest = "") => `/subjects/${encodeURIComponent(subject)}${rest}`;
