// What the page knows: from the gateway's stream and, for the simulated machine, from the simulator's.

const EVENTS_KEPT = 200;
const PLOT_POINTS = 90;

export const settings = JSON.parse(document.body.dataset.settings);

export const state = {
  machines: new Map(), // machine_id -> {document, online, cells: Map(label -> figures), buses}
  reservations: [],
  physical: new Map(), // label -> the cell as the simulator knows it
  faults: [],
  wire: new Map(), // bus -> {last, utilisation: [], replies: []}
  log: [], // newest first: {kind, at, machine_id, body}
  connected: false, // the gateway to its broker
  gateway: false, // this page to the gateway
  simulator: false, // this page to the simulator
  chosen: null, // machine_id
  cell: null, // label
};

const listeners = new Set();
const stale = new Set();

// Calls `listener(parts)` at most once for each drawn frame, with the names of what changed since.
export function onChange(listener) {
  listeners.add(listener);
}

export function changed(...parts) {
  if (stale.size === 0) {
    requestAnimationFrame(() => {
      const now = new Set(stale);
      stale.clear();
      for (const listener of listeners) listener(now);
    });
  }
  for (const part of parts) stale.add(part);
}

// The machine that the simulator plays: the one whose doors have the simulator's labels.
export function simulated(machineId) {
  const machine = state.machines.get(machineId);
  const cells = machine?.document?.all_cells ?? [];
  return state.physical.size > 0 && cells.length > 0 && cells.every((cell) => state.physical.has(cell.description));
}

export function reservationOf(machineId, label) {
  return state.reservations.findLast((one) => one.machine_id === machineId && one.cell_label === label) ?? null;
}

function machine(id) {
  if (!state.machines.has(id)) state.machines.set(id, { document: null, online: null, cells: new Map(), buses: null });
  if (state.chosen === null) state.chosen = id;
  return state.machines.get(id);
}

function listen(url, handlers, onLink) {
  const source = new EventSource(url);
  source.onopen = () => onLink(true);
  source.onerror = () => {
    onLink(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(url, handlers, onLink), 2000);
  };
  for (const [kind, handle] of Object.entries(handlers)) {
    source.addEventListener(kind, (message) => handle(JSON.parse(message.data)));
  }
}

function record(kind, machineId, body, at) {
  state.log.unshift({ kind, machine_id: machineId, body, at });
  state.log.length = Math.min(state.log.length, EVENTS_KEPT);
  changed("log");
}

export function connect() {
  listen(
    "/wall/stream",
    {
      link: (body) => {
        state.connected = body.connected;
        changed("links");
      },
      machine: ({ machine_id, body }) => {
        machine(machine_id).document = body;
        changed("machines", "cells");
      },
      online: ({ machine_id, body }) => {
        machine(machine_id).online = body;
        changed("machines", "links");
      },
      telemetry: ({ machine_id, body }) => {
        const known = machine(machine_id);
        for (const cell of body.cells ?? []) known.cells.set(cell.label, cell);
        changed("cells");
      },
      reservations: ({ rows }) => {
        state.reservations = rows;
        changed("cells", "reservations");
      },
      event: ({ machine_id, body }) => record("event", machine_id, body, body.event_time_timestamp ?? ""),
      webhook: (body) => record("webhook", "", body, ""),
    },
    (open) => {
      if (open && !state.gateway) state.log.length = 0; // the stream sends the last ones again
      state.gateway = open;
      changed("links", "log");
    },
  );
  if (!settings.simulator) return;
  listen(
    `${settings.simulator}/stream`,
    {
      cells: (rows) => {
        for (const row of rows) state.physical.set(row.label, row);
        changed("cells");
      },
      actuation: () => {},
      faults: (rows) => {
        state.faults = rows;
        changed("faults");
      },
      wire: (buses) => {
        for (const [name, figures] of Object.entries(buses)) plot(name, figures);
        changed("plots");
      },
    },
    (open) => {
      state.simulator = open;
      changed("links");
    },
  );
}

function plot(name, figures) {
  const known = state.wire.get(name) ?? { last: null, utilisation: [], replies: [], latency_ms: [] };
  if (known.last !== null && figures.seconds > known.last.seconds) {
    const seconds = figures.seconds - known.last.seconds;
    const busy = figures.utilisation * figures.seconds - known.last.utilisation * known.last.seconds;
    push(known.utilisation, Math.max(0, Math.min(1, busy / seconds)));
    const replies = Math.max(0, figures.replies - known.last.replies);
    push(known.replies, replies / seconds);
    push(known.latency_ms, replies > 0 ? Math.max(0, (1000 * (figures.answered_s - known.last.answered_s)) / replies) : 0);
  }
  known.last = figures;
  state.wire.set(name, known);
}

function push(values, value) {
  values.push(value);
  if (values.length > PLOT_POINTS) values.shift();
}
