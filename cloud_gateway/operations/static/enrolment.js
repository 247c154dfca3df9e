// The view of enrolment: machines that wait to be claimed, and attempts that were refused.

import { get, may, post, settings } from "./api.js";
import { confirmed, newId, report } from "./dialog.js";
import { byId, make, setText } from "./elements.js";
import { drawRows, makeTable } from "./tables.js";
import { ago, moment, t } from "./words.js";

const CLAIMS = [t("Board"), t("Version"), t("Asked from"), t("Asked"), t("Waits until"), t("Act")];
const ATTEMPTS = [t("When"), t("Machine"), t("Asked from"), t("Reason")];

export function openEnrolment() {
  byId("enrolment").replaceChildren(
    make("h2", { id: "enrolment-title", tabindex: "-1" }, t("Enrolment")),
    make("p", { class: "note" }, t("A new machine shows a code. A person who sees it there enters it here.")),
    make("p", { id: "enrolment-answer", role: "status" }),
    make("h3", {}, t("Machines that wait to be claimed")),
    makeTable("claims", t("Machines that wait to be claimed"), CLAIMS),
    make("p", { id: "no-claims", class: "note", hidden: true }, t("No machine waits.")),
    make("h3", {}, t("Refused attempts")),
    makeTable("attempts", t("Refused attempts"), ATTEMPTS),
    make("p", { id: "no-attempts", class: "note", hidden: true }, t("No attempt was refused.")),
  );
  byId("enrolment-title").focus();
}

// Reads claims and attempts again and draws what has changed.
export async function loadEnrolment() {
  const [claims, attempts] = await Promise.all([get("/claims"), get("/enrolments/attempts")]);
  const now = Date.now();
  show("claims", CLAIMS, claims.map((one) => ({
    id: one.claim_id,
    texts: [one.board || t("unknown"), one.agent_version || t("unknown"), one.address, ago(one.asked_at, now), moment(one.expires_at)],
    control: () => [claimButton(one)],
  })));
  show("attempts", ATTEMPTS, attempts.map((one, at) => ({
    id: String(at),
    texts: [moment(one.at), one.machine_id || t("unknown"), one.address || t("this page"), one.reason],
  })));
}

function show(id, columns, rows) {
  byId(`${id}-table`).hidden = rows.length === 0;
  byId(`no-${id}`).hidden = rows.length > 0;
  drawRows(byId(`${id}-rows`), columns, rows);
}

function claimButton(claim) {
  const label = t("Claim the machine with board {board}", { board: claim.board || t("unknown") });
  return make("button", { type: "button", "aria-label": label, disabled: !may("operator"), onclick: () => claimMachine(claimed, claim) }, t("Claim"));
}

function claimed(text, good) {
  byId("enrolment-answer").className = good ? "good" : "bad";
  setText(byId("enrolment-answer"), text);
  loadEnrolment().catch(() => {});
}

// The button of the list, which claims whatever machine shows the code.
export function prepareClaims() {
  const button = byId("claim");
  button.hidden = !settings.enrols;
  button.disabled = !may("operator");
  button.addEventListener("click", () =>
    claimMachine((text, good) => {
      byId("claimed").className = good ? "good" : "bad";
      setText(byId("claimed"), text);
    }),
  );
}

const PLACE = [
  ["code", t("Code that the machine shows"), { minlength: 8, maxlength: 32 }],
  ["machine_id", t("Id of the machine"), { pattern: "[A-Za-z0-9_\\-]{1,64}" }],
  ["name", t("Name"), { maxlength: 200 }],
  ["location", t("Place"), { maxlength: 200 }],
  ["latitude", t("Degrees north"), { type: "number", step: "any", min: -90, max: 90 }],
  ["longitude", t("Degrees east"), { type: "number", step: "any", min: -180, max: 180 }],
];

// Claims the machine that shows a code: it gets its id, its place and its certificate. `claim`: the one that is meant;
// the code of another machine is refused then.
async function claimMachine(onDone, claim = null) {
  const fields = Object.fromEntries(PLACE.map(([key, , rules]) => [key, make("input", { required: true, autocomplete: "off", ...rules })]));
  const replaces = make("input", { type: "checkbox" });
  const given = await confirmed(t("Claim a machine"), t("Claim"), [
    claim && make("p", {}, t("Board {board}, version {version}, asked {at} from {address}.", facts(claim))),
    make("p", {}, t("Enter the code only if you see it at the machine itself.")),
    ...PLACE.map(([key, name]) => make("label", {}, name, " ", fields[key])),
    make("label", { class: "check" }, replaces, " ", t("Its board was exchanged: it replaces the machine with this id")),
  ]);
  if (!given) return;
  const place = Object.fromEntries(Object.entries(fields).map(([key, field]) => [key, field.type === "number" ? field.valueAsNumber : field.value.trim()]));
  const chosen = claim === null ? {} : { claim_id: claim.claim_id };
  await report(onDone, t("{id} is claimed.", { id: place.machine_id }), () => post("/claims/approve", { ...place, replaces: replaces.checked, ...chosen }, newId()));
}

function facts(claim) {
  return { board: claim.board || t("unknown"), version: claim.agent_version || t("unknown"), at: moment(claim.asked_at), address: claim.address };
}
