// The table of all machines: search, filters, problems first. Only the first rows that fit are drawn.

import { get } from "./api.js";
import { byId, make, setText } from "./elements.js";
import { ago, lasting, moment, share, t } from "./words.js";

const FIRST_PAGE = 60; // rows of the first request: what a screen shows is drawn before the rest is there
const PAGE = 1000;
const DRAWN = 60; // rows that are drawn at once

export const PROBLEMS = {
  two_machines: t("two machines"),
  history: t("history in doubt"),
  not_shown: t("state unreadable"),
  fault: t("fault"),
  offline: t("offline"),
  ticket_critical: t("critical ticket"),
  ticket_high: t("urgent ticket"),
  degraded: t("degraded"),
  alarms: t("alarms"),
  cells_out: t("cells out"),
  refused_messages: t("messages refused"),
  ticket_medium: t("ticket"),
  losses: t("link losses"),
  events_waiting: t("events waiting"),
  first_open: t("weak locks"),
  worn: t("worn locks"),
  ticket_low: t("minor ticket"),
};
const SEVERE = new Set(["two_machines", "history", "not_shown", "fault", "offline", "ticket_critical"]);

const COLUMNS = [
  ["machine", t("Machine")],
  ["state", t("State")],
  ["problems", t("Problems")],
  ["version", t("Version")],
  ["seen", t("Last seen")],
  ["up", t("Uptime")],
  ["first", t("First open")],
  ["worn", t("Worn locks")],
  ["link", t("Link, 24 h")],
  ["waiting", t("Events waiting")],
  ["tickets", t("Tickets")],
];

let machines = []; // as the API gives them: problems first; `text` is what the search reads
let shownRows = [];
let drawn = 0;
let loaded = false; // whether every page of the last round is there
let atMs = Date.now();

export function prepareList() {
  byId("heads").replaceChildren(...COLUMNS.map(([key, name]) => make("th", { role: "columnheader", scope: "col", "data-column": key }, name)));
  options(byId("state"), [["", t("all")], ["problem", t("with problems")], ["good", t("without problems")], ["online", t("online")], ["offline", t("offline")]]);
  for (const id of ["search", "state", "version", "site"]) byId(id).addEventListener("input", filter);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", () => {
    const next = drawn;
    drawMore();
    byId("rows").children[next]?.querySelector("a").focus();
  });
  new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && drawMore()).observe(byId("more"));
}

// Reads every machine; the first rows are drawn as soon as they are there.
export async function loadList() {
  const found = [];
  let token = "";
  do {
    const size = machines.length === 0 && token === "" ? FIRST_PAGE : PAGE;
    const page = await get(`/machines?page_size=${size}&page_token=${token}`);
    atMs = Date.parse(page.at);
    for (const row of page.machines) {
      row.text = `${row.machine_id}\n${row.name}\n${row.location}\n${row.agent_version ?? ""}`.toLowerCase();
      found.push(row);
    }
    token = page.next_page_token;
    setText(byId("connection"), page.broker_connected ? "" : t("The gateway is not connected to the broker."));
    setText(byId("since"), t("Links and telemetry are observed since {since}.", { since: moment(page.observed_since) }));
    if (!loaded || token === "") {
      machines = found;
      loaded ||= token === "";
      choices();
      filter({ keep: true, total: page.total_count });
    }
  } while (token !== "");
}

function choices() {
  const versions = [...new Set(machines.map((row) => row.agent_version).filter(Boolean))].sort();
  const sites = [...new Set(machines.map((row) => row.location).filter(Boolean))].sort((a, b) => a.localeCompare(b));
  options(byId("version"), [["", t("all")], ...versions.map((one) => [one, one])]);
  options(byId("site"), [["", t("all")], ...sites.map((one) => [one, one])]);
}

// Fills a selection; what was chosen stays chosen.
function options(select, entries) {
  const key = JSON.stringify(entries);
  if (select.dataset.key === key) return;
  const chosen = select.value;
  select.dataset.key = key;
  select.replaceChildren(...entries.map(([value, name]) => make("option", { value }, name)));
  select.value = entries.some(([value]) => value === chosen) ? chosen : "";
}

function filter({ keep = false, total = machines.length } = {}) {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const state = byId("state").value, version = byId("version").value, site = byId("site").value;
  const fits = { "": () => true, problem: (row) => row.score > 0, good: (row) => row.score === 0, online: (row) => row.online, offline: (row) => !row.online }[state];
  shownRows = machines.filter(
    (row) => fits(row) && (version === "" || row.agent_version === version) && (site === "" || row.location === site) && words.every((word) => row.text.includes(word)),
  );
  const problems = shownRows.reduce((count, row) => count + (row.score > 0), 0);
  const figures = { shown: shownRows.length, total: machines.length, problems };
  setText(byId("count"), loaded ? t("{shown} of {total} machines, {problems} with problems.", figures) : t("{total} machines are being read.", { total }));
  draw(keep ? Math.max(drawn, DRAWN) : DRAWN);
}

// Draws the first rows; rows that are there already are only brought up to date.
function draw(count) {
  const body = byId("rows");
  drawn = Math.min(count, shownRows.length);
  for (let at = 0; at < drawn; at += 1) {
    const made = body.children[at] ?? body.appendChild(emptyRow());
    update(made, shownRows[at]);
  }
  while (body.children.length > drawn) body.lastChild.remove();
  const more = byId("more"), left = shownRows.length - drawn;
  more.hidden = left === 0;
  setText(more, t("Show {count} more", { count: Math.min(DRAWN, left) }));
}

function drawMore() {
  if (drawn < shownRows.length) draw(drawn + DRAWN);
}

function emptyRow() {
  const cells = COLUMNS.map(([key, name], at) =>
    make(at ? "td" : "th", { role: at ? "cell" : "rowheader", scope: at ? null : "row", "data-column": key, "data-name": name }),
  );
  cells[0].append(make("a"), make("span", { class: "place" }));
  return make("tr", { role: "row" }, ...cells);
}

function update(made, row) {
  const [machine, state, problems, version, seen, up, first, worn, link, waiting, tickets] = made.children;
  const [anchor, place] = machine.children;
  if (made.dataset.machine !== row.machine_id) {
    made.dataset.machine = row.machine_id;
    anchor.href = `#/${row.machine_id}`;
  }
  setText(anchor, row.name || row.machine_id);
  setText(place, [row.machine_id, row.location].filter(Boolean).join(" · "));
  mark(state, row.online ? t("online") : t("offline"), row.online ? "good" : "bad");
  setText(problems, row.problems.map((one) => PROBLEMS[one.kind] ?? one.kind).join(", "));
  problems.className = row.problems.some((one) => SEVERE.has(one.kind)) ? "bad" : row.score ? "warn" : "";
  setText(version, row.agent_version ?? t("unknown"));
  setText(seen, ago(row.last_seen, atMs));
  setText(up, row.up_since === undefined ? t("unknown") : lasting((atMs - Date.parse(row.up_since)) / 1000));
  setText(first, row.first_open_rate === undefined ? t("unknown") : share(row.first_open_rate));
  setText(worn, row.worn === undefined ? t("unknown") : row.worn.join(", ") || "0");
  setText(link, linkText(row.link));
  setText(waiting, row.events_waiting === undefined ? t("unknown") : String(row.events_waiting));
  setText(tickets, String(row.open_tickets));
}

function mark(element, text, tone) {
  setText(element, text);
  element.className = tone;
}

export function linkText(link) {
  if (link.losses === 0 && link.offline_s === 0) return t("no loss");
  return t("{losses} losses, {time} offline", { losses: link.losses, time: lasting(link.offline_s) });
}
