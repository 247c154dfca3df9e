// The page's dialog: it asks whether a person means it, and for the reason.

import { byId, focusKeeper, make } from "./elements.js";
import { t } from "./words.js";

// Acts, and passes on what came of it: `onDone(text, good)`.
export async function report(onDone, text, act) {
  try {
    await act();
    onDone(text, true);
  } catch (error) {
    onDone(error.message, false);
  }
}

// Asks for a reason; null if the person cancels. `also`: a second question; `form`: what is filled in before; `id` of the
// answer: the same for each attempt.
export async function ask(title, text, confirm, also = "", needsReason = true, form = null) {
  const reason = make("input", { required: true, maxlength: 200, autocomplete: "off", pattern: ".*\\S.*" });
  const more = make("input", { type: "checkbox" });
  const given = await confirmed(title, confirm, [
    make("p", {}, text),
    form,
    needsReason ? make("label", {}, t("Reason"), " ", reason) : null,
    also ? make("label", { class: "check" }, more, " ", also) : null,
  ]);
  return given ? { reason: reason.value.trim(), also: more.checked, id: newId() } : null;
}

// Whether a person confirms what a dialog shows.
export function confirmed(title, confirm, parts) {
  // Its "close" event comes after the dialog is gone from the screen: a question asked meanwhile needs an element of its own.
  const dialog = byId("confirm").cloneNode(false);
  byId("confirm").replaceWith(dialog);
  const restoreFocus = focusKeeper(document.activeElement);
  const buttons = [
    make("button", { type: "submit", class: "main", value: "yes" }, confirm),
    make("button", { type: "button", onclick: () => dialog.close("") }, t("Cancel")),
  ];
  const form = make("form", { method: "dialog" }, make("h2", { id: "confirm-title" }, title), ...parts, make("p", { class: "buttons" }, ...buttons));
  dialog.replaceChildren(form);
  dialog.showModal();
  (form.querySelector("input") ?? buttons[0]).focus();
  return new Promise((resolve) => {
    const ended = () => {
      restoreFocus();
      resolve(dialog.returnValue === "yes");
    };
    dialog.addEventListener("close", ended, { once: true });
  });
}

// `crypto.randomUUID` exists on https and localhost only.
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
