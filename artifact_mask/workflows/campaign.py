"""What ingest and run have in common: many plates as one stream of units, each field of them accounted for."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, ClassVar, NamedTuple, TypeVar

import pandas as pd

from artifact_mask.config import ClusterConfig
from artifact_mask.engine.cluster import start_cluster
from artifact_mask.engine.journal import FieldRecord, Journal, Unit, digest_of, hold_plate
from artifact_mask.engine.placement import placed_model
from artifact_mask.engine.stream import Outcome, Work, stream
from artifact_mask.errors import ArtmaskError, ClusterError, StorageError
from artifact_mask.io.files import StagedFiles, publish, remove_others
from artifact_mask.io.tables import write_tables
from artifact_mask.location import Location
from artifact_mask.metadata import FieldKey, NgffVersion, Plate
from artifact_mask.workflows.progress import FieldFailure, Progress, Summary
from artifact_mask.workflows.tabulate import list_failures
from artifact_mask.workflows.unit import Receipt, Row, naming_a_full_disk

Result = TypeVar("Result")


class Model(NamedTuple):
    """A model that each worker loads once, before its first task.

    Attributes
    ----------
    name
        By which tasks find it; of this run alone, for others may use the same workers.
    load
        Loads it, on the worker.
    """

    name: str
    load: Callable[[], Any]


class Stage(ABC):
    """One stage of the work on one plate.

    Attributes
    ----------
    plate
        The store.
    ngff
        Version of NGFF of the store.
    """

    name: ClassVar[str]
    plate: Location
    ngff: NgffVersion

    @abstractmethod
    def describe(self) -> Plate:
        """Describe what is on the plate."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, object]:
        """Everything that determines the result, by names that people know."""

    @abstractmethod
    def units(self) -> list[Unit]:
        """Cut the work into units."""

    @abstractmethod
    def bind(self, journal: Journal, unit: Unit) -> Callable[[], Receipt]:
        """Make the task of a unit, with no more of the plate in it than that needs."""

    @abstractmethod
    def owned(self, key: FieldKey) -> list[Location]:
        """Folders of a field that this stage alone writes into."""

    @abstractmethod
    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """Build the plate's tables, ``fields`` among them, from the records alone."""

    def highlights(self) -> Mapping[str, str]:
        """Name what a person would check before it is done, such as the channel."""
        return {}

    @property
    def problems(self) -> Sequence[str]:
        """What of the input could not be understood and was left out, beside what its fields' rows say."""
        return ()

    def prepare(self, files: StagedFiles) -> None:
        """Write what the plate needs before its first unit."""
        return None

    def write_streams(self, files: StagedFiles, records: Mapping[FieldKey, FieldRecord]) -> None:
        """Write what of the plate's tables is too long for the memory, before the others."""
        return None

    def keeps_tables(self, *, changed: bool) -> bool:
        """Whether to leave the tables alone, to which a later stage may have added.

        Parameters
        ----------
        changed
            Whether any field's outcome is another than before.
        """
        return False


@dataclass(frozen=True)
class PlannedStage:
    """A stage that is opened when its turn comes, so that the plates of a campaign are not all held in memory.

    Attributes
    ----------
    plate
        The store.
    n_fields
        Fields of the plate; None if that is known only when it is opened.
    open
        Reads the plate's metadata.
    """

    plate: Location
    n_fields: int | None
    open: Callable[[], Stage]


@dataclass(frozen=True)
class Workload:
    """One stage of some plates, ready to be done, or to be told beforehand.

    Attributes
    ----------
    stage
        Its name.
    planned
        The plates, in order.
    config
        Stored with the records.
    cluster
        Where to do it. It is not started if there is nothing to do.
    model
        What tasks find on their worker.
    use_gpus
        Whether the work gains from them.
    refused
        Plates or exports that are left out already, and why.
    """

    stage: str
    planned: Sequence[PlannedStage]
    config: Mapping[str, Any]
    cluster: ClusterConfig
    model: Model | None = None
    use_gpus: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)


def process_campaign(workload: Workload, progress: Progress) -> Summary:
    """Stream what is pending on some plates over a cluster: no barrier between plates, no plate stops another.

    Raises
    ------
    ArtmaskError
        If there is a single plate and it cannot be opened; of several, the others are done.
    StorageError, ModelError, ClusterError
        If nothing more can be done on any plate.
    """
    start = time.perf_counter()
    known = [planned.n_fields for planned in workload.planned]
    progress.begin(workload.stage, sum(n or 0 for n in known))
    campaign = Campaign(workload.planned, workload.config, progress)
    with campaign:
        for outcome in stream_on_cluster(
            campaign.works(),
            cluster=workload.cluster,
            progress=progress,
            model=workload.model,
            use_gpus=workload.use_gpus,
        ):
            campaign.settle(outcome)
    summary = campaign.summary
    refused = {**workload.refused, **summary.refused}
    return replace(summary, refused=refused, seconds=time.perf_counter() - start)


def stream_on_cluster(
    works: Iterator[Work[Result]],
    *,
    cluster: ClusterConfig,
    progress: Progress,
    model: Model | None = None,
    use_gpus: bool = False,
) -> Iterator[Outcome[Result]]:
    """Stream units over a cluster, which is not started if there are none."""
    first = next(works, None)
    if first is None:
        return
    with start_cluster(cluster, use_gpus=use_gpus) as client, ExitStack() as stack:
        if cluster.dashboard:
            progress.note(f"Dask dashboard: {client.dashboard_link}")
        if model is not None:
            stack.enter_context(placed_model(client, model.load, model.name))
        yield from stream(client, chain([first], works), note=progress.note)


@dataclass
class _Open:
    """A plate that is being worked on."""

    stage: Stage
    journal: Journal
    units: list[Unit]
    n_left: int
    before: Mapping[FieldKey, FieldRecord]
    resources: ExitStack


class Campaign:
    """Plates on their way from planned to finished, and what became of their fields."""

    def __init__(self, planned: Sequence[PlannedStage], config: Mapping[str, Any], progress: Progress) -> None:
        self._planned = planned
        self._config = config
        self._progress = progress
        self._open: dict[str, _Open] = {}
        self._n_fields = sum(plate.n_fields or 0 for plate in planned)
        self._n_resumed = 0
        self._problems: list[str] = []
        self._failures: list[FieldFailure] = []
        self._refused: dict[str, str] = {}
        self._outputs: dict[str, Location] = {}

    def __enter__(self) -> "Campaign":
        return self

    def __exit__(self, *_: object) -> None:
        for plate in self._open.values():
            plate.resources.close()

    @property
    def summary(self) -> Summary:
        """How it ended."""
        return Summary(
            n_fields=self._n_fields,
            n_resumed=self._n_resumed,
            failures=tuple(self._failures),
            refused=self._refused,
            problems=tuple(self._problems),
            outputs=self._outputs,
        )

    def works(self) -> Iterator[Work[Receipt]]:
        """Open one plate after the other and yield what is pending of it."""
        for number, planned in enumerate(self._planned, start=1):
            try:
                plate = self._begin(planned, plates_left=len(self._planned) - number)
            except ArtmaskError as error:
                if len(self._planned) == 1 or isinstance(error, StorageError | ClusterError):
                    raise
                self._refused[str(planned.plate)] = str(error)
                self._progress.note(f"Left out: {error}")
                if planned.n_fields is None:
                    self._progress.expect(0, len(self._planned) - number)
                else:
                    self._progress.advance(planned.n_fields, planned.n_fields, 0)
                continue
            name = f"{plate.stage.name}-{digest_of(str(plate.journal.plate))}-{plate.journal.epoch}"
            self._open[name] = plate
            if plate.n_left == 0:
                self._finish(name)
            else:
                bind = _Bind(plate.stage, plate.journal)
                yield from (Work(unit, bind, name) for unit in plate.units)

    def settle(self, outcome: Outcome[Receipt]) -> None:
        """Account for a unit that came to its end."""
        plate, unit = self._open[outcome.work.name], outcome.work.unit
        if outcome.receipt is None:
            error = f"the task failed: {outcome.error!r}"
            plate.journal.commit(unit, {i: FieldRecord({"error": error}, {}) for i in unit.fields})
            self._progress.advance(len(unit.fields), len(unit.fields), 0)
        else:
            self._progress.advance(*outcome.receipt)
        plate.n_left -= len(unit.fields)
        if plate.n_left == 0:
            self._finish(outcome.work.name)

    @staticmethod
    def _settle_records(plate: _Open) -> Mapping[FieldKey, FieldRecord]:
        records = plate.journal.read()
        for key, record in records.items():
            if record.failed and not record.files:
                # What is there was written under another configuration, or is damaged: it would look like a result.
                remove_others(plate.stage.owned(key), plate.stage.plate, {})
        return records

    def _begin(self, planned: PlannedStage, *, plates_left: int) -> _Open:
        with ExitStack() as stack, naming_a_full_disk(planned.plate):
            stage = planned.open()
            all_units = stage.units()
            n_fields = planned.n_fields
            if n_fields is None:
                n_fields = sum(len(unit.fields) for unit in all_units)
                self._n_fields += n_fields
                self._progress.expect(n_fields, plates_left)
            lease = stack.enter_context(hold_plate(stage.plate, stage.name))
            journal = Journal(stage.plate, stage.name, digest_of(stage.name, stage.settings), lease.epoch)
            with journal.stage_files() as files:
                stage.prepare(files)
                publish([files])
            changes = journal.begin(stage.settings, self._config)
            if changes is not None:
                self._progress.note(f"{stage.plate}: everything is done again, for what has changed is")
                for change in changes:
                    self._progress.note(f"  {change}")
            before = journal.read()
            units = journal.pending(all_units, before)
            n_left = sum(len(unit.fields) for unit in units)
            n_done = n_fields - n_left
            self._n_resumed += n_done
            if n_done:
                self._progress.resume(str(stage.plate), n_done)
            return _Open(stage, journal, units, n_left, before, stack.pop_all())

    def _finish(self, name: str) -> None:
        """Write a plate's tables and give it free."""
        plate = self._open.pop(name)
        stage, journal = plate.stage, plate.journal
        with plate.resources, naming_a_full_disk(stage.plate):
            journal.lease.require()
            records = self._settle_records(plate) if plate.units else plate.before
            with journal.stage_files() as files:
                stage.write_streams(files, records)
                publish([files])
            tables = stage.tabulate(records)
            written: dict[str, Location] = {}
            changed = bool(plate.units) and _rows(records) != _rows(plate.before)
            if not stage.keeps_tables(changed=changed):
                with journal.stage_files() as files:
                    written = write_tables(files, stage.plate, tables, ngff=stage.ngff)
                    publish([files])
        self._failures.extend(list_failures(tables["fields"]))
        self._problems.extend(f"{stage.plate.name}: {problem}" for problem in stage.problems)
        self._outputs["plate" if len(self._planned) == 1 else stage.plate.name] = stage.plate
        if len(self._planned) == 1:
            self._outputs |= {f"{table} table": path for table, path in written.items()}


@dataclass(frozen=True)
class _Bind:
    stage: Stage
    journal: Journal

    def __call__(self, unit: Unit) -> Callable[[], Receipt]:
        return self.stage.bind(self.journal, unit)


def _rows(records: Mapping[FieldKey, FieldRecord]) -> dict[FieldKey, Row]:
    return {key: record.row for key, record in records.items()}
