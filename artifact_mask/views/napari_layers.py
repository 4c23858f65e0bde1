"""Fields as layers of napari, which is imported only when it is to open."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from artifact_mask.config import ViewConfig
from artifact_mask.errors import ConfigError, PlateError
from artifact_mask.io.ome_zarr import read_masking
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.kernels.pyramid import pyramid_shapes
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, Plate, Well
from artifact_mask.views.stored_planes import StoredFields, open_image, open_labels, open_masked
from artifact_mask.workflows.plate_fields import find_fields
from artifact_mask.workflows.viewer_layers import ImageLayer, LabelLayer, list_layers

_UNITS = ("s", "um", "um", "um")
"""Of the axes t, z, y and x; an array may lack the first of them."""
_HINT = 'Run `pip install "napari[all]"` in the environment of artmask, or leave --napari away to use a browser.'


@dataclass(frozen=True)
class NapariLayer:
    """One layer of napari.

    Attributes
    ----------
    kind
        Grey values, or labels.
    data
        Arrays of the same axes, the last of which are y and x: the levels of a pyramid, the finest first, or one alone.
    name
        For people.
    scale, translate
        Of the finest level, for each axis; micrometre along z, y and x.
    contrast_limits
        Values that are shown black and fully lit; None to let napari look at the pixels.
    visible
        At first.
    """

    kind: Literal["image", "labels"]
    data: Sequence[Any]
    name: str
    scale: tuple[float, ...]
    translate: tuple[float, ...] = ()
    contrast_limits: tuple[float, float] | None = None
    visible: bool = True


def show_layers(layers: Iterable[NapariLayer], title: str) -> Any:
    """Open napari with layers, the lowest first.

    Returns
    -------
    napari.Viewer
        Its window stays for as long as ``napari.run()`` or a notebook runs.

    Raises
    ------
    ConfigError
        If napari, or Qt, which draws its windows, is not installed.
    """
    try:
        from napari import Viewer

        viewer = Viewer(title=title)
        # Without Qt, napari makes a viewer all the same, whose window has nothing.
        viewer.window.add_dock_widget  # noqa: B018
    except ImportError as error:
        raise ConfigError(f"napari cannot be opened: {error}. {_HINT}") from error
    add_layers(viewer, layers)
    return viewer


def add_layers(viewer: Any, layers: Iterable[NapariLayer]) -> None:
    """Add layers to a viewer that is open, or a ``ViewerModel`` without a window."""
    for layer in layers:
        is_pyramid = len(layer.data) > 1
        shown = {
            "name": layer.name,
            "scale": layer.scale,
            "translate": layer.translate or None,
            "units": _UNITS[-len(layer.scale) :],
            "visible": layer.visible,
            "multiscale": is_pyramid,
        }
        data = list(layer.data) if is_pyramid else layer.data[0]
        if layer.kind == "labels":
            viewer.add_labels(data, **shown)
        else:
            viewer.add_image(data, contrast_limits=layer.contrast_limits, **shown)
    viewer.scale_bar.visible = True


def open_in_napari(config: ViewConfig) -> None:
    """Show a well of a plate in napari, or one of its fields, and wait until its window is closed.

    Parameters
    ----------
    config
        Which plate; which well, by default the first; and which field, by default all, each at its place in the well.

    Raises
    ------
    PlateError
        If it is no plate that artmask wrote, or has no such well or field.
    ConfigError
        If napari is not installed.
    """
    show_in_napari(config.plate, config.well, config.field)
    from napari import run

    run()


def show_in_napari(root: Location, well: str | None, field: int | None) -> Any:
    """Open napari with a well of a plate, by default the first, or with one of its fields.

    Returns
    -------
    napari.Viewer
        As :func:`show_layers` gives it.

    Raises
    ------
    PlateError
        If it is no plate that artmask wrote, or has no such well or field.
    ConfigError
        If napari is not installed.
    """
    plate = read_plate(root).plate
    found, indices = find_fields(plate, well, field)
    fields = [one for one in found.fields if one.index in indices]
    layers = [layer for one in fields for layer in field_layers(root, plate, found, one)]
    place = f"{plate.name} {found.name}" + (f" field {field}" if field is not None else "")
    return show_layers(layers, title=place)


def field_layers(root: Location, plate: Plate, well: Well, field: Field) -> Iterator[NapariLayer]:
    """Describe what a field shows; nothing but metadata is read.

    Yields
    ------
    NapariLayer
        Axes ``(t, z, y, x)``, with all levels of the pyramid.

    Raises
    ------
    PlateError
        If the field is not in the store, or its metadata is damaged.
    """
    acquisition = plate.acquisitions[plate.acquisition_of[well.path, field.index]]
    folder = root / well.path / str(field.index)
    grids = [
        StoredFields(root, acquisition, (well.path,), (field.index,), np.ones((1, 1), bool), level)
        for level in range(len(pyramid_shapes(acquisition.shape[-2:])))
    ]
    size = acquisition.pixel_size_um
    for layer in list_layers(folder):
        opened = _opener(layer, folder, acquisition)
        yield NapariLayer(
            kind="image" if isinstance(layer, ImageLayer) else "labels",
            data=[opened(grid)[0, 0] for grid in grids],
            name=f"{well.name}/{field.index} {layer.name}",
            scale=(acquisition.t_step_s, acquisition.z_step_um, size, size),
            translate=(0.0, field.z_um, field.y_um, field.x_um),
            contrast_limits=layer.window if isinstance(layer, ImageLayer) else None,
            visible=layer.is_visible,
        )


def _opener(
    layer: ImageLayer | LabelLayer, folder: Location, acquisition: Acquisition
) -> Callable[[StoredFields], Any]:
    """Make a function that opens a layer ``(well, field, t, z, y, x)`` at a level."""
    if isinstance(layer, LabelLayer):
        return partial(open_labels, name=layer.path.removeprefix("labels/"))
    if not layer.path:
        return lambda grid: open_image(grid)[:, :, :, layer.channel]
    found = read_masking(folder)
    if found is None:
        raise PlateError(f"{folder / layer.path} does not say how it was made. Run `artmask run` again.")
    masking, name = found
    channel = [channel.name for channel in acquisition.channels].index(name)
    return partial(open_masked, channel=channel, fill=masking.fill, label=masking.label, flat_field=None)
