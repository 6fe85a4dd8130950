// Elements of the page. Names and messages come from outside: they become text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-") && element.namespaceURI !== SVG) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export function el(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

// Replaces what is in a place of the page, and gives the focus back to what had it.
export function show(place, ...content) {
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  place.replaceChildren(...content.flat().filter(Boolean));
  if (key) place.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

// Of many things side by side one can be reached by Tab; the arrow keys go to the others.
export function rove(items, step) {
  items.forEach((item) => {
    item.addEventListener("keydown", (event) => {
      const next = step(item, event.key);
      if (!next) return;
      event.preventDefault();
      next.focus();
    });
    item.addEventListener("focus", () => items.forEach((other) => other.setAttribute("tabindex", other === item ? 0 : -1)));
  });
}
