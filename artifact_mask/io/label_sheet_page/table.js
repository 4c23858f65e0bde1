// The table of labels: the same rules as artifact_mask/io/label_list.py.
const LABELS = ["clean", "artifact", "unsure"];
const PLACE_COLUMNS = ["plate", "well", "field"];
const BOX_COLUMNS = ["y0", "x0", "height", "width"];

/** One string for a place: `box` is [y0, x0, height, width], or null for the whole field. */
function placeKey(plate, well, field, box) {
  return JSON.stringify([plate, well, field, box]);
}

/** Split CSV into records `{line, cells}`; quoted cells may hold delimiters, quotes and ends of lines. */
function splitTable(text, delimiter) {
  const records = [];
  let cells = [], cell = "", quoted = false, line = 1, start = 1;
  const endRecord = () => {
    cells.push(cell);
    if (cells.some((value) => value.trim())) records.push({ line: start, cells: cells.map((value) => value.trim()) });
    cells = [];
    cell = "";
    start = line;
  };
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === "\n") line++;
    if (quoted) {
      if (character !== '"') cell += character;
      else if (text[i + 1] === '"') { cell += '"'; i++; }
      else quoted = false;
    } else if (character === '"' && cell === "") quoted = true;
    else if (character === delimiter) { cells.push(cell); cell = ""; }
    else if (character === "\n") endRecord();
    else if (character === "\r") { if (text[i + 1] !== "\n") { line++; endRecord(); } }
    else cell += character;
  }
  endRecord();
  return records;
}

/** Read a table; throws an Error that names the line. */
function readTable(text) {
  text = text.replace(/^\uFEFF/, "");
  const first = text.split(/\r?\n|\r/).find((line) => line.trim()) || "";
  const frequency = (delimiter) => first.split(delimiter).length;
  const delimiter = [",", ";", "\t"].reduce((best, next) => (frequency(next) > frequency(best) ? next : best));
  const [head, ...records] = splitTable(text, delimiter);
  const header = head ? head.cells.map((cell) => cell.toLowerCase()) : [];
  for (const name of [...PLACE_COLUMNS, "label"])
    if (!header.includes(name)) throw new Error(`This is no table of labels: it has no column “${name}”.`);
  const seen = new Map();
  for (const { line, cells } of records) {
    const value = (name) => cells[header.indexOf(name)] || "";
    const number = (name) => {
      const found = /^(\d{1,9})(\.0+)?$/.exec(value(name));
      if (!found) throw new Error(`Line ${line}: ${name} is “${value(name)}”, expected a whole number.`);
      return Number(found[1]);
    };
    const well = /^([A-Za-z]{1,2})\s*0*([1-9]\d{0,2})$/.exec(value("well"));
    if (!value("plate")) throw new Error(`Line ${line}: no plate is named.`);
    if (!well) throw new Error(`Line ${line}: “${value("well")}” is not a well, such as B03.`);
    const label = value("label").toLowerCase();
    if (!LABELS.includes(label)) throw new Error(`Line ${line}: “${value("label")}” is not a label.`);
    const row = {
      plate: value("plate"),
      well: well[1].toUpperCase() + well[2].padStart(2, "0"),
      field: number("field"),
      label,
      box: BOX_COLUMNS.some((name) => value(name)) ? BOX_COLUMNS.map(number) : null,
    };
    const key = placeKey(row.plate, row.well, row.field, row.box);
    const before = seen.get(key);
    if (before && before.label !== label)
      throw new Error(`Line ${line} says ${label} of ${row.well} field ${row.field}, an earlier one ${before.label}.`);
    seen.set(key, row);
  }
  return seen;
}

/** Write rows as CSV; a name that needs it is quoted, and otherwise stays as it is. */
function writeTable(rows) {
  const withBoxes = rows.some((row) => row.box);
  const quote = (value) => {
    const text = String(value);
    return /[",;\t\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [[...PLACE_COLUMNS, "label", ...(withBoxes ? BOX_COLUMNS : [])]];
  for (const { plate, well, field, label, box } of rows)
    lines.push([plate, well, field, label, ...(withBoxes ? box || ["", "", "", ""] : [])]);
  return lines.map((line) => line.map(quote).join(",") + "\n").join("");
}
