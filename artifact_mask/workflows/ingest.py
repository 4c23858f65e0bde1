"""`artmask ingest`: from exports of Harmony to OME-Zarr plates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import pandas as pd

from artifact_mask import __version__
from artifact_mask.config import IngestConfig
from artifact_mask.engine.journal import FieldRecord, Journal, Unit, beside, digest_of, open_journal
from artifact_mask.errors import ExportError, PlateError
from artifact_mask.io.campaign_file import add_plates
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.harmony_flatfield import background_polynomial
from artifact_mask.io.ome_zarr import folders_of_field
from artifact_mask.io.ome_zarr_plate import StoredPlate, create_plate, read_identity, read_plate, require_version
from artifact_mask.io.operetta import Export, read_export
from artifact_mask.io.operetta_fields import Sources
from artifact_mask.io.operetta_folder import Found
from artifact_mask.kernels.flat_field import Polynomial
from artifact_mask.location import Location, read_bytes, require_reachable
from artifact_mask.metadata import Acquisition, Channel, FieldKey, NgffVersion, Plate
from artifact_mask.workflows.campaign import PlannedStage, Stage, Workload, process_campaign
from artifact_mask.workflows.ingest_unit import IngestTask, ingest_unit
from artifact_mask.workflows.plate_plan import PlatePlan, describe_plate, plan_plates
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.stages import STAGES
from artifact_mask.workflows.tabulate import Outcome, tabulate
from artifact_mask.workflows.unit import Receipt, plan_plate

_N_NAMED = 5
"""Failures that an error names."""


def ingest(config: IngestConfig, progress: Progress | None = None) -> Summary:
    """Write exports as OME-Zarr plates, all as one stream of work on Dask.

    Every measurement in the folders given is found. Measurements of one plate become acquisitions of one store. If the
    destination is a folder, each plate has its store in it, and ``campaign.json`` lists them.

    Run again, it does only what is missing. A plane whose file is missing or damaged is marked in the field's metadata
    and in ``tables/fields``; its field keeps its place.

    Raises
    ------
    ExportError
        If a folder holds no export, or the only export cannot be read; of several, such a one is left out and named in
        the summary. If ``strict``, for any missing or damaged image, when all else is done.
    PlateError
        If the only store exists and holds something else.
    LeaseError
        If another run is at work on the only store.
    StorageError
        If the disk is full.
    ClusterError
        If the cluster cannot be started, or is lost.
    """
    progress = progress or Silent()
    found = _find_plates(config, progress)
    if config.dest not in found.plates:
        add_plates(config.dest, [describe_plate(store, exports) for store, exports in found.plates.items()])
    summary = process_campaign(_prepare(config, found, progress), progress)
    if config.strict:
        _require_whole(summary)
    return summary


def prepare_ingest(config: IngestConfig, progress: Progress) -> Workload:
    """Make ready what :func:`ingest` does; nothing is written."""
    return _prepare(config, _find_plates(config, progress), progress)


def _find_plates(config: IngestConfig, progress: Progress) -> PlatePlan:
    for place in (*config.exports, config.dest):
        require_reachable(place)
    found = plan_plates(config.exports, config.dest)
    for problem in found.refused.values():
        progress.note(f"Left out: {problem}")
    return found


def _prepare(config: IngestConfig, found: PlatePlan, progress: Progress) -> Workload:
    planned = [
        PlannedStage(store, None, partial(_open_stage, store, exports, config, progress))
        for store, exports in found.plates.items()
    ]
    settings = config.model_dump(mode="json")
    return Workload(IngestStage.name, planned, settings, config.cluster, refused=found.refused)


@dataclass(frozen=True)
class IngestStage(Stage):
    """Ingest of one plate."""

    name = "ingest"
    plate: Location
    export: Export
    ngff: NgffVersion
    strict: bool
    fields_per_unit: int | None

    @cached_property
    def settings(self) -> dict[str, object]:
        """What determines the store's arrays."""
        found: dict[str, object] = {"software": __version__, "NGFF": self.ngff}
        several = len(self.content.acquisitions) > 1
        for number, acquisition in enumerate(self.content.acquisitions):
            suffix = f" of acquisition {number}" if several else ""
            described = _describe(acquisition, self.export.measurements[number].sources)
            found |= {f"{name}{suffix}": value for name, value in described.items()}
        return found

    @property
    def content(self) -> Plate:
        """What the store will contain."""
        return self.export.plate

    def describe(self) -> Plate:
        """Describe what is on the plate."""
        return self.content

    @property
    def problems(self) -> Sequence[str]:
        """Records that could not be understood."""
        return [problem for measurement in self.export.measurements for problem in measurement.problems]

    def highlights(self) -> Mapping[str, str]:
        """Channels, flat field and version."""
        acquisitions = self.content.acquisitions
        several = {"acquisitions": str(len(acquisitions))} if len(acquisitions) > 1 else {}
        return several | {
            "channels": ", ".join(dict.fromkeys(channel.name for a in acquisitions for channel in a.channels)),
            "flat field": acquisitions[0].flat_field,
            "OME-Zarr": self.ngff,
        }

    def units(self) -> list[Unit]:
        """Fields of one well and acquisition each."""
        return plan_plate(self.content, range(len(self.content.acquisitions)), fields_per_unit=self.fields_per_unit)

    def prepare(self, files: StagedFiles) -> None:
        """Write the metadata of plate and wells, and keep what the microscope wrote beside the images."""
        digest = digest_of(self.name, self.settings)
        create_plate(files, self.plate, self.content, ingest_digest=digest, ngff=self.ngff)
        for number, measurement in enumerate(self.export.measurements):
            for document in measurement.documents:
                kept = beside(self.plate) / "export" / str(number) / document.name
                files.write_if_changed(kept, read_bytes(document))

    def bind(self, journal: Journal, unit: Unit) -> partial[Receipt]:
        """Task with the sources of a unit's own fields."""
        number = self.content.acquisition_of[unit.well, unit.fields[0]]
        measurement = self.export.measurements[number]
        task = IngestTask(
            acquisition=replace(self.content.acquisitions[number].only(unit.well), flat_field_profiles={}),
            images=measurement.images.folder,
            sources={(unit.well, index): measurement.sources[unit.well, index] for index in unit.fields},
            flat_fields=self._flat_fields[number],
            ngff=self.ngff,
            strict=self.strict,
        )
        return partial(ingest_unit, journal, task, unit)

    def owned(self, key: FieldKey) -> list[Location]:
        """All that is in a field, since results belong to its pixels, but labels that a person has corrected."""
        return folders_of_field(self.plate / key[0] / str(key[1]), ngff=self.ngff)

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """Fields, wells and the plate."""
        return tabulate(self.content, {self.name: Outcome(records)})

    def keeps_tables(self, *, changed: bool) -> bool:
        """Leave alone what later stages have added to; by itself, another assay layout is a reason to write them."""
        return not changed and any(open_journal(self.plate, stage) is not None for stage in STAGES[1:])

    @cached_property
    def _flat_fields(self) -> list[dict[int, Polynomial]]:
        return [_flat_fields(acquisition) for acquisition in self.content.acquisitions]


def read_ingest(root: Location) -> tuple[StoredPlate, Mapping[FieldKey, FieldRecord]]:
    """Plate and records of a finished ingest.

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
    return stored, records


def _open_stage(root: Location, found: Sequence[Found], config: IngestConfig, progress: Progress) -> IngestStage:
    export = read_export(found, pixel_size_um=config.pixel_size_um)
    for measurement in export.measurements:
        measurement.require_an_image()
    acquisitions = _rename_channels(export.plate.acquisitions, config.channel_names)
    acquisitions = tuple(replace(acquisition, flat_field=config.flatfield) for acquisition in acquisitions)
    plate = replace(export.plate, acquisitions=acquisitions)
    _require_free_or_same(root, plate)
    require_version(root, config.ngff)
    for acquisition in acquisitions:
        if config.flatfield == "harmony" and not _flat_fields(acquisition):
            progress.note(
                f"Warning: {plate.name}: Harmony found no flat field in any channel of measurement "
                f"{acquisition.measurement_id}; its images are written as they are."
            )
    if len(acquisitions) > 1:
        progress.note(f"{root}: {len(acquisitions)} measurements of {plate.name} become acquisitions of one plate")
    return IngestStage(root, replace(export, plate=plate), config.ngff, config.strict, config.fields_per_unit)


def _require_whole(summary: Summary) -> None:
    wrong = [f"{f.plate} {f.well} field {f.field_id}: {f.error}" for f in summary.failures]
    wrong += [*summary.refused.values(), *summary.problems]
    if wrong:
        more = [f"... and {len(wrong) - _N_NAMED} more"] if len(wrong) > _N_NAMED else []
        text = "\n  ".join([*wrong[:_N_NAMED], *more])
        raise ExportError(f"The export is not whole, and strict allows nothing to be missing:\n  {text}")


def _describe(acquisition: Acquisition, sources: Sources) -> dict[str, object]:
    """Say what determines the pixels and metadata of an acquisition, by names that people know."""
    places = [[w.path, [(f.field_id, f.y_um, f.x_um, f.z_um, f.times_s) for f in w.fields]] for w in acquisition.wells]
    return {
        "measurement": acquisition.measurement_id,
        "shape": acquisition.shape,
        "pixel size (um)": acquisition.pixel_size_um,
        "z step (um)": acquisition.z_step_um,
        "t step (s)": acquisition.t_step_s,
        "channels": [repr(channel) for channel in acquisition.channels],
        "field positions": digest_of(places),
        "flat field": acquisition.flat_field,
        "flat-field profiles": digest_of(acquisition.flat_field_profiles) if acquisition.flat_field != "none" else "",
        "images": digest_of([[key, sorted(planes.items())] for key, planes in sources.items()]),
    }


def _flat_fields(acquisition: Acquisition) -> dict[int, Polynomial]:
    """Flat fields to divide by, by the channel's index."""
    if acquisition.flat_field == "none":
        return {}
    found = {
        c: background_polynomial(acquisition.flat_field_profiles.get(str(channel.channel_id), {}))
        for c, channel in enumerate(acquisition.channels)
    }
    return {c: polynomial for c, polynomial in found.items() if polynomial is not None}


def _rename_channels(acquisitions: Sequence[Acquisition], names: Mapping[int, str]) -> tuple[Acquisition, ...]:
    known = {channel.channel_id for acquisition in acquisitions for channel in acquisition.channels}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ExportError(f"The export has no channel {unknown[0]}; its channels are {sorted(known)}.")
    return tuple(
        replace(a, channels=tuple(_rename(channel, names.get(channel.channel_id)) for channel in a.channels))
        for a in acquisitions
    )


def _rename(channel: Channel, name: str | None) -> Channel:
    if name is None:
        return channel
    is_brightfield = channel.kind == "unknown" and name.lower().replace(" ", "").startswith("brightfield")
    return replace(channel, name=name, kind="brightfield" if is_brightfield else channel.kind)


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
