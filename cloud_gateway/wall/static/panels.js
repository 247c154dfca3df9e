// The panels: the platform (REST calls), the person at the doors, the simulator's faults.

import { make, setText } from "./elements.js";
import { changed, reservationOf, settings, simulated, state } from "./store.js";
import { t } from "./words.js";

const API = "/api/delivery/external/v1";
const FAULTS = [
  ["lock_jammed", t("cell")], ["door_sensor_stuck", t("cell, value 0 or 1")], ["door_chatter", t("cell, ms")], ["late_spring", t("cell, ms")],
  ["lock_crossed", t("two cells: A01,A02")], ["contact_crossed", t("two cells: A01,A02")], ["scale_drift", t("cell, g/min")],
  ["temperature_sensor_dead", t("cell")], ["device_silent", t("slave address")], ["late_reply", t("slave address, ms")],
  ["noise", t("value 0 to 1")], ["delay_ms", t("ms")], ["bus_unplugged", ""], ["echo", ""],
];

function curlOf(method, path, body) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = [`curl -X ${method} ${settings.public_url}${API}${path}`, `-H ${quoted(`X-API-Key: ${settings.key}`)}`];
  if (body !== null) parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(body))}`);
  return parts.join(" \\\n  ");
}

async function send(url, method, body, headers) {
  try {
    const response = await fetch(url, {
      method,
      headers: body === null ? headers : { ...headers, "Content-Type": "application/json" },
      body: body === null ? undefined : JSON.stringify(body),
    });
    return { ok: response.ok, status: response.status, id: response.headers.get("X-Request-ID"), body: await response.json() };
  } catch {
    return { ok: false, status: 0, id: null, body: { message: t("no answer") } };
  }
}

function show(element, found) {
  element.classList.toggle("refused", !found.ok);
  const shown = structuredClone(found.body);
  if (shown && typeof shown === "object" && "machine" in shown) shown.machine = "…";
  setText(element, `HTTP ${found.status}${found.id ? `, ${found.id}` : ""}\n${JSON.stringify(shown, null, 1)}`);
}

function field(name, label, attributes) {
  return make("label", {}, label, make("input", { name, ...attributes }));
}

function check(name, label) {
  return make("label", { class: "check" }, make("input", { type: "checkbox", name }), label);
}

export function platformPanel() {
  const curl = make("pre", { "aria-label": t("The same as a command") });
  const answer = make("pre", { class: "answer", "aria-live": "polite", "aria-label": t("Answer") });
  const about = make("p");
  const buttons = make("div", { class: "row" });
  let codes = null;
  let sequence = 1;

  async function call(method, path, body) {
    setText(curl, curlOf(method, path, body));
    const found = await send(`${API}${path}`, method, body, { "X-API-Key": settings.key });
    show(answer, found);
    return found;
  }

  const form = make(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        const given = new FormData(form);
        const packaging = { width: +given.get("width"), height: +given.get("height"), depth: +given.get("depth"), weight: +given.get("weight") };
        if (given.get("heating")) packaging.heating_required = true;
        if (given.get("cooling")) packaging.cooling_required = true;
        const body = { machine_id: state.chosen, platform_order_id: given.get("order"), packaging };
        body.grace_period_pickup_in_seconds = +given.get("grace");
        if (given.get("webhook")) body.webhook_url = given.get("webhook");
        const found = await call("POST", "/reservations", body);
        if (!found.ok) return;
        sequence += 1;
        form.elements.order.value = `order-${sequence}`;
        codes = found.body;
        const label = await cellOf(found.body.reservation_id);
        if (label !== null) choose(label);
      },
    },
    make("h2", {}, t("Reserve a cell")),
    make(
      "div",
      { class: "fields" },
      field("order", t("Order"), { value: "order-1", required: true, maxlength: 64 }),
      field("width", t("Width, mm"), { type: "number", min: 1, max: 10000, value: 300, required: true }),
      field("height", t("Height, mm"), { type: "number", min: 1, max: 10000, value: 150, required: true }),
      field("depth", t("Depth, mm"), { type: "number", min: 1, max: 10000, value: 400, required: true }),
      field("weight", t("Weight, g"), { type: "number", min: 0, max: 1000000, value: 1500, required: true }),
      field("grace", t("Pick-up grace, s"), { type: "number", min: 0, max: 86400, value: 60, required: true }),
      field("webhook", t("Webhook URL (optional)"), { type: "url", maxlength: 1024 }),
      check("heating", t("keep hot")),
      check("cooling", t("keep cold")),
    ),
    make("div", { class: "row" }, make("button", { class: "main", type: "submit" }, t("Reserve"))),
  );

  async function cellOf(reservationId) {
    const found = await send(`${API}/reservations/${reservationId}`, "GET", null, { "X-API-Key": settings.key });
    return found.ok ? found.body.cell?.description ?? null : null;
  }

  function choose(label) {
    state.cell = label;
    changed("cells", "reservations");
  }

  const ACTS = [
    [t("Drop off"), "POST", "dropoffs", {}],
    [t("Pick up"), "POST", "pickups", {}],
    [t("Open the door"), "POST", "open-door", { reason: "asked at the wall" }],
    [t("Cancel"), "POST", "deletes", {}],
    [t("Abandon"), "POST", "abandons", {}],
    [t("Look up"), "GET", "", null],
  ];

  async function refreshCodes(id) {
    const found = await send(`${API}/reservations/${id}`, "GET", null, { "X-API-Key": settings.key });
    if (found.ok) codes = found.body;
    return found.ok ? found.body : null;
  }

  function update() {
    const reservation = state.cell === null ? null : reservationOf(state.chosen, state.cell);
    if (reservation === null) {
      setText(about, state.cell === null ? t("Choose a cell with a reservation, or reserve one.") : t("{cell} has no reservation.", { cell: state.cell }));
      buttons.replaceChildren();
      return;
    }
    const id = reservation.reservation_id;
    setText(about, `${state.cell}: ${reservation.platform_order_id}, ${t(reservation.status.replace("RESERVATION_STATUS_", ""))}, ${id}`);
    if (buttons.dataset.id === id && buttons.childElementCount) return;
    buttons.dataset.id = id;
    buttons.replaceChildren(
      ...ACTS.map(([name, method, path, body]) =>
        make("button", { type: "button", onclick: () => call(method, `/reservations/${id}${path ? `/${path}` : ""}`, body) }, name),
      ),
      make("button", { type: "button", onclick: () => scan(id, "drop_off_code") }, t("Type the drop-off code")),
      make("button", { type: "button", onclick: () => scan(id, "pickup_code") }, t("Type the pick-up code")),
      make("button", { type: "button", onclick: () => scan(id, "pickup_code_qrcode") }, t("Scan the pick-up QR code")),
    );
  }

  async function scan(id, name) {
    const found = codes?.reservation_id === id && codes[name] ? codes : await refreshCodes(id);
    if (found === null) return;
    const text = found[name];
    setText(curl, `curl -X POST ${settings.simulator}/scanner \\\n  -H 'Content-Type: application/json' -d '${JSON.stringify({ text })}'`);
    show(answer, await send(`${settings.simulator}/scanner`, "POST", { text }, {}));
  }

  return {
    element: make("section", { class: "panel" }, form, make("h3", {}, t("The chosen cell's reservation")), about, buttons, curl, answer),
    update,
  };
}

export function personPanel() {
  const about = make("p", { role: "status" });
  const grams = make("input", { type: "number", min: 0, max: 1000000, value: 1500, "aria-label": t("Parcel, grams") });
  const text = make("input", { name: "text", maxlength: 1024, autocomplete: "off" });
  const answer = make("pre", { class: "answer", "aria-live": "polite", "aria-label": t("Answer") });
  const acts = [
    ["place", t("Put a parcel in"), () => ({ grams: +grams.value })],
    ["take", t("Take all out"), () => null],
    ["close", t("Close the door"), () => null],
    ["open", t("Force the door open"), () => null],
  ];
  const buttons = acts.map(([act, name, body]) =>
    make("button", { type: "button", onclick: async () => show(answer, await send(`${settings.simulator}/cells/${state.cell}/${act}`, "POST", body(), {})) }, name),
  );
  const scanner = make(
    "form",
    {
      class: "row",
      onsubmit: async (event) => {
        event.preventDefault();
        show(answer, await send(`${settings.simulator}/scanner`, "POST", { text: text.value }, {}));
        text.value = "";
      },
    },
    make("label", {}, t("Code or QR text"), text),
    make("button", { type: "submit" }, t("Enter at the kiosk")),
  );
  function update() {
    const here = simulated(state.chosen);
    const cell = here && state.cell !== null ? state.physical.get(state.cell) : undefined;
    for (const button of buttons) button.disabled = cell === undefined;
    if (!here) setText(about, t("This machine is not simulated here: nobody stands at its doors."));
    else if (cell === undefined) setText(about, t("Choose a door."));
    else setText(about, t("{cell}: the door is {door}, {grams} g inside, {degrees} °C.", { cell: cell.label, door: t(cell.door), grams: cell.grams, degrees: cell.temperature_c.toFixed(1) }));
  }
  return {
    element: make(
      "section",
      { class: "panel" },
      make("h2", {}, t("The person at the door")),
      about,
      make("div", { class: "row" }, make("label", {}, t("Parcel, grams"), grams), ...buttons),
      make("h3", {}, t("Keypad and scanner")),
      scanner,
      answer,
    ),
    update,
  };
}

export function faultsPanel() {
  const kind = make("select", { name: "kind" }, ...FAULTS.map(([name, hint]) => make("option", { value: name }, hint ? `${name} (${hint})` : name)));
  const target = make("input", { name: "target", autocomplete: "off", placeholder: "A01" });
  const value = make("input", { name: "value", type: "number", step: "any" });
  const list = make("ul", { class: "faults" });
  const answer = make("pre", { class: "answer", "aria-live": "polite", "aria-label": t("Answer") });
  const form = make(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        const body = { kind: kind.value };
        if (target.value !== "") body.target = /^[0-9]+$/.test(target.value) ? +target.value : target.value;
        if (value.value !== "") body.value = +value.value;
        show(answer, await send(`${settings.simulator}/faults`, "POST", body, {}));
      },
    },
    make("h2", {}, t("Faults of the simulated machine")),
    make("div", { class: "row" }, make("label", {}, t("Kind"), kind), make("label", {}, t("Target"), target), make("label", {}, t("Value"), value)),
    make("div", { class: "row" }, make("button", { type: "submit" }, t("Raise the fault"))),
  );
  const processes = make(
    "div",
    { class: "row" },
    ...["agent", "broker", "gateway"].map((name) =>
      make("button", { type: "button", onclick: async () => show(answer, await send(`${settings.simulator}/processes/${name}/kill`, "POST", null, {})) }, t("Kill the {name}", { name: t(name) })),
    ),
  );
  function update(parts) {
    if (state.cell !== null && document.activeElement !== target && parts.has("cells") && target.dataset.cell !== state.cell) {
      target.dataset.cell = state.cell;
      target.value = state.cell;
    }
    if (!parts.has("faults")) return;
    list.replaceChildren(
      ...state.faults.map((one) =>
        make(
          "li",
          {},
          make("span", {}, [one.kind, one.target, one.value].filter((part) => part !== null && part !== undefined).join(" ")),
          make("button", { type: "button", onclick: async () => show(answer, await send(`${settings.simulator}/faults/${one.id}`, "DELETE", null, {})) }, t("Clear")),
        ),
      ),
    );
    if (state.faults.length === 0) list.append(make("li", {}, t("No fault is active.")));
  }
  return {
    element: make("section", { class: "panel" }, form, list, make("h3", {}, t("Processes")), processes, answer),
    update,
  };
}
