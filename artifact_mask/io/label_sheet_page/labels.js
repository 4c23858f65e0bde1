// What was said of each item, how to take it back, and where the browser keeps it.
const CODES = { clean: "c", artifact: "a", unsure: "u" };
const OF_CODE = { c: "clean", a: "artifact", u: "unsure" };

class Labels {
  /** `sheet.fields` have a plate, a well, a field, and boxes; an item is a field, or one of its boxes. */
  constructor(sheet) {
    this.storageKey = `artmask-labels-${sheet.digest}`;
    this.fields = sheet.fields;
    this.items = [];
    this.firstItem = [];
    this.index = new Map();
    sheet.fields.forEach((field, number) => {
      this.firstItem.push(this.items.length);
      for (const box of field.boxes.length ? field.boxes : [null]) {
        this.index.set(placeKey(field.plate, field.well, field.field, box), this.items.length);
        this.items.push({ field: number, box });
      }
    });
    this.firstItem.push(this.items.length);
    this.history = [];
    this.position = 0;
    this.isKept = true;
    this.clear();
    this.restore();
  }

  clear() {
    this.given = new Array(this.items.length).fill("");
    this.counts = { clean: 0, artifact: 0, unsure: 0 };
    this.others = new Map();
    this.saved = this.revision();
  }

  get done() { return this.counts.clean + this.counts.artifact + this.counts.unsure; }
  get isSaved() { return this.saved === this.revision(); }

  /** All labels as one text, a letter an item. */
  revision() { return this.given.map((label) => CODES[label] || ".").join("") + this.others.size; }

  /** Items of a field. */
  itemsOf(field) {
    const items = [];
    for (let item = this.firstItem[field]; item < this.firstItem[field + 1]; item++) items.push(item);
    return items;
  }

  /** Next item without a label, from the start again if need be; -1 if there is none. */
  nextOpen(from) {
    for (let step = 1; step <= this.items.length; step++) {
      const item = (from + step) % this.items.length;
      if (!this.given[item]) return item;
    }
    return -1;
  }

  /** Give labels: pairs of item and label. One call is one step to undo. */
  give(pairs) {
    const changed = pairs.filter(([item, label]) => this.given[item] !== label);
    if (!changed.length) return;
    this.history.push({ position: this.position, before: changed.map(([item]) => [item, this.given[item]]) });
    this.assign(changed);
    this.keep();
  }

  /** Take the last step back, and return whether there was one. */
  undo() {
    const step = this.history.pop();
    if (!step) return false;
    this.assign(step.before);
    this.position = step.position;
    this.keep();
    return true;
  }

  assign(pairs) {
    for (const [item, label] of pairs) {
      if (this.given[item]) this.counts[this.given[item]]--;
      if (label) this.counts[label]++;
      this.given[item] = label;
    }
  }

  /** Rows of the table: what is labelled here, and what a loaded table said of places that are not on this sheet. */
  rows() {
    const rows = [];
    this.items.forEach(({ field, box }, item) => {
      const { plate, well, field: index } = this.fields[field];
      if (this.given[item]) rows.push({ plate, well, field: index, label: this.given[item], box });
    });
    return [...rows, ...this.others.values()];
  }

  /** Take over the rows of a table, and return how many are of this sheet and how many are not. */
  load(rows) {
    const pairs = [];
    let others = 0;
    for (const [key, row] of rows) {
      const item = this.index.get(key);
      if (item === undefined) { this.others.set(key, row); others++; } else pairs.push([item, row.label]);
    }
    this.give(pairs);
    this.keep();
    return { here: pairs.length, others };
  }

  markSaved() {
    this.saved = this.revision();
    this.keep();
  }

  keep() {
    const state = { given: this.revision(), position: this.position, others: [...this.others], saved: this.saved };
    try {
      localStorage.setItem(this.storageKey, JSON.stringify(state));
      this.isKept = true;
    } catch {
      this.isKept = false;
    }
  }

  restore() {
    let state = null;
    try {
      state = JSON.parse(localStorage.getItem(this.storageKey));
    } catch {
      this.isKept = false;
    }
    if (!state || typeof state.given !== "string") return;
    this.clear();
    this.assign(this.items.map((_, item) => [item, OF_CODE[state.given[item]] || ""]));
    this.others = new Map(state.others);
    this.saved = state.saved;
    this.position = Math.min(Math.max(0, state.position | 0), this.items.length - 1);
  }
}
