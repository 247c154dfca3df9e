// Puts the page together and draws what changed.

import { SIGNS, drawCabinet } from "./cabinet.js";
import { byId, make, setText, tabs } from "./elements.js";
import { faultsPanel, personPanel, platformPanel } from "./panels.js";
import { changed, connect, onChange, state } from "./store.js";
import { LANGUAGES, choose as chooseLanguage, language, t } from "./words.js";

const LOG_SHOWN = 60;
const panels = { platform: platformPanel(), person: personPanel(), faults: faultsPanel() };

function chooseCell(label) {
  state.cell = state.cell === label ? null : label;
  changed("cells", "reservations");
}

function drawMachines() {
  const list = byId("machines");
  const ids = [...state.machines.keys()].sort();
  const key = ids.map((id) => `${id}${state.machines.get(id).online?.online ? "+" : "-"}`).join(" ");
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const choose = tabs(list, ids.map((id) => [id, `${id}${state.machines.get(id).online?.online ? "" : ` (${t("offline")})`}`]), (id) => {
    if (id !== state.chosen) state.cell = null;
    state.chosen = id;
    changed("cells", "reservations");
  });
  if (state.chosen !== null) choose(state.chosen, false);
}

function drawLinks() {
  const parts = [
    [t("gateway"), state.gateway],
    [t("broker"), state.gateway && state.connected],
    [t("simulator"), state.simulator],
  ];
  byId("links").replaceChildren(
    ...parts.flatMap(([name, up], at) => [at ? " · " : "", make("span", { class: up ? "up" : "down" }, up ? t("{name} connected", { name }) : t("{name} not connected", { name }))]),
  );
}

function describe({ kind, machine_id, body }) {
  const ids = [body.request_id, body.x_request_id, body.reservation_id, body.idempotency_key].filter(Boolean);
  if (kind === "webhook") {
    const where = body.host ? ` → ${body.host}` : "";
    const why = body.problem ? ` (${body.problem})` : "";
    const text = `${t("webhook")} ${body.event_type?.replace("EVENT_TYPE_", "") ?? ""}: ${t(body.result)}${where}${why}`;
    return { text, tone: body.problem ? "bad" : "hook", ids };
  }
  const name = body.event_type?.replace("EVENT_TYPE_", "") ?? "event";
  const detail = body[Object.keys(body).find((key) => key.endsWith("_event"))] ?? {};
  const by = detail.source_type === "SOURCE_TYPE_API" ? t("by the API") : "";
  const parts = [name, detail.alarm, detail.cell?.description, detail.status, detail.outcome, detail.reason, by];
  const text = `${machine_id}: ${parts.filter((part) => typeof part === "string" && part).join(", ")}`;
  return { text, tone: ["ALARM_RAISED", "PICKUP_FAILED"].includes(name) ? "bad" : "", ids };
}

function drawLog() {
  byId("log-lines").replaceChildren(
    ...state.log.slice(0, LOG_SHOWN).map((line) => {
      const { text, tone, ids } = describe(line);
      return make(
        "li",
        {},
        line.at ? make("span", { class: "when" }, `${line.at.slice(11, 19)} `) : null,
        make("span", { class: tone }, text),
        ids.length ? make("span", { class: "ids" }, ` ${ids.join(" ")}`) : null,
      );
    }),
  );
}

function line(values, most) {
  const step = 160 / Math.max(1, values.length - 1);
  const points = values.map((value, at) => `${(at * step).toFixed(1)},${(30 - (28 * value) / most).toFixed(1)}`);
  return points.length > 1 ? `M${points.join("L")}` : "";
}

function drawPlots() {
  const area = byId("plots");
  for (const [bus, { utilisation, replies, latency_ms, last }] of state.wire) {
    const busy = utilisation.at(-1) ?? 0;
    const rate = replies.at(-1) ?? 0;
    const kinds = [
      ["busy", t("bus {bus}: {percent} % of the wire used", { bus, percent: Math.round(100 * busy) }), line(utilisation, 1)],
      ["replies", t("bus {bus}: {rate} replies a second, {damaged} damaged frames", { bus, rate: rate.toFixed(0), damaged: last.damaged }), line(replies, Math.max(1, ...replies))],
      ["latency", t("bus {bus}: {ms} ms from request to reply", { bus, ms: (latency_ms.at(-1) ?? 0).toFixed(1) }), line(latency_ms, Math.max(1, ...latency_ms))],
    ];
    for (const [kind, text, path] of kinds) {
      const id = `plot-${bus}-${kind}`;
      if (byId(id) === null) area.append(plotElement(id));
      setText(byId(id).querySelector("p"), text);
      byId(id).querySelector("path").setAttribute("d", path);
    }
  }
}

function plotElement(id) {
  const element = make("div", { class: "plot", id }, make("p"));
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 160 32");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  element.append(svg);
  return element;
}

function draw(parts) {
  if (parts.has("machines")) drawMachines();
  if (parts.has("links") || parts.has("machines")) drawLinks();
  if (parts.has("cells") || parts.has("machines")) drawCabinet(chooseCell);
  if (parts.has("log")) drawLog();
  if (parts.has("plots")) drawPlots();
  for (const panel of Object.values(panels)) panel.update(parts);
}

byId("panels").append(...Object.entries(panels).map(([key, panel]) => {
  panel.element.id = `panel-${key}`;
  panel.element.setAttribute("role", "tabpanel");
  panel.element.setAttribute("aria-labelledby", `tab-tabs-${key}`);
  return panel.element;
}));
const choosePanel = tabs(byId("tabs"), [["platform", t("Platform")], ["person", t("Person")], ["faults", t("Faults")]], (key) => {
  for (const [name, panel] of Object.entries(panels)) panel.element.hidden = name !== key;
});
choosePanel("platform", false);
byId("legend").append(...SIGNS.map(([, name, meaning]) => make("li", {}, make("b", {}, name), `: ${meaning}`)));
for (const element of document.querySelectorAll("[data-t]")) setText(element, t(element.textContent));
for (const element of document.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.dataset.tLabel));
document.title = t("Locker wall");
byId("languages").append(
  ...Object.entries(LANGUAGES).map(([code, name]) => make("option", { value: code, lang: code, selected: code === language }, name)),
);
byId("languages").onchange = (event) => chooseLanguage(event.target.value);
onChange(draw);
changed("links", "cells", "faults", "reservations");
connect();
