"""`artmask ingest`: from an export of Harmony to an OME-Zarr plate."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact_mask import __version__
from artifact_mask.config import IngestConfig
from artifact_mask.engine.journal import FieldRecord, Journal, Unit, digest_of, plan_units
from artifact_mask.errors import ExportError, ImageError, PlateError
from artifact_mask.io.ome_zarr import write_field
from artifact_mask.io.ome_zarr_plate import create_plate, read_identity, read_plate
from artifact_mask.io.operetta import Export, Sources, is_image, read_export, resolve_image
from artifact_mask.io.tables import write_tables
from artifact_mask.io.tiff import read_tiff_plane
from artifact_mask.metadata import Channel, Field, PlaneIndex, Plate, Well
from artifact_mask.workflows.campaign import Receipt, naming_a_full_disk, process_unit, process_units
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.tabulate import list_failures, tabulate_fields, tabulate_wells

STAGE = "ingest"


def ingest(config: IngestConfig, progress: Progress | None = None) -> Summary:
    """Write an export as an OME-Zarr plate, its wells in parallel on Dask.

    Run again, it does only what is missing. A plane whose file is missing or damaged is marked in the field's metadata
    and in ``tables/fields``; its field keeps its place.

    Raises
    ------
    ExportError
        If the folder is not an export, or none of its images is there.
    PlateError
        If the store exists and holds something else.
    StorageError
        If the disk is full.
    """
    start = time.perf_counter()
    progress = progress or Silent()
    export = _rename_channels(read_export(config.export, pixel_size_um=config.pixel_size_um), config.channel_names)
    _require_an_image(export)
    plate = export.plate
    _require_free_or_same(config.plate, plate)
    journal = Journal(config.plate, STAGE, _digest(export))
    keys = [(well.path, field.index) for well in plate.wells for field in well.fields]
    units = plan_units(keys, fields_per_unit=config.fields_per_unit)
    wells = {well.path: well for well in plate.wells}

    def bind(unit: Unit) -> partial[Receipt]:
        sources = {(unit.well, index): export.sources[unit.well, index] for index in unit.fields}
        small = replace(export, plate=replace(plate, wells=(wells[unit.well],)), sources=sources)
        return partial(_ingest_unit, journal, small, unit)

    with naming_a_full_disk(config.plate):
        create_plate(config.plate, plate, ingest_digest=journal.digest)
        if journal.start(config.model_dump(mode="json")):
            progress.note("The export or the configuration has changed since the last ingest: all is read again.")
        before = tabulate_fields(plate, journal.read())
        n_resumed = process_units(journal, units, bind, cluster=config.cluster, progress=progress)
        fields = tabulate_fields(plate, journal.read())
        if not fields.equals(before) or not (config.plate / "tables" / "zarr.json").exists():
            # Otherwise left alone: a run may have added to them.
            write_tables(config.plate, {"fields": fields, "wells": tabulate_wells(fields)})
    return Summary(
        n_fields=plate.n_fields,
        n_resumed=n_resumed,
        failures=list_failures(fields),
        outputs={"plate": config.plate, "fields table": config.plate / "tables" / "fields" / "table.csv"},
        seconds=time.perf_counter() - start,
    )


def read_ingest(root: Path) -> tuple[Plate, str, Mapping[tuple[str, int], FieldRecord]]:
    """Plate, digest and records of a finished ingest.

    Raises
    ------
    PlateError
        If the store is not a plate, or its ingest was interrupted.
    """
    stored = read_plate(root)
    records = Journal(root, STAGE, stored.ingest_digest).read()
    n_missing = stored.plate.n_fields - len(records)
    if n_missing:
        raise PlateError(
            f"{root} is not complete: {n_missing} of {stored.plate.n_fields} fields have not been ingested. "
            "Run `artmask ingest` again; it does only what is missing."
        )
    return stored.plate, stored.ingest_digest, records


def _ingest_unit(journal: Journal, export: Export, unit: Unit) -> Receipt:
    (well,) = export.plate.wells
    fields = {field.index: field for field in well.fields}

    def folder(index: int) -> Path:
        return journal.plate / unit.well / str(index)

    def process(index: int) -> dict[str, Any]:
        return _ingest_field(folder(index), export, well, fields[index])

    return process_unit(journal, unit, process, lambda index: [folder(index)])


def _ingest_field(folder: Path, export: Export, well: Well, field: Field) -> dict[str, Any]:
    plate, sources = export.plate, export.sources[well.path, field.index]
    n_t, n_c, n_z = plate.shape[:3]
    missing: dict[PlaneIndex, str] = {
        index: "the export lists no image for it" for index in np.ndindex(n_t, n_c, n_z) if index not in sources
    }

    def planes() -> Iterator[tuple[PlaneIndex, NDArray[np.uint16]]]:
        for index, url in sources.items():
            try:
                yield index, read_tiff_plane(resolve_image(export.image_folder, url), plate.shape[-2:])
            except ImageError as error:
                missing[index] = str(error)

    # The metadata is written after the last plane, when `missing` is complete.
    write_field(folder, plate, field, planes(), missing)
    row: dict[str, Any] = {"n_missing_planes": len(missing)}
    if missing:
        names = [f"{plate.channels[c].name} (t {t}, z {z}): {reason}" for (t, c, z), reason in missing.items()]
        row["error"] = f"{len(missing)} of {plate.n_planes} planes missing: " + "; ".join(names)
    return row


def _rename_channels(export: Export, names: Mapping[int, str]) -> Export:
    known = {channel.channel_id for channel in export.plate.channels}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ExportError(f"The export has no channel {unknown[0]}; its channels are {sorted(known)}.")
    channels = tuple(_rename(channel, names.get(channel.channel_id)) for channel in export.plate.channels)
    return replace(export, plate=replace(export.plate, channels=channels))


def _rename(channel: Channel, name: str | None) -> Channel:
    if name is None:
        return channel
    is_brightfield = channel.kind == "unknown" and name.lower().replace(" ", "").startswith("brightfield")
    return replace(channel, name=name, kind="brightfield" if is_brightfield else channel.kind)


def _require_an_image(export: Export) -> None:
    urls = [url for planes in export.sources.values() for url in planes.values()]
    if not any(is_image(export.image_folder, url) for url in urls):
        raise ExportError(
            f"None of the {len(urls)} images that {export.index} lists is in {export.image_folder}. "
            "Copy the images beside the index."
        )


def _require_free_or_same(root: Path, plate: Plate) -> None:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    name, measurement_id = read_identity(root)
    if measurement_id != plate.measurement_id:
        raise PlateError(
            f"{root} already holds {name} (measurement {measurement_id}), the export is {plate.name} "
            f"(measurement {plate.measurement_id}). Choose another name, or remove the store."
        )


def _digest(export: Export) -> str:
    sources: Sources = export.sources
    listed = [
        [well, index, sorted([*plane, url] for plane, url in planes.items())]
        for (well, index), planes in sources.items()
    ]
    plate = export.plate
    described = [
        plate.measurement_id,
        plate.shape,
        plate.pixel_size_um,
        plate.z_step_um,
        [repr(c) for c in plate.channels],
    ]
    positions = [[well.path, [(f.field_id, f.y_um, f.x_um) for f in well.fields]] for well in plate.wells]
    return digest_of(STAGE, __version__, described, positions, listed)
