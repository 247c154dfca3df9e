// The page's texts: English stands in the code and is the key of the messages in the other languages.

export const LANGUAGES = { en: "English", de: "Deutsch", id: "Indonesia", ar: "العربية" };
const wanted = location.hash.slice(1) || navigator.language.slice(0, 2);
export const language = wanted in LANGUAGES ? wanted : "en";
const answer = language === "en" ? null : await fetch(`/wall/messages/${language}.json`);
const messages = answer?.ok ? await answer.json() : {};

document.documentElement.lang = language;
document.documentElement.dir = language === "ar" ? "rtl" : "ltr";

// A text in the page's language; values are isolated, so that a label keeps its order in right-to-left text.
export function t(text, values = {}) {
  return (messages[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => (document.documentElement.dir === "rtl" ? `\u2068${values[name]}\u2069` : values[name]));
}

// The page in another language; the address keeps it.
export function choose(name) {
  location.hash = name;
  location.reload();
}
