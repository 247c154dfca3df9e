// What the daemon reports, and what is sent to it: an entry, or the request for a larger cell.

const SILENT_MS = 10_000; // the daemon beats every 3 s
const RETRY_MS = 1_000;
const ENTRY_MS = 40_000; // an entry lives 30 s

export const locker = { up: false, cells: [], page: null, doors: {}, link: true, service: "ok", rest: {} };

// Calls `onChange()` when the state changed and `onEntry(result)` for entries of the scanner and keypad.
export function follow(onChange, onEntry) {
  let heard = performance.now();
  let source = null;
  const connect = () => {
    source = new EventSource("/stream");
    const on = (kind, handle) =>
      source.addEventListener(kind, (message) => {
        heard = performance.now();
        handle(JSON.parse(message.data));
      });
    on("cabinet", ({ cells, page }) => {
      Object.assign(locker, { cells, page });
    });
    on("state", ({ doors, link, service, rest }) => {
      const until = Object.entries(rest).map(([way, seconds]) => [way, performance.now() + 1000 * seconds]);
      Object.assign(locker, { up: true, doors, link, service, rest: Object.fromEntries(until) });
      onChange();
    });
    on("entry", onEntry);
    on("beat", () => {});
    source.onerror = lost;
  };
  const lost = () => {
    source.close();
    if (locker.up) {
      locker.up = false;
      onChange();
    }
    heard = performance.now();
    setTimeout(connect, RETRY_MS);
  };
  setInterval(() => {
    if (performance.now() - heard > SILENT_MS) lost();
  }, RETRY_MS);
  connect();
}

// Seconds until this way of entry is taken again; 0: now.
export function restLeft(way) {
  return Math.max(0, ((locker.rest[way] ?? 0) - performance.now()) / 1000);
}

// Sends an entry and returns what became of it; `unanswered`: the daemon has not said.
export const enter = (text) => post("/code", { text });

// Asks for a larger cell; `session` came with the result of the entry that opened the door.
export const largerCell = (session) => post("/larger-cell", { session });

async function post(path, body) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(ENTRY_MS),
    });
    return answer.ok ? await answer.json() : { result: "try_again", unanswered: true };
  } catch {
    return { result: "try_again", unanswered: true };
  }
}
