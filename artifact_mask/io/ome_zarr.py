"""Images, labels and masked images of a field of view: each file has one writer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from fsspec import AbstractFileSystem
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.errors import ContainsArrayError, NodeNotFoundError
from zarr.storage import FsspecStore, LocalStore

from artifact_mask.errors import PlateError
from artifact_mask.io.chunk import INTENSITY, LABEL, REAL, PlaneCodec
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.image_metadata import Documents, describe_field, describe_label, describe_masked
from artifact_mask.io.layout import LAYOUTS, Layout
from artifact_mask.io.plane import create_array, read_plane, write_plane
from artifact_mask.io.zarr_group import dump, read_group, write_group
from artifact_mask.kernels.pyramid import (
    build_pyramid,
    downsample_known,
    downsample_mean,
    downsample_nearest,
    pyramid_shapes,
)
from artifact_mask.location import Location, list_folders
from artifact_mask.metadata import STAGE_LABELS, Acquisition, Field, Masking, NgffVersion, PlaneIndex


def write_field(
    files: StagedFiles,
    folder: Location,
    acquisition: Acquisition,
    field: Field,
    planes: Iterable[tuple[PlaneIndex, NDArray[np.uint16]]],
    missing: Mapping[PlaneIndex, str],
    *,
    masking: Masking | None = None,
    ngff: NgffVersion = "0.5",
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
    masking
        How the image was masked; None for one as the microscope took it.
    ngff
        Version of the plate.
    """
    coarse = _write_levels(files, folder, acquisition.shape, planes, _INTENSITIES, LAYOUTS[ngff])
    _write_documents(files, folder, describe_field(acquisition, field, missing, coarse, masking=masking, ngff=ngff))


def write_masked(
    files: StagedFiles,
    folder: Location,
    acquisition: Acquisition,
    field: Field,
    channel: int,
    planes: Iterable[tuple[PlaneIndex, NDArray[np.uint16] | NDArray[np.float32]]],
    *,
    masking: Masking,
    ngff: NgffVersion = "0.5",
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
        Indices ``(t, 0, z)`` and pixels ``(y, x)``: float32 if artifacts become NaN, else uint16.
    masking
        How they were made.
    ngff
        Version of the plate.
    """
    shape = (acquisition.shape[0], 1, *acquisition.shape[2:])
    kind = _REALS if masking.fill == "nan" else _INTENSITIES
    coarse = _write_levels(files, folder / "masked", shape, planes, kind, LAYOUTS[ngff])
    documents = describe_masked(acquisition, field, channel, masking, coarse, ngff=ngff)
    _write_documents(files, folder / "masked", documents)


def write_labels(
    files: StagedFiles,
    folder: Location,
    acquisition: Acquisition,
    field: Field,
    planes: Iterable[tuple[tuple[int, int], NDArray[np.int32]]],
    *,
    name: str,
    ngff: NgffVersion = "0.5",
    made_by: str = "",
    beside: Sequence[str] = (),
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
    ngff
        Version of the plate.
    made_by
        Command whose label image it is, where the name alone, which a person may choose too, does not tell.
    beside
        Names of label images that are written with the same files, and listed with it.
    """
    layout, labels = LAYOUTS[ngff], folder / "labels"
    t, _, z, y, x = acquisition.shape
    _write_levels(files, labels / name, (t, z, y, x), planes, _LABELS, layout)
    _write_documents(files, labels / name, describe_label(acquisition, field, name, ngff=ngff, made_by=made_by))
    list_label(files, folder, name, *beside, ngff=ngff)


def list_label(files: StagedFiles, folder: Location, *names: str, ngff: NgffVersion = "0.5") -> None:
    """Add label images to those that the field's group ``labels`` lists, where tools look for them."""
    layout, labels = LAYOUTS[ngff], folder / "labels"
    group = read_group(labels, [layout])
    listed = group.ome.get("labels", []) if group else []
    write_group(
        files, labels, layout, dump(layout.models.LabelsGroup(labels=sorted({*listed, *names}))), {}, stamped=False
    )


def find_own_labels(folder: Location, *, ngff: NgffVersion) -> list[str]:
    """Label images of a field that no stage of artmask has written: a person's work, which nothing may remove."""
    names = [name for name in list_folders(folder / "labels") if name not in STAGE_LABELS]
    return [name for name in names if is_own_label(folder, name, ngff=ngff)]


def is_own_label(folder: Location, name: str, *, ngff: NgffVersion) -> bool:
    """Whether a field has a label image of a name, and no stage of artmask says in it that it is the stage's."""
    return _made_by(folder, name, ngff=ngff) == ""


def _made_by(folder: Location, name: str, *, ngff: NgffVersion) -> str | None:
    """Command that says to have made a label image, empty if none does; None if there is no such label image."""
    group = read_group(folder / "labels" / name, [LAYOUTS[ngff]])
    return None if group is None else str(group.artmask.get("made_by", ""))


def keep_own_labels(files: StagedFiles, folder: Location, *, ngff: NgffVersion) -> None:
    """List a person's label images alone, where a field is written anew and others are about to be removed."""
    names = find_own_labels(folder, ngff=ngff)
    if names:
        layout = LAYOUTS[ngff]
        described = dump(layout.models.LabelsGroup(labels=sorted(names)))
        write_group(files, folder / "labels", layout, described, {}, stamped=False)


def folders_of_field(folder: Location, *, ngff: NgffVersion) -> list[Location]:
    """Folders that belong to the images of a field: its own, or all in it but a person's labels."""
    if not find_own_labels(folder, ngff=ngff):
        return [folder]
    rest = [folder / name for name in list_folders(folder) if name != "labels"]
    others = [name for name in list_folders(folder / "labels") if _made_by(folder, name, ngff=ngff)]
    return rest + [folder / "labels" / name for name in (*STAGE_LABELS, *others)]


def read_missing_planes(folder: Location) -> dict[PlaneIndex, str]:
    """Planes of a field that the export did not hold, with the reasons.

    Raises
    ------
    PlateError
        If the field is not in the store.
    """
    group = read_group(folder)
    if not group or not group.artmask:
        raise PlateError("the field is not in the store; run `artmask ingest` again")
    missing: dict[PlaneIndex, str] = {}
    for entry in group.artmask["missing_planes"]:
        t, c, z = entry["tcz"]
        missing[t, c, z] = entry["reason"]
    return missing


def read_image_plane(
    folder: Location, acquisition: Acquisition, index: PlaneIndex, level: int = 0
) -> NDArray[np.uint16]:
    """Read one plane ``(y, x)`` of a field's image at a level of its pyramid.

    Raises
    ------
    PlateError
        If the image is not there, or damaged.

    Notes
    -----
    An image that is laid out as :func:`write_field` does it is read without zarr-python, whose machinery takes longer
    than reading and decompressing.
    """
    plane = _read_own_plane(folder, acquisition.shape, index, level, _INTENSITIES)
    return np.asarray(open_level(folder, level)[index]) if plane is None else plane


def read_label_plane(
    folder: Location, acquisition: Acquisition, name: str, tz: tuple[int, int], level: int = 0
) -> NDArray[np.int32] | None:
    """Read one plane ``(y, x)`` of a label image that :func:`write_labels` wrote; None where there is no such one.

    Raises
    ------
    PlateError
        If it is damaged.
    """
    t, _, *space = acquisition.shape
    return _read_own_plane(folder / "labels" / name, (t, *space), tz, level, _LABELS)


def read_masked_plane(
    folder: Location, acquisition: Acquisition, tz: tuple[int, int], level: int = 0
) -> NDArray[np.uint16] | NDArray[np.float32] | None:
    """Read one plane ``(y, x)`` of a field's masked image; None where :func:`write_masked` wrote none.

    Raises
    ------
    PlateError
        If it is damaged.
    """
    t, _, *space = acquisition.shape
    for kind in (_INTENSITIES, _REALS):
        plane = _read_own_plane(folder / "masked", (t, 1, *space), (tz[0], 0, tz[1]), level, kind)
        if plane is not None:
            return plane
    return None


def read_masking(folder: Location) -> tuple[Masking, str] | None:
    """How the masked image of a field was made, and the name of its channel; None where there is none."""
    group = read_group(folder / "masked")
    if group is None or not group.artmask:
        return None
    return Masking(**group.artmask), str(group.ome["omero"]["channels"][0]["label"])


def _read_own_plane(
    folder: Location, shape: Sequence[int], index: Sequence[int], level: int, kind: "_Kind"
) -> NDArray[Any] | None:
    """Read a plane of an image that :func:`_write_levels` made of this shape and kind; None if it is another one."""
    level_shape = pyramid_shapes((shape[-2], shape[-1]))[level]
    for layout in LAYOUTS.values():
        chunk, of_all = layout.chunk_shape(level_shape), (*shape[:-2], *level_shape)
        plane = read_plane(folder / str(level), of_all, index, chunk, kind.axes, kind.codec, layout=layout)
        if plane is not None:
            return plane
    return None


def open_level(folder: Location, level: int = 0) -> "zarr.Array[Any]":
    """Open one level of a multiscale image for reading.

    Raises
    ------
    PlateError
        If it is not there.
    """
    array = find_array(folder / str(level))
    if array is None:
        raise PlateError(f"{folder / str(level)} is not an array; run `artmask ingest` again")
    return array


def find_array(folder: Location) -> "zarr.Array[Any] | None":
    """Open an array for reading; None if there is none."""
    store = _open_store(folder)
    for layout in LAYOUTS.values():
        with suppress(FileNotFoundError, NodeNotFoundError, ContainsArrayError):
            return zarr.open_array(store, mode="r", zarr_format=layout.zarr_format)
    return None


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


def _write_documents(files: StagedFiles, folder: Location, documents: Documents) -> None:
    for name, document in documents.items():
        files.write(folder / name, document)


class _Kind(NamedTuple):
    """What an image holds, and how its levels are made."""

    axes: str
    codec: PlaneCodec
    downsample: Callable[[NDArray[Any]], NDArray[Any]]


_INTENSITIES = _Kind("tczyx", INTENSITY, downsample_mean)
_REALS = _Kind("tczyx", REAL, downsample_known)
_LABELS = _Kind("tzyx", LABEL, downsample_nearest)


def _write_levels(
    files: StagedFiles,
    folder: Location,
    shape: Sequence[int],
    planes: Iterable[tuple[tuple[int, ...], NDArray[Any]]],
    kind: _Kind,
    layout: Layout,
) -> dict[tuple[int, ...], NDArray[Any]]:
    """Write planes with their pyramids, one file a plane and level; return each plane's coarsest level."""
    chunks = []
    for level, level_shape in enumerate(pyramid_shapes((shape[-2], shape[-1]))):
        chunks.append(layout.chunk_shape(level_shape))
        level_of_all = (*shape[:-2], *level_shape)
        create_array(files, folder / str(level), level_of_all, chunks[-1], kind.axes, kind.codec, layout=layout)
    coarse = {}
    for index, plane in planes:
        levels = build_pyramid(plane, len(chunks), kind.downsample)
        for level, (pixels, chunk) in enumerate(zip(levels, chunks, strict=True)):
            write_plane(files, folder / str(level), index, pixels, chunk, kind.codec, layout=layout)
        coarse[index] = levels[-1]
    return coarse
