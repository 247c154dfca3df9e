// Draws the cabinet of one machine and keeps its doors up to date.

import { make, setText, byId } from "./elements.js";
import { reservationOf, simulated, state } from "./store.js";
import { t } from "./words.js";

export const SIGNS = [
  ["closed", t("closed"), t("the door is closed")],
  ["unlocking", t("unlocking"), t("the lock is energised")],
  ["open", t("open"), t("the door is open")],
  ["ajar", t("ajar"), t("open for too long (DOOR_AJAR)")],
  ["in doubt", t("in doubt"), t("the door contact is not believed")],
  ["jammed", t("jammed"), t("the lock did not move (LOCK_JAMMED)")],
  ["wrong door", t("wrong door"), t("another door moved (WRONG_DOOR)")],
  ["forced", t("forced"), t("opened without a pulse (DOOR_FORCED)")],
  ["blocked", t("blocked"), t("taken out of use by a person")],
  ["unknown", t("unknown"), t("the board of the door does not answer")],
];
const SIGN_NAMES = Object.fromEntries(SIGNS.map(([sign, name]) => [sign, name]));

const TONES = { closed: "good", unlocking: "busy", open: "busy", ajar: "warn", "in doubt": "bad", unknown: "warn" };
const USES = {
  IDLE: t("free"),
  RESERVED: t("reserved"),
  OCCUPIED: t("parcel inside"),
  IN_GRACE: t("picked up"),
  AWAITING_CLEANUP: t("awaits clean-up"),
  AWAITING_INSPECTION: t("awaits inspection"),
};

const drawn = new Map(); // label -> parts of its element
let drawnFor = "";

// The sign of a cell: the worst of what is known about it.
export function signOf(detail, figures, physical) {
  const alarms = figures?.alarms ?? [];
  if (alarms.includes("WRONG_DOOR")) return "wrong door";
  if (alarms.includes("LOCK_JAMMED")) return "jammed";
  if (figures?.in_doubt) return "in doubt";
  if (physical?.solenoid) return "unlocking";
  const open = figures?.door === "open" || (physical !== undefined && physical.door === "open");
  if (open && alarms.includes("DOOR_AJAR")) return "ajar";
  if (open) return alarms.includes("DOOR_FORCED") ? "forced" : "open";
  if (detail.blocked) return "blocked";
  if (figures?.door === "unknown") return "unknown";
  if (alarms.includes("DOOR_FORCED")) return "forced";
  return "closed";
}

export function drawCabinet(onCell) {
  const machine = state.machines.get(state.chosen);
  const cells = machine?.document?.all_cells ?? [];
  const key = `${state.chosen} ${cells.map((cell) => cell.description).join(" ")}`;
  if (key !== drawnFor) {
    build(cells, onCell);
    drawnFor = key;
  }
  for (const cell of cells) update(machine, cell);
  summarise(cells, machine);
}

function build(cells, onCell) {
  drawn.clear();
  const heights = [...new Set(cells.map((cell) => cell.height))].sort((a, b) => a - b);
  const columns = new Map();
  for (const cell of cells) {
    const name = cell.description.replace(/[0-9]+$/, "") || "cells";
    if (!columns.has(name)) columns.set(name, make("div", { class: "column", role: "group", "aria-label": t("Column {name}", { name }) }));
    const parts = {
      name: make("span"),
      climate: make("span"),
      sign: make("span", { class: "sign" }),
      use: make("span", { class: "use" }),
      figures: make("span", { class: "figures" }),
      parcel: make("span", { class: "parcel", hidden: true }),
    };
    parts.name.textContent = cell.description;
    const size = 1 + Math.min(2, Math.floor((3 * heights.indexOf(cell.height)) / Math.max(1, heights.length)));
    parts.button = make(
      "button",
      { class: "cell", type: "button", "data-label": cell.description, "data-size": size, onclick: () => onCell(cell.description) },
      parts.parcel,
      make("span", { class: "leaf" }),
      make("span", { class: "face" }, make("span", { class: "name" }, parts.name, parts.climate), parts.sign, parts.use, parts.figures),
    );
    drawn.set(cell.description, parts);
    columns.get(name).append(parts.button);
  }
  byId("cabinet").replaceChildren(...columns.values());
}

function update(machine, detail) {
  const label = detail.description;
  const parts = drawn.get(label);
  const figures = machine.cells.get(label);
  const physical = simulated(state.chosen) ? state.physical.get(label) : undefined;
  const sign = signOf(detail, figures, physical);
  const open = physical === undefined ? figures?.door === "open" : physical.door === "open";
  const reservation = reservationOf(state.chosen, label);
  const abilities = [detail.heating ? "hot" : "", detail.cooling ? "cold" : ""].filter(Boolean);
  const named = { hot: t("hot"), cold: t("cold") };
  const running = [
    physical?.heating ? t("heating") : "",
    physical?.cooling ? t("cooling") : "",
    physical?.signal ? t("signal on") : "",
  ].filter(Boolean);
  const grams = physical?.grams ?? figures?.mass_g;
  const degrees = figures?.temperature_c ?? (detail.heating || detail.cooling ? physical?.temperature_c : null);
  const numbers = [
    grams ? `${grams} g` : "",
    degrees === null || degrees === undefined ? "" : `${degrees.toFixed(1)} °C`,
    ...running,
  ].filter(Boolean);
  setText(parts.sign, SIGN_NAMES[sign]);
  setText(parts.climate, abilities.map((one) => named[one]).join(" "));
  parts.climate.className = abilities[0] ?? "";
  setText(parts.use, reservation === null ? USES[detail.status] ?? detail.status : `${USES[detail.status] ?? detail.status}: ${reservation.platform_order_id}`);
  setText(parts.figures, numbers.join(", "));
  parts.parcel.hidden = !(physical !== undefined && physical.grams > 0);
  parts.button.classList.toggle("is-open", open);
  parts.button.classList.toggle("chosen", state.cell === label);
  parts.button.dataset.tone = TONES[sign] ?? "bad";
  parts.button.dataset.sign = sign;
  parts.button.setAttribute("aria-label", `${label}: ${SIGN_NAMES[sign]}, ${parts.use.textContent}${numbers.length ? `, ${numbers.join(", ")}` : ""}`);
}

function summarise(cells, machine) {
  if (cells.length === 0) {
    setText(byId("summary"), t("Waiting for the first message of a machine."));
    return;
  }
  const free = cells.filter((cell) => cell.available).length;
  const online = machine.online?.online ? t("online") : t("offline");
  const alarms = Object.entries(machine.online?.health?.alarms ?? {}).map(([name, count]) => (count > 1 ? `${name} (${count})` : name));
  setText(
    byId("summary"),
    `${t("{machine}, {name}: {online}, {free} of {cells} cells free.", { machine: state.chosen, name: machine.document.name, online, free, cells: cells.length })} ` +
      (alarms.length ? t("Alarms: {alarms}.", { alarms: alarms.join(", ") }) : t("No alarm.")),
  );
}
