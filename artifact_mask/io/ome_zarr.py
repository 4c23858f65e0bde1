"""Images, labels and masked images of a field of view (NGFF 0.5): each file has one writer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from yaozarrs import DimSpec, v05
from zarr.abc.store import Store
from zarr.errors import ContainsArrayError, NodeNotFoundError
from zarr.storage import FsspecStore, LocalStore

from artifact_mask.errors import PlateError
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.shard import INTENSITY, LABEL, PlaneCodec, create_sharded_array, write_plane
from artifact_mask.io.zarr_group import read_attributes, write_group
from artifact_mask.kernels.pyramid import build_pyramid, downsample_mean, downsample_nearest, pyramid_shapes
from artifact_mask.location import Location
from artifact_mask.metadata import Channel, Field, PlaneIndex, Plate

MAX_CHUNK_PX = 640
_EMISSION_COLOURS = ((470, "0000FF"), (505, "00FFFF"), (560, "00FF00"), (590, "FFFF00"), (650, "FF8000"))


def write_field(
    files: StagedFiles,
    folder: Location,
    plate: Plate,
    field: Field,
    planes: Iterable[tuple[PlaneIndex, NDArray[np.uint16]]],
    missing: Mapping[PlaneIndex, str],
) -> None:
    """Write one field of view as a multiscale image ``(t, c, z, y, x)``; its metadata comes last.

    Parameters
    ----------
    files
        To write with.
    folder
        Group of the field.
    plate, field
        What it belongs to.
    planes
        Indices and pixels ``(y, x)``; taken one by one, so that a single plane is in memory.
    missing
        Reason for each plane that has no pixels. It is marked in the metadata; its chunks stay absent.
    """
    coarse = _write_levels(
        files, folder, plate.shape, planes, axes="tczyx", downsample=downsample_mean, codec=INTENSITY
    )
    write_group(
        files,
        folder,
        {
            "ome": v05.Image(
                multiscales=[_multiscale(plate, field, axes="tczyx")],
                omero=v05.Omero(channels=_omero_channels(plate.channels, coarse)),
            ),
            "artmask": {
                "field_id": field.field_id,
                "missing_planes": [{"tcz": list(index), "reason": reason} for index, reason in missing.items()],
            },
        },
    )


def write_masked(
    files: StagedFiles,
    folder: Location,
    plate: Plate,
    field: Field,
    channel: int,
    planes: Iterable[tuple[PlaneIndex, NDArray[np.uint16]]],
) -> None:
    """Write the masked image of one channel as ``masked`` inside the field's group, beside its labels.

    Parameters
    ----------
    files
        To write with.
    folder
        Group of the field.
    plate, field
        What it belongs to.
    channel
        Index of the masked channel in the plate.
    planes
        Indices ``(t, 0, z)`` and pixels ``(y, x)``.
    """
    shape = (plate.shape[0], 1, *plate.shape[2:])
    coarse = _write_levels(
        files, folder / "masked", shape, planes, axes="tczyx", downsample=downsample_mean, codec=INTENSITY
    )
    image = v05.Image(
        multiscales=[_multiscale(plate, field, axes="tczyx", name="masked")],
        omero=v05.Omero(channels=_omero_channels((plate.channels[channel],), coarse)),
    )
    write_group(files, folder / "masked", {"ome": image, "artmask": {"fill": "median of the field"}})


def write_labels(
    files: StagedFiles,
    folder: Location,
    plate: Plate,
    field: Field,
    planes: Iterable[tuple[tuple[int, int], NDArray[np.int32]]],
    *,
    name: str,
) -> None:
    """Write an instance label image ``(t, z, y, x)`` as ``labels/<name>`` inside the field's group.

    Parameters
    ----------
    files
        To write with.
    folder
        Group of the field.
    plate, field
        What it belongs to.
    planes
        Indices ``(t, z)`` and labels ``(y, x)``; 0 is background.
    name
        Name of the label image.
    """
    t, _, z, y, x = plate.shape
    _write_levels(
        files, folder / "labels" / name, (t, z, y, x), planes, axes="tzyx", downsample=downsample_nearest, codec=LABEL
    )
    image_label = v05.ImageLabel(
        version="0.5",
        colors=[v05.LabelColor.model_validate({"label-value": 1, "rgba": [255, 64, 64, 160]})],
        source=v05.LabelSource(image="../../"),
    )
    image = v05.LabelImage.model_validate(
        {"multiscales": [_multiscale(plate, field, axes="tzyx", name=name)], "image-label": image_label}
    )
    write_group(files, folder / "labels" / name, {"ome": image})
    listed = read_attributes(folder / "labels").get("ome", {}).get("labels", [])
    write_group(files, folder / "labels", {"ome": v05.LabelsGroup(labels=sorted({*listed, name}))}, stamped=False)


def read_missing_planes(folder: Location) -> dict[PlaneIndex, str]:
    """Planes of a field that the export did not hold, with the reasons.

    Raises
    ------
    PlateError
        If the field is not in the store.
    """
    attributes = read_attributes(folder)
    if "artmask" not in attributes:
        raise PlateError("the field is not in the store; run `artmask ingest` again")
    missing: dict[PlaneIndex, str] = {}
    for entry in attributes["artmask"]["missing_planes"]:
        t, c, z = entry["tcz"]
        missing[t, c, z] = entry["reason"]
    return missing


def open_level(folder: Location, level: int = 0) -> "zarr.Array[Any]":
    """Open one level of a multiscale image for reading.

    Raises
    ------
    PlateError
        If it is not there.
    """
    try:
        return zarr.open_array(_open_store(folder / str(level)), mode="r")
    except (FileNotFoundError, NodeNotFoundError, ContainsArrayError) as error:
        raise PlateError(f"{folder / str(level)} is not an array; run `artmask ingest` again") from error


def _open_store(folder: Location) -> Store:
    if isinstance(folder, Path):
        return LocalStore(folder, read_only=True)
    return FsspecStore.from_url(str(folder), storage_options=dict(folder.storage_options), read_only=True)


def _write_levels(
    files: StagedFiles,
    folder: Location,
    shape: Sequence[int],
    planes: Iterable[tuple[tuple[int, ...], NDArray[Any]]],
    *,
    axes: str,
    downsample: Callable[[NDArray[Any]], NDArray[Any]],
    codec: PlaneCodec,
) -> dict[tuple[int, ...], NDArray[Any]]:
    """Write planes with their pyramids, one shard a plane and level; return each plane's coarsest level."""
    chunks = []
    for level, level_shape in enumerate(pyramid_shapes((shape[-2], shape[-1]))):
        chunks.append((_chunk_size(level_shape[0]), _chunk_size(level_shape[1])))
        create_sharded_array(files, folder / str(level), (*shape[:-2], *level_shape), chunks[-1], axes, codec)
    coarse = {}
    for index, plane in planes:
        levels = build_pyramid(plane, len(chunks), downsample)
        for level, (pixels, chunk) in enumerate(zip(levels, chunks, strict=True)):
            write_plane(files, folder / str(level), index, pixels, chunk, codec)
        coarse[index] = levels[-1]
    return coarse


def _chunk_size(n: int) -> int:
    """Largest divisor of a side that makes a handy chunk; the whole side where there is none."""
    return next((size for size in range(min(n, MAX_CHUNK_PX), n // 16, -1) if n % size == 0), n)


def _multiscale(plate: Plate, field: Field, *, axes: str, name: str | None = None) -> v05.Multiscale:
    pixel = plate.pixel_size_um
    dims = {
        "t": DimSpec(name="t", unit="second"),
        "c": DimSpec(name="c"),
        "z": DimSpec(name="z", scale=plate.z_step_um, unit="micrometer", scale_factor=1),
        "y": DimSpec(name="y", scale=pixel, unit="micrometer", translation=field.y_um),
        "x": DimSpec(name="x", scale=pixel, unit="micrometer", translation=field.x_um),
    }
    n_levels = len(pyramid_shapes((plate.shape[-2], plate.shape[-1])))
    return v05.Multiscale.from_dims([dims[axis] for axis in axes], name=name or str(field.index), n_levels=n_levels)


def _omero_channels(
    channels: Sequence[Channel], coarse: Mapping[tuple[int, ...], NDArray[Any]]
) -> list[v05.OmeroChannel]:
    described = []
    for c, channel in enumerate(channels):
        pixels = next((plane for index, plane in coarse.items() if index[1] == c), None)
        low, high = (0.0, 65535.0) if pixels is None else (float(p) for p in np.percentile(pixels, (0.5, 99.5)))
        low = min(low, 65534.0)
        window = v05.OmeroWindow(start=low, end=max(high, low + 1), min=0, max=65535)
        described.append(v05.OmeroChannel(label=channel.name, color=_colour(channel), active=True, window=window))
    return described


def _colour(channel: Channel) -> str:
    if channel.kind != "fluorescence" or channel.emission_nm is None:
        return "FFFFFF"
    return next((colour for limit, colour in _EMISSION_COLOURS if channel.emission_nm < limit), "FF0000")
