// Reads texts aloud: the daemon makes the sound, the page plays it. A new text ends the one before.

let context = null;
let source = null;
let on = false;
let latest = 0;

export function speaks() {
  return on;
}

export function turn(wanted) {
  on = wanted;
  if (!on) stop();
}

function stop() {
  latest += 1;
  source?.stop();
  source = null;
}

export async function speak(text, language) {
  if (!on || text === "") return;
  stop();
  const mine = latest;
  try {
    const answer = await fetch("/speech", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ language, text }),
      signal: AbortSignal.timeout(10_000),
    });
    if (!answer.ok) return;
    context ??= new AudioContext();
    if (context.state === "suspended") await context.resume();
    const sound = await context.decodeAudioData(await answer.arrayBuffer());
    if (mine !== latest) return; // a newer text has come
    source = context.createBufferSource();
    source.buffer = sound;
    source.connect(context.destination);
    source.start();
  } catch {
    // Without sound the page works as before.
  }
}
