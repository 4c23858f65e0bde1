"""Images, labels and masked images of a field of view (NGFF 0.5): each file has one writer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from fsspec import AbstractFileSystem
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from numpy.typing import NDArray
from yaozarrs import v05
from zarr.abc.store import Store
from zarr.errors import ContainsArrayError, NodeNotFoundError
from zarr.storage import FsspecStore, LocalStore

from artifact_mask.errors import PlateError
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.image_metadata import describe_field, describe_label, describe_masked
from artifact_mask.io.shard import INTENSITY, LABEL, PlaneCodec, create_sharded_array, read_plane, write_plane
from artifact_mask.io.zarr_group import read_attributes, write_group
from artifact_mask.kernels.pyramid import build_pyramid, downsample_mean, downsample_nearest, pyramid_shapes
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, PlaneIndex

MAX_CHUNK_PX = 640


def write_field(
    files: StagedFiles,
    folder: Location,
    acquisition: Acquisition,
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
    acquisition, field
        What it belongs to.
    planes
        Indices and pixels ``(y, x)``; taken one by one, so that a single plane is in memory.
    missing
        Reason for each plane that has no pixels. It is marked in the metadata; its chunks stay absent.
    """
    coarse = _write_levels(
        files, folder, acquisition.shape, planes, axes="tczyx", downsample=downsample_mean, codec=INTENSITY
    )
    files.write(folder / "zarr.json", describe_field(acquisition, field, missing, coarse))


def write_masked(
    files: StagedFiles,
    folder: Location,
    acquisition: Acquisition,
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
    acquisition, field
        What it belongs to.
    channel
        Index of the masked channel in the acquisition.
    planes
        Indices ``(t, 0, z)`` and pixels ``(y, x)``.
    """
    shape = (acquisition.shape[0], 1, *acquisition.shape[2:])
    coarse = _write_levels(
        files, folder / "masked", shape, planes, axes="tczyx", downsample=downsample_mean, codec=INTENSITY
    )
    files.write(folder / "masked" / "zarr.json", describe_masked(acquisition, field, channel, coarse))


def write_labels(
    files: StagedFiles,
    folder: Location,
    acquisition: Acquisition,
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
    acquisition, field
        What it belongs to.
    planes
        Indices ``(t, z)`` and labels ``(y, x)``; 0 is background.
    name
        Name of the label image.
    """
    t, _, z, y, x = acquisition.shape
    _write_levels(
        files, folder / "labels" / name, (t, z, y, x), planes, axes="tzyx", downsample=downsample_nearest, codec=LABEL
    )
    files.write(folder / "labels" / name / "zarr.json", describe_label(acquisition, field, name))
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


def read_image_plane(folder: Location, acquisition: Acquisition, index: PlaneIndex) -> NDArray[np.uint16]:
    """Read one plane ``(y, x)`` of a field's image at full resolution.

    Raises
    ------
    PlateError
        If the image is not there, or damaged.

    Notes
    -----
    An image that is laid out as :func:`write_field` does it is read without zarr-python, whose machinery takes longer
    than reading and decompressing.
    """
    chunk = (_chunk_size(acquisition.shape[-2]), _chunk_size(acquisition.shape[-1]))
    plane = read_plane(folder / "0", acquisition.shape, index, chunk, "tczyx", INTENSITY)
    return np.asarray(open_level(folder)[index]) if plane is None else plane


def open_level(folder: Location, level: int = 0) -> "zarr.Array[Any]":
    """Open one level of a multiscale image for reading.

    Raises
    ------
    PlateError
        If it is not there.
    """
    try:
        return zarr.open_array(_open_store(folder / str(level)), mode="r", zarr_format=3)
    except (FileNotFoundError, NodeNotFoundError, ContainsArrayError) as error:
        raise PlateError(f"{folder / str(level)} is not an array; run `artmask ingest` again") from error


def _open_store(folder: Location) -> Store:
    if isinstance(folder, Path):
        return LocalStore(folder, read_only=True)
    return FsspecStore(_asynchronous(folder.fs), path=folder.path, read_only=True)


@cache
def _asynchronous(files: AbstractFileSystem) -> AbstractFileSystem:
    """Open the same files for Zarr's event loop, once: by itself, fsspec does so for each thread that ever comes."""
    if not files.async_impl:
        return AsyncFileSystemWrapper(files, asynchronous=True)
    return type(files)(*files.storage_args, **(files.storage_options | {"asynchronous": True}))


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
