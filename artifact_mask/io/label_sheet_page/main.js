// Keys, buttons, files.
const sheet = JSON.parse($("sheet").textContent);
const labels = new Labels(sheet);
const stage = new Stage(labels);
const overview = new Overview(labels, (item) => { closeOverview(); go(item); });
const hasTiles = labels.items.some((item) => item.box);
const times = [];

function say(text) { $("status").textContent = text; }

function describe(item) {
  const { field, box } = labels.items[item], { well, field: index } = labels.fields[field];
  const first = labels.firstItem[field];
  return `${well} field ${index}${box ? `, tile ${item - first + 1} of ${labels.firstItem[field + 1] - first}` : ""}`;
}

/** Labels a minute of late, and the time that the rest would take. */
function pace(open) {
  const recent = times.filter((time) => time > performance.now() - 60000);
  const minutes = recent.length ? (performance.now() - recent[0]) / 60000 : 0;
  if (recent.length < 5 || minutes < 0.03) return "";
  const rate = recent.length / minutes;
  const left = open / rate;
  return `${Math.round(rate)} a minute${open ? `, ${left < 1 ? "less than 1" : `about ${Math.round(left)}`} min left` : ""}`;
}

function render() {
  const item = labels.position, { field } = labels.items[item], label = labels.given[item];
  stage.show(item);
  $("place-well").textContent = describe(item);
  $("place-plate").textContent = $("place-plate").title = labels.fields[field].plate;
  $("given").dataset.label = label;
  $("given-text").textContent = label || "no label yet";
  for (const button of document.querySelectorAll(".judge [data-label]"))
    button.classList.toggle("pressed", button.dataset.label === label);
  const n = labels.items.length;
  $("done").textContent = `${labels.done} of ${n}${hasTiles ? ` tiles, field ${field + 1} of ${labels.fields.length}` : ""}`;
  $("bar").max = n;
  $("bar").value = labels.done;
  $("rate").textContent = pace(n - labels.done);
  for (const name of LABELS) $(`count-${name}`).textContent = labels.counts[name];
  $("save").classList.toggle("unsaved", !labels.isSaved);
  $("save").title = labels.isSaved ? "All labels are saved" : "There are labels that are not saved yet";
  $("warning").textContent = labels.isKept ? "" : "This browser keeps no labels: save before the page is closed.";
  if (overview.isOpen) overview.refresh();
}

function go(item) {
  labels.position = Math.min(Math.max(0, item), labels.items.length - 1);
  render();
  // After the new picture is on the screen.
  requestAnimationFrame(() => setTimeout(() => stage.prepare()));
}

function goOn(from, said) {
  const next = labels.nextOpen(from);
  say(next < 0 ? `${said} All is labelled. Save the table with S.` : said);
  go(next < 0 ? labels.position : next);
}

function give(pairs) {
  for (let n = 0; n < pairs.length; n++) times.push(performance.now());
  labels.give(pairs);
}

function judge(label) {
  const item = overview.isOpen ? overview.focusedItem() : labels.position;
  if (item < 0) return;
  give([[item, label]]);
  const said = `${describe(item)}: ${label}.`;
  if (overview.isOpen) { say(said); render(); } else goOn(item, said);
}

function judgeRest() {
  const { field } = labels.items[labels.position];
  const open = labels.itemsOf(field).filter((item) => !labels.given[item]);
  give(open.map((item) => [item, "clean"]));
  const { well, field: index } = labels.fields[field];
  goOn(labels.firstItem[field + 1] - 1, `${well} field ${index}: ${open.length} more tiles are clean.`);
}

function undo() {
  say(labels.undo() ? "Taken back." : "There is nothing to take back.");
  go(labels.position);
}

function moveTo(key) {
  const item = labels.position, { field, box } = labels.items[item];
  const step = key === "ArrowLeft" || key === "ArrowUp" ? -1 : 1;
  if (!box || key === "ArrowLeft" || key === "ArrowRight") return go(item + step);
  const columns = labels.fields[field].boxes.filter((other) => other[0] === box[0]).length;
  const first = labels.firstItem[field], last = labels.firstItem[field + 1];
  const target = item + step * columns;
  if (target >= first && target < last) return go(target);
  return moveField(step);
}

function moveField(step) {
  const field = labels.items[labels.position].field + step;
  if (field in labels.fields) go(labels.firstItem[field]);
}

function closeOverview() {
  if (!overview.isOpen) return;
  overview.hide();
  $("stage").focus();
}

function toggleOverview() {
  if (overview.isOpen) closeOverview();
  else overview.show();
}

function save() {
  const rows = labels.rows();
  if (!rows.length) return say("There is nothing to save yet.");
  const text = writeTable(rows);
  // Excel takes a table for UTF-8 only with a mark; where all is ASCII, none is needed.
  const content = /^[\x00-\x7f]*$/.test(text) ? text : "\uFEFF" + text;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  link.download = `${sheet.name}-labels.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  labels.markSaved();
  say(`${rows.length} labels are saved as ${link.download}, where your browser puts downloads.`);
  render();
}

async function load(file) {
  try {
    const { here, others } = labels.load(readTable(await file.text()));
    say(`${here} labels loaded.${others ? ` ${others} of places that are not on this sheet are kept, and saved again.` : ""}`);
    const open = labels.nextOpen(-1);
    go(open < 0 ? 0 : open);
    if (overview.isOpen) overview.choose(overview.filter);
  } catch (error) {
    say(`${file.name}: ${error.message}`);
  }
}

function adjust(id, steps) {
  const slider = $(id);
  slider.value = steps === null ? 100 : Number(slider.value) + steps * Number(slider.step);
  document.documentElement.style.setProperty(`--${id}`, Number(slider.value) / 100);
}

const LABEL_KEYS = { c: "clean", 1: "clean", a: "artifact", 2: "artifact", u: "unsure", 3: "unsure" };
const KEYS = {
  z: undo, Backspace: undo, g: toggleOverview, s: save, n: () => { closeOverview(); goOn(labels.position, ""); },
  "?": () => $("help").showModal(), Escape: closeOverview,
  "[": () => adjust("contrast", -1), "]": () => adjust("contrast", 1),
  "-": () => adjust("brightness", -1), "+": () => adjust("brightness", 1), "=": () => adjust("brightness", 1),
  0: () => { adjust("contrast", null); adjust("brightness", null); },
};
const TILE_KEYS = {
  f: judgeRest, Enter: judgeRest, PageUp: () => moveField(-1), PageDown: () => moveField(1),
  h: () => document.body.classList.toggle("without-marks"),
};
const REPEATABLE = new Set(["[", "]", "-", "+", "=", "PageUp", "PageDown"]);

document.addEventListener("keydown", (event) => {
  if ($("help").open) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const target = event.target, isSlider = target.type === "range";
  const use = (action) => { event.preventDefault(); action(); };
  if (event.ctrlKey || event.metaKey) {
    if (key === "z" && !event.repeat) use(undo);
    if (key === "s" && !event.repeat) use(save);
    return;
  }
  if (event.altKey) return;
  if (key.startsWith("Arrow")) {
    if (!isSlider) use(() => (overview.isOpen ? overview.move(key) : moveTo(key)));
    return;
  }
  if (isSlider && key.startsWith("Page")) return;
  // A button that has the focus is pressed by these keys.
  if (target.tagName === "BUTTON" && (key === "Enter" || key === " ")) return;
  if (key === " ") {
    if (!overview.isOpen) use(() => { if (!event.repeat) stage.zoom(true); });
    return;
  }
  const action = key in LABEL_KEYS ? () => judge(LABEL_KEYS[key])
    : Object.hasOwn(KEYS, key) ? KEYS[key]
    : hasTiles && !overview.isOpen && Object.hasOwn(TILE_KEYS, key) ? TILE_KEYS[key] : null;
  // A key that is held must not label one field after the other.
  if (action) use(() => { if (!event.repeat || REPEATABLE.has(key)) action(); });
});
document.addEventListener("keyup", (event) => { if (event.key === " ") stage.zoom(false); });
window.addEventListener("blur", () => stage.zoom(false));
$("stage").addEventListener("pointermove", (event) => {
  if (!$("pan").classList.contains("zoomed")) return;
  const area = $("frame").getBoundingClientRect();
  const share = (value) => Math.min(1, Math.max(0, value));
  stage.zoom(true, [share((event.clientX - area.left) / area.width), share((event.clientY - area.top) / area.height)]);
});
$("tiles").addEventListener("click", (event) => {
  const tile = hasTiles ? stage.tileAt(event.clientX, event.clientY) : -1;
  if (tile < 0) return;
  const item = labels.firstItem[stage.shown] + tile;
  labels.position = item;
  give([[item, event.shiftKey ? "unsure" : labels.given[item] === "artifact" ? "clean" : "artifact"]]);
  say(`${describe(item)}: ${labels.given[item]}.`);
  go(item);
});

for (const [id, action] of Object.entries({
  rest: judgeRest, undo, next: KEYS.n, save, load: () => $("file").click(), "open-overview": toggleOverview,
  "close-overview": closeOverview, "open-help": KEYS["?"],
})) $(id).addEventListener("click", action);
for (const button of document.querySelectorAll(".judge [data-label]"))
  button.addEventListener("click", () => judge(button.dataset.label));
// After a click the keys belong to the sheet again; whoever walks by Tab keeps the button.
document.addEventListener("click", (event) => {
  if (event.detail && !overview.isOpen && !$("help").open && event.target.closest("button")) $("stage").focus();
});
for (const id of ["contrast", "brightness"]) $(id).addEventListener("input", () => adjust(id, 0));
$("file").addEventListener("change", () => {
  if ($("file").files.length) load($("file").files[0]);
  $("file").value = "";
});
window.addEventListener("beforeunload", (event) => { if (!labels.isSaved) event.preventDefault(); });
// The same sheet in another tab: its labels are these.
window.addEventListener("storage", (event) => {
  if (event.key !== labels.storageKey || !event.newValue) return;
  const position = labels.position;
  labels.restore();
  labels.history = [];
  go(position);
});

document.body.classList.toggle("has-tiles", hasTiles);
$("stage").focus();
if (labels.done) say(`${labels.done} labels were kept by this browser.`);
go(labels.given[labels.position] ? Math.max(0, labels.nextOpen(labels.position)) : labels.position);
