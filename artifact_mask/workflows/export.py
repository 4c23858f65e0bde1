"""`artmask export`: masked images, masks, regions and tables for other programs."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from artifact_mask.config import ExportConfig
from artifact_mask.engine.journal import FieldRecord, Journal, Unit, digest_of, open_journal
from artifact_mask.errors import ConfigError, PlateError
from artifact_mask.io.exported_files import remove_files
from artifact_mask.io.files import StagedFiles, remove_others
from artifact_mask.io.load_data import encode_load_data
from artifact_mask.io.ome_zarr import folders_of_field
from artifact_mask.io.ome_zarr_plate import create_plate, find_plates
from artifact_mask.location import Location
from artifact_mask.metadata import FieldKey, NgffVersion, Plate
from artifact_mask.workflows.campaign import PlannedStage, Stage, Workload, process_campaign
from artifact_mask.workflows.export_plan import ExportPlan, plan_export
from artifact_mask.workflows.export_tables import export_tables
from artifact_mask.workflows.exported_field import FieldExport, export_field
from artifact_mask.workflows.load_data_rows import list_images
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.tabulate import NOT_REACHED
from artifact_mask.workflows.unit import Receipt, Row, plan_plate, process_unit, write_each

LOAD_DATA, DESCRIPTION = "load_data.csv", "export.json"
"""Files beside the images: what CellProfiler loads, and what they were made of."""


def export(config: ExportConfig, progress: Progress | None = None) -> Summary:
    """Write results of some plates into a folder, for other programs.

    Every field that has a mask is written, by the tasks of a cluster. Run again, only what is missing is; where masks
    or the configuration have changed since, what was written before is removed, and everything written anew. A field
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
        If there is no such plate, channel, well, field or mask; of several plates, such a one is left out and named.
    ConfigError
        If AnnData is asked for and not installed, or two plates would be written to one place.
    LeaseError
        If another export writes to the same place.
    StorageError
        If the disk is full.
    """
    start = time.perf_counter()
    progress = progress or Silent()
    if config.format == "tables":
        plates = find_plates(config.plates)
        written, refused = export_tables(list(plates), config.dest, with_anndata=config.anndata)
        seconds = time.perf_counter() - start
        return Summary(sum(plates.values()), 0, (), refused=refused, outputs=written, seconds=seconds)
    return process_campaign(prepare_export(config), progress)


def prepare_export(config: ExportConfig) -> Workload:
    """Make ready what :func:`export` does with images; nothing is written."""
    plates = find_plates(config.plates)
    _require_distinct([_target(config, root) for root in plates])
    planned = [PlannedStage(_target(config, root), None, partial(_open_stage, root, config)) for root in plates]
    return Workload(ExportStage.name, planned, config.model_dump(mode="json"), config.cluster)


@dataclass(frozen=True)
class ExportStage(Stage):
    """Export of one plate; its own "plate" is the folder that it is written into.

    Attributes
    ----------
    plan
        What is exported.
    fields_per_unit, image_base
        See the configuration.
    """

    name = "export"
    plate: Location
    ngff: NgffVersion
    plan: ExportPlan
    fields_per_unit: int | None
    image_base: str

    def describe(self) -> Plate:
        """Describe what is on the plate."""
        return self.plan.content

    @property
    def settings(self) -> Mapping[str, object]:
        """What determines the files."""
        return self.plan.identity

    def highlights(self) -> Mapping[str, str]:
        """Format, channels, masks, and fields without."""
        identity, names = self.plan.identity, (c.name for a in self.plan.content.acquisitions for c in a.channels)
        without = {"fields without masks": str(len(self.plan.unlabelled))} if self.plan.unlabelled else {}
        return {
            "format": str(identity["format"]),
            "channels": ", ".join(dict.fromkeys(names)),
            "masks": f"labels/{identity['label']}",
            "fill": str(identity["fill"]) or "none",
        } | without

    def units(self) -> list[Unit]:
        """Fields of one well each."""
        return plan_plate(self.plan.content, self.plan.tasks, fields_per_unit=self.fields_per_unit)

    def bind(self, journal: Journal, unit: Unit) -> partial[Receipt]:
        """Task with the unit's own well."""
        task = self.plan.tasks[self.plan.content.acquisition_of[unit.well, unit.fields[0]]]
        reasons = {i: self.plan.unlabelled[unit.well, i] for i in unit.fields if (unit.well, i) in self.plan.unlabelled}
        task = replace(task, acquisition=task.acquisition.only(unit.well), unlabelled=reasons)
        return partial(_export_unit, journal, task, unit)

    def owned(self, key: FieldKey) -> list[Location]:
        """Folder of a field in a plate; other formats put the files of all fields into one."""
        return _owned(self.plate, self._any_task, key)

    def prepare(self, files: StagedFiles) -> None:
        """Remove what another export has left, which would look like this one's; begin a plate."""
        before = open_journal(self.plate, self.name)
        if before is not None and before.digest != digest_of(self.name, self.settings):
            self._remove(before.read())
        if self._any_task.format == "zarr":
            digest = digest_of(self.plan.identity)
            create_plate(files, self.plate, self.plan.content, ingest_digest=digest, ngff=self.ngff)

    def write_streams(self, files: StagedFiles, records: Mapping[FieldKey, FieldRecord]) -> None:
        """Write what the files were made of, and the list that CellProfiler loads, of the fields that were written."""
        if self._any_task.format == "zarr":
            return
        described = json.dumps({"plate": self.plan.content.name, **self.plan.identity}, indent=1).encode()
        files.write_if_changed(self.plate / DESCRIPTION, described)
        if self._any_task.format == "cellprofiler":
            base = f"{self.image_base.rstrip('/')}/{self.plate.name}/" if self.image_base else ""
            rows = list_images(self.plan.content, self.plan.tasks, records, base)
            files.write_if_changed(self.plate / LOAD_DATA, encode_load_data(rows))

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """List what became of the fields; it is not written."""
        rows = [
            (self.plan.content.name, well.name, field.field_id, _error(records.get((well.path, field.index))))
            for well in self.plan.content.wells
            for field in well.fields
        ]
        return {"fields": pd.DataFrame(rows, columns=["plate", "well", "field_id", "error"])}

    def keeps_tables(self, *, changed: bool) -> bool:
        """Write none: tables are an export of their own."""
        return True

    @property
    def _any_task(self) -> FieldExport:
        """Task of any acquisition: they have the format in common."""
        return next(iter(self.plan.tasks.values()))

    def _remove(self, records: Mapping[FieldKey, FieldRecord]) -> None:
        """Remove the files of other records, and no others."""
        if self._any_task.format == "zarr":
            for key in records:
                remove_others(self.owned(key), self.plate, {})
        else:
            written = [name for record in records.values() for name in record.files]
            remove_files(self.plate, [LOAD_DATA, DESCRIPTION, *written])


def _error(record: FieldRecord | None) -> str:
    return str(record.row.get("error", "")) if record else NOT_REACHED


def _target(config: ExportConfig, root: Location) -> Location:
    name = root.name.removesuffix(".zarr")
    return config.dest / (f"{name}.zarr" if config.format == "zarr" else name)


def _require_distinct(targets: list[Location]) -> None:
    twice = next((target.name for target in targets if targets.count(target) > 1), None)
    if twice:
        raise ConfigError(f"Several plates would be written to {twice}. Export one at a time.")


def _open_stage(root: Location, config: ExportConfig) -> ExportStage:
    _require_free(_target(config, root))
    plan = plan_export(root, config)
    return ExportStage(_target(config, root), plan.ngff, plan, config.fields_per_unit, config.image_base)


def _require_free(target: Location) -> None:
    """Raise where a plate is that is no export, such as the one that is exported."""
    if (target / "zarr.json").exists() or (target / ".zattrs").exists():
        if open_journal(target, ExportStage.name) is None:
            raise PlateError(f"{target} is there already, and no export. Choose another folder.")


def _export_unit(journal: Journal, task: FieldExport, unit: Unit) -> Receipt:
    (well,) = task.acquisition.wells
    fields = {field.index: field for field in well.fields}

    def write(files: StagedFiles, index: int) -> Row:
        return export_field(files, journal.plate, task, fields[index])

    owned: Callable[[FieldKey], list[Location]] = partial(_owned, journal.plate, task)
    field_bytes = task.acquisition.n_planes * task.acquisition.plane_bytes
    return process_unit(journal, unit, partial(write_each, write=write), owned, field_bytes=field_bytes)


def _owned(folder: Location, task: FieldExport, key: FieldKey) -> list[Location]:
    """Folders of a field that no other has; a person's labels in an exported plate are not among them."""
    return folders_of_field(folder / key[0] / str(key[1]), ngff=task.ngff) if task.format == "zarr" else []
