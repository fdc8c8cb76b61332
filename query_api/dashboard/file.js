// An uploaded export: its samples one by one, the truth beside each forecast.
import { call, Problem, send } from "./api.js";
import * as chart from "./chart.js";
import { byId, facts, input, say } from "./dom.js";
import { theme, unit } from "./words.js";

const state = { handle: "", asked: 0 };

export function begin() {
  input("export").addEventListener("change", take);
  input("index").addEventListener("input", show);
}

async function take() {
  const file = (input("export").files || [])[0];
  if (!file) return;
  // What was asked of the file before must not come in under this one's name.
  state.asked += 1;
  state.handle = "";
  chart.clear("file-plot");
  facts("file-facts", []);
  byId("slider-label").hidden = true;
  say(`Reading ${file.name} …`);
  try {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const timezone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
    const answer = await send("POST", "/process_unified", { csv_base64: base64(bytes), timezone });
    state.handle = answer.handle;
    Object.assign(input("index"), { min: String(1 - answer.total_samples), value: "0" });
    byId("slider-label").hidden = false;
    facts("file-facts", [
      ["Samples", answer.total_samples],
      ...answer.warnings.messages.map((/** @type {string} */ text) => text.split(/: (.*)/s).slice(0, 2)),
    ]);
    await show();
  } catch (error) {
    if (error instanceof Problem) say(error.message);
  }
}

/** The chosen sample, in the chosen unit. */
export async function show() {
  if (!state.handle) return;
  const index = Number(input("index").value);
  const asked = ++state.asked;
  const words = index === 12 ? "12 (the real forecast)" : index === 0 ? "0 (last recorded hour)" : String(index);
  byId("index-text").textContent = words;
  try {
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify({ handle: state.handle, index, unit: unit(), theme: theme() });
    const figure = await call("/draw_a_plot", { method: "POST", headers, body });
    if (asked !== state.asked) return;
    chart.draw("file-plot", figure.body, `Sample ${words}`);
    say("");
  } catch (error) {
    if (asked === state.asked && error instanceof Problem) say(error.message);
  }
}

/** @param {Uint8Array} bytes */
function base64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(text);
}
