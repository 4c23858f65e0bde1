"""What is wrong with the metadata of a plate: yaozarrs' models, and whether what they name is there.

yaozarrs' own check of a store takes several times as long, opens no private bucket, and does not look at the arrays of
labels.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ValidationError

from artifact_mask.errors import PlateError
from artifact_mask.io.layout import LAYOUTS, Layout, StoredArray
from artifact_mask.io.zarr_group import Group, read_group
from artifact_mask.location import Location, list_folders, read_bytes
from artifact_mask.metadata import NgffVersion

_READ_THREADS = 8
"""A network disk or an object store answers many questions in the time of one."""

_STATES_VERSION = {"Plate": "plate", "Well": "well", "Image": "multiscales", "LabelImage": "multiscales"}
"""Key of the object that says its version in NGFF 0.4, by model."""


def check_plate(root: Location, *, ngff: NgffVersion | None = None) -> list[str]:
    """Check the metadata of a plate and of its wells, without a look into its fields.

    Parameters
    ----------
    root
        Plate.
    ngff
        Version of NGFF that it must have; any by default.

    Returns
    -------
    list[str]
        What is wrong, a line each; empty if all is well.
    """
    group, model, problems = _read_model(root, "plate", _layouts(ngff), "Plate")
    if group is None or model is None:
        return problems
    plate = model.plate
    rows, columns = [row.name for row in plate.rows], [column.name for column in plate.columns]
    for well in plate.wells:
        named = f"{rows[well.rowIndex]}/{columns[well.columnIndex]}"
        if well.path != named:
            problems.append(f"plate: the well {well.path} is in row and column {named}")
    acquisitions = {acquisition.id for acquisition in plate.acquisitions or ()}
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        used = sorted({well.path.partition("/")[0] for well in plate.wells})
        for of_row in pool.map(partial(_check_row, root, group.layout), used):
            problems += of_row
        paths = [well.path for well in plate.wells]
        for of_well in pool.map(partial(_check_well, root, group.layout, acquisitions), paths):
            problems += of_well
    return problems


def check_field(folder: Location, *, ngff: NgffVersion | None = None) -> list[str]:
    """Check the metadata of a field: its image, labels and masked image, and the arrays that they name.

    Parameters
    ----------
    folder
        Group of the field.
    ngff
        Version of NGFF that it must have; any by default.

    Returns
    -------
    list[str]
        What is wrong, a line each; empty if all is well.

    Notes
    -----
    Labels and a masked image need not be there.
    """
    image = _check_image(folder, "image", _layouts(ngff), "Image")
    if image.layout is None:
        return image.problems
    problems, layouts = image.problems, [image.layout]
    if _read(folder / "masked" / image.layout.attributes_file) is not None:
        masked = _check_image(folder / "masked", "masked", layouts, "Image")
        problems += masked.problems + _compare_levels("masked", masked.levels, image.levels)
    listed = _listed_labels(folder / "labels", image.layout, problems)
    found = list_folders(folder / "labels")
    problems += [f"labels: {name} is listed and not there" for name in listed if name not in found]
    problems += [f"labels: {name} is there and not listed" for name in found if name not in listed]
    for name in listed:
        if name in found:
            label = _check_image(folder / "labels" / name, f"labels/{name}", layouts, "LabelImage")
            problems += label.problems + _compare_levels(f"labels/{name}", label.levels, image.levels)
    return problems


class _Image(NamedTuple):
    """Outcome of a check: sizes ``(y, x)`` of the levels, if all are known, and what is wrong."""

    layout: Layout | None
    levels: list[tuple[int, ...]]
    problems: list[str]


def _layouts(ngff: NgffVersion | None) -> Sequence[Layout]:
    return list(LAYOUTS.values()) if ngff is None else [LAYOUTS[ngff]]


def _check_row(root: Location, layout: Layout, row: str) -> list[str]:
    return [] if _read(root / row / layout.group_file) is not None else [f"{row}: is not a group"]


def _check_well(root: Location, layout: Layout, acquisitions: set[int], path: str) -> list[str]:
    _, model, problems = _read_model(root / path, path, [layout], "Well")
    if model is not None:
        images = model.well.images
        # In a plate of one acquisition, images need not say so.
        known = acquisitions | ({None} if len(acquisitions) < 2 else set())
        problems += [
            f"{path}: the image {image.path} is of acquisition {image.acquisition}, which the plate does not have"
            for image in images
            if image.acquisition not in known
        ]
        paths = [image.path for image in images]
        problems += [
            f"{path}: the image {twice} is listed twice" for twice in sorted({p for p in paths if paths.count(p) > 1})
        ]
    return problems


def _check_image(folder: Location, name: str, layouts: Sequence[Layout], kind: str) -> _Image:
    group, model, problems = _read_model(folder, name, layouts, kind)
    if group is None or model is None:
        return _Image(group.layout if group else None, [], problems)
    levels: list[tuple[int, ...]] = []
    for multiscale in model.multiscales:
        axes = tuple(axis.name for axis in multiscale.axes)
        files = [folder / dataset.path / group.layout.array_file for dataset in multiscale.datasets]
        finest: tuple[np.ndarray[Any, Any], Any] | None = None
        for dataset, content in zip(multiscale.datasets, _read_all(files), strict=True):
            place = f"{name}, level {dataset.path}"
            try:
                array = _parse_array(group.layout.version, content)
            except ValueError as error:
                problems.append(f"{place}: {error}")
                continue
            scale = np.asarray(dataset.coordinateTransformations[0].scale)
            problems += [f"{place}: {problem}" for problem in _check_array(array, axes, kind)]
            levels.append(array.shape[-2:])
            if len(array.shape) != len(axes):
                continue
            if finest is None:
                finest = np.asarray(array.shape), scale
            expected = finest[0] * finest[1] / scale
            if (abs(expected - array.shape) >= 1).any():
                problems.append(f"{place}: its shape is {array.shape}, its scale says {expected.tolist()}")
    if kind == "LabelImage":
        source = model.image_label.source
        if source and source.image and posixpath.normpath(f"{name}/{source.image}") != ".":
            problems.append(f"{name}: its source is {source.image}, which is not the field")
    n_levels = sum(len(multiscale.datasets) for multiscale in model.multiscales)
    return _Image(group.layout, levels if len(levels) == n_levels else [], problems)


def _check_array(array: StoredArray, axes: tuple[str, ...], kind: str) -> Iterator[str]:
    if len(array.shape) != len(axes):
        yield f"the array has {len(array.shape)} dimensions, and the image {len(axes)} axes"
    elif array.names is not None and array.names != axes:
        yield f"the array's dimensions are {', '.join(array.names)}, and the image's axes {', '.join(axes)}"
    if kind == "LabelImage" and np.dtype(array.dtype).kind not in "iu":
        yield f"labels are integers, and the array is of {array.dtype}"


def _compare_levels(name: str, levels: Sequence[tuple[int, ...]], of_image: Sequence[tuple[int, ...]]) -> list[str]:
    if not levels or not of_image or levels == of_image:
        return []
    return [f"{name}: its levels are {levels}, those of the image {of_image}"]


@lru_cache(maxsize=256)  # the fields of an acquisition all have the same arrays
def _parse_array(ngff: NgffVersion, content: bytes | None) -> StoredArray:
    """Parse the document of an array; ValueError if it is none."""
    if content is None:
        raise ValueError("the array is not there")
    try:
        return LAYOUTS[ngff].parse_array(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its metadata are not those of an array ({error!r})") from error


def _listed_labels(folder: Location, layout: Layout, problems: list[str]) -> list[str]:
    if _read(folder / layout.attributes_file) is None:
        return []
    _, model, of_group = _read_model(folder, "labels", [layout], "LabelsGroup")
    problems += of_group
    return list(model.labels) if model is not None else []


def _read_model(
    folder: Location, name: str, layouts: Sequence[Layout], kind: str
) -> tuple[Group | None, Any, list[str]]:
    """Read a group; return it, its model, and what is wrong; the former are None where they are not to be had."""
    try:
        group = read_group(folder, layouts)
    except PlateError as error:
        return None, None, [f"{name}: {error}"]
    if group is None:
        return None, None, [f"{name}: is not there, or has no metadata of NGFF"]
    problems = []
    if group.layout.group_file != group.layout.attributes_file and _read(folder / group.layout.group_file) is None:
        problems.append(f"{name}: has no {group.layout.group_file}")
    if kind in _STATES_VERSION and not _states_version(group.ome, _STATES_VERSION[kind]):
        problems.append(f"{name}: says no version of NGFF")
    model_of: type[BaseModel] = getattr(group.layout.models, kind)
    try:
        return group, model_of.model_validate(group.ome), problems
    except ValidationError as error:
        problems += [
            f"{name}: {'.'.join(map(str, entry['loc']))}: {' '.join(entry['msg'].split())}" for entry in error.errors()
        ]
    return group, None, problems


def _states_version(ome: Mapping[str, Any], key: str) -> bool:
    """Whether the version is where NGFF 0.5 has it or where 0.4 has it; the models take their own for granted."""
    inner = ome.get(key)
    entries = [ome, *(inner if isinstance(inner, list) else [inner])]
    return any(isinstance(entry, Mapping) and "version" in entry for entry in entries)


def _read(file: Location) -> bytes | None:
    """Content of a file; None where there is none."""
    try:
        return read_bytes(file)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read_all(files: Sequence[Location]) -> list[bytes | None]:
    if files and isinstance(files[0], Path):
        return list(map(_read, files))
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        return list(pool.map(_read, files))
