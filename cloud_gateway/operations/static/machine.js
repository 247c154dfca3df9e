// The page of one machine: its cells, tickets, last events, remote work, and what people did to it.

import { cellButtons, closeTicket, requestService } from "./acts.js";
import { get, may, settings } from "./api.js";
import { drawCells, signText, USES } from "./cells.js";
import { configurationRows, editSettings } from "./configuration.js";
import { byId, fill, make, setText } from "./elements.js";
import { linkText, PROBLEMS } from "./list.js";
import { ago, lasting, moment, share, t } from "./words.js";

const COMMANDS = [["diagnose", t("Self-test")], ["logs", t("Log")], ["bundle", t("Support archive")]];

let machineId = null;
let found = null; // the last answer about it
let remote = { commands: null, configuration: null };
let chosenCell = null;

// Shows another machine; its frame is made once.
export function openMachine(id) {
  machineId = id;
  found = null;
  chosenCell = null;
  remote = { commands: null, configuration: null };
  byId("machine").replaceChildren(
    make("p", {}, make("a", { href: "#/", class: "back" }, t("All machines"))),
    make("h2", { id: "machine-name", tabindex: "-1" }, id),
    make("p", { id: "machine-place", class: "note" }),
    make("p", { id: "answer", role: "status" }),
    make("ul", { id: "problems", "aria-label": t("Problems") }),
    make("dl", { id: "facts" }),
    part("wall", t("Cells"), make("div", { id: "cells", class: "cabinet", dir: "ltr" }), make("p", { id: "cells-at", class: "note" }), make("div", { id: "cell" })),
    part("tickets", t("Maintenance tickets"), make("div", { id: "ticket-rows" })),
    part("events", t("Last events"), make("ol", { id: "event-rows", class: "lines scrolled", tabindex: 0, "aria-labelledby": "events-title" })),
    settings.remote ? part("remote", t("Remote work"), make("div", { id: "remote-buttons", class: "buttons" }), make("ol", { id: "command-rows", class: "lines scrolled", tabindex: 0, "aria-labelledby": "remote-title" })) : "",
    settings.remote ? part("configuration", t("Configuration"), make("div", { id: "configuration-rows" }), make("div", { class: "buttons" }, settingsButton())) : "",
    part("acts", t("What people did here"), make("ol", { id: "act-rows", class: "lines scrolled", tabindex: 0, "aria-labelledby": "acts-title" })),
  );
  byId("machine-name").focus();
}

function part(id, title, ...children) {
  return make("section", { class: "part", "aria-labelledby": `${id}-title` }, make("h3", { id: `${id}-title` }, title), ...children);
}

// Reads the machine again and draws what has changed.
export async function loadMachine() {
  const id = machineId;
  const answer = await get(`/machines/${id}`);
  const [commands, configuration] = settings.remote
    ? await Promise.all([get(`/machines/${id}/service-commands`), get(`/machines/${id}/configuration`)].map((one) => one.catch(() => null)))
    : [null, null];
  if (id !== machineId) return;
  found = answer;
  remote = { commands, configuration };
  draw();
}

function draw() {
  const { machine } = found;
  setText(byId("machine-name"), machine.name || machine.machine_id);
  setText(byId("machine-place"), [machine.machine_id, machine.location].filter(Boolean).join(" · "));
  document.title = `${machine.name || machine.machine_id} · ${t("Fleet")}`;
  problems(machine);
  facts(machine);
  drawCells(byId("cells"), found.cells, chosenCell, (label) => {
    chosenCell = chosenCell === label ? null : label;
    draw();
    if (chosenCell !== null) byId("cell").scrollIntoView({ block: "nearest" });
  });
  setText(byId("cells-at"), found.telemetry_at === undefined ? t("No telemetry has come yet: doors are unknown.") : t("Doors and sensors as of {at}.", { at: moment(found.telemetry_at) }));
  cell();
  tickets();
  lines("event-rows", found.events, eventText, t("No event is known."));
  lines("act-rows", found.acts, (act) => `${moment(act.at)}: ${act.actor}: ${act.act}, ${act.target}: ${act.result}`, t("Nothing yet."));
  remoteWork();
}

function problems(machine) {
  const texts = machine.problems.map((one) => t("{problem} ({points} points)", { problem: PROBLEMS[one.kind] ?? one.kind, points: one.points }));
  fill(byId("problems"), JSON.stringify(texts), () => (texts.length ? texts : [t("No problem.")]).map((text) => make("li", {}, text)));
}

function facts(machine) {
  const now = Date.now();
  const alarms = Object.entries(machine.alarms).map(([name, count]) => (count > 1 ? `${name} (${count})` : name));
  const rows = [
    [t("State"), `${machine.online ? t("online") : t("offline")}${machine.state_since ? `, ${t("since {at}", { at: moment(machine.state_since) })}` : ""}`],
    [t("Last seen"), ago(machine.last_seen, now)],
    [t("Version"), machine.agent_version ?? t("unknown")],
    [t("Uptime"), machine.up_since === undefined ? t("unknown") : lasting((now - Date.parse(machine.up_since)) / 1000)],
    [t("Alarms"), alarms.join(", ") || t("none")],
    [t("Cells out"), `${machine.cells_out} / ${machine.cells}`],
    [t("Buses down"), found.buses_down.join(", ") || t("none")],
    [t("First open"), machine.first_open_rate === undefined ? t("unknown") : t("{share} of {unlocks} unlocks", { share: share(machine.first_open_rate), unlocks: machine.unlocks })],
    [t("Worn locks"), machine.worn === undefined ? t("unknown") : machine.worn.join(", ") || t("none")],
    [t("Link, 24 h"), linkText(machine.link)],
    [t("Restarts, 24 h"), String(machine.link.restarts)],
    [t("Events waiting"), machine.events_waiting === undefined ? t("unknown") : String(machine.events_waiting)],
    [t("History"), machine.history ?? t("unknown")],
    [t("Messages refused"), String(machine.refused_messages)],
  ];
  fill(byId("facts"), JSON.stringify(rows), () => rows.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
}

function cell() {
  const one = found.cells.find((each) => each.label === chosenCell);
  const words = one === undefined ? [] : cellWords(one);
  // The key has only what is shown: the temperature changes often and is not.
  fill(byId("cell"), JSON.stringify([one?.label, one?.blocked, words]), () => {
    if (one === undefined) return [make("p", { class: "note" }, t("Choose a cell to see more and to act."))];
    return [
      make("h4", {}, t("Cell {label}", { label: one.label })),
      make("p", {}, words.join(", ")),
      make("p", { class: "buttons" }, ...cellButtons(machineId, one, done)),
    ];
  });
}

function cellWords(one) {
  const rate = one.first_open_rate === undefined ? "" : t("first open {share} of {unlocks} unlocks", { share: share(one.first_open_rate), unlocks: one.unlocks });
  const words = [signText(one), USES[one.status] ?? one.status, one.blocked ? t("blocked") : "", one.faulty ? t("faulty") : "", ...(one.alarms ?? []), rate];
  return [...new Set(words.filter(Boolean))];
}

function tickets() {
  fill(byId("ticket-rows"), JSON.stringify([found.tickets, found.cells.map((one) => one.blocked)]), () => {
    if (found.tickets.length === 0) return [make("p", {}, t("No tickets."))];
    return [make("ul", { class: "lines" }, ...found.tickets.map(ticketLine))];
  });
}

function ticketLine(ticket) {
  const place = ticket.cell ?? t("whole machine");
  const text = [ticket.severity, place, ticket.description, moment(ticket.created_at)].filter(Boolean).join(" · ");
  if (ticket.status === "CLOSED") return make("li", { class: "note" }, `${text} · ${t("closed {at}", { at: moment(ticket.closed_at) })}`);
  const blocked = found.cells.some((one) => one.label === ticket.cell && one.blocked);
  const label = t("Close ticket {id}", { id: ticket.maintenance_ticket_id });
  return make(
    "li",
    {},
    make("span", { class: ["CRITICAL", "HIGH"].includes(ticket.severity) ? "bad" : "" }, text),
    make("button", { type: "button", "aria-label": label, disabled: !may("support"), onclick: () => closeTicket(machineId, ticket, blocked, done) }, t("Close")),
  );
}

function eventText(event) {
  const kind = event.event_type.replace("EVENT_TYPE_", "");
  return [moment(event.at), kind, event.cell, event.alarm, event.device, event.cause, event.outcome, event.text, event.actor, event.platform_order_id].filter(Boolean).join(" · ");
}

function lines(id, rows, text, none) {
  fill(byId(id), JSON.stringify(rows), () => (rows.length ? rows.map((row) => make("li", {}, text(row))) : [make("li", { class: "note" }, none)]));
}

function remoteWork() {
  if (!settings.remote) return;
  fill(byId("remote-buttons"), machineId, () =>
    COMMANDS.map(([command, name]) => make("button", { type: "button", disabled: !may("support"), onclick: () => requestService(machineId, command, name, done) }, name)),
  );
  lines("command-rows", remote.commands ?? [], (one) => {
    const ended = one.ended_at === undefined ? "" : moment(one.ended_at);
    return [moment(one.requested_at), one.command, one.by, one.state, ended, one.error?.message].filter(Boolean).join(" · ");
  }, remote.commands === null ? t("unknown") : t("Nothing yet."));
  const known = remote.configuration;
  fill(byId("configuration-rows"), JSON.stringify(known), () => (known === null ? [make("p", {}, t("unknown"))] : configurationRows(known)));
  byId("change-settings").disabled = known === null || !may("operator");
}

function settingsButton() {
  return make("button", { id: "change-settings", type: "button", disabled: true, onclick: () => editSettings(machineId, done) }, t("Change the settings"));
}

function done(text, good) {
  const answer = byId("answer");
  answer.className = good ? "good" : "bad";
  setText(answer, text);
  loadMachine().catch(() => {});
}
