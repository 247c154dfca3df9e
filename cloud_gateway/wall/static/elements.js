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

// Sets the text only if it differs: an unchanged text is not announced or drawn again.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function byId(id) {
  return document.getElementById(id);
}

// Makes tabs that the arrow keys move through (WAI-ARIA, tabs pattern).
export function tabs(list, entries, onChosen) {
  const buttons = entries.map(([key, name]) =>
    make("button", { role: "tab", id: `tab-${list.id}-${key}`, "data-key": key, type: "button", onclick: () => choose(key, true) }, name),
  );
  list.replaceChildren(...buttons);
  function choose(key, focus) {
    for (const button of buttons) {
      const selected = button.dataset.key === key;
      button.setAttribute("aria-selected", String(selected));
      button.tabIndex = selected ? 0 : -1;
      if (selected && focus) button.focus();
    }
    onChosen(key);
  }
  list.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    const at = buttons.findIndex((button) => button.getAttribute("aria-selected") === "true");
    choose(buttons[(at + step + buttons.length) % buttons.length].dataset.key, true);
    event.preventDefault();
  };
  return choose;
}
