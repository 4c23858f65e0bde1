// What is chosen, and what follows from it.
const state = { plate: 0, acquisition: 0, row: null };

async function start() {
  if (!report.plates.length) return;
  document.body.classList.add("live");
  $("explore").hidden = false;
  const [onMap, histogram, dose] = await Promise.all(["map", "histogram", "dose"].map((name) => Figure.load(name)));
  const panel = new WellPanel();
  const map = new PlateMap(onMap, (row, takesFocus) => open(row, takesFocus));
  const plate = () => report.plates[state.plate];

  function rows() {
    const { wells } = plate();
    return wells.well.map((_, row) => row).filter((row) => wells.acquisition[row] === state.acquisition);
  }

  function open(row, takesFocus) {
    state.row = row;
    const turn = (step) => {
      const order = rows(), next = order[(order.indexOf(row) + step + order.length) % order.length];
      map.go(next);
      open(next, false);
    };
    panel.show(state.plate, plate(), row, turn);
    if (takesFocus) panel.focus();
  }

  function drawDose() {
    const { layers } = plate(), name = $("column").value;
    const isShown = layers.numbers.length > 0 && plate().figures.wells.includes(name);
    $("dose-figure").hidden = !isShown;
    if (isShown) showDose(dose, plate(), rows(), name, $("dose-layer").value, $("series").value);
  }

  function draw() {
    const name = $("column").value, { unit, meaning } = column("wells", name);
    $("meaning").textContent = `${meaning}${unit ? ` In ${unit}.` : ""}`;
    map.show(plate(), rows(), name);
    drawDose();
  }

  function drawHistogram() { showHistogram(histogram, plate(), state.acquisition, $("field-column").value); }

  function choosePlate(number, name) {
    Object.assign(state, { plate: number, row: null });
    const { layers, figures, wells } = plate();
    const acquisitions = categories(wells.acquisition);
    state.acquisition = acquisitions[0] ?? 0;
    fill($("acquisition"), [["", acquisitions.map((one) => [one, String(one)])]], state.acquisition);
    $("choose-acquisition").hidden = acquisitions.length < 2;
    const measured = figures.wells.filter((one) => !layers.numbers.includes(one));
    const chosen = [...measured, ...layers.texts, ...layers.numbers].includes(name) ? name : plate().first;
    fill($("column"), [["Figures", pairs(measured)], ["Layout", pairs([...layers.texts, ...layers.numbers])]], chosen);
    fill($("field-column"), [["", pairs(figures.fields)]], figures.fields.includes(chosen) ? chosen : firstOf(figures.fields));
    fill($("dose-layer"), [["", pairs(layers.numbers)]], likely(layers.numbers, /conc|dose/i));
    fill($("series"), [["", [...pairs(layers.texts), ["", "(all wells together)"]]]], likely(layers.texts, /comp|treat|drug/i) ?? "");
    $("choose-series").hidden = !layers.texts.length;
    document.querySelectorAll(".plate").forEach((section) => section.classList.toggle("other", section.id !== `plate-${number}`));
    // Below what has to be known of the plate, and above its tables.
    $(`plate-${number}`).querySelector(".figures").append($("explore"));
    $("plate").value = number;
    map.at = { row: wells.row[0] ?? 1, column: wells.column[0] ?? 1 };
    $("well").replaceChildren(make("p", { class: "hint" }, "Click a well, or move with the arrow keys and press Enter, to see its fields."));
    draw();
    drawHistogram();
  }

  /** Follow the name of a well in a table. */
  function follow(event) {
    const link = event.target.closest("a[data-well], a[data-plate]");
    if (!link) return;
    event.preventDefault();
    if (link.dataset.plate !== undefined) {
      choosePlate(Number(link.dataset.plate), $("column").value);
      $("explore").scrollIntoView();
      return;
    }
    const found = rows().find((row) => plate().wells.well[row] === link.dataset.well);
    if (found === undefined) return;
    map.go(found);
    open(found, true);
  }

  fill($("plate"), [["", report.plates.map((one, number) => [number, one.name])]]);
  $("choose-plate").hidden = report.plates.length < 2;
  document.querySelectorAll("a[data-well], a[data-plate]").forEach((link) => { link.tabIndex = 0; link.setAttribute("role", "button"); });
  document.addEventListener("click", follow);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter") follow(event);
    else if (event.key === "Escape" && $("well").contains(document.activeElement)) $("map").focus();
  });
  $("plate").onchange = () => choosePlate(Number($("plate").value), $("column").value);
  $("acquisition").onchange = () => { state.acquisition = Number($("acquisition").value); draw(); drawHistogram(); };
  $("column").onchange = () => {
    draw();
    if (plate().figures.fields.includes($("column").value)) { $("field-column").value = $("column").value; drawHistogram(); }
  };
  $("field-column").onchange = drawHistogram;
  $("dose-layer").onchange = $("series").onchange = drawDose;
  const repaint = () => { for (const figure of [onMap, histogram, dose]) figure.paint(); draw(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
  const provenance = document.querySelectorAll(".provenance:not([open])");
  addEventListener("beforeprint", () => { repaint(); provenance.forEach((one) => { one.open = true; }); });
  addEventListener("afterprint", () => { repaint(); provenance.forEach((one) => { one.open = false; }); });
  choosePlate(0);
  document.body.dataset.ready = "yes";
}

const likely = (names, pattern) => names.find((name) => pattern.test(name)) ?? names[0];
const firstOf = (names) => ["stained_fraction", "artifact_fraction"].find((name) => names.includes(name)) ?? names[0];

start();
