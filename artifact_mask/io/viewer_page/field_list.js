// The fields of the chosen well as a row of buttons.

import { colour, percent } from "./plate_map.js";

export class FieldList {
  constructor(list, highest, choose) {
    this.list = list;
    this.highest = highest;
    this.choose = choose;
    this.fields = [];
    list.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const buttons = [...list.children];
      buttons[buttons.indexOf(event.target) + step]?.focus();
    });
  }

  show(well) {
    this.fields = well.fields;
    this.list.replaceChildren(...well.fields.map((field) => {
      const button = document.createElement("button");
      const why = field.error ? `, failed: ${field.error}` : field.rejected ? `, rejected: ${field.rejected}` : "";
      const value = field.value === null ? "" : `, ${percent(field.value)}`;
      button.type = "button";
      button.className = "field";
      button.textContent = field.index + (field.error ? " ✕" : field.rejected ? " !" : "");
      button.title = `Field ${field.index} (number ${field.field_id} of the microscope)${value}${why}`;
      button.setAttribute("role", "option");
      button.setAttribute("aria-label", button.title);
      button.dataset.field = field.index;
      colour(button, field.value, this.highest, Boolean(field.error));
      button.addEventListener("click", () => this.choose(field.index));
      return button;
    }));
  }

  select(index) {
    for (const button of this.list.children) {
      const isChosen = button.dataset.field === String(index);
      button.setAttribute("aria-selected", isChosen);
      button.tabIndex = isChosen ? 0 : -1;
      if (isChosen) button.scrollIntoView({ block: "nearest" });
    }
  }
}
