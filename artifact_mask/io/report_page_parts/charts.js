// How fields are distributed, and how wells answer to a dose.
const FEWEST_BINS = 6, MOST_BINS = 48;

/** Edges of bins as Freedman and Diaconis choose them; one bin where all values are the same. */
function edges(values) {
  const sorted = [...values].sort((a, b) => a - b), n = sorted.length;
  const low = sorted[0], high = sorted[n - 1];
  if (low === high) return [low - 0.5, low + 0.5];
  const quartile = (part) => sorted[Math.min(n - 1, Math.floor(part * n))];
  const width = (2 * (quartile(0.75) - quartile(0.25))) / Math.cbrt(n);
  const bins = Math.max(FEWEST_BINS, Math.min(MOST_BINS, width > 0 ? Math.ceil((high - low) / width) : MOST_BINS));
  return Array.from({ length: bins + 1 }, (_, index) => low + ((high - low) * index) / bins);
}

function showHistogram(figure, plate, acquisition, name) {
  const { fields } = plate, used = [], rejected = [];
  fields.well.forEach((_, index) => {
    const value = fields[name]?.[index] ?? null;
    if (value === null || fields.acquisition[index] !== acquisition) return;
    (fields.rejected?.[index] ? rejected : used).push(value);
  });
  const all = [...used, ...rejected], cut = all.length ? edges(all) : [0, 1], bins = cut.length - 1;
  const count = (values) => {
    const counts = new Array(bins).fill(0);
    for (const value of values) counts[Math.max(0, Math.min(bins - 1, Math.floor(((value - cut[0]) / (cut[bins] - cut[0])) * bins)))]++;
    return counts;
  };
  const [inUse, out] = [count(used), count(rejected)];
  figure.data("bars", {
    left: cut.slice(0, -1), right: cut.slice(1), used: inUse, top: inUse.map((n, index) => n + out[index]),
    range: inUse.map((_, index) => `${say(cut[index])} to ${say(cut[index + 1])}`),
    said: inUse.map((n, index) => (out[index] ? `${n}, and ${out[index]} rejected` : String(n))),
  });
  figure.model.x_range.setv({ start: cut[0], end: cut[bins] });
  figure.model.y_range.setv({ start: 0, end: Math.max(1, ...inUse.map((n, index) => n + out[index])) * 1.08 });
  const { unit, meaning } = column("fields", name), sorted = all.sort((a, b) => a - b);
  const middle = sorted.length ? ` Median ${withUnit("fields", name, (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2)} of ${sorted.length} fields.` : " No field has a value.";
  $("histogram-caption").textContent = `${meaning}${unit ? ` In ${unit}.` : ""}${middle}${rejected.length ? ` ${rejected.length} rejected fields on top, in another colour.` : ""}`;
}

/** Draw wells over the logarithm of a layer; what is not above zero is put at the left, apart from the others. */
function showDose(figure, plate, rows, name, layer, series) {
  const { wells } = plate, found = rows.filter((row) => wells[layer][row] !== null && (wells[name]?.[row] ?? null) !== null);
  const doses = categories(found.map((row) => wells[layer][row])), positive = doses.filter((dose) => dose > 0);
  const isLog = positive.length > 1 && positive[positive.length - 1] / positive[0] > 5;
  const least = isLog ? Math.log10(positive[0]) : 0;
  const place = (dose) => (!isLog ? dose : dose > 0 ? Math.log10(dose) : least - 0.6);
  const names = series ? categories(found.map((row) => wells[series][row])) : ["all wells"];
  const of = (row) => (series ? wells[series][row] : "all wells");
  const means = { x: [], y: [], colour: [], n: [], dose: [], series: [] }, lines = { xs: [], ys: [], colour: [] };
  names.forEach((one, index) => {
    const xs = [], ys = [];
    for (const dose of doses) {
      const values = found.filter((row) => of(row) === one && wells[layer][row] === dose).map((row) => wells[name][row]);
      if (!values.length) continue;
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      xs.push(place(dose)); ys.push(mean);
      means.x.push(place(dose)); means.y.push(mean); means.colour.push(colourOf(index));
      means.n.push(values.length); means.dose.push(say(dose)); means.series.push(shorten(say(one)));
    }
    lines.xs.push(xs); lines.ys.push(ys); lines.colour.push(colourOf(index));
  });
  figure.data("lines", lines);
  figure.data("means", means);
  figure.data("points", {
    x: found.map((row) => place(wells[layer][row])), y: found.map((row) => wells[name][row]),
    colour: found.map((row) => colourOf(names.indexOf(of(row)))), well: found.map((row) => wells.well[row]),
    dose: found.map((row) => say(wells[layer][row])), series: found.map((row) => shorten(say(of(row)))),
  });
  const [axis] = figure.model.below, at = doses.map(place);
  const span = (values, share) => {
    const low = Math.min(...values), high = Math.max(...values), pad = (high - low || Math.abs(high) || 1) * share;
    return { start: low - pad, end: high + pad };
  };
  if (found.length) {
    figure.model.x_range.setv(span(at, 0.06));
    figure.model.y_range.setv(span(found.map((row) => wells[name][row]), 0.08));
  }
  const shown = at.filter((x, index) => index === 0 || x - at[index - 1] > (at[at.length - 1] - at[0]) / 14);
  axis.ticker.ticks = shown;
  axis.major_label_overrides = new Map(doses.map((dose) => [place(dose), say(dose)]));
  const keys = make("span", { class: "keys" });
  names.forEach((one, index) => {
    const icon = make("i");
    icon.style.background = colourOf(index);
    keys.append(make("span", {}, icon, say(one)));
  });
  const said = `${name} against ${layer}${isLog ? ", on a logarithmic axis" : ""}: a point for each well, and the mean of the wells of one ${layer}.`;
  $("dose-caption").replaceChildren(make("span", {}, said), keys);
}
