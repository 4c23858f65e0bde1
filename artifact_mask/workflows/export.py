"""`artmask export`: masked images, masks, regions and tables for other programs."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from artifact_mask import __version__
from artifact_mask.config import ExportConfig
from artifact_mask.engine.journal import FieldRecord, Journal, Unit, digest_of, open_journal, read_config
from artifact_mask.errors import ConfigError, PlateError
from artifact_mask.io.exported_files import column_name, encode_load_data
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.ome_zarr_plate import StoredPlate, create_plate, find_plates
from artifact_mask.location import Location
from artifact_mask.metadata import STAGE_LABELS, Acquisition, ArtifactFill, FieldKey, NgffVersion, Plate, Well
from artifact_mask.workflows.campaign import PlannedStage, Stage, process_campaign
from artifact_mask.workflows.export_tables import export_tables
from artifact_mask.workflows.exported_field import IMAGES, FieldExport, export_field
from artifact_mask.workflows.ingest import read_ingest
from artifact_mask.workflows.planes import stored_flat_fields
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.tabulate import NOT_REACHED, layout_columns
from artifact_mask.workflows.unit import Receipt, Row, plan_plate, process_unit, write_each


def export(config: ExportConfig, progress: Progress | None = None) -> Summary:
    """Write results of some plates into a folder, for other programs.

    Every field that has a mask is written, by the tasks of a cluster. Run again, only what is missing is. A field
    without a mask is never written as if it were clean: it is left out and named in the summary.

    Parameters
    ----------
    config
        What, and in which form.
    progress
        Listener.

    Raises
    ------
    PlateError
        If there is no such plate, channel, well or label image; of several plates, such a one is left out and named.
    ConfigError
        If AnnData is asked for and not installed, or two plates would be written to one place.
    LeaseError
        If another export writes to the same place.
    StorageError
        If the disk is full.
    """
    start = time.perf_counter()
    progress = progress or Silent()
    plates = find_plates(config.plates)
    if config.format == "tables":
        written = export_tables(list(plates), config.dest, with_anndata=config.anndata)
        return Summary(0, 0, (), outputs=written, seconds=time.perf_counter() - start)
    _require_distinct(list(plates))
    progress.begin(ExportStage.name, 0)
    return process_campaign(
        [PlannedStage(_target(config, root), None, partial(_open_stage, root, config)) for root in plates],
        config=config.model_dump(mode="json"),
        cluster=config.cluster,
        progress=progress,
    )


@dataclass(frozen=True)
class ExportStage(Stage):
    """Export of one plate; its own "plate" is the folder that it is written into.

    Attributes
    ----------
    content
        What is exported: the wells and channels that were asked for.
    tasks
        What is exported of the fields of each acquisition.
    identity
        What the result depends on.
    fields_per_unit
        See the configuration.
    """

    name = "export"
    plate: Location
    ngff: NgffVersion
    content: Plate
    tasks: Mapping[int, FieldExport]
    identity: Mapping[str, object]
    fields_per_unit: int | None

    @property
    def settings(self) -> Mapping[str, object]:
        """What determines the files."""
        return self.identity

    def units(self) -> list[Unit]:
        """Fields of one well each."""
        return plan_plate(self.content, self.tasks, fields_per_unit=self.fields_per_unit)

    def bind(self, journal: Journal, unit: Unit) -> partial[Receipt]:
        """Task with the unit's own well."""
        number = self.content.acquisition_of[unit.well, unit.fields[0]]
        task = self.tasks[number]
        return partial(_export_unit, journal, replace(task, acquisition=task.acquisition.only(unit.well)), unit)

    def owned(self, key: FieldKey) -> list[Location]:
        """Folder of a field in a plate; other formats put the files of all fields into one."""
        return [self.plate / key[0] / str(key[1])] if self._is_plate else []

    def prepare(self, files: StagedFiles) -> None:
        """Write the metadata of a plate and of its wells."""
        if self._is_plate:
            create_plate(files, self.plate, self.content, ingest_digest=digest_of(self.identity), ngff=self.ngff)

    def write_streams(self, files: StagedFiles, records: Mapping[FieldKey, FieldRecord]) -> None:
        """Write the list that CellProfiler loads, of the fields that were written."""
        if next(iter(self.tasks.values())).format == "cellprofiler":
            rows = chain.from_iterable(
                _load_data_rows(self.content, well, key, self.tasks, records)
                for well in self.content.wells
                for key in ((well.path, field.index) for field in well.fields)
            )
            files.write_if_changed(self.plate / "load_data.csv", encode_load_data(rows))

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """List what became of the fields; it is not written."""
        rows = [
            (self.content.name, well.name, field.field_id, _error(records.get((well.path, field.index))))
            for well in self.content.wells
            for field in well.fields
        ]
        return {"fields": pd.DataFrame(rows, columns=["plate", "well", "field_id", "error"])}

    def keeps_tables(self, *, changed: bool) -> bool:
        """Write none: tables are an export of their own."""
        return True

    @property
    def _is_plate(self) -> bool:
        return next(iter(self.tasks.values())).format == "zarr"


def _error(record: FieldRecord | None) -> str:
    return str(record.row.get("error", "")) if record else NOT_REACHED


def _target(config: ExportConfig, root: Location) -> Location:
    name = root.name.removesuffix(".zarr")
    return config.dest / (f"{name}.zarr" if config.format == "zarr" else name)


def _require_distinct(roots: list[Location]) -> None:
    names = [root.name for root in roots]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"Several plates are called {twice} and would be written to one place. Export one at a time.")


def _open_stage(root: Location, config: ExportConfig) -> ExportStage:
    stored, _ = read_ingest(root)
    _require_free(_target(config, root))
    plate = _choose(stored.plate, config)
    run = open_journal(root, "run")
    fill: ArtifactFill = config.fill or read_config(root, "run").get("fill", "median")
    if config.format == "zarr" and fill == "nan":
        raise PlateError(f"{root} was masked with nan, and a plate has whole numbers: name another --fill.")
    if config.label == "artifacts" and run is None:
        raise PlateError(f"{root} has no masks. Run `artmask run {root.name}` first.")
    flat_fields = stored_flat_fields(root, stored.ingest_digest, config.illumination)
    tasks: dict[int, FieldExport] = {}
    for number, acquisition in enumerate(plate.acquisitions):
        channels = _channels(stored, number, config)
        if not channels or not acquisition.wells:
            continue
        tasks[number] = FieldExport(
            source=root,
            whole=stored.plate.acquisitions[number],
            acquisition=acquisition,
            channels=channels,
            flat_fields={c: flat_fields[number, c] for c in channels if (number, c) in flat_fields},
            format=config.format,
            label=config.label,
            fill=None if config.unmasked else fill,
            ngff=stored.ngff,
        )
    if not tasks:
        raise PlateError(f"{plate.name} has no field with these channels in these wells.")
    identity = {
        "software": __version__,
        "ingest": stored.ingest_digest,
        "run": run.digest if run else "",
        # A person may have changed a label image of their own since.
        "label": config.label if config.label in STAGE_LABELS else f"{config.label} at {time.time_ns()}",
        "format": config.format,
        "fill": "" if config.unmasked else fill,
        "channels": [channel.name for task in tasks.values() for channel in task.acquisition.channels],
        "wells": sorted(config.wells),
        "flat fields": [flat.digest for task in tasks.values() for flat in task.flat_fields.values()],
    }
    return ExportStage(_target(config, root), stored.ngff, plate, tasks, identity, config.fields_per_unit)


def _require_free(target: Location) -> None:
    """Raise where a plate is that is no export, such as the one that is exported."""
    if (target / "zarr.json").exists() or (target / ".zattrs").exists():
        if open_journal(target, ExportStage.name) is None:
            raise PlateError(f"{target} is there already, and no export. Choose another folder.")


def _choose(plate: Plate, config: ExportConfig) -> Plate:
    """Leave the wells and channels that were asked for.

    Raises
    ------
    PlateError
        If there is no such well or channel.
    """
    known = {well.name for well in plate.wells}
    unknown = [name for name in config.wells if name not in known]
    if unknown:
        raise PlateError(f"{plate.name} has no well {unknown[0]!r}; it has {', '.join(sorted(known)[:12])} ...")
    names = {channel.name for acquisition in plate.acquisitions for channel in acquisition.channels}
    missing = [name for name in config.channels if name not in names]
    if missing:
        raise PlateError(f"{plate.name} has no channel {missing[0]!r}; its channels are {', '.join(sorted(names))}.")
    return replace(plate, acquisitions=tuple(_choose_of(acquisition, config) for acquisition in plate.acquisitions))


def _choose_of(acquisition: Acquisition, config: ExportConfig) -> Acquisition:
    channels = tuple(c for c in acquisition.channels if not config.channels or c.name in config.channels)
    t, _, z, y, x = acquisition.shape
    wells = tuple(well for well in acquisition.wells if not config.wells or well.name in config.wells)
    return replace(acquisition, channels=channels, shape=(t, len(channels), z, y, x), wells=wells)


def _channels(stored: StoredPlate, number: int, config: ExportConfig) -> tuple[int, ...]:
    """Find the indices, in the stored acquisition, of the channels that were asked for."""
    channels = stored.plate.acquisitions[number].channels
    return tuple(c for c, channel in enumerate(channels) if not config.channels or channel.name in config.channels)


def _export_unit(journal: Journal, task: FieldExport, unit: Unit) -> Receipt:
    (well,) = task.acquisition.wells
    fields = {field.index: field for field in well.fields}

    def write(files: StagedFiles, index: int) -> Row:
        return export_field(files, journal.plate, task, fields[index])

    owned: Callable[[FieldKey], list[Location]] = partial(_owned, journal.plate, task.format)
    field_bytes = task.acquisition.n_planes * task.acquisition.plane_bytes
    return process_unit(journal, unit, partial(write_each, write=write), owned, field_bytes=field_bytes)


def _owned(folder: Location, form: str, key: FieldKey) -> list[Location]:
    return [folder / key[0] / str(key[1])] if form == "zarr" else []


def _load_data_rows(
    plate: Plate,
    well: Well,
    key: FieldKey,
    tasks: Mapping[int, FieldExport],
    records: Mapping[FieldKey, FieldRecord],
) -> Iterator[dict[str, Any]]:
    """One row a plane of a field that was written."""
    record, number = records.get(key), plate.acquisition_of[key]
    if record is None or record.failed or number not in tasks:
        return
    task = tasks[number]
    (field,) = (field for field in well.fields if field.index == key[1])
    layout = {column_name(name): values.get(well.name, "") for name, values in layout_columns(plate.wells).items()}
    for t, z in np.ndindex(task.acquisition.shape[0], task.acquisition.shape[2]):
        row: dict[str, Any] = {
            "Metadata_Plate": plate.name,
            "Metadata_Well": well.name,
            "Metadata_Row": well.row,
            "Metadata_Col": well.column,
            "Metadata_Site": field.field_id,
            "Metadata_Field": field.index,
            "Metadata_Timepoint": t,
            "Metadata_Plane": z,
        }
        row |= {f"Metadata_{name}": value for name, value in layout.items()}
        for channel, name in task.names(well, field, t=t, z=z).items():
            if channel is None and not record.row["has_labels"]:
                continue
            objects = "" if channel else "Objects"
            column = column_name(channel) if channel else column_name(task.label).capitalize()
            row[f"Image_{objects}FileName_{column}"] = name
            row[f"Image_{objects}PathName_{column}"] = IMAGES
        yield row
