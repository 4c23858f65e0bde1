// What all parts use: the report's data, elements, numbers as text.
const report = JSON.parse(document.getElementById("report").textContent);
const $ = (id) => document.getElementById(id);

/** Make an element; text is set as text, never as HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name === "class") element.className = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function say(value) {
  if (value === null || value === undefined || value === "") return "—";
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value);
}

/** Meaning of a column, and its unit. */
function column(table, name) {
  return (report.columns[table] || {})[name] || { unit: "", meaning: "Of the plate's layout." };
}

function withUnit(table, name, value) {
  const { unit } = column(table, name);
  return unit && value !== null && value !== undefined ? `${say(value)} ${unit}` : say(value);
}

/** Fill a select with groups of names; a group without names is left out. */
function fill(select, groups, chosen) {
  select.replaceChildren();
  for (const [title, names] of groups) {
    if (!names.length) continue;
    const group = title ? make("optgroup", { label: title }) : select;
    for (const [value, text] of names) group.append(make("option", { value }, text));
    if (title) select.append(group);
  }
  if (chosen !== undefined) select.value = chosen;
}

/** Name of a column that may go on in the next line after an underscore. */
function breakable(name) {
  const span = make("span");
  name.split("_").forEach((part, index) => span.append(...(index ? ["_", make("wbr"), part] : [part])));
  return span;
}

const pairs = (names) => names.map((name) => [name, name]);
const rowName = (row) => (row > 26 ? String.fromCharCode(64 + Math.floor((row - 1) / 26)) : "")
  + String.fromCharCode(65 + ((row - 1) % 26));
const CATEGORY_COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#e69f00", "#777777",
  "#332288", "#44aa99", "#999933", "#882255"];
const colourOf = (index) => CATEGORY_COLOURS[index] || `hsl(${(index * 137.5) % 360} 55% 50%)`;

/** Names of the categories of some values, numbers in their order. */
function categories(values) {
  const known = [...new Set(values.filter((value) => value !== null && value !== undefined))];
  return known.sort((a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true })));
}
