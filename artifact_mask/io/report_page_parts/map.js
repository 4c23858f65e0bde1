// The plate map: wells in colours, moved over by keys, opened by click or Enter.
class PlateMap {
  constructor(figure, onOpen, onMove) {
    Object.assign(this, { figure, onOpen, onMove, at: { row: 1, column: 1 }, wells: [] });
    // The page's own click: for Bokeh, two clicks in a row on two wells are a double click on neither.
    $("map").addEventListener("click", (event) => this.click(event));
    $("map").addEventListener("keydown", (event) => this.press(event));
    $("map").addEventListener("focus", () => this.move(0, 0));
  }

  /** Show one column of a plate; a text's values get a colour each. */
  show(plate, rows, name) {
    const { wells } = plate, isText = plate.layers.texts.includes(name);
    this.plate = plate;
    this.name = name;
    this.wells = rows;
    const values = rows.map((row) => (wells[name] ? wells[name][row] : null));
    const known = isText ? categories(values) : values.filter((value) => value !== null);
    const mapper = this.figure.named("colours"), palette = mapper.palette;
    let low = known.length ? Math.min(...known.map(Number)) : 0, high = known.length ? Math.max(...known.map(Number)) : 1;
    if (!isText && low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
    const colour = (value) => {
      if (value === null) return "#88888822";
      if (isText) return colourOf(known.indexOf(value));
      return cssColour(palette[Math.round(((value - low) / (high - low)) * (palette.length - 1))]);
    };
    const colours = values.map(colour);
    this.figure.named("bar").visible = !isText && known.length > 0;
    if (!isText) mapper.setv({ low, high });
    this.layOut();
    this.figure.data("wells", {
      x: rows.map((row) => wells.column[row]), y: rows.map((row) => wells.row[row]),
      colour: colours,
      ink: colours.map((one, index) => (values[index] === null ? getComputedStyle(document.body).color : inkOn(one))),
      well: rows.map((row) => wells.well[row]),
      text: rows.map((row) => (this.cell >= 27 ? wells.well[row] : "")),
      mark: rows.map((row) => ({ negative: "−", positive: "+" })[wells.control?.[row]] || ""),
      value: values.map((value) => shorten(withUnit("wells", name, value))),
      layout: rows.map((row) => shorten(this.layoutOf(row))), outcome: rows.map((row) => this.outcomeOf(row)),
    });
    const unknown = rows.filter((_, index) => values[index] === null);
    this.figure.data("unknown", { x: unknown.map((row) => wells.column[row]), y: unknown.map((row) => wells.row[row]) });
    this.figure.data("gaps", this.gaps());
    this.legend(isText ? known : null, values);
    this.move(0, 0);
  }

  layoutOf(row) {
    const { layers, wells } = this.plate;
    return [...layers.texts, ...layers.numbers].filter((layer) => wells[layer][row] !== null)
      .map((layer) => `${layer}: ${say(wells[layer][row])}`).join(", ") || "—";
  }

  outcomeOf(row) {
    const { wells } = this.plate, count = (name) => (wells[name] ? wells[name][row] : 0);
    const said = [`${count("n_measured_fields")} of ${count("n_fields")} measured`];
    if (count("n_failed_fields")) said.push(`${count("n_failed_fields")} failed`);
    if (count("n_rejected_fields")) said.push(`${count("n_rejected_fields")} rejected`);
    return said.join(", ");
  }

  gaps() {
    const taken = new Set(this.wells.map((row) => `${this.plate.wells.row[row]},${this.plate.wells.column[row]}`));
    const x = [], y = [];
    for (let row = 1; row <= this.plate.rows; row++)
      for (let column = 1; column <= this.plate.columns; column++)
        if (!taken.has(`${row},${column}`)) { x.push(column); y.push(row); }
    return { x, y };
  }

  /** Make wells as large as there is room for. */
  layOut() {
    const { plate } = this, { model } = this.figure;
    const beside = 118, room = Math.min($("explore").clientWidth - 32, 1200) - beside;
    // No higher than leaves room for the opened well below.
    const high = Math.max(22, (innerHeight * 0.6) / plate.rows);
    this.cell = Math.max(13, Math.floor(Math.min(44, high, room / plate.columns)));
    $("explorer").classList.toggle("stacked", this.cell * plate.columns + beside + 500 > $("explore").clientWidth);
    model.setv({ frame_width: this.cell * plate.columns, frame_height: this.cell * plate.rows });
    model.x_range.setv({ start: 0.5, end: plate.columns + 0.5 });
    model.y_range.setv({ start: plate.rows + 0.5, end: 0.5 });
    const step = this.cell < 18 ? 2 : 1, numbers = (n) => Array.from({ length: n }, (_, index) => index + 1);
    const [columns] = model.above, [rows] = model.left;
    columns.ticker.ticks = numbers(plate.columns).filter((n) => (n - 1) % step === 0);
    rows.ticker.ticks = numbers(plate.rows).filter((n) => (n - 1) % step === 0);
    rows.major_label_overrides = new Map(numbers(plate.rows).map((row) => [row, rowName(row)]));
    const size = Math.max(9, Math.min(12, this.cell * 0.3));
    this.figure.named("texts").glyph.text_font_size = { value: `${size}px` };
    this.figure.named("marks").glyph.setv({
      x_offset: { value: this.cell * 0.32 }, y_offset: { value: -this.cell * 0.28 },
      text_font_size: { value: `${Math.max(10, Math.min(16, this.cell * 0.4))}px` },
    });
  }

  legend(texts, values) {
    const keys = make("span", { class: "keys" });
    const add = (icon, text) => keys.append(make("span", {}, icon, text));
    if (texts) texts.forEach((value, index) => {
      const icon = make("i");
      icon.style.background = colourOf(index);
      add(icon, say(value));
    });
    const controls = new Set(this.wells.map((row) => this.plate.wells.control?.[row]));
    if (controls.has("negative")) add(make("i", {}, "−"), "negative control");
    if (controls.has("positive")) add(make("i", {}, "+"), "positive control");
    if (values.includes(null)) add(make("i", { class: "null" }), "no value");
    if (this.figure.named("gaps").data.x.length) add(make("i", { class: "gap" }), "not imaged");
    $("map-legend").replaceChildren(keys);
  }

  /** Row of the table at a place of the plate; undefined where no well was imaged. */
  find({ row, column }) {
    return this.wells.find((index) => this.plate.wells.row[index] === row && this.plate.wells.column[index] === column);
  }

  go(row) {
    this.at = { row: this.plate.wells.row[row], column: this.plate.wells.column[row] };
    this.move(0, 0);
  }

  move(rows, columns) {
    if (!this.plate) return;
    const within = (value, most) => Math.min(Math.max(1, value), most);
    this.at = { row: within(this.at.row + rows, this.plate.rows), column: within(this.at.column + columns, this.plate.columns) };
    this.figure.data("cursor", { x: [this.at.column], y: [this.at.row] });
    const found = this.find(this.at), { wells } = this.plate;
    const place = `${rowName(this.at.row)}${String(this.at.column).padStart(2, "0")}`;
    $("under-cursor").textContent = found === undefined ? `${place}: not imaged`
      : `${place}: ${this.name} ${withUnit("wells", this.name, wells[this.name]?.[found] ?? null)}. ${this.layoutOf(found)}. ${this.outcomeOf(found)}.`;
  }

  press(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -99], End: [0, 99] };
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in steps) this.move(...steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") this.open(this.find(this.at), true);
    else return;
    event.preventDefault();
  }

  click(event) {
    const { el, frame } = this.figure.view, box = el.getBoundingClientRect();
    const column = Math.round(frame.x_scale.invert(event.clientX - box.left));
    const row = Math.round(frame.y_scale.invert(event.clientY - box.top));
    const found = this.find({ row, column });
    if (found === undefined) return;
    this.go(found);
    this.open(found, false);
  }

  open(row, takesFocus) {
    if (row !== undefined) this.onOpen(row, takesFocus);
  }
}

const MOST_HOVERED = 90;
const shorten = (text) => (text.length > MOST_HOVERED ? `${text.slice(0, MOST_HOVERED)}…` : text);
const cssColour = (value) => (typeof value === "number" ? `#${value.toString(16).padStart(8, "0").slice(0, 6)}` : value);

/** Black or white, whichever is seen on a colour. */
function inkOn(colour) {
  const context = inkOn.context || (inkOn.context = document.createElement("canvas").getContext("2d", { willReadFrequently: true }));
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  return red * 0.299 + green * 0.587 + blue * 0.114 > 140 ? "#000000" : "#ffffff";
}
