// Follows Server-Sent Events. Not with EventSource, which cannot send a key, nor tell why it was refused.
import { keyHeaders, noteClock, now, Problem, problemOf } from "./api.js";

const RETRY_MILLISECONDS = 2000;
const MOST_RETRY_MILLISECONDS = 30000;
/** Heartbeats come every 15 s: a connection that is silent for three of them is dead. */
const SILENT_MILLISECONDS = 45000;

/**
 * @typedef {object} Told
 * @property {string} kind reading, forecast, alerts, scores or reset
 * @property {any} data
 */

/**
 * Follow as long as the page is there. Comes back by itself after the last event that arrived, whatever has ended it.
 * @param {string} path
 * @param {(told: Told) => void} onEvent
 * @param {(isResumed: boolean) => void} onOpen whether it goes on where it stood; else more may have come meanwhile
 * @param {(problem: Problem, heard: number) => void} onLost why, and when something was last heard; 0: never yet
 */
export async function follow(path, onEvent, onOpen, onLost) {
  const place = { id: "", retry: RETRY_MILLISECONDS, heard: 0 };
  let failures = 0;
  for (;;) {
    let wait = place.retry;
    try {
      await readOnce(path, place, onEvent, (isResumed) => { failures = 0; onOpen(isResumed); });
    } catch (error) {
      onLost(error instanceof Problem ? error : new Problem("no connection to glucast; trying again"), place.heard);
      // A refused key stays refused: the next one begins anew. Else wait, longer each time.
      if (error instanceof Problem && (error.status === 401 || error.status === 403)) return;
      wait = Math.min(MOST_RETRY_MILLISECONDS, place.retry * 2 ** Math.min(failures, 4));
      failures += 1;
    }
    await new Promise((done) => setTimeout(done, wait));
  }
}

/**
 * @param {string} path
 * @param {{id: string, retry: number, heard: number}} place
 * @param {(told: Told) => void} onEvent
 * @param {(isResumed: boolean) => void} onOpen
 */
async function readOnce(path, place, onEvent, onOpen) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENT_MILLISECONDS);
  try {
    /** @type {Record<string, string>} */
    const headers = { accept: "text/event-stream", ...keyHeaders() };
    if (place.id) headers["last-event-id"] = place.id;
    const response = await fetch(path, { headers, signal: silence.signal, cache: "no-store" });
    noteClock(response);
    if (!response.ok || !response.body) throw await problemOf(response);
    place.heard = now();
    onOpen(place.id !== "");
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENT_MILLISECONDS);
      place.heard = now();
      text += decoder.decode(value, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop() || "";
      for (const block of blocks) take(block, place, onEvent);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** @param {string} block @param {{id: string, retry: number}} place @param {(told: Told) => void} onEvent */
function take(block, place, onEvent) {
  let kind = "";
  const data = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const value = line.slice(colon + 1).replace(/^ /, "");
    switch (line.slice(0, colon)) {
      case "event": kind = value; break;
      case "data": data.push(value); break;
      case "id": place.id = value; break;
      case "retry": place.retry = Number(value) || RETRY_MILLISECONDS; break;
    }
  }
  if (data.length) onEvent({ kind, data: JSON.parse(data.join("\n")) });
}
