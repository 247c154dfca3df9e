// The page's texts: English stands in the code and is the key of the messages in the other languages.

export const LANGUAGES = { en: "English", de: "Deutsch", id: "Indonesia" };
const wanted = new URLSearchParams(location.search).get("language") ?? navigator.language.slice(0, 2);
export const language = wanted in LANGUAGES ? wanted : "en";
const answer = language === "en" ? null : await fetch(`/fleet/messages/${language}.json`);
const messages = answer?.ok ? await answer.json() : {};

document.documentElement.lang = language;

// A text in the page's language.
export function t(text, values = {}) {
  return (messages[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// The page in another language; the address keeps it.
export function choose(name) {
  const address = new URL(location.href);
  address.searchParams.set("language", name);
  location.assign(address);
}

const moments = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });

// A time of the API in the reader's own zone.
export function moment(text) {
  return text === undefined ? t("unknown") : moments.format(new Date(text));
}

const spans = new Intl.RelativeTimeFormat(language, { numeric: "always", style: "short" });

// How long ago a time was, in the largest unit that fits.
export function ago(text, nowMs) {
  if (text === undefined) return t("unknown");
  const seconds = Math.max(0, (nowMs - Date.parse(text)) / 1000);
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (seconds >= length) return spans.format(-Math.floor(seconds / length), unit);
  }
  return t("now");
}

const units = {};

// A duration in the largest unit that fits, such as an uptime.
export function lasting(seconds) {
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]]) {
    if (seconds >= length || unit === "second") {
      units[unit] ??= new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" });
      return units[unit].format(Math.floor(seconds / length));
    }
  }
}

const shares = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 });

// A share from 0 to 1 in percent, rounded down: 100 % means that not one has failed.
export function share(value) {
  return shares.format(Math.floor(value * 1000) / 1000);
}
