// Acts of a person: each asks for a reason and a confirmation first.

import { may, post } from "./api.js";
import { byId, make } from "./elements.js";
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

async function report(onDone, text, act) {
  try {
    await act();
    onDone(text, true);
  } catch (error) {
    onDone(error.message, false);
  }
}

// Asks in a dialog; null if the person cancels. `also`: a second question; `id`: the same for each attempt.
function ask(title, text, confirm, also = "", needsReason = true) {
  const dialog = byId("confirm");
  const reason = make("input", { required: true, maxlength: 200, autocomplete: "off", pattern: ".*\\S.*" });
  const more = make("input", { type: "checkbox" });
  const form = make(
    "form",
    { method: "dialog" },
    make("h2", { id: "confirm-title" }, title),
    make("p", {}, text),
    needsReason ? make("label", {}, t("Reason"), " ", reason) : null,
    also ? make("label", { class: "check" }, more, " ", also) : null,
    make("p", { class: "buttons" }, make("button", { type: "submit", class: "main", value: "yes" }, confirm), make("button", { type: "button", onclick: () => dialog.close("") }, t("Cancel"))),
  );
  dialog.replaceChildren(form);
  dialog.returnValue = "";
  dialog.showModal();
  (needsReason ? reason : form.querySelector("button")).focus();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => resolve(dialog.returnValue === "yes" ? { reason: reason.value.trim(), also: more.checked, id: newId() } : null),
      { once: true },
    );
  });
}

// `crypto.randomUUID` exists on https and localhost only.
function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
