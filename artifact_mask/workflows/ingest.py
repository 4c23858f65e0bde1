"""`artmask ingest`: from an export of Harmony to an OME-Zarr plate."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact_mask import __version__
from artifact_mask.config import IngestConfig
from artifact_mask.engine.journal import FieldRecord, Journal, Unit, digest_of
from artifact_mask.engine.retry import retry
from artifact_mask.errors import ExportError, ImageError, PlateError
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.ome_zarr import write_field
from artifact_mask.io.ome_zarr_plate import create_plate, read_identity, read_plate
from artifact_mask.io.operetta import Export, is_image, read_export, resolve_image
from artifact_mask.io.tiff import read_tiff_plane
from artifact_mask.location import Location, require_reachable
from artifact_mask.metadata import Channel, Field, FieldKey, PlaneIndex, Plate, Well
from artifact_mask.workflows.campaign import PlannedStage, Stage, process_campaign
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.tabulate import tabulate_fields, tabulate_wells
from artifact_mask.workflows.unit import Receipt, Row, plan_plate, process_unit, retry_writing


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
    LeaseError
        If another run is at work on the store.
    StorageError
        If the disk is full.
    ClusterError
        If the cluster cannot be started, or is lost.
    """
    progress = progress or Silent()
    export = _rename_channels(read_export(config.export, pixel_size_um=config.pixel_size_um), config.channel_names)
    _require_an_image(export)
    require_reachable(config.plate)
    _require_free_or_same(config.plate, export.plate)
    progress.begin(IngestStage.name, export.plate.n_fields)
    stage = IngestStage(config.plate, export, config.fields_per_unit)
    return process_campaign(
        [PlannedStage(config.plate, export.plate.n_fields, lambda: stage)],
        config=config.model_dump(mode="json"),
        cluster=config.cluster,
        progress=progress,
    )


@dataclass(frozen=True)
class IngestStage(Stage):
    """Ingest of one export."""

    name = "ingest"
    plate: Location
    export: Export
    fields_per_unit: int | None

    @cached_property
    def settings(self) -> dict[str, object]:
        """What determines the store's arrays."""
        (acquisition,) = self.export.plate.acquisitions
        return {
            "software": __version__,
            "measurement": acquisition.measurement_id,
            "shape": acquisition.shape,
            "pixel size (um)": acquisition.pixel_size_um,
            "z step (um)": acquisition.z_step_um,
            "channels": [repr(channel) for channel in acquisition.channels],
            "field positions": digest_of(
                [[well.path, [(f.field_id, f.y_um, f.x_um) for f in well.fields]] for well in acquisition.wells]
            ),
            "images": digest_of(
                [
                    [well, index, sorted([*plane, url] for plane, url in planes.items())]
                    for (well, index), planes in self.export.sources.items()
                ]
            ),
        }

    def units(self) -> list[Unit]:
        """Fields of one well each."""
        return plan_plate(self.export.plate, [0], fields_per_unit=self.fields_per_unit)

    def prepare(self, files: StagedFiles) -> None:
        """Write the metadata of plate and wells."""
        create_plate(files, self.plate, self.export.plate, ingest_digest=digest_of(self.name, self.settings))

    def bind(self, journal: Journal, unit: Unit) -> partial[Receipt]:
        """Task with the sources of a unit's own fields."""
        sources = {(unit.well, index): self.export.sources[unit.well, index] for index in unit.fields}
        plate = replace(self.export.plate, acquisitions=(self.export.plate.acquisitions[0].only(unit.well),))
        return partial(_ingest_unit, journal, replace(self.export, plate=plate, sources=sources), unit)

    def owned(self, key: FieldKey) -> list[Location]:
        """All that is in a field: with other pixels, results of later stages are no longer its own."""
        return [self.plate / key[0] / str(key[1])]

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """Fields and wells."""
        fields = tabulate_fields(self.export.plate, records)
        return {"fields": fields, "wells": tabulate_wells(self.export.plate, fields)}

    def keeps_tables(self, *, changed: bool) -> bool:
        """Leave alone what a run has added to."""
        return not changed and (self.plate / "tables" / "zarr.json").exists()


def read_ingest(root: Location) -> tuple[Plate, str, Mapping[tuple[str, int], FieldRecord]]:
    """Plate, digest and records of a finished ingest.

    Raises
    ------
    PlateError
        If the store is not a plate, or its ingest was interrupted.
    """
    stored = read_plate(root)
    records = Journal(root, IngestStage.name, stored.ingest_digest).read()
    n_missing = stored.plate.n_fields - len(records)
    if n_missing:
        raise PlateError(
            f"{root} is not complete: {n_missing} of {stored.plate.n_fields} fields have not been ingested. "
            "Run `artmask ingest` again; it does only what is missing."
        )
    return stored.plate, stored.ingest_digest, records


def _ingest_unit(journal: Journal, export: Export, unit: Unit) -> Receipt:
    (acquisition,) = export.plate.acquisitions
    (well,) = acquisition.wells
    fields = {field.index: field for field in well.fields}

    def folder(key: FieldKey) -> Location:
        return journal.plate / key[0] / str(key[1])

    def process(staged: Mapping[int, StagedFiles]) -> Iterator[tuple[int, Row | Exception]]:
        for index, files in staged.items():
            try:
                field = fields[index]
                write = partial(_ingest_field, files, folder((unit.well, index)), export, well, field)
                yield index, retry_writing(files, write)
            except Exception as error:
                yield index, error

    field_bytes = acquisition.n_planes * acquisition.plane_bytes
    return process_unit(journal, unit, process, lambda key: [folder(key)], field_bytes=field_bytes)


def _ingest_field(files: StagedFiles, folder: Location, export: Export, well: Well, field: Field) -> dict[str, Any]:
    (plate,), sources = export.plate.acquisitions, export.sources[well.path, field.index]
    n_t, n_c, n_z = plate.shape[:3]
    missing: dict[PlaneIndex, str] = {
        index: "the export lists no image for it" for index in np.ndindex(n_t, n_c, n_z) if index not in sources
    }

    def planes() -> Iterator[tuple[PlaneIndex, NDArray[np.uint16]]]:
        for index, url in sources.items():
            try:
                file = resolve_image(export.image_folder, url)
                yield index, retry(partial(read_tiff_plane, file, plate.shape[-2:]))
            except ImageError as error:
                missing[index] = str(error)

    # The metadata is written after the last plane, when `missing` is complete.
    write_field(files, folder, plate, field, planes(), missing)
    row: dict[str, Any] = {"n_missing_planes": len(missing)}
    if missing:
        names = [f"{plate.channels[c].name} (t {t}, z {z}): {reason}" for (t, c, z), reason in missing.items()]
        row["error"] = f"{len(missing)} of {plate.n_planes} planes missing: " + "; ".join(names)
    return row


def _rename_channels(export: Export, names: Mapping[int, str]) -> Export:
    (acquisition,) = export.plate.acquisitions
    known = {channel.channel_id for channel in acquisition.channels}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ExportError(f"The export has no channel {unknown[0]}; its channels are {sorted(known)}.")
    channels = tuple(_rename(channel, names.get(channel.channel_id)) for channel in acquisition.channels)
    return replace(export, plate=replace(export.plate, acquisitions=(replace(acquisition, channels=channels),)))


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


def _require_free_or_same(root: Location, plate: Plate) -> None:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    name, measurement_ids = read_identity(root)
    new = [acquisition.measurement_id for acquisition in plate.acquisitions]
    if not set(measurement_ids) <= set(new):
        raise PlateError(
            f"{root} already holds {name} (measurement {', '.join(measurement_ids)}), the export is {plate.name} "
            f"(measurement {', '.join(new)}). Choose another name, or remove the store."
        )
