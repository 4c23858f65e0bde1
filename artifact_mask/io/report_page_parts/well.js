// The opened well: its fields as pictures, with outlines or masked, and every number that is known of them.
const SHOWN = ["artifact_fraction", "n_artifacts", "weak_fraction", "stained_fraction_raw", "stained_fraction", "sharpness", "n_cells", "senescent_fraction"];
const MODES = [["outlines", "outlines"], ["before", "as taken"], ["after", "masked"], ["both", "side by side"]];
const SVG = "http://www.w3.org/2000/svg";
const STEPS_PER_PX = 4;

class WellPanel {
  constructor() {
    this.mode = "outlines";
  }

  /** Show the well in a row of a plate's table. */
  show(number, plate, row, turn) {
    const { wells } = plate, name = wells.well[row], acquisition = wells.acquisition[row];
    const text = $(`pictures-${number}-${name}`)?.textContent;
    const pictures = text ? JSON.parse(text) : null;
    const all = plate.fields.well.map((_, index) => index).filter((index) => plate.fields.well[index] === name);
    const fields = make("div", { class: "fields", "data-mode": this.mode });
    all.forEach((index, n) => {
      if (plate.fields.acquisition[index] === acquisition) fields.append(this.field(plate, index, pictures?.[n]));
    });
    const layout = [...plate.layers.texts, ...plate.layers.numbers].filter((layer) => wells[layer][row] !== null)
      .map((layer) => `${layer}: ${say(wells[layer][row])}`).join(", ");
    const control = wells.control?.[row] ? ` (${wells.control[row]} control)` : "";
    const heading = make("h3", { tabindex: "-1" }, name);
    const previous = make("button", { type: "button", "aria-label": "Previous well" }, "←");
    const next = make("button", { type: "button", "aria-label": "Next well" }, "→");
    previous.onclick = () => turn(-1);
    next.onclick = () => turn(1);
    $("well").replaceChildren(
      make("div", { class: "well-head" }, heading, make("span", { class: "layout" }, layout + control), make("span", { class: "turn" }, previous, next)),
      this.numbers("wells", plate.wells, row, plate.figures.wells, ["n_measured_fields", "n_fields", ...SHOWN]),
      this.all("wells", plate.wells, row, plate.figures.wells, "All numbers of the well"),
      ...(pictures ? [this.modes(plate.label, fields)] : []), fields,
    );
    this.heading = heading;
  }

  focus() { this.heading?.focus(); this.heading?.scrollIntoView({ block: "nearest" }); }

  modes(label, fields) {
    const set = make("fieldset", { class: "modes" }, make("legend", {}, label === "weak" ? "Weak labels:" : "Show"));
    for (const [mode, text] of MODES) {
      if (label === "" || (label !== "artifacts" && (mode === "after" || mode === "both"))) continue;
      const input = make("input", { type: "radio", name: "mode", value: mode });
      input.checked = mode === this.mode;
      input.onchange = () => { this.mode = fields.dataset.mode = mode; };
      set.append(make("label", {}, input, ` ${text}`));
    }
    return set;
  }

  field(plate, index, picture) {
    const { fields } = plate, error = fields.error?.[index], rejected = fields.rejected?.[index];
    const figure = make("figure", { class: `field${error ? " failed" : rejected ? " rejected" : ""}` });
    const title = `Field ${fields.field[index]} (ID ${fields.field_id[index]})`;
    if (picture?.error) figure.append(make("div", { class: "no-picture" }, `No picture: ${picture.error}`));
    else if (picture) figure.append(this.pictures(picture, `${fields.well[index]} ${title}`));
    const caption = make("figcaption", {}, make("p", {}, make("b", {}, title)));
    if (error) caption.append(make("p", { class: "reason" }, `Failed: ${error}`));
    if (rejected) caption.append(make("p", { class: "reason" }, `Rejected: ${rejected}`));
    if (picture && !picture.error && plate.label && !picture.labelled) caption.append(make("p", { class: "reason" }, "It is not known where artifacts are."));
    if (picture?.left) caption.append(make("p", {}, `The outlines of the ${picture.left} smallest objects are not drawn.`));
    caption.append(this.numbers("fields", fields, index, plate.figures.fields, SHOWN));
    caption.append(this.all("fields", fields, index, plate.figures.fields, "all numbers"));
    figure.append(caption);
    return figure;
  }

  pictures(picture, description) {
    const [width, height] = picture.size, box = `0 0 ${width * STEPS_PER_PX} ${height * STEPS_PER_PX}`;
    const frame = (kind, drawn) => {
      const image = new Image();
      image.alt = `${description}, ${kind === "after" ? "masked" : "as taken"}`;
      image.src = `data:image/jpeg;base64,${picture.jpeg}`;
      const svg = document.createElementNS(SVG, "svg");
      svg.setAttribute("viewBox", box);
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("class", kind === "after" ? "filled" : "outline");
      for (const [d, grey] of picture.outlines) {
        const path = document.createElementNS(SVG, "path");
        path.setAttribute("d", d);
        if (kind === "after") {
          const fill = grey === null ? "url(#unknown)" : `rgb(${grey} ${grey} ${grey})`;
          path.setAttribute("fill", fill);
          path.setAttribute("stroke", grey === null ? "none" : fill);
        }
        svg.append(path);
      }
      const framed = make("div", { class: `picture ${kind}` }, image, svg);
      framed.style.setProperty("--aspect", width / height);
      return framed;
    };
    return make("div", { class: "pictures" }, frame("before"), frame("after"));
  }

  numbers(table, columns, row, known, names) {
    const list = make("dl", { class: "numbers" });
    for (const name of names) {
      if (!known.includes(name) || columns[name][row] === null) continue;
      list.append(make("div", { title: column(table, name).meaning }, make("dt", {}, breakable(name)), make("dd", {}, withUnit(table, name, columns[name][row]))));
    }
    return list;
  }

  all(table, columns, row, names, title) {
    const body = make("tbody");
    const details = make("details", {}, make("summary", {}, title), make("div", { class: "wide" }, make("table", {}, body)));
    // When it is opened: nine fields have hundreds of numbers.
    details.addEventListener("toggle", () => {
      if (body.childElementCount) return;
      for (const name of names) {
        const { unit, meaning } = column(table, name);
        body.append(make("tr", { title: meaning }, make("th", { scope: "row" }, name), make("td", { class: "n" }, say(columns[name][row])), make("td", {}, unit)));
      }
    });
    return details;
  }
}
