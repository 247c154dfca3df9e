// The course of a customer: a code, a door, and back to the start. The typed text is in memory only, and no
// longer than until the page is back at the start.

import { draw, placeOf } from "./cabinet.js";
import { enter, follow, largerCell, locker, restLeft } from "./daemon.js";
import { guard } from "./guard.js";
import { speak, speaks, turn } from "./speech.js";
import { LANGUAGES, choose, chosen, clockTime, loadWords, nameOf, say } from "./words.js";

const settings = JSON.parse(document.body.dataset.settings);
const LONGEST = 160; // characters of an entry
const WARN_S = 20; // the time left is shown from here on
const OPEN_S = 90; // at least, while a door is open
const OPENING_S = 45; // the longest that an entry takes, and some
const CLOSED_S = 12; // at most without a touch after the door has closed: "open again" must not wait for the next customer
const RETRY_S = 30; // the same while "try again" is offered
const TICK_MS = 250;
const byId = (id) => document.getElementById(id);

// name: start, opening, opened, closed, trouble, or the result of an entry that opened no door.
let view = { name: "start" };
let typed = "";
let message = null; // of the start page: the key of a message
let deadline = Infinity; // back to the start, by performance.now()
let warned = false;
let waiting = true; // nobody has touched the page since it went back to the start

function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function announce(text) {
  setText("announce", text);
  speak(text, chosen());
}

function announceStep() {
  announce([byId("title"), byId("text"), byId("more")].map((part) => part.textContent).filter(Boolean).join(". "));
}

// ---- the course ----

function show(next) {
  view = next;
  message = null;
  extend();
  render();
  byId("title").focus({ preventScroll: true });
  if (view.name !== "start") announceStep();
}

function extend() {
  const least = { opened: OPEN_S, opening: OPENING_S }[view.name] ?? 0;
  const retries = typeof view.text === "string" && view.cell && !["opened", "closed", "trouble"].includes(view.name);
  const most = view.name === "closed" ? CLOSED_S : retries ? RETRY_S : Infinity;
  deadline = performance.now() + 1000 * Math.min(most, Math.max(settings.back_s, least));
  warned = false;
}

function toStart() {
  typed = "";
  show({ name: "start" });
  announce(byId("title").textContent);
}

function restart() {
  // The next customer finds the page as it was.
  document.documentElement.classList.remove("large");
  turn(settings.speech === "always");
  waiting = true;
  choose(settings.language);
  labels();
  if (view.name !== "start" || typed || message) toStart();
  else extend();
  stateChanged();
}

async function send(text) {
  if (view.name === "opening" || text === "") return;
  typed = "";
  show({ name: "opening" });
  take(await enter(text), text);
}

// The parcel does not fit. If no other door opens, the page stays with the one that is open.
async function exchange() {
  const before = view;
  show({ name: "opening", larger: true });
  const asked = view;
  const answer = await largerCell(before.larger.session);
  // Somebody else's entry at the scanner has come between: this page no longer offers to open with the typed code.
  if (view !== asked) before.text = null;
  // Without an answer nobody knows which cell is the parcel's: only the code shows it.
  if (answer.unanswered) return take({ ...answer, cell: before.cell }, before.text);
  const elsewhere = (answer.cell ?? before.cell) !== before.cell;
  const unmoved = !elsewhere && ["no_larger_cell", "too_late", "try_again", "busy"].includes(answer.result);
  if (!unmoved) return take(answer, before.text);
  const larger = answer.result === "no_larger_cell" || answer.result === "too_late" ? null : before.larger;
  show({ ...before, larger, refused: true });
  return stateChanged();
}

// What became of an entry; `text` is the entry if it was made on this page.
function take(answer, text = null) {
  const { result, cell = null } = answer;
  if (result === "under_way") show({ name: "opening" });
  else if (result === "opened") {
    const grace = performance.now() + 1000 * (answer.grace_s ?? 0);
    const { session, seconds = 0 } = answer.larger ?? {};
    const larger = session ? { session, until: performance.now() + 1000 * seconds } : null;
    show({ name: "opened", cell, purpose: answer.purpose ?? "", grace, text, larger, seenOpen: false });
    stateChanged();
  } else if (result === "not_valid") {
    show({ name: "start" });
    message = "invalid";
    render();
    announce(`${say("invalid.title")} ${say("invalid.text")}`);
  } else show({ name: result, cell, text, until: performance.now() + 1000 * (answer.seconds ?? 0) });
}

function stateChanged() {
  // Another version or configuration of the daemon: its page is loaded when no customer is at this one.
  if (view.name === "start" && typed === "" && locker.up && locker.page !== settings.page) location.reload();
  if (view.name === "opened" || view.name === "trouble") {
    const door = locker.doors[view.cell];
    if (locker.up && door === "open") {
      if (view.name === "trouble") return show({ ...view, name: "opened", seenOpen: true });
      view.seenOpen = true;
    } else if (locker.up && door === undefined && view.seenOpen) return show({ ...view, name: "closed" });
  }
  if (view.name === "closed" && locker.doors[view.cell] === "open") return show({ ...view, name: "opened", seenOpen: true });
  return render();
}

// ---- what is shown ----

const graceLeft = () => (view.grace === undefined ? 0 : (view.grace - performance.now()) / 1000);

function startPage() {
  if (!locker.up) return { name: "offline", title: "offline.title", text: "offline.text" };
  if (locker.service === "out_of_order") return { title: "out.title", text: "out.text", help: true, tone: "bad" };
  if (locker.service === "checking") return { title: "checking.title", text: "checking.text" };
  if (restLeft("digits") > 0) {
    const qr = restLeft("qr") > 0 ? "" : "rest.qr";
    return { title: "rest.title", text: "rest.text", more: qr, tone: "bad", values: { time: clockTime(restLeft("digits")) } };
  }
  const lost = locker.service === "lost";
  if (message === "invalid") return { title: "invalid.title", text: "invalid.text", entry: true, tone: "bad", help: lost };
  return { title: "start.title", text: "start.text", entry: true, help: lost };
}

function openedPage() {
  const values = { cell: view.cell, time: clockTime(graceLeft()) };
  const more = graceLeft() <= 0 ? "" : view.text === null ? "grace.scan" : "grace.text";
  const again = graceLeft() > 0 && view.text !== null && locker.up;
  const name = view.purpose || "other";
  if (view.name === "trouble") {
    return { title: "trouble.title", text: "trouble.text", more, values, help: true, again, actions: ["done"], tone: "bad" };
  }
  if (view.name === "closed") return { title: "closed.title", text: `closed.${name}`, more, values, again, actions: ["done"], tone: "good" };
  if (view.refused) return { title: "opened.title", text: "larger.none", values, help: true, actions: ["done"], tone: "bad" };
  const larger = view.larger && performance.now() < view.larger.until && locker.up ? ["larger"] : [];
  return { title: "opened.title", text: `opened.${name}`, more, values, actions: [...larger, "trouble", "done"], tone: "good" };
}

function page() {
  if (view.name === "start") return startPage();
  if (view.name === "opening") return { title: "opening.title", text: view.larger ? "opening.larger" : "opening.text" };
  if (["opened", "closed", "trouble"].includes(view.name)) return openedPage();
  const values = { cell: view.cell, time: clockTime((view.until - performance.now()) / 1000) };
  const waits = view.until > performance.now();
  const text = view.name === "cools_down" && !waits ? "try_again.text" : `${view.name}.text`;
  const help = !["too_late", "try_again", "busy", "cools_down"].includes(view.name);
  const retry = view.text !== null && view.cell !== null && view.name !== "wrong_door" && !waits && locker.up;
  return { title: `${view.name}.title`, text, values, help, retry, actions: ["start"], tone: "bad" };
}

const ACTS = {
  again: () => send(view.text),
  retry: () => send(view.text),
  larger: exchange,
  trouble: () => show({ ...view, name: "trouble" }),
  done: toStart,
  start: toStart,
};

function render() {
  const shown = page();
  document.body.dataset.view = shown.entry ? "start" : view.name === "start" ? "notice" : view.name;
  byId("talk").dataset.tone = shown.tone ?? "";
  setText("title", say(shown.title, shown.values));
  setText("text", say(shown.text, shown.values));
  setText("more", shown.more ? say(shown.more, shown.values) : "");
  setText("help", shown.help ? (settings.help ? say("help.call", { help: settings.help }) : say("help.any")) : "");
  byId("entry").hidden = !shown.entry;
  setText("shown", typed.length > 12 ? "…" : typed || "\u00a0");
  byId("shown").setAttribute("aria-label", say("code.typed", { typed: typed.length, digits: settings.code_digits }));
  const names = [shown.again ? "again" : "", shown.retry ? "retry" : "", ...(shown.actions ?? [])].filter(Boolean);
  drawActions(names);
  const mine = view.cell ?? null;
  draw(byId("picture"), locker.cells, locker.doors, mine);
  const place = mine === null ? null : placeOf(locker.cells, mine);
  byId("picture").setAttribute("aria-label", place === null ? say("picture.label") : say("picture.door", { cell: mine, ...place }));
  setText("notice", notice());
  renderTime();
}

function drawActions(names) {
  const area = byId("actions");
  const key = `${chosen()} ${names.join(" ")}`;
  if (area.dataset.key === key) return;
  const focused = area.contains(document.activeElement) ? document.activeElement.dataset.act : null;
  area.dataset.key = key;
  area.replaceChildren(
    ...names.map((name) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.act = name;
      if (!["trouble", "larger"].includes(name)) button.className = names.indexOf(name) === 0 || name === "done" ? "main" : "";
      button.textContent = say(`action.${name}`);
      button.onclick = ACTS[name];
      return button;
    }),
  );
  if (focused !== null) (area.querySelector(`[data-act="${focused}"]`) ?? byId("title")).focus({ preventScroll: true });
}

function notice() {
  if (!locker.up) return view.name === "start" ? "" : say("offline.title");
  const open = Object.entries(locker.doors).filter(([label, door]) => door === "open" && label !== view.cell);
  if (open.length > 0 && view.name !== "opening") return say("notice.open", { cells: open.slice(0, 4).map(([label]) => label).join(", ") });
  return locker.link ? "" : say("notice.link");
}

function renderTime() {
  const left = (deadline - performance.now()) / 1000;
  const something = typed !== "" || message !== null || !["start", "opening"].includes(view.name);
  const visible = left <= WARN_S && something;
  byId("time").hidden = !visible;
  if (!visible) return;
  setText("left", say("back.text", { time: clockTime(left) }));
  if (!warned) announce(`${say("back.text", { time: clockTime(left) })}. ${say("action.more")}`);
  warned = true;
}

function labels() {
  for (const button of byId("tools").querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === chosen()));
  }
  const large = byId("large");
  large.setAttribute("aria-pressed", String(document.documentElement.classList.contains("large")));
  large.setAttribute("aria-label", say("tools.large"));
  byId("speech").setAttribute("aria-pressed", String(speaks()));
  byId("speech").setAttribute("aria-label", say("tools.speech"));
  byId("tools").setAttribute("aria-label", say("tools.label"));
  byId("keys").setAttribute("aria-label", say("keys.label"));
  setText("longer", say("action.more"));
  for (const name of ["delete", "enter"]) {
    byId(`key-${name}`).textContent = say(`keys.${name}`);
  }
}

// ---- what people touch and type ----

function press(character) {
  if (view.name === "opening") return;
  if (view.name !== "start") toStart(); // the next customer begins
  if (!page().entry || typed.length >= LONGEST) return;
  message = null;
  typed += character;
  typedChanged();
}

function erase() {
  typed = typed.slice(0, -1);
  typedChanged();
}

function typedChanged() {
  extend();
  render();
  announce(say("code.typed", { typed: typed.length, digits: settings.code_digits }));
}

function changeLanguage(language) {
  choose(language);
  labels();
  extend();
  render();
  announce(byId("title").textContent);
}

function changeSize() {
  document.documentElement.classList.toggle("large");
  labels();
  extend();
}

function changeSpeech() {
  turn(!speaks());
  labels();
  extend();
  announceStep();
}

function makeButtons() {
  const tools = LANGUAGES.map((language) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: nameOf(language), lang: language, onclick: () => changeLanguage(language) });
    button.dataset.language = language;
    return button;
  });
  const large = document.createElement("button");
  Object.assign(large, { type: "button", id: "large", dir: "ltr", textContent: "A+", onclick: changeSize });
  const speech = document.createElement("button");
  Object.assign(speech, { type: "button", id: "speech", hidden: settings.speech === "off", onclick: changeSpeech });
  speech.append(byId("speaker").content.cloneNode(true));
  byId("tools").replaceChildren(...tools, large, speech);
  const keys = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "delete", "0", "enter"].map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    if (name.length === 1) Object.assign(button, { textContent: name, onclick: () => press(name) });
    else Object.assign(button, { id: `key-${name}`, className: name === "enter" ? "word main" : "word" });
    return button;
  });
  byId("keys").replaceChildren(...keys);
  byId("key-delete").onclick = erase;
  byId("key-enter").onclick = () => send(typed);
  byId("longer").onclick = () => {
    extend();
    render();
    byId("title").focus({ preventScroll: true });
  };
}

const controls = () => [...document.querySelectorAll("button")].filter((button) => button.offsetParent !== null && !button.disabled);

// Moves through the buttons: first those of the present step, then the rest.
function nextControl() {
  const all = controls();
  const step = all.filter((button) => byId("actions").contains(button) || byId("time").contains(button));
  const keys = all.filter((button) => byId("keys").contains(button));
  const order = [...step, ...all.filter((button) => !step.includes(button) && !keys.includes(button))];
  const at = order.indexOf(document.activeElement);
  const next = order[(at + 1) % order.length];
  next?.focus();
  speak(next?.getAttribute("aria-label") ?? next?.textContent ?? "", chosen());
}

guard({
  character: press,
  erase,
  enter: () => send(typed),
  back: toStart,
  next: nextControl,
  language: () => changeLanguage(LANGUAGES[(LANGUAGES.indexOf(chosen()) + 1) % LANGUAGES.length]),
  size: changeSize,
  touched: () => {
    if (waiting && view.name === "start" && speaks()) announceStep();
    waiting = false;
    if (performance.now() < deadline) extend();
  },
});

await loadWords();
choose(settings.language);
turn(settings.speech === "always");
makeButtons();
labels();
setText("name", settings.name);
render();
byId("title").focus({ preventScroll: true });
extend();
follow(stateChanged, (answer) => take(answer));
setInterval(() => {
  if (performance.now() >= deadline) restart();
  render();
}, TICK_MS);
