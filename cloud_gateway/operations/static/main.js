// The fleet page: the list of machines at `#/`, one machine at `#/ID`. What is shown is read again now and then.

import { claimMachine } from "./acts.js";
import { may, settings } from "./api.js";
import { byId, make, setText } from "./elements.js";
import { loadList, prepareList } from "./list.js";
import { loadMachine, openMachine } from "./machine.js";
import { choose, language, LANGUAGES, t } from "./words.js";

const LIST_EVERY_MS = 15_000;
const MACHINE_EVERY_MS = 3_000;

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
  const id = /^#\/([A-Za-z0-9_-]+)$/.exec(location.hash)?.[1] ?? null;
  const wasList = !byId("list").hidden;
  if (wasList && id !== null) listScroll = scrollY;
  byId("list").hidden = id !== null;
  byId("machine").hidden = id === null;
  if (id === null) {
    document.title = t("Fleet");
    scrollTo(0, listScroll);
    rounds(turn, loadList, LIST_EVERY_MS);
  } else {
    scrollTo(0, 0);
    openMachine(id);
    rounds(turn, loadMachine, MACHINE_EVERY_MS);
  }
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

function prepareClaims() {
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

translate();
prepareList();
prepareClaims();
addEventListener("hashchange", show);
show();
