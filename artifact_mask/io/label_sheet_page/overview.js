// All fields at a glance, coloured by their labels.
class Overview {
  /** `open` is called with the item that was chosen. */
  constructor(labels, open) {
    this.labels = labels;
    this.open = open;
    this.filter = "all";
    this.thumbnails = [];
    this.colours = {};
    $("thumbnails").addEventListener("click", (event) => {
      const thumbnail = event.target.closest(".thumbnail");
      if (thumbnail) this.open(this.itemOf(Number(thumbnail.dataset.field)));
    });
    for (const button of document.querySelectorAll("[data-filter]"))
      button.addEventListener("click", () => this.choose(button.dataset.filter));
  }

  get isOpen() { return !$("overview").hidden; }

  show() {
    if (!this.thumbnails.length) this.thumbnails = this.labels.fields.map((_, field) => this.make(field));
    const style = getComputedStyle(document.documentElement);
    for (const label of LABELS) this.colours[label] = style.getPropertyValue(`--${label}`);
    $("labelling").hidden = true;
    $("overview").hidden = false;
    $("open-overview").setAttribute("aria-expanded", "true");
    this.choose("all");
    const current = this.thumbnails[this.labels.items[this.labels.position].field];
    current.focus();
    current.scrollIntoView({ block: "center" });
  }

  hide() {
    $("overview").hidden = true;
    $("labelling").hidden = false;
    $("open-overview").setAttribute("aria-expanded", "false");
  }

  /** Show the fields of one label, or with open items. */
  choose(filter) {
    this.filter = filter;
    for (const button of document.querySelectorAll("[data-filter]"))
      button.setAttribute("aria-pressed", String(button.dataset.filter === filter));
    const shown = this.thumbnails.filter((_, field) => filter === "all" || this.matching(field) >= 0);
    $("thumbnails").replaceChildren(...shown);
    $("overview-hint").textContent = `${shown.length} of ${this.labels.fields.length} fields${
      this.labels.fields[0].boxes.length ? "" : "; C, A and U label the one in focus"}`;
    this.refresh();
  }

  refresh() {
    const current = this.labels.items[this.labels.position].field;
    this.thumbnails.forEach((thumbnail, field) => {
      thumbnail.classList.toggle("current", field === current);
      const given = this.labels.itemsOf(field).map((item) => this.labels.given[item]);
      if (this.labels.fields[field].boxes.length) this.draw(thumbnail, field, given);
      else thumbnail.dataset.label = given[0];
      const n = given.filter(Boolean).length;
      const state = given.length > 1 ? `${n} of ${given.length} tiles` : given[0] || "open";
      thumbnail.setAttribute("aria-label", `${thumbnail.title}, ${state}`);
      thumbnail.querySelector(".state").textContent = given.length > 1 ? `${n}/${given.length}` : "";
    });
  }

  /** Move the focus with the arrows. */
  move(key) {
    const shown = [...$("thumbnails").children];
    if (!shown.length) return;
    const columns = shown.filter((thumbnail) => thumbnail.offsetTop === shown[0].offsetTop).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    const now = shown.indexOf(document.activeElement);
    shown[Math.min(Math.max(0, now < 0 ? 0 : now + step), shown.length - 1)].focus();
  }

  /** Item that a label of a key would be for: the field in focus, if it is judged as a whole; -1 otherwise. */
  focusedItem() {
    const field = this.thumbnails.indexOf(document.activeElement);
    return field < 0 || this.labels.fields[field].boxes.length ? -1 : this.labels.firstItem[field];
  }

  matching(field) {
    const wanted = this.filter === "open" ? "" : this.filter;
    return this.labels.itemsOf(field).findIndex((item) => this.labels.given[item] === wanted);
  }

  itemOf(field) {
    return this.labels.firstItem[field] + (this.filter === "all" ? 0 : Math.max(0, this.matching(field)));
  }

  make(field) {
    const { plate, well, field: index, shape: [height, width], boxes } = this.labels.fields[field];
    const element = (tag, className, ...children) => {
      const made = document.createElement(tag);
      made.className = className;
      made.append(...children);
      return made;
    };
    const view = element("span", "view", makeImage("thumbnail", field, ""));
    view.style.setProperty("--aspect", width / height);
    if (boxes.length) {
      const canvas = element("canvas", "");
      canvas.width = 150;
      canvas.height = Math.round((150 * height) / width);
      view.append(canvas);
    }
    const caption = element("span", "caption", element("span", "name", `${well} · ${index}`));
    caption.append(element("span", "state"), element("span", boxes.length ? "" : "mark"));
    const thumbnail = element("button", "thumbnail", view, caption);
    thumbnail.type = "button";
    thumbnail.title = `${plate} ${well} field ${index}`;
    thumbnail.dataset.field = field;
    return thumbnail;
  }

  /** Tint the tiles of a field. */
  draw(thumbnail, field, given) {
    const canvas = thumbnail.querySelector("canvas"), context = canvas.getContext("2d");
    const { shape: [height, width], boxes } = this.labels.fields[field];
    const across = canvas.width / width, down = canvas.height / height;
    context.clearRect(0, 0, canvas.width, canvas.height);
    boxes.forEach(([y0, x0, h, w], number) => {
      if (!given[number]) return;
      context.fillStyle = this.colours[given[number]];
      context.globalAlpha = given[number] === "clean" ? 0.22 : 0.6;
      context.fillRect(x0 * across, y0 * down, w * across, h * down);
    });
  }
}
