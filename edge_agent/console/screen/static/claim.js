// The claim code of a machine that is not configured yet. The page asks for it again and again, and loads the daemon's page
// when that is served in its place.

import { LANGUAGES, choose, chosen, loadWords, nameOf, say } from "./words.js";

const EVERY_MS = 1_000;
const settings = JSON.parse(document.body.dataset.settings);
const byId = (id) => document.getElementById(id);
let code = null; // null: none is shown at present

function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function render() {
  setText("title", say(code ? "claim.title" : "checking.title"));
  setText("code", code ?? "");
  setText("text", say(code ? "claim.text" : "offline.text"));
  byId("tools").setAttribute("aria-label", say("claim.language"));
  for (const button of byId("tools").children) button.setAttribute("aria-pressed", String(button.dataset.language === chosen()));
}

function makeTools() {
  byId("tools").append(...LANGUAGES.map((language) => {
    const button = document.createElement("button");
    button.type = "button";
    button.lang = language;
    button.dataset.language = language;
    button.textContent = nameOf(language);
    button.addEventListener("click", () => {
      choose(language);
      render();
    });
    return button;
  }));
}

async function load() {
  let answer;
  try {
    answer = await fetch("/claim.json", { cache: "no-store" });
    code = answer.ok ? (await answer.json()).code : null;
  } catch {
    code = null; // the command has ended; the daemon comes next
  }
  if (answer?.status === 404) location.reload();
  else render();
}

await loadWords();
choose(settings.language);
makeTools();
for (;;) {
  await load();
  await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
}
