"""`artmask status`: how far the work on plates is, from the records beside them alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from artifact_mask.engine.journal import UnitRecord, lease_folder, open_journal, settle
from artifact_mask.engine.lease import BEAT_S, is_alive, read_holder
from artifact_mask.io.ome_zarr_plate import find_plates
from artifact_mask.location import Location
from artifact_mask.workflows.stages import STAGES

_EXPECTED = ("ingest", "run")
"""Stages that every plate goes through; of others nothing is said until they have begun."""
_RATE_OVER_NS = 600 * 10**9
_LISTEN_S = 2.5 * BEAT_S


@dataclass(frozen=True)
class StageStatus:
    """How far one stage of one plate is.

    Attributes
    ----------
    plate, stage
        Which.
    n_fields, n_done, n_failed
        Of the plate, finished, and ended with an error.
    running
        Who works on the plate, or None.
    fields_per_s
        Over the last ten minutes of the latest run; 0 if unknown.
    written_ns
        When the latest record was written, in nanoseconds since 1970 by its worker's clock; 0 if there is none.
    """

    plate: str
    stage: str
    n_fields: int
    n_done: int
    n_failed: int
    running: str | None
    fields_per_s: float
    written_ns: int

    @property
    def n_left(self) -> int:
        """Fields without an outcome."""
        return self.n_fields - self.n_done - self.n_failed

    @property
    def seconds_left(self) -> float | None:
        """Time that a running stage still needs; None if that is not known."""
        return self.n_left / self.fields_per_s if self.running and self.fields_per_s else None


def read_status(places: Iterable[Location]) -> list[StageStatus]:
    """Read how far each stage of some plates is.

    Parameters
    ----------
    places
        Plates, or folders of plates.

    Raises
    ------
    PlateError
        If there is no such plate.

    Notes
    -----
    Nothing is written, and no cluster is asked. Whether a run of another machine is alive takes some seconds to see.
    """
    return [status for plate, n_fields in find_plates(places).items() for status in _read_plate(plate, n_fields)]


def _read_plate(plate: Location, n_fields: int) -> Iterator[StageStatus]:
    lease = lease_folder(plate)
    holder = read_holder(lease)
    running = holder is not None and is_alive(lease, holder, silence_s=_LISTEN_S)
    for stage in STAGES:
        journal = open_journal(plate, stage)
        if journal is None and stage not in _EXPECTED:
            continue
        units = list(journal.read_units()) if journal else []
        records = settle(units)
        n_failed = sum(record.failed for record in records.values())
        yield StageStatus(
            plate=str(plate),
            stage=stage,
            n_fields=n_fields,
            n_done=len(records) - n_failed,
            n_failed=n_failed,
            running=str(holder) if holder and running and holder.stage == stage else None,
            fields_per_s=fields_per_s(units),
            written_ns=max((unit.written_ns for unit in units), default=0),
        )


def fields_per_s(units: Iterable[UnitRecord]) -> float:
    """Fields a second over the last ten minutes of the latest run that wrote these records; 0 if unknown."""
    written = sorted((unit.epoch, unit.written_ns, len(unit.fields)) for unit in units)
    if not written:
        return 0.0
    epoch, end, _ = written[-1]
    recent = [(ns, n) for e, ns, n in written if e == epoch and end - ns < _RATE_OVER_NS]
    start = recent[0][0]
    return sum(n for _, n in recent[1:]) / (end - start) * 1e9 if end > start else 0.0
