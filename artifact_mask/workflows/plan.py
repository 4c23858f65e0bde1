"""`--dry-run`: what a command would do, how long that may take, and how much it would write; nothing is written."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifact_mask.config import (
    CellsConfig,
    ClusterConfig,
    ExportConfig,
    IngestConfig,
    LabelConfig,
    RunConfig,
    StainConfig,
)
from artifact_mask.engine.cluster import check_options, known_options
from artifact_mask.engine.journal import Journal, digest_of, lease_folder
from artifact_mask.engine.lease import require_no_holder
from artifact_mask.errors import ArtmaskError, PlateError
from artifact_mask.io.files import sizes_in
from artifact_mask.io.ome_zarr_plate import find_plates
from artifact_mask.io.tables import list_tables
from artifact_mask.location import Location
from artifact_mask.nn.model_card import DEFAULT_UNET
from artifact_mask.workflows.campaign import Stage, Workload
from artifact_mask.workflows.cells import prepare_cells
from artifact_mask.workflows.estimate import Work, estimate_bytes, estimate_seconds, find_records
from artifact_mask.workflows.export import prepare_export
from artifact_mask.workflows.ingest import prepare_ingest
from artifact_mask.workflows.label import prepare_label
from artifact_mask.workflows.progress import Progress, Silent
from artifact_mask.workflows.run import prepare_run
from artifact_mask.workflows.stain import prepare_stain

if TYPE_CHECKING:
    from artifact_mask.metadata import Plate

PlannedConfig = IngestConfig | LabelConfig | RunConfig | CellsConfig | StainConfig | ExportConfig

_PREPARE: Mapping[type, Callable[[Any, Progress], Workload]] = {
    IngestConfig: prepare_ingest,
    LabelConfig: prepare_label,
    RunConfig: prepare_run,
    CellsConfig: prepare_cells,
    StainConfig: lambda config, _: prepare_stain(config),
    ExportConfig: lambda config, _: prepare_export(config),
}


@dataclass(frozen=True)
class PlannedPlate:
    """What would be done on one plate.

    Attributes
    ----------
    plate
        The store, or folder, that would be written.
    n_wells, n_fields, n_done
        Wells and fields in all, and fields that are done and stay.
    n_failed, n_damaged
        Of the others, those that failed before, and those whose files are gone or have another size.
    changes
        Why all of them would be done again: each setting that has changed since; empty if none has.
    about
        What would be looked at and made, such as the channel, for people.
    pixel_bytes
        Of the planes that would be looked at.
    """

    plate: Location
    n_wells: int
    n_fields: int
    n_done: int
    n_failed: int
    n_damaged: int
    changes: tuple[str, ...]
    about: Mapping[str, str]
    pixel_bytes: int

    @property
    def n_left(self) -> int:
        """Fields that would be done."""
        return self.n_fields - self.n_done


@dataclass(frozen=True)
class Plan:
    """What a command would do.

    Attributes
    ----------
    stage
        Its name.
    plates
        One after the other.
    refused
        Plates that would be left out, and why.
    cluster
        Where it would be done.
    model
        Its file or name; empty where there is none.
    bytes_to_write, size_from
        Estimated, and what the estimate comes from.
    free_bytes
        Where they would be written; None where that is not known, as in an object store.
    seconds, rate_from
        Estimated, start of the cluster left out, and what the estimate comes from; None where nothing is known.
    """

    stage: str
    plates: tuple[PlannedPlate, ...]
    refused: Mapping[str, str]
    cluster: ClusterConfig
    model: str
    bytes_to_write: int
    size_from: str
    free_bytes: int | None
    seconds: float | None
    rate_from: str

    @property
    def n_left(self) -> int:
        """Fields that would be done."""
        return sum(plate.n_left for plate in self.plates)

    @property
    def fits(self) -> bool:
        """Whether there seems to be room for what would be written."""
        return self.free_bytes is None or self.bytes_to_write <= self.free_bytes


def plan(config: PlannedConfig, progress: Progress | None = None) -> Plan:
    """Tell what a workflow would do with a configuration; nothing is written, and no cluster is started.

    Parameters
    ----------
    config
        Of `ingest`, `label`, `run`, `cells`, `stain` or `export`.
    progress
        Is told of what is worth a line.

    Raises
    ------
    ArtmaskError
        Whatever the workflow would end with before its first field.
    """
    if isinstance(config, ExportConfig) and config.format == "tables":
        return _plan_tables(config)
    workload = _PREPARE[type(config)](config, progress or Silent())
    cluster, work = workload.cluster, _work_of(config, workload.stage)
    check_options(cluster.kind, cluster.options, known_options(cluster.kind, use_gpus=workload.use_gpus))
    plates: dict[Location, PlannedPlate] = {}
    contents: dict[Location, Plate] = {}
    refused = dict(workload.refused)
    for planned in workload.planned:
        try:
            stage = planned.open()
            plates[stage.plate], contents[stage.plate] = _plan_plate(stage, work), stage.describe()
        except ArtmaskError as error:
            if len(workload.planned) == 1:
                raise
            refused[str(planned.plate)] = str(error)
    pixel_bytes = sum(plate.pixel_bytes for plate in plates.values())
    records = find_records(work, contents)
    n_bytes, size_from = estimate_bytes(work, pixel_bytes, records)
    seconds, rate_from = estimate_seconds(work, pixel_bytes, records, cluster, use_gpus=workload.use_gpus)
    return Plan(
        stage=workload.stage,
        plates=tuple(plates.values()),
        refused=refused,
        cluster=cluster,
        model=_name_model(config),
        bytes_to_write=n_bytes,
        size_from=size_from,
        free_bytes=_free_bytes(plates),
        seconds=seconds,
        rate_from=rate_from,
    )


def _work_of(config: PlannedConfig, stage: str) -> Work:
    return Work(stage, config.format) if isinstance(config, ExportConfig) else Work(stage)


def _plan_plate(stage: Stage, work: Work) -> PlannedPlate:
    require_no_holder(lease_folder(stage.plate))
    journal = Journal(stage.plate, stage.name, digest_of(stage.name, stage.settings))
    units, records = stage.units(), journal.read()
    left = [(unit.well, index) for unit in journal.pending(units, records) for index in unit.fields]
    n_failed = sum(key in records and records[key].failed for key in left)
    # A stage that skips acquisitions has fewer fields than the plate.
    n_fields = sum(len(unit.fields) for unit in units)
    return PlannedPlate(
        plate=stage.plate,
        n_wells=len({unit.well for unit in units}),
        n_fields=n_fields,
        n_done=n_fields - len(left),
        n_failed=n_failed,
        n_damaged=sum(key in records for key in left) - n_failed,
        changes=tuple(journal.changes(stage.settings) or ()),
        about=stage.highlights(),
        pixel_bytes=work.pixel_bytes(stage.describe(), left),
    )


def _plan_tables(config: ExportConfig) -> Plan:
    """Tables are read and written in seconds; what they weigh is known."""
    plates, refused, n_bytes = [], {}, 0
    for root, n_fields in find_plates(config.plates).items():
        files = [f"tables/{name}/table.{kind}" for name in list_tables(root) for kind in ("csv", "parquet")]
        if not files:
            refused[str(root)] = f"{root} has no tables. Run `artmask run` first."
            continue
        size_of = sizes_in(root)
        n_bytes += sum(max(0, size_of(file)) for file in files)
        plates.append(PlannedPlate(config.dest, 0, n_fields, 0, 0, 0, (), {"from": root.name}, 0))
    if not plates:
        raise PlateError(next(iter(refused.values())))
    return Plan(
        stage="export",
        plates=tuple(plates),
        refused=refused,
        cluster=config.cluster,
        model="",
        bytes_to_write=n_bytes,
        size_from="as the tables that there are",
        free_bytes=_free_bytes([config.dest]),
        seconds=None,
        rate_from="tables take seconds",
    )


def _name_model(config: PlannedConfig) -> str:
    if isinstance(config, RunConfig):
        return str(config.model or f"{DEFAULT_UNET} (of artmask)")
    return str(config.classifier or "default (of artmask)") if isinstance(config, LabelConfig) else ""


def _free_bytes(places: Iterable[Location]) -> int | None:
    """Room on the disk of the first place that is on one."""
    local = next((place for place in places if isinstance(place, Path)), None)
    if local is None:
        return None
    while not local.exists():
        local = local.parent
    return shutil.disk_usage(local).free
