// A machine's remote settings: what is wanted, what came of it, and the form that changes them.

import { get, put } from "./api.js";
import { ask, report } from "./dialog.js";
import { make } from "./elements.js";
import { t } from "./words.js";

const NAME = "[A-Za-z0-9_\\-]+"; // what may stand in place of `*` in a key path

// What is wanted and reported; a refusal stands first, with its key path.
export function configurationRows(known) {
  const reported = known.reported ?? {};
  const drift = (reported.drift ?? []).map((one) => t("{key}: here {local}, wanted {desired}", { key: one.key, local: JSON.stringify(one.local ?? null), desired: JSON.stringify(one.desired ?? null) }));
  const last = reported.last === undefined ? "" : [reported.last.outcome, reported.last.detail].filter(Boolean).join(": ");
  const [outcome, tone] = outcomeOf(known, reported);
  const rows = [
    [t("Wanted version"), known.version ?? t("none")],
    [t("Reported version"), reported.version ?? t("none")],
    [t("Hash"), (reported.hash ?? t("unknown")).slice(0, 16)],
    [t("Last change"), last || t("none")],
    [t("Changed at the machine"), drift.join("; ") || t("none")],
    [t("Settings"), Object.entries(known.settings ?? {}).map(([key, value]) => `${key} = ${JSON.stringify(value)}`).join(", ") || t("none")],
  ];
  return [
    make("p", { id: "configuration-outcome", class: tone }, outcome),
    make("dl", {}, ...rows.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(text))))),
  ];
}

function outcomeOf(known, reported) {
  const { version, sent } = known;
  if (version === undefined) return [t("No settings were set from here."), "note"];
  if (sent?.state === "FAILED") return [t("Version {version} was not taken: {reason}", { version, reason: sent.error?.message ?? t("unknown") }), "bad"];
  if (reported.trial === version) return [t("Version {version} is on trial.", { version }), "warn"];
  if (reported.version === version) return [t("Version {version} is in use.", { version }), "good"];
  return [sent ? t("Version {version} was sent.", { version }) : t("Version {version} is sent when the machine is online.", { version }), "warn"];
}

// Changes the wanted settings: the form has those that are wanted now, and offers the keys that the API accepts.
export async function editSettings(machineId, onDone) {
  const path = `/machines/${machineId}/configuration`;
  let keys, known;
  try {
    [keys, known] = await Promise.all([get("/remote-settings"), get(path)]);
  } catch (error) {
    return onDone(error.message, false);
  }
  const form = settingsForm(keys, known.settings);
  const text = t("The machine takes all of them or none. A key that is removed gets its value from the machine's file again.");
  const given = await ask(t("Change the settings?"), text, t("Set"), "", true, form.element);
  if (given === null) return;
  const body = { settings: form.settings(), reason: given.reason };
  await report(onDone, t("The settings are wanted; the machine judges them."), () => put(path, body, given.id));
}

// The rows of the form, one for each key, and what adds one.
function settingsForm(keys, settings) {
  const rows = make("div", { class: "settings" });
  const choice = make("select", {}, ...keys.map((one) => make("option", { value: one.key }, one.key)));
  const found = [];
  const add = (key, spec, value) => {
    const row = settingRow(key, spec, value, () => {
      found.splice(found.indexOf(row), 1);
      row.element.remove();
      choice.focus();
    });
    found.push(row);
    rows.append(row.element);
    return row;
  };
  for (const [key, value] of Object.entries(settings)) add(key, specOf(keys, key, value), value);
  const more = make("button", { type: "button", onclick: () => addChosen() }, t("Add"));
  const addChosen = () => {
    const there = found.find((row) => row.key() === choice.value);
    (there ?? add(choice.value, keys.find((one) => one.key === choice.value) ?? { kind: "text" }, "")).focus();
  };
  const element = make("div", {}, rows, make("div", { class: "adding" }, make("label", {}, t("Another key"), " ", choice), more));
  return { element, settings: () => Object.fromEntries(found.map((row) => [row.key(), row.value()])) };
}

// One key with the control of its value; a key with `*` also asks for the name that it stands for.
function settingRow(key, spec, value, onRemove) {
  const control = valueControl(spec, value);
  const name = key.includes("*") ? make("input", { required: true, maxlength: 64, autocomplete: "off", pattern: NAME }) : null;
  const element = make(
    "div",
    { class: "setting" },
    name && make("label", {}, t("Name in {key}", { key }), " ", name),
    make("label", {}, key, " ", control),
    make("button", { type: "button", "aria-label": t("Remove {key}", { key }), onclick: onRemove }, t("Remove")),
  );
  return {
    element,
    key: () => (name ? key.replace("*", name.value.trim()) : key),
    value: () => (["integer", "number"].includes(spec.kind) ? control.valueAsNumber : control.value),
    focus: () => (name ?? control).focus(),
  };
}

function valueControl(spec, value) {
  if (spec.kind === "choice") return make("select", {}, ...spec.choices.map((one) => make("option", { value: one, selected: one === value }, one)));
  const rules = { text: { maxlength: 1000 }, integer: { type: "number", step: 1 }, number: { type: "number", step: "any" } }[spec.kind];
  return make("input", { required: spec.kind !== "text", autocomplete: "off", value: String(value), ...rules });
}

// The kind of a key that is wanted already.
function specOf(keys, key, value) {
  const parts = key.split(".");
  const fits = (one) => {
    const wanted = one.key.split(".");
    return wanted.length === parts.length && wanted.every((part, at) => part === "*" || part === parts[at]);
  };
  return keys.find(fits) ?? { kind: typeof value === "number" ? "number" : "text" };
}
