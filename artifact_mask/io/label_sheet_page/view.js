// The picture of one field, its tiles, and the tile under judgement enlarged.
const KEPT_PICTURES = 14;
const PICTURES_AHEAD = 5;
const ZOOM = 2.5;
const CLOSEUP_MARGIN = 0.12;
const $ = (id) => document.getElementById(id);

/** Make an image of the page's own picture; the text becomes an image only when it is wanted. */
function makeImage(kind, field, description) {
  const image = new Image();
  image.decoding = "sync";
  image.alt = description;
  image.draggable = false;
  image.src = `data:image/jpeg;base64,${$(`${kind}-${field}`).textContent}`;
  return image;
}

class Stage {
  constructor(labels) {
    this.labels = labels;
    this.images = new Map();
    this.shown = -1;
    this.tiles = [];
    this.layout = "";
  }

  /** Image of a field, decoded ahead of the time that it is shown; the longest unused are let go. */
  image(field) {
    let image = this.images.get(field);
    if (image) this.images.delete(field);
    else {
      const { plate, well, field: index } = this.labels.fields[field];
      image = makeImage("picture", field, `${plate} ${well} field ${index}`);
      image.decode().catch(() => {});
    }
    this.images.set(field, image);
    if (this.images.size > KEPT_PICTURES) this.images.delete(this.images.keys().next().value);
    return image;
  }

  /** Show an item: its field, and its tile as the current one. */
  show(item) {
    const { field, box } = this.labels.items[item];
    if (field !== this.shown) {
      const [height, width] = this.labels.fields[field].shape;
      $("frame").style.setProperty("--aspect", width / height);
      $("picture").replaceChildren(this.image(field));
      this.layOut(field);
      this.shown = field;
    }
    if (!box) return;
    const first = this.labels.firstItem[field];
    this.tiles.forEach((tile, number) => {
      const label = this.labels.given[first + number];
      if (label) tile.dataset.label = label;
      else delete tile.dataset.label;
      tile.classList.toggle("current", first + number === item);
    });
    this.drawCloseup(field, box);
  }

  /** Decode what will probably be shown next. */
  prepare() {
    const { fields } = this.labels, neighbours = [this.shown - 1, this.shown + 1].filter((field) => field in fields);
    const open = [];
    for (let step = 1; step < fields.length && open.length < PICTURES_AHEAD; step++) {
      const field = (this.shown + step) % fields.length;
      if (this.labels.itemsOf(field).some((item) => !this.labels.given[item])) open.push(field);
    }
    for (const field of new Set([...neighbours, ...open])) this.image(field);
  }

  layOut(field) {
    const { shape: [height, width], boxes } = this.labels.fields[field];
    const layout = JSON.stringify([height, width, boxes]);
    if (layout === this.layout) return;
    this.layout = layout;
    const percent = (part, whole) => `${(100 * part) / whole}%`;
    this.tiles = boxes.map(([y0, x0, h, w]) => {
      const tile = document.createElement("div");
      tile.className = "tile";
      Object.assign(tile.style, {
        top: percent(y0, height), left: percent(x0, width), height: percent(h, height), width: percent(w, width),
      });
      return tile;
    });
    $("tiles").classList.toggle("tiles-small", boxes.some((box) => Math.min(box[2] / height, box[3] / width) < 0.06));
    $("tiles").replaceChildren(...this.tiles);
  }

  /** Number of the tile at a point of the window; -1 where there is none. */
  tileAt(x, y) {
    const { shape: [height, width], boxes } = this.labels.fields[this.shown];
    const area = $("pan").getBoundingClientRect();
    const row = ((y - area.top) / area.height) * height, column = ((x - area.left) / area.width) * width;
    return boxes.findIndex(([y0, x0, h, w]) => row >= y0 && row < y0 + h && column >= x0 && column < x0 + w);
  }

  /** Enlarge while a key is held, around a point of the frame (0 to 1), by default the current tile. */
  zoom(isOn, point) {
    const { field, box } = this.labels.items[this.labels.position];
    const [height, width] = this.labels.fields[field].shape;
    // The point that stays where it is, so that the tile comes to the middle.
    const fixed = (centre) => Math.min(1, Math.max(0, (centre * ZOOM - 0.5) / (ZOOM - 1)));
    const ofTile = box && [fixed((box[1] + box[3] / 2) / width), fixed((box[0] + box[2] / 2) / height)];
    const [x, y] = point || ofTile || [0.5, 0.5];
    $("pan").style.setProperty("--zoom", ZOOM);
    $("pan").style.transformOrigin = `${100 * x}% ${100 * y}%`;
    $("pan").classList.toggle("zoomed", isOn);
  }

  drawCloseup(field, [y0, x0, h, w]) {
    const canvas = $("closeup"), image = this.image(field);
    if (!image.naturalWidth || !image.complete) {
      image.addEventListener("load", () => {
        const now = this.labels.items[this.labels.position];
        if (now.field === field && now.box) this.drawCloseup(field, now.box);
      }, { once: true });
      return;
    }
    const side = Math.round(300 * Math.min(2, window.devicePixelRatio || 1));
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    context.imageSmoothingQuality = "high";
    const perPixel = image.naturalWidth / this.labels.fields[field].shape[1];
    const margin = CLOSEUP_MARGIN * Math.max(h, w), scale = side / (Math.max(h, w) + 2 * margin);
    const top = (side - h * scale) / 2, left = (side - w * scale) / 2;
    // The whole picture, moved and scaled: what is beyond the field stays empty.
    context.drawImage(
      image, left - x0 * scale, top - y0 * scale,
      (image.naturalWidth / perPixel) * scale, (image.naturalHeight / perPixel) * scale,
    );
    context.strokeStyle = "rgb(255 225 77 / .9)";
    context.lineWidth = Math.max(1, side / 300);
    context.strokeRect(left, top, w * scale, h * scale);
  }
}
