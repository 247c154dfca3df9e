// The fleet page: the list of machines at `#/`, one machine at `#/ID`, other views at `#/-/NAME`: no machine's id has a
// slash. What is shown is read again now and then.

import { settings } from "./api.js";
import { byId, make, setText } from "./elements.js";
import { loadEnrolment, openEnrolment, prepareClaims } from "./enrolment.js";
import { loadList, prepareList } from "./list.js";
import { loadMachine, openMachine } from "./machine.js";
import { loadReleases, openReleases } from "./releases.js";
import { choose, language, LANGUAGES, t } from "./words.js";

const LIST_EVERY_MS = 15_000;
const MACHINE_EVERY_MS = 3_000;
const VIEWS = {
  enrolment: { title: t("Enrolment"), open: openEnrolment, load: loadEnrolment, everyMs: 5_000 },
  releases: { title: t("Releases"), open: openReleases, load: loadReleases, everyMs: 5_000 },
};

let turn = 0; // rises with each change of the address: an older round ends
let listScroll = 0;

function translate() {
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.textContent);
  for (const element of document.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.dataset.tLabel));
  document.title = t("Fleet");
  const entries = Object.entries(LANGUAGES).map(([key, name]) => make("option", { value: key, selected: key === language }, name));
  byId("languages").replaceChildren(...entries);
  byId("languages").addEventListener("change", (event) => choose(event.target.value));
  setText(byId("person"), `${settings.name}, ${t(settings.role)}`);
}

function show() {
  turn += 1;
  const [, name, id] = /^#\/(?:-\/(\w+)|([A-Za-z0-9_-]+))$/.exec(location.hash) ?? [];
  const view = Object.hasOwn(VIEWS, name) ? VIEWS[name] : null;
  const shown = view ? name : id === undefined ? "list" : "machine";
  if (!byId("list").hidden && shown !== "list") listScroll = scrollY;
  for (const section of ["list", "machine", ...Object.keys(VIEWS)]) {
    byId(section).hidden = section !== shown;
    byId(`to-${section}`)?.setAttribute("aria-current", section === shown ? "page" : "false");
  }
  scrollTo(0, shown === "list" ? listScroll : 0);
  document.title = view ? `${view.title} · ${t("Fleet")}` : t("Fleet");
  if (shown === "machine") openMachine(id);
  view?.open();
  const { load, everyMs } = view ?? (shown === "list" ? { load: loadList, everyMs: LIST_EVERY_MS } : { load: loadMachine, everyMs: MACHINE_EVERY_MS });
  rounds(turn, load, everyMs);
}

// Reads again and again while the page is looked at and shows the same.
async function rounds(mine, load, everyMs) {
  while (mine === turn) {
    if (!document.hidden) {
      try {
        await load();
        if (mine === turn) document.body.classList.remove("stale");
      } catch (error) {
        if (mine !== turn) return;
        document.body.classList.add("stale");
        setText(byId("connection"), t("Not up to date: {reason}", { reason: error.message }));
      }
    }
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

function prepareViews() {
  byId("to-enrolment").hidden = !settings.enrols;
  byId("to-releases").hidden = !settings.remote;
}

translate();
prepareList();
prepareClaims();
prepareViews();
addEventListener("hashchange", show);
show();
