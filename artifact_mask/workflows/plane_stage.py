"""What `run` and `label` have in common: a model that looks at one channel's planes, on every field of a plate."""

import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

import pandas as pd

from artifact_mask import __version__
from artifact_mask.config import LabelConfig, RunConfig
from artifact_mask.engine.journal import FieldRecord, Journal, Unit
from artifact_mask.engine.pipeline import overlap
from artifact_mask.engine.placement import worker_threads
from artifact_mask.engine.retry import retry
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.illumination_profiles import StoredFlatField, load_flat_field
from artifact_mask.io.ome_zarr_plate import StoredPlate, find_plates
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, FieldKey, NgffVersion, Plate
from artifact_mask.nn.model_card import model_digest
from artifact_mask.workflows.campaign import Model, PlannedStage, Stage, Workload
from artifact_mask.workflows.planes import Planes, read_planes
from artifact_mask.workflows.tabulate import Outcome, tabulate_stage
from artifact_mask.workflows.unit import Receipt, Row, plan_plate, process_unit, retry_writing

DEVICE = Lock()
"""A worker's tasks read, measure and write beside each other, but take turns on its device."""


@dataclass(frozen=True)
class PlaneParameters:
    """What determines a field's result, beside the pixels and the model.

    Attributes
    ----------
    channel
        Index of the channel.
    scale
        How many times more pixels a side the model wants.
    flat_field
        By which the pixels are divided; None for none.
    ngff
        Version of the plate.
    """

    channel: int
    scale: float
    flat_field: StoredFlatField | None
    ngff: NgffVersion


Parameters = TypeVar("Parameters", bound=PlaneParameters)
Computed = TypeVar("Computed")


@dataclass(frozen=True)
class PlaneStage(Stage, Generic[Parameters]):
    """A stage that looks at one channel's planes.

    Attributes
    ----------
    content
        What is on the plate.
    ingested
        What the ingest recorded of each field.
    ingest_digest, model_digest
        What the result depends on.
    model_name
        By which tasks find the model on their worker.
    parameters
        By the number of the acquisition; those that lack the channel are absent.
    config
        Of the stage.
    """

    plate: Location
    content: Plate
    ngff: NgffVersion
    ingested: Mapping[FieldKey, FieldRecord]
    ingest_digest: str
    model_digest: str
    model_name: str
    parameters: Mapping[int, Parameters]
    config: RunConfig | LabelConfig

    @abstractmethod
    def work(self) -> Callable[[Journal, Acquisition, Parameters, str, Unit], Receipt]:
        """Process a unit, on a worker."""

    def describe(self) -> Plate:
        """Describe what is on the plate."""
        return self.content

    @property
    def settings(self) -> dict[str, object]:
        """What determines the result."""
        given = {"software": __version__, "ingest": self.ingest_digest, "model": self.model_digest}
        several = len(self.parameters) > 1
        return given | {
            f"{name} of acquisition {number}" if several else name: value
            for number, parameters in self.parameters.items()
            for name, value in vars(parameters).items()
        }

    def highlights(self) -> Mapping[str, str]:
        """Channel, flat field, and how fields are resampled."""
        chosen = [(self.content.acquisitions[number], one) for number, one in self.parameters.items()]
        scales = sorted({f"{one.scale:.3g}" for _, one in chosen if one.scale != 1})
        return {
            "channel": ", ".join(dict.fromkeys(a.channels[one.channel].name for a, one in chosen)),
            "flat field": "stored" if any(one.flat_field for _, one in chosen) else "none",
        } | ({"resampled by": ", ".join(scales)} if scales else {})

    def units(self) -> list[Unit]:
        """Fields of one well each, of the acquisitions that have the channel."""
        return plan_plate(self.content, self.parameters, fields_per_unit=self.config.fields_per_unit)

    def bind(self, journal: Journal, unit: Unit) -> partial[Receipt]:
        """Task with the description of a unit's own well."""
        number = self.content.acquisition_of[unit.well, unit.fields[0]]
        acquisition = self.content.acquisitions[number].only(unit.well)
        return partial(self.work(), journal, acquisition, self.parameters[number], self.model_name, unit)

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """Fields, wells and the plate, with what the other stages said of them."""
        looked_at = {key for key, number in self.content.acquisition_of.items() if number in self.parameters}
        stored = StoredPlate(self.content, self.ingest_digest, self.ngff)
        own = Outcome(records, self.config)
        return tabulate_stage(self.plate, stored, self.ingested, self.name, own, looked_at)


def prepare_with_model(
    stage: str,
    config: RunConfig | LabelConfig,
    model: Path,
    load: Callable[[], Any],
    open_stage: Callable[[Location, str, str], Stage],
) -> Workload:
    """Make ready to take the plates of a configuration through a stage, with a model that each worker loads once.

    Parameters
    ----------
    stage
        Its name.
    config
        Names the plates and the cluster.
    model
        File, of which the result depends.
    load
        Loads it, on a worker.
    open_stage
        Takes a plate, the model's digest, and the name by which tasks find the model.
    """
    plates = find_plates(config.plates)
    digest = model_digest(model)
    placed = Model(f"{digest}-{uuid.uuid4().hex}", load)
    planned = [
        PlannedStage(plate, n_fields, partial(open_stage, plate, digest, placed.name))
        for plate, n_fields in plates.items()
    ]
    settings = config.model_dump(mode="json")
    return Workload(stage, planned, settings, config.cluster, model=placed, use_gpus=True)


class PlaneWork(Generic[Parameters, Computed]):
    """The work on one unit: read its fields' planes, compute in batches, write, all at the same time.

    Parameters
    ----------
    journal, acquisition, parameters, unit
        What to do. The acquisition has the unit's well alone.
    contrast_unit
        Of the model's normalisation.
    """

    def __init__(
        self, journal: Journal, acquisition: Acquisition, parameters: Parameters, unit: Unit, *, contrast_unit: float
    ) -> None:
        self._journal = journal
        self._acquisition = acquisition
        self._parameters = parameters
        self._unit = unit
        self._contrast_unit = contrast_unit
        (well,) = acquisition.wells
        self._fields = {field.index: field for field in well.fields}

    @property
    def planes_per_field(self) -> int:
        """Planes ``(t, z)`` of the channel."""
        return self._acquisition.shape[0] * self._acquisition.shape[2]

    def process(
        self,
        compute: Callable[[list[Planes]], Sequence[Computed]],
        write: Callable[[StagedFiles, Location, Field, Planes, Computed], Row],
        owned: Callable[[FieldKey], list[Location]],
        *,
        planes_per_batch: int,
    ) -> Receipt:
        """Process the unit.

        Parameters
        ----------
        compute
            Takes some fields' planes, and gives one result for each field. Called by one thread of a worker at a time.
        write
            Writes a field and returns its row; called again if the storage fails.
        owned
            See :class:`artifact_mask.workflows.campaign.Stage`.
        planes_per_batch
            What the device computes best at once.
        """

        def read(index: int) -> Planes:
            stored = self._parameters.flat_field
            flat_field = load_flat_field(self._journal.plate, stored) if stored else None
            reading = partial(read_planes, contrast_unit=self._contrast_unit, flat_field=flat_field)
            return retry(partial(reading, self._folder(index), self._acquisition, self._parameters.channel))

        def compute_alone(batch: list[Planes]) -> list[Computed]:
            with DEVICE:
                return list(compute(batch))

        def run(staged: Mapping[int, StagedFiles]) -> Iterator[tuple[int, Row | Exception]]:
            def put(index: int, planes: Planes, computed: Computed) -> Row:
                place = (staged[index], self._folder(index), self._fields[index])
                return retry_writing(staged[index], partial(write, *place, planes, computed))

            batch = max(1, planes_per_batch // self.planes_per_field)
            # On a GPU, what is around the network decides; on a CPU, a second thread waits for the disk.
            threads = max(2, worker_threads())
            return overlap(staged, read=read, compute=compute_alone, write=put, batch=batch, threads=threads)

        field_bytes = self.planes_per_field * self._acquisition.plane_bytes
        return process_unit(self._journal, self._unit, run, owned, field_bytes=field_bytes)

    def _folder(self, index: int) -> Location:
        return self._journal.plate / self._unit.well / str(index)


def combine_planes(
    planes: Sequence[Mapping[str, float]], *, summed: Sequence[str] = (), largest: Sequence[str] = ()
) -> Row:
    """One row from the planes of a field: some columns summed, of some the largest, the rest averaged."""
    row = {}
    for key in planes[0]:
        values = [plane[key] for plane in planes]
        if key in summed:
            row[key] = sum(values)
        elif key in largest:
            row[key] = max(values)
        else:
            row[key] = sum(values) / len(values)
    return row
