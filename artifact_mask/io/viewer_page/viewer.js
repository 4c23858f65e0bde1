// Neuroglancer in its frame: what it is told to show, and what a person has changed in it.

const KEPT_OF_LAYERS = ["visible", "opacity", "blend", "selectedAlpha", "notSelectedAlpha", "segmentColors", "segmentDefaultColor"];

export class Viewer {
  constructor(frame, whenChanged) {
    this.frame = frame;
    this.ready = new Promise((resolve) => {
      const find = () => {
        const viewer = frame.contentWindow.viewer;
        if (!viewer) return setTimeout(find, 50);
        viewer.state.changed.add(() => {
          clearTimeout(this.pending);
          this.pending = setTimeout(whenChanged, 100);
        });
        resolve(viewer);
      };
      find();
    });
  }

  async layers() {
    return (await this.ready).state.toJSON().layers ?? [];
  }

  // Show a field; what a person has set for layers of the same names stays, and so does the zoom.
  async show(view, size, keepContrast) {
    const { state } = await this.ready;
    const before = state.toJSON();
    const known = new Map((this.size ? before.layers : []).map((layer) => [layer.name, layer]));
    const origin = document.baseURI.replace(/[^/]*(#.*)?$/, "");
    const layers = view.layers.map((layer) => {
      const merged = { ...layer, source: `${origin}${layer.source}` };
      const old = known.get(layer.name);
      if (old?.type !== layer.type) return merged;
      for (const key of KEPT_OF_LAYERS) if (key in old) merged[key] = old[key];
      // Neuroglancer leaves out what is as it would be by itself.
      merged.visible = old.visible ?? true;
      if (keepContrast && layer.type === "image") {
        merged.shader = old.shader ?? merged.shader;
        merged.shaderControls = old.shaderControls ?? merged.shaderControls;
      }
      return merged;
    });
    const zoom = this.size ? before.crossSectionScale : undefined;
    this.size = size;
    state.reset();
    state.restoreState({ ...view, layers, crossSectionScale: zoom ?? this.wholeField() });
    this.centre = view.position;
  }

  async hide() {
    (await this.ready).state.reset();
  }

  async setVisible(name, visible) {
    // Not by its state, which would take all layers away and forget what the axes are.
    (await this.ready).layerManager.getLayerByName(name)?.setVisible(visible);
  }

  async fit() {
    const { state } = await this.ready, { position } = state.toJSON();
    const [x, y] = this.centre;
    state.restoreState({ position: [x, y, ...position.slice(2)], crossSectionScale: this.wholeField() });
  }

  // Pixels of the field to one of the screen at which all of it is seen, with room for the bars.
  wholeField() {
    const { clientWidth, clientHeight } = this.frame;
    return Math.max(this.size[0] / clientWidth, this.size[1] / Math.max(100, clientHeight - 90));
  }
}
