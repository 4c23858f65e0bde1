// The page: which field is shown is in the address, such as #B03/2; everything else follows from it.

import { FieldList } from "./field_list.js";
import { PlateMap, percent } from "./plate_map.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);

async function ask(path) {
  const answer = await fetch(`describe/${path}`).catch(() => {
    throw new Error("The server does not answer: `artmask view` has ended. Start it again.");
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

const plate = await ask("plate");
const viewer = new Viewer($("viewer"), showLayers);
const map = new PlateMap($("wells"), plate, (well) => go(well));
const list = new FieldList($("fields"), map.highest, (field) => go(shown.well, field));
let shown = { well: null, field: null };
let request = 0;

document.title = `${plate.name} - artmask`;
$("plate").textContent = plate.name;
$("figure").textContent = map.figure;
$("highest").textContent = percent(map.highest);
$("legend").hidden = !plate.figure;

function go(well, field) {
  location.hash = field === undefined ? well : `${well}/${field}`;
}

async function follow() {
  const mine = ++request;
  try {
    const [name, index] = decodeURIComponent(location.hash.slice(1)).split("/");
    const { well } = map.buttons.get(name || plate.wells[0].name) ?? { well: null };
    if (!well) throw new Error(`There is no well ${name} on this plate.`);
    if (well.name !== shown.well) {
      const fields = await ask(`wells/${well.name}`);
      if (mine !== request) return;
      shown = { well: well.name, field: null };
      map.select(well.name);
      list.show(fields);
      $("fields-title").textContent = `Fields of ${well.name}`;
      $("layout").textContent = Object.entries(well.layout).map(([layer, said]) => `${layer}: ${said}`).join(", ");
    }
    // The first that did not fail, unless the address names one.
    const first = list.fields.find((field) => !field.error) ?? list.fields[0];
    const chosen = index ?? String(first.index);
    if (!list.fields.some((field) => String(field.index) === chosen)) throw new Error(`Well ${well.name} has no field ${chosen}.`);
    list.select(chosen);
    shown.field = chosen;
    $("place").textContent = `${well.name} field ${chosen}`;
    const field = await ask(`fields/${well.name}/${encodeURIComponent(chosen)}`);
    if (mine !== request) return;
    const reasons = [field.error && `Failed: ${field.error}`, field.rejected && `Rejected: ${field.rejected}`];
    say([...reasons, ...field.missing.map((one) => `Missing: ${one}`)].filter(Boolean).join("\n"));
    await viewer.show(field.view, field.size_px, $("keep-contrast").checked);
  } catch (error) {
    if (mine !== request) return;
    say(error.message);
    await viewer.hide();
  }
}

function say(text) {
  $("problem").textContent = text;
}

async function showLayers() {
  const layers = await viewer.layers();
  const boxes = [...$("layers").children];
  const isSame = boxes.length === layers.length && layers.every((layer, n) => boxes[n].dataset.layer === layer.name);
  if (!isSame) $("layers").replaceChildren(...layers.map(layerBox));
  layers.forEach((layer, n) => {
    const box = $("layers").children[n];
    box.querySelector("input").checked = layer.visible ?? true;
    const swatch = box.querySelector(".swatch");
    const colour = layer.segmentDefaultColor ?? layer.shaderControls?.colour;
    swatch.classList.toggle("many", layer.type === "segmentation" && !colour);
    swatch.style.background = colour ?? (layer.type === "segmentation" ? "" : "#ffffff");
  });
}

function layerBox(layer) {
  const label = document.createElement("label"), input = document.createElement("input");
  const swatch = document.createElement("span");
  label.dataset.layer = layer.name;
  input.type = "checkbox";
  input.addEventListener("change", () => viewer.setVisible(layer.name, input.checked));
  swatch.className = "swatch";
  label.append(input, swatch, layer.name);
  return label;
}

function step(by) {
  const at = list.fields.findIndex((field) => String(field.index) === shown.field) + by;
  if (at in list.fields) return go(shown.well, list.fields[at].index);
  const names = [...map.buttons.keys()], next = names[names.indexOf(shown.well) + by];
  if (next) go(next);
}

$("fit").addEventListener("click", () => viewer.fit());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const by = { n: 1, p: -1 }[event.key.toLowerCase()];
  if (by) step(by);
});
window.addEventListener("hashchange", follow);
if (!document.createElement("canvas").getContext("webgl2")) {
  say("This browser has no WebGL 2, which the viewer needs. Use another one, or `artmask view --napari`.");
} else await follow();
