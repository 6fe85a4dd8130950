// Copies a text. Browsers give their clipboard only to pages that came over HTTPS or from this machine; to others
// a selected text is copied, as by hand.

import { el } from "./dom.js";

const AGAIN = 2000;

export function copyButton(text, what) {
  const button = el("button", { type: "button", className: "copy", ariaLabel: `Copy ${what}`, "data-key": `copy ${what}` }, "Copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text, button)) ? "Copied" : "Select it and copy";
    setTimeout(() => (button.textContent = "Copy"), AGAIN);
  });
  return button;
}

async function copied(text, beside) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { value: text, ariaHidden: "true", className: "unseen" });
    beside.after(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    beside.focus();
    return done;
  }
}

// A text to copy, as it is.
export function snippet(text, what) {
  return el("div", { className: "snippet" }, el("pre", { tabIndex: 0, "data-key": `text ${what}` }, el("code", {}, text)), copyButton(text, what));
}
