// Elements by id, and new ones.

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no ${id}`);
  return found;
}

/** @param {string} id @returns {HTMLInputElement} */
export const input = (id) => /** @type {HTMLInputElement} */ (byId(id));

/** @param {string} id @returns {HTMLSelectElement} */
export const select = (id) => /** @type {HTMLSelectElement} */ (byId(id));

/**
 * A new element; what is no node becomes text, never markup.
 * @param {string} tag
 * @param {Record<string, string | boolean | EventListener>} [attributes] functions listen to the event of their name
 * @param {...(Node | string | number)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (typeof value === "boolean") made.toggleAttribute(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

/**
 * The pairs of a list of facts.
 * @param {string} id of a dl
 * @param {Array<[string, string | number, (string | Node)?]>} pairs name, value, and what is to be known of the value
 */
export function facts(id, pairs) {
  byId(id).replaceChildren(...pairs.map(([name, value, note]) => element(
    "div", {}, element("dt", {}, name), element("dd", {}, value),
    ...(note ? [element("dd", { class: "note" }, note)] : []),
  )));
}

/**
 * Screen readers say anew what is set anew: so only what has changed.
 * @param {string} id @param {string} text
 */
export function setText(id, text) {
  const place = byId(id);
  if (place.textContent !== text) place.textContent = text;
}

let saidBy = "";

/**
 * What went wrong or is going on, above everything.
 * @param {string} text @param {string} [by] who says it: with nothing more to say they take away what they said alone
 */
export function say(text, by = "") {
  if (!text && by && by !== saidBy) return;
  saidBy = by;
  setText("message", text && text[0].toUpperCase() + text.slice(1));
}
