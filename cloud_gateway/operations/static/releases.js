// The view of releases: how far each one is, and acts on it.

import { get, may, post } from "./api.js";
import { ask, confirmed, newId, report } from "./dialog.js";
import { byId, make, setText } from "./elements.js";
import { drawRows, makeTable } from "./tables.js";
import { moment, t } from "./words.js";

const COLUMNS = [t("Version"), t("State"), t("Begun"), t("Machines that run it"), t("Waves"), t("Reason"), t("Act")];
const STATES = { RUNNING: t("under way"), PAUSED: t("paused"), STOPPED: t("stopped"), FINISHED: t("finished") };
const ACTS = {
  pause: [t("Pause"), t("No further machine gets it until it is resumed.")],
  resume: [t("Resume"), t("It goes on where it was.")],
  stop: [t("Stop"), t("No further machine gets it. It cannot go on after that.")],
};
const OFFERED = { RUNNING: ["pause", "stop"], PAUSED: ["resume", "stop"] };

export function openReleases() {
  byId("releases").replaceChildren(
    make("h2", { id: "releases-title", tabindex: "-1" }, t("Releases")),
    make("p", { class: "note" }, t("A release goes to 5 machines at most, then to 5 %, 25 % and all. It stops at the first machine of the first wave that goes back, later at 1 % of a wave.")),
    make("p", { class: "buttons" }, make("button", { id: "begin", type: "button", disabled: !may("operator"), onclick: begin }, t("Begin a release"))),
    make("p", { id: "releases-answer", role: "status" }),
    makeTable("release", t("Table of releases"), COLUMNS),
    make("p", { id: "no-release", class: "note", hidden: true }, t("Nothing was released from here.")),
  );
  byId("releases-title").focus();
}

// Reads the releases again and draws what has changed.
export async function loadReleases() {
  const found = await get("/releases");
  byId("release-table").hidden = found.length === 0;
  byId("no-release").hidden = found.length > 0;
  drawRows(byId("release-rows"), COLUMNS, found.map((one) => ({
    id: one.release_id,
    texts: [one.version, STATES[one.state] ?? one.state, `${moment(one.begun_at)}, ${one.by}`, machinesOf(one.results), one.waves.map(waveText).join(" · "), one.reason],
    controlKey: one.state,
    control: () => [make("div", { class: "buttons" }, ...(OFFERED[one.state] ?? []).map((word) => actButton(one, word)))],
  })));
}

function machinesOf(results) {
  const total = Object.values(results).reduce((sum, count) => sum + count, 0);
  return t("{applied} of {total}", { applied: results.APPLIED ?? 0, total });
}

// One wave: how many machines run the version, and how many did not take it.
function waveText({ wave, results }) {
  const bad = (results.REVERTED ?? 0) + (results.FAILED ?? 0);
  const text = t("wave {wave}: {machines}", { wave, machines: machinesOf(results) });
  return bad ? `${text}, ${t("{count} without success", { count: bad })}` : text;
}

function actButton(release, word) {
  const [name] = ACTS[word];
  const label = t("{act} the release {version}", { act: name, version: release.version });
  return make("button", { type: "button", "aria-label": label, disabled: !may("operator"), onclick: () => act(release, word) }, name);
}

async function act(release, word) {
  const [name, meaning] = ACTS[word];
  const given = await ask(t("{act} the release {version}?", { act: name, version: release.version }), meaning, name, "", false);
  if (given === null) return;
  await report(done, t("Release {version}: {act} is done.", { version: release.version, act: name }), () => post(`/releases/${release.release_id}/${word}`, {}, given.id));
}

// Begins a release for the machines that are named, or for all.
async function begin() {
  const version = make("input", { required: true, autocomplete: "off", maxlength: 64, pattern: "[0-9][A-Za-z0-9.+~:\\-]*" });
  const machines = make("input", { autocomplete: "off", "aria-describedby": "which-machines" });
  const given = await confirmed(t("Begin a release"), t("Begin"), [
    make("label", {}, t("Version"), " ", version),
    make("label", {}, t("Ids of machines"), " ", machines),
    make("p", { id: "which-machines", class: "note" }, t("With blanks between them; left empty, every machine gets it.")),
  ]);
  if (!given) return;
  const ids = machines.value.split(/[\s,]+/).filter(Boolean);
  const body = { version: version.value.trim(), ...(ids.length ? { machine_ids: ids } : {}) };
  await report(done, t("The release {version} has begun.", { version: body.version }), () => post("/releases", body, newId()));
}

function done(text, good) {
  byId("releases-answer").className = good ? "good" : "bad";
  setText(byId("releases-answer"), text);
  loadReleases().catch(() => {});
}
