// Requests to /api/operations/v1.

import { t } from "./words.js";

export const settings = JSON.parse(document.body.dataset.settings);
const BASE = "/api/operations/v1";
const ROLES = ["reader", "support", "operator"];

// Whether the person's role includes another one.
export function may(role) {
  return ROLES.indexOf(settings.role) >= ROLES.indexOf(role);
}

// The answer of a GET; throws an `Error` with the reason.
export async function get(path) {
  return read(await fetch(BASE + path, { cache: "no-store" }));
}

// The answer of a POST; throws an `Error` with the reason. `id` makes a repeat harmless.
export function post(path, body, id) {
  return send("POST", path, body, id);
}

// The answer of a PUT; throws an `Error` with the reason.
export function put(path, body, id) {
  return send("PUT", path, body, id);
}

async function send(method, path, body, id) {
  const headers = { "Content-Type": "application/json", "X-Request-ID": id };
  return read(await fetch(BASE + path, { method, headers, body: JSON.stringify(body) }));
}

async function read(answer) {
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.message ?? t("The gateway answered {status}.", { status: answer.status }));
  return body;
}
