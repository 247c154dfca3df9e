// The picture of the cabinet as it stands: columns by the letters of the labels, heights as built. It is never
// mirrored: left is left in every language.

const MANY = 12; // columns, or cells in one, beyond which only the marked door has its label
let drawn = new Map();
let drawnFor = null;

function columnsOf(cells) {
  const columns = new Map();
  for (const cell of cells) {
    const name = cell.label.replace(/[0-9]+$/, "");
    if (!columns.has(name)) columns.set(name, []);
    columns.get(name).push(cell);
  }
  return [...columns.values()];
}

export function draw(picture, cells, doors, mine) {
  if (drawnFor !== cells) build(picture, cells);
  for (const [label, element] of drawn) {
    element.classList.toggle("is-open", doors[label] === "open");
    element.classList.toggle("mine", label === mine);
  }
}

function build(picture, cells) {
  drawn = new Map();
  drawnFor = cells;
  const columns = columnsOf(cells);
  picture.classList.toggle("many", columns.length > MANY || columns.some((column) => column.length > MANY));
  picture.replaceChildren(
    ...columns.map((column) => {
      const element = document.createElement("div");
      element.className = "column";
      for (const cell of column) {
        const door = document.createElement("div");
        door.className = "cell";
        door.dataset.label = cell.label;
        door.textContent = cell.label;
        door.style.flexGrow = String(cell.height);
        drawn.set(cell.label, door);
        element.append(door);
      }
      return element;
    }),
  );
}

// Column from the left and place from the top, both from 1, for people who do not see the picture.
export function placeOf(cells, label) {
  const columns = columnsOf(cells);
  for (const [at, column] of columns.entries()) {
    const row = column.findIndex((cell) => cell.label === label);
    if (row >= 0) return { column: at + 1, row: row + 1 };
  }
  return null;
}
