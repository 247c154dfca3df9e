// Acts of a person: each asks for a reason and a confirmation first.

import { may, post } from "./api.js";
import { byId, focusKeeper, make } from "./elements.js";
import { t } from "./words.js";

const NAMES = { block: t("Block"), unblock: t("Unblock"), clear: t("Clear") };
const MEANINGS = {
  block: t("No parcel is put into it until it is unblocked."),
  unblock: t("Parcels are put into it again."),
  clear: t("You confirm that a person has checked the cell: it is empty and in order."),
};
const ROLES = { block: "support", unblock: "support", clear: "operator" };

// Buttons for one cell; those that the role does not allow are disabled.
export function cellButtons(machineId, cell, onDone) {
  const words = [cell.blocked ? "unblock" : "block", "clear"];
  return words.map((word) =>
    make("button", { type: "button", disabled: !may(ROLES[word]), "data-act": word, onclick: () => actOnCell(machineId, cell.label, word, onDone) }, NAMES[word]),
  );
}

async function actOnCell(machineId, label, word, onDone) {
  const given = await ask(t("{act} cell {label}?", { act: NAMES[word], label }), MEANINGS[word], NAMES[word]);
  if (given === null) return;
  await report(onDone, t("Cell {label}: {act} is done.", { label, act: NAMES[word] }), () => onCell(machineId, label, word, given));
}

function onCell(machineId, label, word, given) {
  return post(`/machines/${machineId}/cells/${encodeURIComponent(label)}/${word}`, { reason: given.reason }, given.id);
}

// Closes a ticket; if its cell is blocked, asks whether it is unblocked too.
export async function closeTicket(machineId, ticket, blocked, onDone) {
  const also = blocked ? t("Unblock {label} too", { label: ticket.cell }) : "";
  const title = t("Close the ticket of {label}?", { label: ticket.cell ?? t("the whole machine") });
  const given = await ask(title, ticket.description ?? "", t("Close the ticket"), also);
  if (given === null) return;
  await report(onDone, t("The ticket is closed."), async () => {
    const path = `/tickets/${encodeURIComponent(ticket.maintenance_ticket_id)}/close?machine_id=${machineId}`;
    await post(path, { reason: given.reason }, given.id);
    if (given.also) await onCell(machineId, ticket.cell, "unblock", given);
  });
}

// Requests a service command, such as a self-test.
export async function requestService(machineId, command, name, onDone) {
  const text = t("The machine does it when it can; no door is opened. The result is shown below.");
  const given = await ask(t("Request {name}?", { name }), text, t("Request"), "", false);
  if (given === null) return;
  const path = `/machines/${machineId}/service-commands`;
  await report(onDone, t("Requested."), () => post(path, { command, arguments: {} }, given.id));
}

const PLACE = [
  ["code", t("Code that the machine shows"), { minlength: 8, maxlength: 32 }],
  ["machine_id", t("Id of the machine"), { pattern: "[A-Za-z0-9_\\-]{1,64}" }],
  ["name", t("Name"), { maxlength: 200 }],
  ["location", t("Place"), { maxlength: 200 }],
  ["latitude", t("Degrees north"), { type: "number", step: "any", min: -90, max: 90 }],
  ["longitude", t("Degrees east"), { type: "number", step: "any", min: -180, max: 180 }],
];

// Claims the machine that shows a code: it gets its id, its place and its certificate.
export async function claimMachine(onDone) {
  const fields = Object.fromEntries(PLACE.map(([key, , rules]) => [key, make("input", { required: true, autocomplete: "off", ...rules })]));
  const replaces = make("input", { type: "checkbox" });
  const given = await confirmed(t("Claim a machine"), t("Claim"), [
    make("p", {}, t("Enter the code only if you see it at the machine itself.")),
    ...PLACE.map(([key, name]) => make("label", {}, name, " ", fields[key])),
    make("label", { class: "check" }, replaces, " ", t("Its board was exchanged: it replaces the machine with this id")),
  ]);
  if (!given) return;
  const place = Object.fromEntries(Object.entries(fields).map(([key, field]) => [key, field.type === "number" ? field.valueAsNumber : field.value.trim()]));
  await report(onDone, t("{id} is claimed.", { id: place.machine_id }), () => post("/claims/approve", { ...place, replaces: replaces.checked }, newId()));
}

async function report(onDone, text, act) {
  try {
    await act();
    onDone(text, true);
  } catch (error) {
    onDone(error.message, false);
  }
}

// Asks for a reason; null if the person cancels. `also`: a second question; `id`: the same for each attempt.
async function ask(title, text, confirm, also = "", needsReason = true) {
  const reason = make("input", { required: true, maxlength: 200, autocomplete: "off", pattern: ".*\\S.*" });
  const more = make("input", { type: "checkbox" });
  const given = await confirmed(title, confirm, [
    make("p", {}, text),
    needsReason ? make("label", {}, t("Reason"), " ", reason) : null,
    also ? make("label", { class: "check" }, more, " ", also) : null,
  ]);
  return given ? { reason: reason.value.trim(), also: more.checked, id: newId() } : null;
}

// Whether a person confirms what a dialog shows.
function confirmed(title, confirm, parts) {
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
function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
