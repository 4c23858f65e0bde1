"""What is done: small immutable records beside the store, written after the arrays that they vouch for."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from artifact_mask.engine.lease import BEAT_S, SILENCE_S, Lease, hold_lease
from artifact_mask.io.files import FileStamp, StagedFiles, publish, remove_others, sizes_in, write_atomically
from artifact_mask.location import Location, read_bytes
from artifact_mask.metadata import FieldKey

MAX_KEY_CHARACTERS = 100
"""A file name has 255, of which an ending needs some."""

MAX_FIELDS_PER_UNIT = 16
"""Seconds of work on a core; then the milliseconds that a scheduler needs for a task are nothing."""
MIN_UNITS_PER_PLATE = 64


@dataclass(frozen=True)
class Unit:
    """Work of one task: some fields of one well."""

    well: str
    fields: tuple[int, ...]

    @property
    def key(self) -> str:
        """Name that is unique in a stage and safe in a file name."""
        fields = "_".join(str(index) for index in self.fields)
        if len(fields) > MAX_KEY_CHARACTERS:
            fields = f"{self.fields[0]}_to_{self.fields[-1]}_{digest_of(self.fields)}"
        return f"{self.well.replace('/', '')}-{fields}"

    def halves(self) -> tuple["Unit", "Unit"]:
        """Cut the unit in two."""
        middle = len(self.fields) // 2
        return replace(self, fields=self.fields[:middle]), replace(self, fields=self.fields[middle:])


@dataclass(frozen=True)
class FieldRecord:
    """Outcome of one field.

    Attributes
    ----------
    row
        Values for the tables. A key ``error`` says why the field failed.
    files
        What the field owns in the store, by path relative to it.
    """

    row: Mapping[str, Any]
    files: Mapping[str, FileStamp]

    @property
    def failed(self) -> bool:
        """Whether the field has an error."""
        return bool(self.row.get("error"))


@dataclass(frozen=True)
class UnitRecord:
    """What one task recorded.

    Attributes
    ----------
    epoch
        Of the run, see :mod:`artifact_mask.engine.lease`.
    written_ns
        When, in nanoseconds since 1970 by the worker's clock.
    fields
        Outcome of each field.
    """

    epoch: int
    written_ns: int
    fields: Mapping[FieldKey, FieldRecord]


@dataclass(frozen=True)
class Journal:
    """Records of one stage of one plate, under one digest of everything that determines the result.

    Attributes
    ----------
    plate
        The store that the records speak of.
    stage
        Name of the stage, such as ``ingest``.
    digest
        From :func:`digest_of`.
    epoch
        Of the run that writes; 0 for one that only reads.
    """

    plate: Location
    stage: str
    digest: str
    epoch: int = 0

    @property
    def folder(self) -> Location:
        """Where the records are."""
        return beside(self.plate) / self.stage / self.digest

    @property
    def lease(self) -> Lease:
        """The lease that this journal is written under."""
        return Lease(lease_folder(self.plate), self.epoch)

    def begin(self, settings: Mapping[str, Any], config: Mapping[str, Any]) -> list[str] | None:
        """Store the configuration, and forget what other digests recorded: their files are about to be replaced.

        Parameters
        ----------
        settings
            What the digest was made of, by names that people know.
        config
            The whole configuration, to be able to repeat the run.

        Returns
        -------
        list[str] | None
            If the stage had been begun with another digest, each setting that has changed.
        """
        state = self.folder.parent / "state.json"
        before = _read_json(state)
        changes = self._changes_since(before, settings)
        if before.get("digest") != self.digest:
            _remove_tree(self.folder.parent)
            # Last, so that what is there when it names a digest was recorded since.
            document = {"digest": self.digest, "settings": settings, "config": config}
            write_atomically(state, _to_json(document))
        elif before["config"] != json.loads(_to_json(config)):
            write_atomically(state, _to_json(before | {"config": config}))
        return changes

    def changes(self, settings: Mapping[str, Any]) -> list[str] | None:
        """Each setting that has changed since the stage was begun; None if none has, or it never was."""
        return self._changes_since(_read_json(self.folder.parent / "state.json"), settings)

    def _changes_since(self, before: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str] | None:
        if not before or before.get("digest") == self.digest:
            return None
        return list(_differences(before.get("settings", {}), json.loads(_to_json(settings))))

    def stage_files(self) -> StagedFiles:
        """Begin to write files of the plate; nobody can publish them once another run has taken over."""
        return StagedFiles(self.plate, _staging(self.plate, self.epoch))

    def commit(self, unit: Unit, records: Mapping[int, FieldRecord]) -> None:
        """Record a unit whose files are in place."""
        fields = {str(i): {"row": dict(r.row), "files": dict(r.files)} for i, r in records.items()}
        document = {"epoch": self.epoch, "written_ns": time.time_ns(), "well": unit.well, "fields": fields}
        # A name of its own for a failure: a task that was thought dead must not replace the record of its successor.
        ending = ".failed.json" if any(record.failed for record in records.values()) else ".json"
        with StagedFiles(self.folder, _staging(self.plate, self.epoch)) as files:
            files.write(self.folder / f"{unit.key}.{self.epoch}{ending}", json.dumps(document).encode(), stamped=False)
            publish([files])

    def read(self) -> dict[FieldKey, FieldRecord]:
        """Read the records of all fields, finished or failed; of several the one that :func:`settle` takes."""
        return settle(self.read_units())

    def read_units(self) -> Iterator[UnitRecord]:
        """Read the records as they were written, in no order; a torn one is as good as none."""
        for content in _read_files(self.folder):
            try:
                yield _parse_record(content)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue

    def pending(self, units: Iterable[Unit], records: Mapping[FieldKey, FieldRecord]) -> list[Unit]:
        """Cut units down to the fields that have no record, failed, or whose files are not there in full size."""
        size_of = sizes_in(self.plate)

        def is_done(key: FieldKey) -> bool:
            record = records.get(key)
            if record is None or record.failed:
                return False
            return all(size_of(name) == stamp.size for name, stamp in record.files.items())

        remaining = (replace(u, fields=tuple(f for f in u.fields if not is_done((u.well, f)))) for u in units)
        return [unit for unit in remaining if unit.fields]


def settle(units: Iterable[UnitRecord]) -> dict[FieldKey, FieldRecord]:
    """Take one record for each field.

    Notes
    -----
    Of several, that of the latest run is taken; within a run, success outdoes failure: the failed one is of a task
    that was thought dead and computed again.
    """
    found: dict[FieldKey, FieldRecord] = {}
    origin: dict[FieldKey, UnitRecord] = {}
    for unit in units:
        for key, record in unit.fields.items():
            if key not in found or _rank(origin[key], found[key]) < _rank(unit, record):
                found[key], origin[key] = record, unit
    return found


@contextmanager
def hold_plate(plate: Location, stage: str, *, beat_s: float = BEAT_S, silence_s: float = SILENCE_S) -> Iterator[Lease]:
    """Take the lease of a plate for a run and make room for its staged files.

    Raises
    ------
    LeaseError
        If another run is at work on the plate.
    """
    with hold_lease(lease_folder(plate), stage, beat_s=beat_s, silence_s=silence_s) as lease:
        # What a killed run has left. Tasks of it that are still alive lose what they have not published.
        staging = _staging(plate, lease.epoch)
        _remove_tree(staging.parent)
        if isinstance(staging, Path):
            staging.mkdir(parents=True)
        try:
            yield lease
        finally:
            if lease.is_held:
                _remove_tree(staging.parent)


def open_journal(plate: Location, stage: str) -> Journal | None:
    """Open the records of a stage for reading, whatever their digest is; None if it was never begun."""
    digest = _read_json(beside(plate) / stage / "state.json").get("digest")
    return Journal(plate, stage, digest) if digest else None


def read_settings(plate: Location, stage: str) -> Mapping[str, Any]:
    """Read the settings that the records of a stage were made under; none if it was never begun."""
    settings: Mapping[str, Any] = _read_json(beside(plate) / stage / "state.json").get("settings", {})
    return settings


def read_config(plate: Location, stage: str) -> Mapping[str, Any]:
    """Read the configuration that a stage was run with last; empty if it was never begun."""
    config: Mapping[str, Any] = _read_json(beside(plate) / stage / "state.json").get("config", {})
    return config


def beside(plate: Location) -> Location:
    """Folder of records, leases and logs; beside the store, since a foreign folder in it makes Zarr readers warn."""
    return plate.with_name(plate.name + ".artmask")


def lease_folder(plate: Location) -> Location:
    """Folder of a plate's leases."""
    return beside(plate) / "lease"


def plan_units(fields: Iterable[FieldKey], *, fields_per_unit: int | None = None) -> list[Unit]:
    """Cut fields into units of one well each, those of a well as even as can be.

    Parameters
    ----------
    fields
        Of a plate.
    fields_per_unit
        At most. If not given, 16, and fewer on a plate so small that some workers would idle at its end.

    Examples
    --------
    >>> [unit.key for unit in plan_units([("B/2", 0), ("B/2", 1), ("B/2", 2), ("B/3", 0)], fields_per_unit=2)]
    ['B2-0', 'B2-1_2', 'B3-0']
    """
    by_well: dict[str, list[int]] = {}
    for well, index in fields:
        by_well.setdefault(well, []).append(index)
    n_fields = sum(map(len, by_well.values()))
    most = fields_per_unit or min(MAX_FIELDS_PER_UNIT, max(1, n_fields // MIN_UNITS_PER_PLATE))
    return [
        Unit(well, tuple(indices[len(indices) * i // n_units : len(indices) * (i + 1) // n_units]))
        for well, indices in by_well.items()
        for n_units in [-(-len(indices) // most)]
        for i in range(n_units)
    ]


def digest_of(*parts: object) -> str:
    """Digest of everything that determines a result: configuration, model, software, input."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _staging(plate: Location, epoch: int) -> Location:
    return beside(plate) / "staging" / str(epoch)


def _rank(unit: UnitRecord, record: FieldRecord) -> tuple[int, bool, int]:
    return unit.epoch, not record.failed, unit.written_ns


def _parse_record(content: bytes) -> UnitRecord:
    document = json.loads(content)
    fields = {
        (document["well"], int(index)): FieldRecord(
            entry["row"], {name: FileStamp(*stamp) for name, stamp in entry["files"].items()}
        )
        for index, entry in document["fields"].items()
    }
    return UnitRecord(document["epoch"], document["written_ns"], fields)


def _read_files(folder: Location) -> Iterator[bytes]:
    """Contents of the files of a folder."""
    if isinstance(folder, Path):
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return
        for name in names:
            with open(f"{folder}/{name}", "rb") as file:
                yield file.read()
    else:
        # At once: an object store answers many questions in the time of one. A file that is gone since was forgotten.
        for content in folder.fs.cat_ranges(folder.fs.find(folder.path), None, None):
            if not isinstance(content, FileNotFoundError):
                yield _or_raise(content)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"{name}: {before.get(name)} -> {after.get(name)}"


def _read_json(file: Location) -> dict[str, Any]:
    """Document in a file; empty where there is none, or none that is whole."""
    try:
        document = json.loads(read_bytes(file))
    except (FileNotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _to_json(document: object) -> bytes:
    return json.dumps(document, indent=1, default=str).encode()


def _remove_tree(folder: Location) -> None:
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        remove_others([folder], folder, {})


def _or_raise(content: bytes | Exception) -> bytes:
    if isinstance(content, Exception):
        raise content
    return content
