// The messages of every language, and which one is in use. A message is set as text, never as HTML.

export const LANGUAGES = ["en", "de", "id", "ar"];
const words = {};
let current = "en";

export async function loadWords() {
  for (const language of LANGUAGES) {
    const answer = await fetch(`/messages/${language}.json`);
    if (!answer.ok) throw new Error(`messages of ${language}: ${answer.status}`);
    words[language] = await answer.json();
  }
}

export function choose(language) {
  current = language;
  document.documentElement.lang = language;
  document.documentElement.dir = words[language]["language.direction"];
}

export function chosen() {
  return current;
}

export function nameOf(language) {
  return words[language]["language.name"];
}

// A message; values are isolated, so that a label keeps its order in right-to-left text.
export function say(key, values = {}, language = current) {
  const message = words[language][key];
  if (message === undefined) throw new Error(`no message ${key} in ${language}`);
  return message.replace(/\{(\w+)\}/g, (_, name) => `\u2068${values[name]}\u2069`);
}

// Seconds as minutes and seconds.
export function clockTime(seconds) {
  const whole = Math.max(0, Math.ceil(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
