// Keys and gestures: what a keyboard or a numeric keypad alone can do, and nothing that zooms or leaves.

const NUMPAD = { NumpadDecimal: "erase", NumpadAdd: "next", NumpadSubtract: "back", NumpadMultiply: "language", NumpadDivide: "size" };
const OTHERS = { Backspace: "erase", Delete: "erase", Escape: "back" };
const KEPT = new Set(["Tab", "Shift", "CapsLock"]);
const DIGIT = /^Numpad([0-9])$/; // also while Num Lock is off
const CHARACTER = /^[\p{Nd}A-Za-z_-]$/u;

export function guard(act) {
  const stop = (event) => event.preventDefault();
  for (const kind of ["contextmenu", "dragstart", "drop", "selectstart", "gesturestart"]) document.addEventListener(kind, stop);
  document.addEventListener("wheel", (event) => event.ctrlKey && event.preventDefault(), { passive: false });
  document.addEventListener("touchmove", (event) => event.touches.length > 1 && event.preventDefault(), { passive: false });
  document.addEventListener("pointerdown", act.touched);
  document.addEventListener("keydown", (event) => {
    act.touched();
    if (event.ctrlKey || event.altKey || event.metaKey) return stop(event);
    const onButton = document.activeElement?.tagName === "BUTTON";
    const name = NUMPAD[event.code] ?? OTHERS[event.key];
    if (KEPT.has(event.key)) return undefined;
    if (event.key === "Enter" || event.key === " ") {
      if (onButton && !event.repeat) return undefined; // the button's own click
      stop(event);
      return event.key === "Enter" && !event.repeat ? act.enter() : undefined;
    }
    stop(event);
    if (name !== undefined) return event.repeat && name !== "erase" ? undefined : act[name]();
    const character = DIGIT.exec(event.code)?.[1] ?? event.key;
    if (CHARACTER.test(character) && !event.repeat) {
      if (onButton) document.activeElement.blur(); // Enter then sends what was typed
      return act.character(character);
    }
    return undefined;
  });
}
