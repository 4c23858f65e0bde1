"""OME-Zarr plates (NGFF 0.5): metadata from templates, arrays with one writer a file."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.codecs
from numpy.typing import NDArray
from yaozarrs import DimSpec, v05
from zarr.errors import ContainsArrayError, NodeNotFoundError
from zarr.storage import LocalStore

from artifact_mask.errors import PlateError
from artifact_mask.io.files import write_atomically
from artifact_mask.kernels.pyramid import build_pyramid, downsample_mean, downsample_nearest, pyramid_shapes
from artifact_mask.metadata import Channel, Field, PlaneIndex, Plate, Well, row_name

MAX_CHUNK_PX = 640
_EMISSION_COLOURS = ((470, "0000FF"), (505, "00FFFF"), (560, "00FF00"), (590, "FFFF00"), (650, "FF8000"))
_INTENSITY_CODECS = (
    zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=2),
    zarr.codecs.Crc32cCodec(),  # Blosc does not notice a flipped bit
)
_LABEL_CODECS = (
    zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=4),
    zarr.codecs.Crc32cCodec(),
)


@dataclass(frozen=True)
class StoredPlate:
    """A plate store's description.

    Attributes
    ----------
    plate
        What it contains.
    ingest_digest
        Digest of the ingest that wrote it.
    """

    plate: Plate
    ingest_digest: str


def create_plate(root: Path, plate: Plate, *, ingest_digest: str) -> None:
    """Write the metadata of the plate and of its wells; the fields' own is written with their pixels."""
    rows = sorted({well.row for well in plate.wells})
    columns = sorted({well.column for well in plate.wells})
    definition = v05.PlateDef(
        name=plate.name,
        rows=[v05.Row(name=row_name(row)) for row in rows],
        columns=[v05.Column(name=str(column)) for column in columns],
        wells=[
            v05.PlateWell(path=well.path, rowIndex=rows.index(well.row), columnIndex=columns.index(well.column))
            for well in plate.wells
        ],
        acquisitions=[v05.Acquisition(id=0, name=plate.name, maximumfieldcount=max(len(w.fields) for w in plate.wells))],
        field_count=max(len(well.fields) for well in plate.wells),
    )
    for row in rows:
        _write_group(root / row_name(row), {})
    for well in plate.wells:
        images = [v05.FieldOfView(path=str(field.index), acquisition=0) for field in well.fields]
        fields = [
            {"path": str(field.index), "field_id": field.field_id, "y_um": field.y_um, "x_um": field.x_um}
            for field in well.fields
        ]
        _write_group(root / well.path, {"ome": v05.Well(well=v05.WellDef(images=images)), "artmask": {"fields": fields}})
    description = {
        "ingest_digest": ingest_digest,
        "measurement_id": plate.measurement_id,
        "n_rows": plate.n_rows,
        "n_columns": plate.n_columns,
        "shape": list(plate.shape),
        "pixel_size_um": plate.pixel_size_um,
        "z_step_um": plate.z_step_um,
        "channels": [
            {
                "channel_id": channel.channel_id,
                "name": channel.name,
                "kind": channel.kind,
                "excitation_nm": channel.excitation_nm,
                "emission_nm": channel.emission_nm,
            }
            for channel in plate.channels
        ],
    }
    # Last, so that a store with a plate's metadata has all of its wells'.
    _write_group(root, {"ome": v05.Plate(plate=definition), "artmask": description})


def read_plate(root: Path) -> StoredPlate:
    """Read what a plate store contains, from its metadata alone.

    Raises
    ------
    PlateError
        If there is no store, or it is not a plate that artmask wrote.
    """
    if not root.is_dir():
        raise PlateError(f"{root} does not exist. Give a plate that `artmask ingest` wrote.")
    attributes = _read_attributes(root)
    description = attributes.get("artmask")
    if not description or "plate" not in attributes.get("ome", {}):
        raise PlateError(f"{root} is not a plate that artmask wrote. Run `artmask ingest EXPORT {root.name}` first.")
    wells = []
    for entry in attributes["ome"]["plate"]["wells"]:
        fields = _read_attributes(root / entry["path"])["artmask"]["fields"]
        row, column = entry["path"].split("/")
        wells.append(
            Well(
                row=_row_number(row),
                column=int(column),
                fields=tuple(Field(int(f["path"]), f["field_id"], f["y_um"], f["x_um"]) for f in fields),
            )
        )
    t, c, z, y, x = description["shape"]
    plate = Plate(
        name=attributes["ome"]["plate"]["name"],
        measurement_id=description["measurement_id"],
        n_rows=description["n_rows"],
        n_columns=description["n_columns"],
        shape=(t, c, z, y, x),
        pixel_size_um=description["pixel_size_um"],
        z_step_um=description["z_step_um"],
        channels=tuple(Channel(**channel) for channel in description["channels"]),
        wells=tuple(wells),
    )
    return StoredPlate(plate, description["ingest_digest"])


def write_field(
    folder: Path,
    plate: Plate,
    field: Field,
    planes: Iterable[tuple[PlaneIndex, NDArray[np.uint16]]],
    missing: Mapping[PlaneIndex, str],
) -> None:
    """Write one field of view as a multiscale image ``(t, c, z, y, x)``; its metadata comes last.

    Parameters
    ----------
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
        folder, plate.shape, planes, downsample=downsample_mean, dtype=np.uint16, codecs=_INTENSITY_CODECS
    )
    _write_group(
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
    folder: Path, plate: Plate, field: Field, channel: int, planes: Iterable[tuple[PlaneIndex, NDArray[np.uint16]]]
) -> None:
    """Write the masked image of one channel as ``masked`` inside the field's group, beside its labels.

    Parameters
    ----------
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
        folder / "masked", shape, planes, downsample=downsample_mean, dtype=np.uint16, codecs=_INTENSITY_CODECS
    )
    image = v05.Image(
        multiscales=[_multiscale(plate, field, axes="tczyx", name="masked")],
        omero=v05.Omero(channels=_omero_channels((plate.channels[channel],), coarse)),
    )
    _write_group(folder / "masked", {"ome": image, "artmask": {"fill": "median of the field"}})


def write_labels(
    folder: Path, plate: Plate, field: Field, planes: Iterable[tuple[tuple[int, int], NDArray[np.int32]]], *, name: str
) -> None:
    """Write an instance label image ``(t, z, y, x)`` as ``labels/<name>`` inside the field's group.

    Parameters
    ----------
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
        folder / "labels" / name, (t, z, y, x), planes, downsample=downsample_nearest, dtype=np.int32, codecs=_LABEL_CODECS
    )
    image_label = v05.ImageLabel(
        version="0.5",
        colors=[v05.LabelColor(label_value=1, rgba=[255, 64, 64, 160])],
        source=v05.LabelSource(image="../../"),
    )
    image = v05.LabelImage(multiscales=[_multiscale(plate, field, axes="tzyx", name=name)], image_label=image_label)
    _write_group(folder / "labels" / name, {"ome": image})
    listed = _read_attributes(folder / "labels").get("ome", {}).get("labels", [])
    _write_group(folder / "labels", {"ome": v05.LabelsGroup(labels=sorted({*listed, name}))})


def read_missing_planes(folder: Path) -> dict[PlaneIndex, str]:
    """Planes of a field that the export did not hold, with the reasons.

    Raises
    ------
    PlateError
        If the field is not in the store.
    """
    attributes = _read_attributes(folder)
    if "artmask" not in attributes:
        raise PlateError("the field is not in the store; run `artmask ingest` again")
    missing: dict[PlaneIndex, str] = {}
    for entry in attributes["artmask"]["missing_planes"]:
        t, c, z = entry["tcz"]
        missing[t, c, z] = entry["reason"]
    return missing


def open_level(folder: Path, level: int = 0) -> "zarr.Array[Any]":
    """Open one level of a multiscale image for reading.

    Raises
    ------
    PlateError
        If it is not there.
    """
    try:
        return zarr.open_array(LocalStore(folder / str(level), read_only=True), mode="r")
    except (FileNotFoundError, NodeNotFoundError, ContainsArrayError) as error:
        raise PlateError(f"{folder / str(level)} is not an array; run `artmask ingest` again") from error


def _write_levels(
    folder: Path,
    shape: Sequence[int],
    planes: Iterable[tuple[tuple[int, ...], NDArray[Any]]],
    *,
    downsample: Callable[[NDArray[Any]], NDArray[Any]],
    dtype: type[np.generic],
    codecs: tuple[Any, ...],
) -> dict[tuple[int, ...], NDArray[Any]]:
    """Write planes with their pyramids, one shard a plane and level; return each plane's coarsest level."""
    level_shapes = pyramid_shapes((shape[-2], shape[-1]))
    leading = (1,) * (len(shape) - 2)
    arrays = [
        zarr.create_array(
            LocalStore(folder / str(level)),
            shape=(*shape[:-2], *level_shape),
            dtype=dtype,
            chunks=(*leading, *(_chunk_size(n) for n in level_shape)),
            shards=(*leading, *level_shape),
            compressors=codecs,
            fill_value=0,
            dimension_names="tczyx" if len(shape) == 5 else "tzyx",
            overwrite=True,
        )
        for level, level_shape in enumerate(level_shapes)
    ]
    coarse = {}
    for index, plane in planes:
        levels = build_pyramid(plane, len(arrays), downsample)
        for array, level in zip(arrays, levels, strict=True):
            array[index] = level
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
        window = v05.OmeroWindow(start=low, end=max(high, low + 1), min=0, max=65535)
        described.append(v05.OmeroChannel(label=channel.name, color=_colour(channel), active=True, window=window))
    return described


def _colour(channel: Channel) -> str:
    if channel.kind != "fluorescence" or channel.emission_nm is None:
        return "FFFFFF"
    return next((colour for limit, colour in _EMISSION_COLOURS if channel.emission_nm < limit), "FF0000")


def _row_number(name: str) -> int:
    number = 0
    for letter in name:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def _write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    # exclude_none as a whole: absent is what NGFF means by "not given".
    plain = {
        key: value if isinstance(value, dict) else value.model_dump(mode="json", exclude_none=True)
        for key, value in attributes.items()
    }
    document = {"zarr_format": 3, "node_type": "group", "attributes": plain}
    write_atomically(folder / "zarr.json", json.dumps(document, indent=1).encode())


def _read_attributes(folder: Path) -> dict[str, Any]:
    """Attributes of a group; empty where there is none.

    Raises
    ------
    PlateError
        If the metadata is damaged.
    """
    try:
        document = json.loads((folder / "zarr.json").read_bytes())
        attributes: dict[str, Any] = document.get("attributes", {})
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, AttributeError) as error:
        raise PlateError(f"{folder / 'zarr.json'} is damaged ({error}). Remove the store and ingest again.") from error
    return attributes
