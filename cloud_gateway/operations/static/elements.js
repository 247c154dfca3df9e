// Small helpers that make elements; texts are set as text, never as HTML.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Replaces the children of an element only if `key` differs: what did not change keeps its focus and selection.
// A focused control that is replaced passes its focus on to its successor.
export function fill(element, key, makeChildren) {
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  const restore = focusKeeper(document.activeElement, element);
  element.replaceChildren(...makeChildren());
  restore();
}

// Returns a function that focuses `control`, or the control at the same place of `section` if it was replaced.
export function focusKeeper(control, section = control.closest("[data-key]")) {
  const controls = () => [...(section?.querySelectorAll("a, button, input, select, [tabindex]") ?? [])];
  const place = controls().indexOf(control);
  return () => {
    if (control.isConnected) return control.focus();
    if (place >= 0) (controls()[place] ?? controls().at(-1))?.focus();
  };
}

// Sets the text only if it differs: an unchanged text is not announced or drawn again.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function byId(id) {
  return document.getElementById(id);
}
