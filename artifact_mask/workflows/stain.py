"""`artmask stain`: the stained pixels that the tables count, as label images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from artifact_mask import __version__
from artifact_mask.config import StainConfig
from artifact_mask.engine.journal import FieldRecord, Journal, Unit, digest_of, plan_units
from artifact_mask.engine.retry import retry
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.illumination_profiles import StoredFlatField, load_flat_field
from artifact_mask.io.label_images import read_label_image
from artifact_mask.io.ome_zarr import write_labels
from artifact_mask.io.ome_zarr_plate import StoredPlate, find_plates
from artifact_mask.kernels.illumination import estimate_background
from artifact_mask.kernels.staining import density_steps, optical_density, step_of
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, FieldKey, NgffVersion, Plate
from artifact_mask.workflows.campaign import PlannedStage, Stage, Workload, process_campaign
from artifact_mask.workflows.ingest import read_ingest
from artifact_mask.workflows.measurements import choose_stain_thresholds
from artifact_mask.workflows.planes import read_corrected_plane
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.run import LABEL_NAME as ARTIFACTS
from artifact_mask.workflows.run_results import RunResults, read_run
from artifact_mask.workflows.tabulate import Outcome, tabulate_stage
from artifact_mask.workflows.unit import Receipt, Row, process_unit, write_each

LABEL_NAME = "stain"


def label_stain(config: StainConfig, progress: Progress | None = None) -> Summary:
    """Write ``labels/stain`` into each field that `run` has masked: 1 where a pixel outside of artifacts is stained.

    The thresholds are those of the tables. Run again, it does only what is missing; after another choice of threshold,
    everything.

    Raises
    ------
    PlateError
        If there is no such plate, or `run` has not been run on the only one.
    LeaseError
        If a run is at work on the only plate.
    StorageError
        If the disk is full.
    ClusterError
        If the cluster cannot be started, or is lost.
    """
    return process_campaign(prepare_stain(config), progress or Silent())


def prepare_stain(config: StainConfig) -> Workload:
    """Make ready what :func:`label_stain` does; nothing is written."""
    # How many fields have a mask is known when the plate is opened.
    planned = [PlannedStage(root, None, partial(_open_stage, root, config)) for root in find_plates(config.plates)]
    return Workload(StainStage.name, planned, config.model_dump(mode="json"), config.cluster)


@dataclass(frozen=True)
class StainStage(Stage):
    """Stain of one plate.

    Attributes
    ----------
    stored, ingested
        What is on the plate, and what the ingest recorded of each field.
    results
        Of `run`.
    thresholds
        Of the fields that it has measured.
    """

    name = "stain"
    plate: Location
    ngff: NgffVersion
    stored: StoredPlate
    ingested: Mapping[FieldKey, FieldRecord]
    results: RunResults
    thresholds: Mapping[FieldKey, float]
    fields_per_unit: int | None

    def describe(self) -> Plate:
        """Describe what is on the plate."""
        return self.stored.plate

    @property
    def settings(self) -> dict[str, object]:
        """What determines the labels."""
        return {
            "software": __version__,
            "ingest": self.stored.ingest_digest,
            "run": self.results.digest,
            "thresholds": digest_of(sorted((*key, value) for key, value in self.thresholds.items())),
        }

    def highlights(self) -> Mapping[str, str]:
        """Channel and thresholds."""
        names = (self.stored.plate.acquisitions[number].channels[c].name for number, c in self.results.channels.items())
        thresholds = sorted({f"{value:g}" for value in self.thresholds.values()}, key=float)
        between = thresholds if len(thresholds) < 3 else (thresholds[0], thresholds[-1])
        return {"channel": ", ".join(dict.fromkeys(names)), "thresholds": " to ".join(between)}

    def units(self) -> list[Unit]:
        """Fields with a threshold, of one well each."""
        return plan_units(self.thresholds, fields_per_unit=self.fields_per_unit)

    def bind(self, journal: Journal, unit: Unit) -> partial[Receipt]:
        """Task with the unit's own well and thresholds."""
        number = self.stored.plate.acquisition_of[unit.well, unit.fields[0]]
        task = _Task(
            acquisition=self.stored.plate.acquisitions[number].only(unit.well),
            channel=self.results.channels[number],
            flat_field=self.results.flat_fields.get(number),
            thresholds={index: self.thresholds[unit.well, index] for index in unit.fields},
            ngff=self.ngff,
        )
        return partial(_stain_unit, journal, task, unit)

    def owned(self, key: FieldKey) -> list[Location]:
        """Labels."""
        return _owned(self.plate, key)

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """Tables as they are, but for the errors of this stage."""
        return tabulate_stage(self.plate, self.stored, self.ingested, self.name, Outcome(records), self.thresholds)


@dataclass(frozen=True)
class _Task:
    """What a unit needs to know; the acquisition has its well alone."""

    acquisition: Acquisition
    channel: int
    flat_field: StoredFlatField | None
    thresholds: Mapping[int, float]
    ngff: NgffVersion


def _open_stage(root: Location, config: StainConfig) -> StainStage:
    stored, ingested = read_ingest(root)
    results = read_run(root, stored)
    chosen = choose_stain_thresholds(stored.plate, results.records, results.config)
    thresholds = {key: chosen[key] for key in results.measured if not math.isnan(chosen[key])}
    return StainStage(root, stored.ngff, stored, ingested, results, thresholds, config.fields_per_unit)


def _owned(root: Location, key: FieldKey) -> list[Location]:
    return [root / key[0] / str(key[1]) / "labels" / LABEL_NAME]


def _stain_unit(journal: Journal, task: _Task, unit: Unit) -> Receipt:
    (well,) = task.acquisition.wells
    fields = {field.index: field for field in well.fields}

    def write(files: StagedFiles, index: int) -> Row:
        return _stain_field(files, journal.plate, task, fields[index])

    field_bytes = task.acquisition.shape[0] * task.acquisition.shape[2] * task.acquisition.plane_bytes
    owned = partial(_owned, journal.plate)
    return process_unit(journal, unit, partial(write_each, write=write), owned, field_bytes=field_bytes)


def _stain_field(files: StagedFiles, root: Location, task: _Task, field: Field) -> Row:
    """Write the label of a field."""
    acquisition, (well,) = task.acquisition, task.acquisition.wells
    folder = root / well.path / str(field.index)
    flat_field = load_flat_field(root, task.flat_field) if task.flat_field else None
    labelled = []
    for t, z in np.ndindex(acquisition.shape[0], acquisition.shape[2]):
        index = (t, task.channel, z)
        pixels = retry(partial(read_corrected_plane, folder, acquisition, index, flat_field))
        artifacts = retry(partial(read_label_image, folder, ARTIFACTS, (t, z)))
        density = optical_density(pixels, estimate_background(pixels))
        stained = (density_steps(density) >= step_of(task.thresholds[field.index])) & (artifacts == 0)
        labelled.append(((t, z), stained.astype(np.int32)))
    write_labels(files, folder, acquisition, field, labelled, name=LABEL_NAME, ngff=task.ngff)
    return {}
