// Tables of the views. On a narrow screen each row is a block, and each field has its column's name before it.

import { fill, make, setText } from "./elements.js";

// A table without rows; its body is `ID-rows`, its frame `ID-table`.
export function makeTable(id, name, columns) {
  const heads = columns.map((column) => make("th", { role: "columnheader", scope: "col" }, column));
  return make(
    "div",
    { id: `${id}-table`, class: "scroll", tabindex: 0, role: "region", "aria-label": name },
    make("table", { role: "table" }, make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)), make("tbody", { id: `${id}-rows`, role: "rowgroup" })),
  );
}

// Brings the rows up to date. A row is `{ id, texts, control, controlKey }`: the texts of its first columns, and what makes
// the controls of the last one, which are made again when their key differs. A row stays the same element, so that a click
// never meets another row's control.
export function drawRows(body, columns, rows) {
  const known = new Map([...body.children].map((made) => [made.dataset.id, made]));
  const wanted = new Set(rows.map((row) => row.id));
  for (const [id, made] of known) {
    if (wanted.has(id)) continue;
    if (made.contains(document.activeElement)) body.closest("[tabindex]").focus();
    made.remove();
  }
  rows.forEach((row, at) => {
    const made = known.get(row.id) ?? emptyRow(columns, row);
    row.texts.forEach((text, place) => setText(made.children[place], text));
    if (row.control) fill(made.lastChild, row.controlKey ?? "made", row.control);
    if (body.children[at] !== made) body.insertBefore(made, body.children[at] ?? null);
  });
}

function emptyRow(columns, row) {
  const cells = columns.map((name, at) => make(at ? "td" : "th", { role: at ? "cell" : "rowheader", scope: at ? null : "row", "data-name": row.control && at === columns.length - 1 ? "" : name }));
  return make("tr", { role: "row", "data-id": row.id }, ...cells);
}
