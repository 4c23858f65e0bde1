// The wells of a plate as a grid of buttons, which arrow keys walk over.

const rowName = (row) => (row > 26 ? String.fromCharCode(64 + Math.floor((row - 1) / 26)) : "") + String.fromCharCode(65 + ((row - 1) % 26));

export const percent = (value) => `${(100 * value).toPrecision(2)} %`;

function describe(well, figure) {
  const failed = well.n_failed ? `, ${well.n_failed} failed` : "";
  const value = well.value === null ? "" : `, ${figure} ${percent(well.value)}`;
  const layout = Object.entries(well.layout).map(([layer, said]) => `, ${layer} ${said}`).join("");
  return `${well.name}${value}, ${well.n_fields} fields${failed}${layout}`;
}

function element(parent, tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  parent.append(made);
  return made;
}

export function colour(button, value, highest, isBad) {
  button.classList.toggle("bad", isBad);
  button.classList.toggle("unknown", value === null);
  button.style.setProperty("--share", highest ? (value ?? 0) / highest : 0);
}

export class PlateMap {
  constructor(grid, plate, choose) {
    this.grid = grid;
    this.buttons = new Map();
    this.figure = (plate.figure ?? "").replace("_", " ");
    this.highest = Math.max(0, ...plate.wells.map((well) => well.value ?? 0));
    const wells = new Map(plate.wells.map((well) => [`${well.row},${well.column}`, well]));
    grid.style.setProperty("--columns", plate.n_columns);
    const head = element(grid, "div");
    head.setAttribute("role", "row");
    element(head, "span", "head");
    const step = plate.n_columns > 12 ? 4 : 1;
    for (let column = 1; column <= plate.n_columns; column++) {
      element(head, "span", "head", (column - 1) % step ? "" : String(column)).setAttribute("role", "columnheader");
    }
    for (let row = 1; row <= plate.n_rows; row++) {
      const line = element(grid, "div");
      line.setAttribute("role", "row");
      element(line, "span", "head", rowName(row)).setAttribute("role", "rowheader");
      for (let column = 1; column <= plate.n_columns; column++) {
        const well = wells.get(`${row},${column}`);
        if (well) this.add(line, well, choose);
        else element(line, "span", "absent").setAttribute("role", "gridcell");
      }
    }
    grid.addEventListener("keydown", (event) => this.walk(event));
  }

  add(line, well, choose) {
    const button = element(line, "button", "well");
    button.type = "button";
    button.tabIndex = this.buttons.size ? -1 : 0;
    button.setAttribute("role", "gridcell");
    button.setAttribute("aria-label", describe(well, this.figure));
    button.title = describe(well, this.figure);
    button.dataset.well = well.name;
    colour(button, well.value, this.highest, well.n_failed > 0);
    button.addEventListener("click", () => choose(well.name));
    this.buttons.set(well.name, { button, well });
  }

  select(name) {
    for (const [other, { button }] of this.buttons) {
      button.setAttribute("aria-selected", other === name);
      button.tabIndex = other === name ? 0 : -1;
    }
  }

  walk(event) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!(event.key in steps) || !(event.target.dataset.well)) return;
    event.preventDefault();
    const { well } = this.buttons.get(event.target.dataset.well);
    const [down, right] = steps[event.key];
    // The nearest one in that direction: there may be gaps.
    const far = ({ well: other }) => {
      const along = down * (other.row - well.row) + right * (other.column - well.column);
      const aside = Math.abs(down ? other.column - well.column : other.row - well.row);
      return along > 0 ? along + 100 * aside : Infinity;
    };
    const next = [...this.buttons.values()].reduce((best, one) => (far(one) < far(best) ? one : best));
    if (far(next) < Infinity) next.button.focus();
  }
}
