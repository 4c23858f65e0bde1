"""`artmask verify`: every file that a record vouches for, read again and compared with it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Self

from artifact_mask.config import VerifyConfig
from artifact_mask.engine.journal import (
    FieldRecord,
    Journal,
    Unit,
    digest_of,
    hold_plate,
    open_journal,
    plan_units,
)
from artifact_mask.engine.retry import retry
from artifact_mask.engine.stream import Outcome, Work
from artifact_mask.io.files import FileStamp, check_stamps
from artifact_mask.io.ngff_check import check_field, check_plate
from artifact_mask.io.ome_zarr_plate import find_plates, read_plate
from artifact_mask.location import Location
from artifact_mask.metadata import FieldKey
from artifact_mask.workflows.campaign import stream_on_cluster
from artifact_mask.workflows.progress import FieldFailure, Progress, Silent, Summary
from artifact_mask.workflows.stages import STAGES

FIELDS_PER_UNIT = 32


class _Checked(NamedTuple):
    """What is wrong with each damaged field of a unit, and the size of what was read."""

    damage: dict[int, str]
    n_bytes: int


def verify(config: VerifyConfig, progress: Progress | None = None) -> Summary:
    """Read all files of some plates that are on record, and compare sizes and checksums (crc32c).

    Metadata are checked against the models of NGFF. A damaged field is recorded as failed: the next ``ingest`` or
    ``run`` does it again.

    Raises
    ------
    PlateError
        If there is no such plate.
    LeaseError
        If a run is at work on a plate.
    """
    start = time.perf_counter()
    progress = progress or Silent()
    plates = find_plates(config.plates)
    n_stages = {plate: sum(open_journal(plate, stage) is not None for stage in STAGES) for plate in plates}
    progress.begin("verify", sum(n_fields * n_stages[plate] for plate, n_fields in plates.items()))
    with _Verification(plates, progress) as verification:
        for outcome in stream_on_cluster(verification.works(), cluster=config.cluster, progress=progress):
            verification.settle(outcome)
    return Summary(
        n_fields=verification.n_fields,
        n_resumed=0,
        failures=tuple(verification.failures),
        refused=verification.refused,
        problems=tuple(verification.problems),
        outputs={plate.name: plate for plate in plates},
        seconds=time.perf_counter() - start,
    )


class _Verification:
    """Plates that are opened one after the other, and given free when all their fields are checked."""

    def __init__(self, plates: Mapping[Location, int], progress: Progress) -> None:
        self._plates = plates
        self._progress = progress
        self._open: dict[str, _Check] = {}
        self._leases: dict[Location, ExitStack] = {}
        self.n_fields = 0
        self.failures: list[FieldFailure] = []
        self.refused: dict[str, str] = {}
        self.problems: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for lease in self._leases.values():
            lease.close()

    def works(self) -> Iterator[Work[_Checked]]:
        """Units of every stage of every plate."""
        for plate, n_fields in self._plates.items():
            if not n_fields:
                self.refused[str(plate)] = "it is listed in the campaign and not there (run `artmask ingest` again)"
                continue
            self._leases[plate] = ExitStack()
            epoch = self._leases[plate].enter_context(hold_plate(plate, "verify")).epoch
            wrong = [f"{plate.name}: {problem} (run `artmask ingest` again)" for problem in check_plate(plate)]
            self.problems.extend(wrong)
            checks = [
                _Check(replace(journal, epoch=epoch), journal.read())
                for stage in STAGES
                if (journal := open_journal(plate, stage)) is not None
            ]
            self._open |= {check.name: check for check in checks if check.n_left}
            for check in checks:
                known = list(check.known())
                self.failures.extend(known)
                self.n_fields += len(check.records)
                if known:
                    self._progress.advance(len(known), len(known), 0)
            self._close_if_done(plate)
            for check in checks:
                yield from check.works()

    def settle(self, outcome: Outcome[_Checked]) -> None:
        """Account for a unit that was checked."""
        check, unit = self._open[outcome.work.name], outcome.work.unit
        damage = check.settle(outcome)
        self.failures.extend(check.describe(unit, damage))
        self._progress.advance(len(unit.fields), len(damage), outcome.receipt.n_bytes if outcome.receipt else 0)
        check.n_left -= len(unit.fields)
        if not check.n_left:
            del self._open[check.name]
            self._close_if_done(check.journal.plate)

    def _close_if_done(self, plate: Location) -> None:
        if all(check.journal.plate != plate for check in self._open.values()):
            self._leases.pop(plate).close()


class _Check:
    """Check of one stage of one plate."""

    def __init__(self, journal: Journal, records: Mapping[FieldKey, FieldRecord]) -> None:
        self.journal = journal
        self.records = records
        self.name = f"verify-{digest_of(str(journal.plate), journal.stage)}-{journal.epoch}"
        self._good = [key for key, record in records.items() if record.files]
        self.n_left = len(self._good)

    def known(self) -> Iterator[FieldFailure]:
        """Fields that are on record as failed, or as damaged by an earlier check."""
        failed = [key for key, record in self.records.items() if not record.files]
        for unit in plan_units(failed, fields_per_unit=FIELDS_PER_UNIT):
            errors = {index: str(self.records[unit.well, index].row.get("error")) for index in unit.fields}
            yield from self.describe(unit, errors)

    def works(self) -> Iterator[Work[_Checked]]:
        """Units of the fields that have files."""
        for unit in plan_units(self._good, fields_per_unit=FIELDS_PER_UNIT):
            yield Work(unit, self._bind, self.name)

    def settle(self, outcome: Outcome[_Checked]) -> dict[int, str]:
        """Record what is damaged; return why, by field."""
        unit = outcome.work.unit
        damage = (
            outcome.receipt.damage
            if outcome.receipt
            else dict.fromkeys(unit.fields, f"it could not be checked: {outcome.error!r}")
        )
        for index, error in damage.items():
            row = {**self.records[unit.well, index].row, "error": error}
            self.journal.commit(replace(unit, fields=(index,)), {index: FieldRecord(row, {})})
        return damage

    def describe(self, unit: Unit, damage: Mapping[int, str]) -> Iterator[FieldFailure]:
        """Damage for the summary."""
        plate = read_plate(self.journal.plate).plate if damage else None
        for well in plate.wells if plate else ():
            if well.path == unit.well:
                for field in well.fields:
                    if field.index in damage:
                        error = f"{damage[field.index]} (run `artmask {self.journal.stage}` again)"
                        yield FieldFailure(str(self.journal.plate), well.name, field.field_id, error)

    def _bind(self, unit: Unit) -> partial[_Checked]:
        stamps = {index: dict(self.records[unit.well, index].files) for index in unit.fields}
        # What a field's metadata name must be there when it was ingested, and is looked at once.
        with_metadata = self.journal.stage == STAGES[0]
        return partial(_check_unit, self.journal.plate, unit.well, stamps, with_metadata=with_metadata)


def _check_unit(
    plate: Location, well: str, stamps: Mapping[int, Mapping[str, FileStamp]], *, with_metadata: bool
) -> _Checked:
    damage = {}
    for index, of_field in stamps.items():
        wrong = [f"{name}: {what}" for name, what in retry(partial(check_stamps, plate, of_field)).items()]
        if with_metadata and not wrong:
            wrong = retry(partial(check_field, plate / well / str(index)))
        if wrong:
            damage[index] = "damaged: " + "; ".join(wrong)
    return _Checked(damage, sum(stamp.size for of_field in stamps.values() for stamp in of_field.values()))
