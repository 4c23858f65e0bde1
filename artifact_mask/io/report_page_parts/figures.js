// Bokeh's figures: put into the page, found by name, coloured like the page.
class Figure {
  static async load(name) {
    const manager = await Bokeh.embed.embed_item(JSON.parse($("figures").textContent)[name], name);
    const view = [...manager.roots][0];
    return new Figure(view);
  }

  constructor(view) {
    this.view = view;
    this.model = view.model;
    this.document = view.model.document;
    this.paint();
  }

  named(name) { return this.document.get_model_by_name(name); }

  data(name, columns) { this.named(name).data = columns; }

  /** Take the colours of the page. */
  paint() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const { model } = this;
    for (const axis of [...model.above, ...model.below, ...model.left, ...model.right]) {
      const text = { major_label_text_color: colour("--soft"), major_label_text_font: "system-ui, sans-serif" };
      if ("axis_label_text_color" in axis)
        Object.assign(text, { axis_label_text_color: colour("--soft"), axis_label_text_font: "system-ui, sans-serif" });
      axis.setv(text);
    }
    for (const grid of model.center) if ("grid_line_color" in grid && grid.dimension === 1 && grid.grid_line_color !== null)
      grid.grid_line_color = colour("--line");
    for (const [name, variable] of [["used", "--bar"], ["rejected", "--bar-soft"]])
      if (this.named(name)) this.named(name).glyph.fill_color = { value: colour(variable) };
    if (this.named("cursor-frame")) this.named("cursor-frame").glyph.line_color = { value: colour("--focus") };
    if (this.named("hatched")) this.named("hatched").glyph.hatch_color = { value: colour("--soft") };
  }
}
