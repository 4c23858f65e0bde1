"""What ingest and run have in common: stream a plate's pending fields over a cluster, field by field accounted for."""

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from artifact_mask.config import ClusterConfig
from artifact_mask.engine.cluster import start_cluster
from artifact_mask.engine.journal import FieldRecord, Journal, Unit
from artifact_mask.engine.placement import place_model
from artifact_mask.engine.stream import stream
from artifact_mask.errors import ArtmaskError, StorageError
from artifact_mask.io.files import stamp_files
from artifact_mask.workflows.progress import Progress

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Receipt(NamedTuple):
    """What a task returns: everything else is in its record."""

    n_fields: int
    n_failed: int


@contextmanager
def naming_a_full_disk(plate: Path) -> Iterator[None]:
    """Turn the system's error about a full or read-only disk into ours."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL_DISK:
            raise
        raise StorageError(
            f"{plate} cannot be written to: {error.strerror}. Fields that were finished are kept; "
            "make room and run the same command again."
        ) from error


def process_units(
    journal: Journal,
    units: list[Unit],
    bind: Callable[[Unit], Callable[[], Receipt]],
    *,
    cluster: ClusterConfig,
    progress: Progress,
    load_model: Callable[[], Any] | None = None,
) -> int:
    """Stream what is pending of a stage and wait for its end.

    Returns
    -------
    int
        Number of fields that had been finished before.
    """
    pending = journal.pending(units)
    total = sum(len(unit.fields) for unit in units)
    done = total - sum(len(unit.fields) for unit in pending)
    progress.begin(journal.stage, total, done)
    if not pending:
        return done
    with start_cluster(cluster) as client:
        if cluster.dashboard:
            progress.note(f"Dask dashboard: {client.dashboard_link}")
        if load_model is not None:
            place_model(client, load_model)
        for outcome in stream(client, bind, pending, name=f"{journal.stage}-{journal.digest}"):
            if isinstance(outcome.error, ConnectionError):
                # Unknown: its record, if it has one, tells. The tables list it as not reached.
                progress.advance(len(outcome.unit.fields), len(outcome.unit.fields))
            elif outcome.receipt is None:
                error = f"the task failed: {outcome.error!r}"
                journal.commit(outcome.unit, {i: FieldRecord({"error": error}, {}) for i in outcome.unit.fields})
                progress.advance(len(outcome.unit.fields), len(outcome.unit.fields))
            else:
                progress.advance(outcome.receipt.n_fields, outcome.receipt.n_failed)
    return done


def process_unit(
    journal: Journal, unit: Unit, process_field: Callable[[int], Mapping[str, Any]], owned: Callable[[int], list[Path]]
) -> Receipt:
    """Process the fields of a unit, one after the other, and commit their records; runs on a worker.

    Parameters
    ----------
    journal, unit
        What to do, and where to record it.
    process_field
        Writes the arrays of a field and returns its row for the tables.
    owned
        Folders that a field owns in the store; removed before it is processed, and again if it fails, so that nothing
        half-written is left to look whole.

    Raises
    ------
    StorageError
        If the disk is full or cannot be written to. Nothing is recorded then.
    """
    rows: dict[int, Mapping[str, Any]] = {}
    with naming_a_full_disk(journal.plate):
        for index in unit.fields:
            _remove(owned(index))
            try:
                rows[index] = process_field(index)
            except Exception as error:
                _remove(owned(index))
                if isinstance(error, OSError) and error.errno in _FULL_DISK:
                    raise
                rows[index] = {"error": _describe(error)}
        stamps = stamp_files(journal.plate, {index: owned(index) for index in unit.fields})
        records = {index: FieldRecord(row, stamps[index]) for index, row in rows.items()}
        journal.commit(unit, records)
    return Receipt(len(records), sum(record.failed for record in records.values()))


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, ArtmaskError) else f"{type(error).__name__}: {error}"
