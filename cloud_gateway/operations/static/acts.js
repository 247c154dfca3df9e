// Acts on one machine: each asks for a reason and a confirmation first.

import { may, post } from "./api.js";
import { ask, report } from "./dialog.js";
import { make } from "./elements.js";
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
