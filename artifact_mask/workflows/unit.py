"""What a task does with its unit: process the fields, publish their files together, record them last."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from artifact_mask.engine.journal import FieldRecord, Journal, Unit, plan_units
from artifact_mask.engine.retry import FULL_DISK, retry
from artifact_mask.engine.worker_log import log_unit
from artifact_mask.errors import ArtmaskError, StorageError
from artifact_mask.io.files import StagedFiles, publish, remove_others
from artifact_mask.location import Location
from artifact_mask.metadata import FieldKey, Plate

Row = Mapping[str, Any]


class Receipt(NamedTuple):
    """What a task returns: everything else is in its record."""

    n_fields: int
    n_failed: int
    n_bytes: int


@contextmanager
def naming_a_full_disk(plate: Location) -> Iterator[None]:
    """Turn the system's error about a full or read-only disk into ours."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise StorageError(
            f"{plate} cannot be written to: {error.strerror}. Fields that were finished are kept; "
            "make room and run the same command again."
        ) from error


def process_unit(
    journal: Journal,
    unit: Unit,
    process: Callable[[Mapping[int, StagedFiles]], Iterable[tuple[int, Row | Exception]]],
    owned: Callable[[FieldKey], list[Location]],
    *,
    field_bytes: int,
) -> Receipt:
    """Process the fields of a unit and commit them: all arrays first, the record last; runs on a worker.

    Parameters
    ----------
    journal, unit
        What to do, and where to record it.
    process
        Takes the files of each field to write with, and yields for each field its row for the tables, or its error.
    owned
        Folders of a field; what is in them and was not written now is removed.
    field_bytes
        Pixels of a field in bytes, for the record.

    Raises
    ------
    StorageError
        If the disk is full or cannot be written to. Nothing is recorded then.
    LeaseError
        If another run has taken over the plate.
    """
    started = time.time()
    journal.lease.require()
    try:
        with naming_a_full_disk(journal.plate):
            records = _process_and_commit(journal, unit, process, owned)
    except FileNotFoundError:
        # What a run leaves unpublished is swept away by the one that takes over.
        journal.lease.require()
        raise
    log_unit(journal, unit, started=started, errors={i: r.row["error"] for i, r in records.items() if r.failed})
    return Receipt(len(records), sum(r.failed for r in records.values()), field_bytes * len(records))


def plan_plate(plate: Plate, acquisitions: Iterable[int], *, fields_per_unit: int | None) -> list[Unit]:
    """Cut some acquisitions of a plate into units, each of one well of one acquisition."""
    chosen = [plate.acquisitions[number] for number in acquisitions]
    return [unit for a in chosen for unit in plan_units(a.field_keys, fields_per_unit=fields_per_unit)]


def retry_writing(files: StagedFiles, write: Callable[[], Row]) -> Row:
    """Write a field, and again from the beginning where an error may be over by then."""

    def attempt() -> Row:
        files.restart()
        return write()

    return retry(attempt)


def write_each(
    staged: Mapping[int, StagedFiles], write: Callable[[StagedFiles, int], Row]
) -> Iterator[tuple[int, Row | Exception]]:
    """Write one field after the other, for :func:`process_unit`: no field's error keeps the others from being written.

    Parameters
    ----------
    staged
        Files of each field to write with.
    write
        Takes these and the index of the field, and returns its row; called again if the storage fails.
    """
    for index, files in staged.items():
        try:
            yield index, retry_writing(files, partial(write, files, index))
        except Exception as error:
            yield index, error


def _process_and_commit(
    journal: Journal,
    unit: Unit,
    process: Callable[[Mapping[int, StagedFiles]], Iterable[tuple[int, Row | Exception]]],
    owned: Callable[[FieldKey], list[Location]],
) -> dict[int, FieldRecord]:
    with ExitStack() as stack:
        staged = {index: stack.enter_context(journal.stage_files()) for index in unit.fields}
        records: dict[int, FieldRecord] = {}
        for index, outcome in process(staged):
            if isinstance(outcome, Exception):
                if isinstance(outcome, OSError) and outcome.errno in FULL_DISK:
                    raise outcome
                staged[index].discard()
                records[index] = FieldRecord({"error": _describe(outcome)}, {})
            else:
                records[index] = FieldRecord(outcome, staged[index].stamps)
        kept = {index: record.files for index, record in records.items() if record.files}
        redone = [index for index in kept if any(_may_hold_files(folder) for folder in owned((unit.well, index)))]
        publish(staged[index] for index in kept)
        for index in redone:
            remove_others(owned((unit.well, index)), journal.plate, kept[index])
        # Only an object store lets a run come so far that has lost its lease.
        journal.lease.require()
        journal.commit(unit, records)
    return records


def _may_hold_files(folder: Location) -> bool:
    """Whether a folder may hold other files than the new ones, which an object store has in their places already."""
    return not isinstance(folder, Path) or folder.exists()


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, ArtmaskError) else f"{type(error).__name__}: {error}"
