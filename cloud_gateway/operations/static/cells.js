// The cells of one machine, drawn as the wall draws them: columns by the letter of the label.

import { make, setText } from "./elements.js";
import { t } from "./words.js";

const SIGNS = {
  closed: [t("closed"), "good"],
  open: [t("open"), "busy"],
  ajar: [t("too long open"), "warn"],
  doubt: [t("in doubt"), "bad"],
  jammed: [t("jammed"), "bad"],
  wrong: [t("wrong door"), "bad"],
  forced: [t("forced"), "bad"],
  blocked: [t("blocked"), "bad"],
  faulty: [t("faulty"), "bad"],
  unknown: [t("unknown"), "warn"],
};
export const USES = {
  IDLE: t("free"),
  RESERVED: t("reserved"),
  OCCUPIED: t("parcel inside"),
  IN_GRACE: t("picked up"),
  AWAITING_CLEANUP: t("awaits clean-up"),
  AWAITING_INSPECTION: t("awaits inspection"),
};

// The sign of a cell: the worst of what is known about it.
function signOf(cell) {
  const alarms = cell.alarms ?? [];
  if (alarms.includes("WRONG_DOOR")) return "wrong";
  if (alarms.includes("LOCK_JAMMED")) return "jammed";
  if (cell.in_doubt) return "doubt";
  if (cell.door === "open" && alarms.includes("DOOR_AJAR")) return "ajar";
  if (cell.door === "open") return alarms.includes("DOOR_FORCED") ? "forced" : "open";
  if (cell.blocked) return "blocked";
  if (cell.faulty) return "faulty";
  if (cell.door === undefined || cell.door === "unknown") return "unknown";
  return alarms.includes("DOOR_FORCED") ? "forced" : "closed";
}

export function signText(cell) {
  return SIGNS[signOf(cell)][0];
}

export function drawCells(place, cells, chosen, onChosen) {
  const key = cells.map((cell) => cell.label).join(" ");
  if (place.dataset.key !== key) {
    place.dataset.key = key;
    build(place, cells, onChosen);
  }
  for (const cell of cells) update(place.querySelector(`[data-label="${CSS.escape(cell.label)}"]`), cell, chosen);
}

function build(place, cells, onChosen) {
  const heights = [...new Set(cells.map((cell) => cell.height))].sort((a, b) => a - b);
  const columns = new Map();
  for (const cell of cells) {
    const name = cell.label.replace(/[0-9]+$/, "") || t("cells");
    if (!columns.has(name)) columns.set(name, make("div", { class: "column", role: "group", "aria-label": t("Column {name}", { name }) }));
    const size = 1 + Math.min(2, Math.floor((3 * heights.indexOf(cell.height)) / Math.max(1, heights.length)));
    columns.get(name).append(
      make(
        "button",
        { class: "cell", type: "button", "data-label": cell.label, "data-size": size, onclick: () => onChosen(cell.label) },
        make("span", { class: "name" }, cell.label),
        make("span", { class: "sign" }),
        make("span", { class: "use" }),
        make("span", { class: "figures" }),
      ),
    );
  }
  place.replaceChildren(...columns.values());
}

function update(button, cell, chosen) {
  const sign = signOf(cell);
  const [, signPlace, use, figures] = button.children;
  setText(signPlace, SIGNS[sign][0]);
  setText(use, USES[cell.status] ?? cell.status);
  const numbers = [cell.mass_g ? `${cell.mass_g} g` : "", cell.temperature_c === undefined ? "" : `${cell.temperature_c.toFixed(1)} °C`, cell.worn ? t("worn") : ""];
  setText(figures, numbers.filter(Boolean).join(", "));
  button.dataset.sign = sign;
  button.dataset.tone = SIGNS[sign][1];
  button.classList.toggle("is-open", cell.door === "open");
  button.setAttribute("aria-pressed", String(cell.label === chosen));
}
