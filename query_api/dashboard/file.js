// An uploaded export: its samples one by one, the truth beside each forecast.
import { call, Problem, upload } from "./api.js";
import * as chart from "./chart.js";
import { byId, facts, input, say } from "./dom.js";
import { theme, unit, zone } from "./words.js";

const state = { handle: "", taken: 0, asked: 0 };

/** @param {() => void} open shows this part of the page: a file may be dropped anywhere */
export function begin(open) {
  input("export").addEventListener("change", () => take((input("export").files || [])[0]));
  input("index").addEventListener("input", show);
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    const [file] = event.dataTransfer?.files || [];
    if (!file) return;
    event.preventDefault();
    const one = new DataTransfer();
    one.items.add(file);
    input("export").files = one.files; // the field tells its name
    open();
    take(file);
  });
}

/** @param {File | undefined} file */
async function take(file) {
  if (!file) return;
  // What was asked of the file before must not come in under this one's name.
  state.asked += 1;
  state.handle = "";
  chart.clear("file-plot");
  facts("file-facts", []);
  byId("slider-label").hidden = true;
  const taken = ++state.taken;
  const progress = /** @type {HTMLProgressElement} */ (byId("file-progress"));
  progress.hidden = false;
  progress.value = 0;
  say(`Sending ${file.name} …`);
  /** @param {number} share how much has gone; what is made of it then takes as long as it takes */
  const onShare = (share) => {
    if (taken !== state.taken) return;
    progress.value = share;
    if (share < 1) return;
    progress.removeAttribute("value");
    say(`Reading ${file.name} …`);
  };
  try {
    const bytes = new Uint8Array(await file.arrayBuffer());
    const sent = { csv_base64: base64(bytes), timezone: zone() || "UTC" };
    const answer = await upload("/process_unified", sent, onShare);
    if (taken !== state.taken) return; // another file was given meanwhile
    state.handle = answer.handle;
    say(`Forecasting ${file.name} …`);
    Object.assign(input("index"), { min: String(1 - answer.total_samples), value: "0" });
    byId("slider-label").hidden = false;
    facts("file-facts", [
      ["Samples", answer.total_samples],
      ...answer.warnings.messages.map((/** @type {string} */ text) => text.split(/: (.*)/s).slice(0, 2)),
    ]);
    await show();
  } catch (error) {
    if (taken === state.taken && error instanceof Problem) say(error.message);
  } finally {
    if (taken === state.taken) byId("file-progress").hidden = true;
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
