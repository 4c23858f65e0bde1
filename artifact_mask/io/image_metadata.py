"""Metadata of the images of a field of view (NGFF).

The fields of an acquisition differ in a few values. Documents are made with yaozarrs' models once, with gaps for these
values: to model, check and print each anew would take eight times as long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from yaozarrs import DimSpec

from artifact_mask.io.layout import LAYOUTS, Layout
from artifact_mask.io.zarr_group import dump, fill_gaps, gap
from artifact_mask.kernels.pyramid import pyramid_shapes
from artifact_mask.metadata import Acquisition, Channel, Field, Masking, NgffVersion, PlaneIndex

Coarse = Mapping[tuple[int, ...], NDArray[Any]]
"""Coarsest level of some planes, by ``(t, c, z)``."""

_EMISSION_COLOURS = ((470, "0000FF"), (505, "00FFFF"), (560, "00FF00"), (590, "FFFF00"), (650, "FF8000"))


class _Grid(NamedTuple):
    """Sampling that the images of an acquisition share: ``(y, x)`` pixels, their sides, and the steps."""

    shape: tuple[int, int]
    pixel_size_um: float
    z_step_um: float
    t_step_s: float


Documents = dict[str, bytes]
"""Documents of a group by the names of their files, in the order in which they are to be written."""


def describe_field(
    acquisition: Acquisition,
    field: Field,
    missing: Mapping[PlaneIndex, str],
    coarse: Coarse,
    *,
    masking: Masking | None = None,
    ngff: NgffVersion = "0.5",
) -> Documents:
    """Metadata of a field's image, with the reason for each plane that has no pixels, and how it was masked, if so."""
    documents = _field_documents(ngff, _grid(acquisition), acquisition.channels, tuple(missing.items()), masking)
    values = _name_and_place(str(field.index), field) | _windows(acquisition.shape[1], coarse)
    return _fill(documents, values | {"field_id": field.field_id, "times_s": list(field.times_s)})


def describe_masked(
    acquisition: Acquisition,
    field: Field,
    channel: int,
    masking: Masking,
    coarse: Coarse,
    *,
    ngff: NgffVersion = "0.5",
) -> Documents:
    """Metadata of the masked image of one channel, which say how it was made."""
    documents = _masked_documents(ngff, _grid(acquisition), acquisition.channels[channel], masking)
    return _fill(documents, _name_and_place("masked", field) | _windows(1, coarse))


def describe_label(
    acquisition: Acquisition, field: Field, name: str, *, ngff: NgffVersion = "0.5", made_by: str = ""
) -> Documents:
    """Metadata of a label image, with the command that made it where its name does not tell."""
    return _fill(_label_documents(ngff, _grid(acquisition), made_by), _name_and_place(name, field))


def _fill(documents: Mapping[str, str], values: Mapping[str, Any]) -> Documents:
    return {name: fill_gaps(document, values) for name, document in documents.items()}


@lru_cache
def _field_documents(
    ngff: NgffVersion,
    grid: _Grid,
    channels: tuple[Channel, ...],
    missing: tuple[tuple[PlaneIndex, str], ...],
    masking: Masking | None,
) -> dict[str, str]:
    planes = [{"tcz": list(index), "reason": reason} for index, reason in missing]
    own = {"field_id": gap("field_id"), "times_s": gap("times_s"), "missing_planes": planes}
    masked = {"masking": asdict(masking)} if masking else {}
    return LAYOUTS[ngff].describe_group(_image(LAYOUTS[ngff], grid, channels), {"artmask": own | masked})


@lru_cache
def _masked_documents(ngff: NgffVersion, grid: _Grid, channel: Channel, masking: Masking) -> dict[str, str]:
    return LAYOUTS[ngff].describe_group(_image(LAYOUTS[ngff], grid, (channel,)), {"artmask": asdict(masking)})


@lru_cache
def _label_documents(ngff: NgffVersion, grid: _Grid, made_by: str) -> dict[str, str]:
    layout, models = LAYOUTS[ngff], LAYOUTS[ngff].models
    image_label = models.ImageLabel(
        version=ngff,
        colors=[models.LabelColor.model_validate({"label-value": 1, "rgba": [255, 64, 64, 160]})],
        source=models.LabelSource(image="../../"),
    )
    multiscale = _multiscale(layout, grid, axes="tzyx")
    image = models.LabelImage.model_validate({"multiscales": [multiscale], "image-label": image_label})
    return layout.describe_group(_with_gaps(image), {"artmask": {"made_by": made_by}} if made_by else {})


def _image(layout: Layout, grid: _Grid, channels: Sequence[Channel]) -> dict[str, Any]:
    models = layout.models
    window = models.OmeroWindow(start=0, end=1, min=0, max=65535)
    described = [
        models.OmeroChannel(label=channel.name, color=_colour(channel), active=True, window=window)
        for channel in channels
    ]
    omero = models.Omero(channels=described, version=layout.omero_version)
    attributes = _with_gaps(models.Image(multiscales=[_multiscale(layout, grid, axes="tczyx")], omero=omero))
    for c, channel in enumerate(attributes["omero"]["channels"]):
        channel["window"] |= {"start": gap(f"start{c}"), "end": gap(f"end{c}")}
    return attributes


def _multiscale(layout: Layout, grid: _Grid, *, axes: str) -> BaseModel:
    dims = {
        "t": DimSpec(name="t", scale=grid.t_step_s, unit="second", scale_factor=1),
        "c": DimSpec(name="c"),
        "z": DimSpec(name="z", scale=grid.z_step_um, unit="micrometer", scale_factor=1, translation=0),
        "y": DimSpec(name="y", scale=grid.pixel_size_um, unit="micrometer", translation=0),
        "x": DimSpec(name="x", scale=grid.pixel_size_um, unit="micrometer", translation=0),
    }
    n_levels = len(pyramid_shapes(grid.shape))
    multiscale: BaseModel = layout.models.Multiscale.from_dims(
        [dims[axis] for axis in axes], name=gap("name"), n_levels=n_levels
    )
    return multiscale


def _with_gaps(image: BaseModel) -> dict[str, Any]:
    """Attributes of an image, with gaps for the place of the field."""
    attributes = dump(image)
    for dataset in attributes["multiscales"][0]["datasets"]:
        _, translation = dataset["coordinateTransformations"]
        translation["translation"][-3:] = [gap("z_um"), gap("y_um"), gap("x_um")]
    return attributes


def _grid(acquisition: Acquisition) -> _Grid:
    y, x = acquisition.shape[-2:]
    return _Grid((y, x), acquisition.pixel_size_um, acquisition.z_step_um, acquisition.t_step_s)


def _name_and_place(name: str, field: Field) -> dict[str, Any]:
    # No negative zeros.
    return {"name": name} | {key: float(getattr(field, key)) or 0.0 for key in ("z_um", "y_um", "x_um")}


def _windows(n_channels: int, coarse: Coarse) -> dict[str, Any]:
    """Range of grey values to show of each channel, from its first plane."""
    windows: dict[str, Any] = {}
    for c in range(n_channels):
        pixels = next((plane for index, plane in coarse.items() if index[1] == c), None)
        low, high = _shown_range(pixels)
        low = min(low, 65534.0)
        windows |= {f"start{c}": low, f"end{c}": max(high, low + 1)}
    return windows


def _shown_range(pixels: NDArray[Any] | None) -> tuple[float, float]:
    known = pixels[np.isfinite(pixels)] if pixels is not None else np.empty(0)
    if not known.size:
        return 0.0, 65535.0
    low, high = np.percentile(known, (0.5, 99.5))
    return float(low), float(high)


def _colour(channel: Channel) -> str:
    if channel.kind != "fluorescence" or channel.emission_nm is None:
        return "FFFFFF"
    return next((colour for limit, colour in _EMISSION_COLOURS if channel.emission_nm < limit), "FF0000")
