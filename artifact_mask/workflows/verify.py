"""`artmask verify`: every file that a record vouches for, read again and compared with it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from artifact_mask.config import VerifyConfig
from artifact_mask.engine.journal import (
    FieldKey,
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
from artifact_mask.io.ome_zarr_plate import find_plates, read_plate
from artifact_mask.location import Location
from artifact_mask.workflows.campaign import stream_on_cluster
from artifact_mask.workflows.progress import FieldFailure, Progress, Silent, Summary
from artifact_mask.workflows.status import STAGES

FIELDS_PER_UNIT = 32


class _Checked(NamedTuple):
    """What is wrong with each damaged field of a unit, and the size of what was read."""

    damage: dict[int, str]
    n_bytes: int


def verify(config: VerifyConfig, progress: Progress | None = None) -> Summary:
    """Read all files of some plates that are on record, and compare sizes and checksums (crc32c).

    A damaged field is recorded as failed: the next ``ingest`` or ``run`` does it again.

    Raises
    ------
    PlateError
        If there is no such plate.
    LeaseError
        If a run is at work on a plate.
    """
    start = time.perf_counter()
    progress = progress or Silent()
    plates = list(find_plates(config.plates))
    with ExitStack() as stack:
        journals = [journal for plate in plates for journal in _open(plate, stack)]
        checks = {_name(journal): _Check(journal, journal.read()) for journal in journals}
        n_fields = sum(len(check.records) for check in checks.values())
        progress.begin("verify", n_fields)
        failures = [failure for check in checks.values() for failure in check.known()]
        if failures:
            progress.advance(len(failures), len(failures), 0)
        works = (work for name, check in checks.items() for work in check.works(name))
        for outcome in stream_on_cluster(works, cluster=config.cluster, progress=progress):
            check = checks[outcome.work.name]
            damage = check.settle(outcome)
            failures.extend(check.describe(outcome.work.unit, damage))
            n_bytes = outcome.receipt.n_bytes if outcome.receipt else 0
            progress.advance(len(outcome.work.unit.fields), len(damage), n_bytes)
    return Summary(
        n_fields=n_fields,
        n_resumed=0,
        failures=tuple(failures),
        outputs={plate.name: plate for plate in plates},
        seconds=time.perf_counter() - start,
    )


@dataclass(frozen=True)
class _Check:
    """Check of one stage of one plate."""

    journal: Journal
    records: Mapping[FieldKey, FieldRecord]

    @property
    def good(self) -> list[FieldKey]:
        """Fields whose files are to be there."""
        return [key for key, record in self.records.items() if record.files]

    def known(self) -> Iterator[FieldFailure]:
        """Fields that are on record as failed, or as damaged by an earlier check."""
        failed = [key for key, record in self.records.items() if not record.files]
        for unit in plan_units(failed, fields_per_unit=FIELDS_PER_UNIT):
            errors = {index: str(self.records[unit.well, index].row.get("error")) for index in unit.fields}
            yield from self.describe(unit, errors)

    def works(self, name: str) -> Iterator[Work[_Checked]]:
        """Units of the fields that have files."""
        for unit in plan_units(self.good, fields_per_unit=FIELDS_PER_UNIT):
            yield Work(unit, self._bind, name)

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
        return partial(_check_unit, self.journal.plate, stamps)


def _open(plate: Location, stack: ExitStack) -> Iterator[Journal]:
    lease = stack.enter_context(hold_plate(plate, "verify"))
    for stage in STAGES:
        journal = open_journal(plate, stage)
        if journal is not None:
            yield replace(journal, epoch=lease.epoch)


def _name(journal: Journal) -> str:
    return f"verify-{digest_of(str(journal.plate), journal.stage)}-{journal.epoch}"


def _check_unit(plate: Location, stamps: Mapping[int, Mapping[str, FileStamp]]) -> _Checked:
    damage = {}
    for index, of_field in stamps.items():
        wrong = retry(partial(check_stamps, plate, of_field))
        if wrong:
            damage[index] = "damaged: " + "; ".join(f"{name}: {what}" for name, what in wrong.items())
    return _Checked(damage, sum(stamp.size for of_field in stamps.values() for stamp in of_field.values()))
