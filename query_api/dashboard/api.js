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
let aheadMilliseconds = 0;

/** The server's clock, as far as its last answer told: ages must not depend on how this device's clock is set. */
export const now = () => Date.now() + aheadMilliseconds;

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
  // The header tells whole seconds, and took a moment: less than two is no difference.
  if (!Number.isNaN(date)) aheadMilliseconds = Math.abs(date - Date.now()) < 2000 ? 0 : date - Date.now();
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
    throw new Problem("glucast does not answer: is it running, and is this device online?");
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
 * @returns {Promise<{body: any, tag: string | null, unchanged: boolean}>} Throws a Problem.
 */
export async function call(path, options = {}) {
  const response = await answerTo(path, { ...options, headers: { accept: "application/json", ...options.headers } });
  const tag = response.headers.get("etag");
  if (response.status === 304) return { body: null, tag, unchanged: true };
  if (!response.ok) throw await problemOf(response);
  return { body: await response.json(), tag, unchanged: false };
}

/**
 * @param {string} method @param {string} path @param {unknown} body
 * @returns {Promise<any>}
 */
export async function send(method, path, body) {
  const headers = { "content-type": "application/json" };
  return (await call(path, { method, headers, body: JSON.stringify(body) })).body;
}

/** @param {string} subject @param {string} [rest] */
export const ofSubject = (subject, rest = "") => `/subjects/${encodeURIComponent(subject)}${rest}`;
