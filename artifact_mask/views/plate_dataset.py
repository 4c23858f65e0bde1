"""A plate as one lazy :class:`xarray.Dataset`, a campaign as a tree of them."""

from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from artifact_mask.columns import FIELDS
from artifact_mask.engine.journal import read_config
from artifact_mask.errors import ConfigError, PlateError
from artifact_mask.io.label_images import list_labels
from artifact_mask.io.ome_zarr import read_masking
from artifact_mask.io.ome_zarr_plate import StoredPlate, find_plates, read_plate
from artifact_mask.io.tables import list_tables, read_table
from artifact_mask.kernels.pyramid import pyramid_shapes
from artifact_mask.location import Location, to_location
from artifact_mask.metadata import Acquisition, ArtifactFill
from artifact_mask.views import accessors  # noqa: F401  (xarray learns of `.artmask`)
from artifact_mask.views.stored_planes import StoredFields, open_flat_fields, open_image, open_labels, open_masked
from artifact_mask.workflows.planes import find_channel, stored_flat_fields
from artifact_mask.workflows.tabulate import layout_columns

_READ_THREADS = 8
_N_SAMPLED = 16
"""Fields that are asked which label images there are: a few hundred would take as long as all else."""
_PLACE = ("plate", "well", "row", "column", "acquisition", "field", "field_id")
_POSITION = ("y_um", "x_um", "z_um")
_GRID = ("well", "field", "t", "c", "z", "y", "x")
_PLANE_OF_LABEL = ("well", "field", "t", "z", "y", "x")


def open_plate(url: str | Location, *, level: int = 0, acquisition: int | None = None) -> xr.Dataset:
    """Open a plate that `artmask ingest` wrote; metadata and tables are read, pixels when they are asked for.

    Parameters
    ----------
    url
        A path, or a URL such as ``s3://bucket/plate.zarr`` or ``https://host/plate.zarr``.
    level
        Of the resolution pyramid: 0 is full resolution, each further one has half as many pixels a side.
    acquisition
        Number of the measurement; needed where the plate has several.

    Returns
    -------
    xarray.Dataset
        Dimensions ``(well, field, t, c, z, y, x)``. Of pixels, one Dask chunk a plane:

        - ``image`` ``(well, field, t, c, z, y, x)`` uint16, as ingested; 0 where there is no image.
        - ``artifacts``, ``weak`` and any other label image ``(well, field, t, z, y, x)`` int32: 0 is background, -1 is
          **not known**, which is the whole of a field that has no such label image. Absent where no field has one.
        - ``masked`` ``(well, field, t, z, y, x)``: the masked channel as `artmask run` stored it, or made of image and
          label where it is not; 0 (or NaN) in fields without a mask.
        - ``flat_field`` ``(c, y, x)`` float32, of `artmask illumination`, where there is one.

        The columns of ``tables/fields`` are variables ``(well, field)``. ``present`` tells which fields the plate has.

        Coordinates: ``well`` (B03), ``row`` and ``column`` from 1, the layers of the plate's layout (compound,
        concentration ...), ``field`` (the index in the store), ``field_id`` (the microscope's number), ``c`` (name of
        the channel), ``t`` in seconds, ``z``, ``y`` and ``x`` in micrometre from the field's first pixel, and the
        fields' positions in their wells, ``y_um``, ``x_um``, ``z_um`` ``(well, field)``.

    Raises
    ------
    PlateError
        If there is no such plate, or it is not complete.
    ConfigError
        If there is no such level or acquisition.
    """
    root = to_location(url)
    stored = read_plate(root)
    return _open_acquisition(root, stored, _choose_acquisition(root, stored, acquisition), level)


def open_campaign(places: str | Location | Sequence[str | Location], *, level: int = 0) -> xr.DataTree:
    """Open the plates of a campaign as a tree: a node for each plate, named by its store.

    Parameters
    ----------
    places
        Folder of plates, or several plates or folders.
    level
        Of the resolution pyramid, see :func:`open_plate`.

    Returns
    -------
    xarray.DataTree
        Each node is what :func:`open_plate` opens. A plate with several measurements is a node with a child for each,
        ``acquisition0`` and so on.

    Raises
    ------
    PlateError
        If there is no such plate, one is not complete, or two stores have the same name.
    """
    given = [places] if isinstance(places, str) or not isinstance(places, Sequence) else places
    plates = list(find_plates([to_location(place) for place in given]))
    names = [plate.name.removesuffix(".zarr") for plate in plates]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PlateError(f"Several stores are called {twice[0]}: they cannot be told apart in a tree. Open each alone.")
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        opened = list(pool.map(partial(_open_nodes, level=level), names, plates))
    return xr.DataTree.from_dict({path: dataset for nodes in opened for path, dataset in nodes.items()})


def _open_nodes(name: str, root: Location, *, level: int) -> dict[str, xr.Dataset]:
    stored = read_plate(root)
    numbers = range(len(stored.plate.acquisitions))
    paths = [f"/{name}"] if len(numbers) == 1 else [f"/{name}/acquisition{number}" for number in numbers]
    return {path: _open_acquisition(root, stored, n, level) for path, n in zip(paths, numbers, strict=True)}


def _choose_acquisition(root: Location, stored: StoredPlate, wanted: int | None) -> int:
    acquisitions = stored.plate.acquisitions
    if wanted is None and len(acquisitions) == 1:
        return 0
    if wanted is None or not 0 <= wanted < len(acquisitions):
        listed = "; ".join(f"{number}: {one.started or 'undated'}" for number, one in enumerate(acquisitions))
        found = "several measurements" if wanted is None else f"no acquisition {wanted}"
        raise ConfigError(f"{root} has {found}. Choose one with `acquisition=`: {listed}.")
    return wanted


def _open_acquisition(root: Location, stored: StoredPlate, number: int, level: int) -> xr.Dataset:
    acquisition = stored.plate.acquisitions[number]
    n_levels = len(pyramid_shapes((acquisition.shape[-2], acquisition.shape[-1])))
    if not 0 <= level < n_levels:
        raise ConfigError(f"{root} has no level {level}; expected one from 0, the full resolution, to {n_levels - 1}.")
    fields = _lay_out(root, acquisition, level)
    table = _read_fields(root, number)
    sample = _sample(fields, table)
    flat_fields = {c: one for (n, c), one in stored_flat_fields(root, stored.ingest_digest).items() if n == number}
    dataset = xr.Dataset(
        {"image": (_GRID, open_image(fields), {"long_name": "intensity", "units": "grey values"})},
        _coordinates(stored, fields),
        _describe(root, stored, number, level, n_levels),
    )
    dataset["present"] = ("well", "field"), fields.present, {"long_name": "whether the plate has the field"}
    for name, column in _columns(fields, table).items():
        dataset[_free(name, dataset.variables, "table")] = column
    for name in _find_labels(sample):
        said = {"long_name": f"label image {name}", "comment": "0 is background, -1 is not known", "label": name}
        dataset[_free(name, dataset.variables, "label")] = _PLANE_OF_LABEL, open_labels(fields, name), said
    if flat_fields:
        of_channels = [flat_fields.get(c) for c in range(acquisition.shape[1])]
        dataset["flat_field"] = ("c", "y", "x"), open_flat_fields(fields, of_channels)
    masked = _find_masked(root, acquisition, sample)
    if masked and masked.label in dataset:
        planes = open_masked(fields, *masked, flat_fields.get(masked.channel))
        said = {"channel": acquisition.channels[masked.channel].name, "fill": masked.fill, "label": masked.label}
        dataset["masked"] = _PLANE_OF_LABEL, planes, said
    return dataset


def _lay_out(root: Location, acquisition: Acquisition, level: int) -> StoredFields:
    wells = acquisition.wells
    indices = sorted({field.index for well in wells for field in well.fields})
    place = {index: n for n, index in enumerate(indices)}
    present = np.zeros((len(wells), len(indices)), bool)
    for w, well in enumerate(wells):
        present[w, [place[field.index] for field in well.fields]] = True
    paths = tuple(well.path for well in wells)
    return StoredFields(root, acquisition, paths, tuple(indices), present, level)


def _coordinates(stored: StoredPlate, fields: StoredFields) -> dict[Hashable, Any]:
    """Names and places along each dimension, and what the plate's layout says of the wells."""
    acquisition, plate = fields.acquisition, stored.plate
    wells = acquisition.wells
    step_um = acquisition.pixel_size_um * 2**fields.level
    ids = {field.index: field.field_id for well in wells for field in well.fields}
    coordinates: dict[Hashable, Any] = {
        "well": [well.name for well in wells],
        # What a heat map of some wells has to know of the others.
        "row": ("well", [well.row for well in wells], {"n_rows": plate.n_rows}),
        "column": ("well", [well.column for well in wells], {"n_columns": plate.n_columns}),
        "field": list(fields.fields),
        "field_id": ("field", [ids[index] for index in fields.fields], {"long_name": "the microscope's number"}),
        "t": ("t", _steps(acquisition.shape[0], acquisition.t_step_s), {"units": "s"}),
        "c": _unique([channel.name for channel in acquisition.channels]),
        "channel_kind": ("c", [channel.kind for channel in acquisition.channels]),
        "z": ("z", _steps(acquisition.shape[2], acquisition.z_step_um), {"units": "um"}),
    }
    for name in _POSITION:
        places = np.full(fields.present.shape, np.nan)
        # Both in the order of wells, and of fields in them.
        places[fields.present] = [getattr(field, name) for well in wells for field in well.fields]
        coordinates[name] = ("well", "field"), places, {"units": "um", "long_name": f"position of the field, {name[0]}"}
    for axis, n in zip("yx", fields.plane_shape, strict=True):
        coordinates[axis] = axis, _steps(n, step_um), {"units": "um", "pixel_size_um": step_um}
    for layer, values in layout_columns(wells).items():
        of_wells = pd.Series([values.get(well.name) for well in wells])
        coordinates[_free(layer, [*coordinates, *_GRID], "layout")] = "well", of_wells.to_numpy()
    return coordinates


def _describe(root: Location, stored: StoredPlate, number: int, level: int, n_levels: int) -> dict[str, Any]:
    plate, acquisition = stored.plate, stored.plate.acquisitions[number]
    described = {
        "plate": plate.name,
        "barcode": plate.barcode,
        "url": str(root),
        "ngff": stored.ngff,
        "acquisition": number,
        "started": acquisition.started,
        "magnification": acquisition.magnification,
        "pixel_size_um": acquisition.pixel_size_um * 2**level,
        "level": level,
        "n_levels": n_levels,
    }
    return {name: value for name, value in described.items() if value not in (None, "")}


def _read_fields(root: Location, acquisition: int) -> pd.DataFrame:
    """Read the table of fields; empty where there is none yet."""
    if "fields" not in list_tables(root):
        return pd.DataFrame({"well": [], "field": []})
    table = read_table(root, "fields")
    return table[table["acquisition"] == acquisition]


def _columns(fields: StoredFields, table: pd.DataFrame) -> dict[str, xr.Variable]:
    """Columns of the table of fields on the grid ``(well, field)``; text is empty where there is no field."""
    wells = [well.name for well in fields.acquisition.wells]
    grid = table.set_index(["well", "field"]).reindex(pd.MultiIndex.from_product([wells, fields.fields]))
    said = {column.name: {"long_name": column.meaning, "units": column.unit} for column in FIELDS}
    left_out = {*_PLACE, *_POSITION, *layout_columns(fields.acquisition.wells)}
    columns = {}
    for name, values in grid.items():
        if name in left_out:
            continue
        is_text = values.dtype.kind not in "biuf"
        of_grid = values.fillna("").to_numpy(object) if is_text else values.to_numpy()
        about = {key: value for key, value in said.get(str(name), {}).items() if value}
        columns[str(name)] = xr.Variable(("well", "field"), of_grid.reshape(fields.present.shape), about)
    return columns


def _sample(fields: StoredFields, table: pd.DataFrame) -> list[Location]:
    """Choose groups of some fields, spread over the plate; those that succeeded come first."""
    good = table[table["error"] == ""] if "error" in table else table
    paths = {well.name: well.path for well in fields.acquisition.wells}
    measured = [fields.root / paths[well] / str(field) for well, field in zip(good["well"], good["field"], strict=True)]
    every = [fields.folder(w, f) for w, f in np.argwhere(fields.present)]
    return [*_spread(measured), *_spread([folder for folder in every if folder is not None])]


def _find_labels(sample: Iterable[Location]) -> list[str]:
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        return sorted({name for names in pool.map(list_labels, sample) for name in names})


class _Masked(NamedTuple):
    """How the masked images of a plate are made: the index of their channel, the fill, and the label image."""

    channel: int
    fill: ArtifactFill
    label: str


def _find_masked(root: Location, acquisition: Acquisition, sample: Iterable[Location]) -> _Masked | None:
    """How masked images were made, by one of them; else as `artmask run` was told, or would by itself."""
    names = [channel.name for channel in acquisition.channels]
    for folder in sample:
        found = read_masking(folder)
        if found and found[1] in names:
            return _Masked(names.index(found[1]), found[0].fill, found[0].label)
    config = read_config(root, "run")
    try:
        channel = find_channel(acquisition, config.get("channel"))
    except PlateError:
        return None
    return _Masked(channel, config.get("fill", "median"), "artifacts")


def _spread(folders: Sequence[Location]) -> list[Location]:
    """Choose some of the folders, at equal distances, the first and the last among them."""
    n = min(len(folders), _N_SAMPLED)
    return [folders[place] for place in np.linspace(0, len(folders) - 1, n).round().astype(int)]


def _steps(n: int, step: float) -> NDArray[np.float64]:
    return np.arange(n, dtype=np.float64) * step


def _unique(names: Sequence[str]) -> list[str]:
    """Tell channels of one name apart, which a coordinate could not."""
    return [name if names.count(name) == 1 else f"{name} ({n})" for n, name in enumerate(names)]


def _free(name: str, taken: Iterable[Hashable], prefix: str) -> str:
    return f"{prefix}_{name}" if name in set(taken) else name
