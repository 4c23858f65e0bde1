"""What is done: small immutable records beside the store, written after the arrays that they vouch for."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from artifact_mask.io.files import FileStamp, files_have_sizes, write_atomically, write_if_changed

MAX_KEY_CHARACTERS = 100
"""A file name has 255, of which a temporary one needs some more."""

FieldKey = tuple[str, int]
"""Path of a well and index of a field in it."""


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
    """

    plate: Path
    stage: str
    digest: str

    @property
    def folder(self) -> Path:
        """Where the records are; beside the store, since a foreign folder in it makes Zarr readers warn."""
        return self.plate.with_name(self.plate.name + ".artmask") / self.stage / self.digest

    def start(self, config: Mapping[str, Any]) -> bool:
        """Store the configuration, and forget what other digests recorded: their files are about to be replaced.

        Returns
        -------
        bool
            Whether the stage had been done, or begun, with another digest.
        """
        others = [folder for folder in self.folder.parent.glob("*") if folder.name != self.digest]
        for folder in others:
            shutil.rmtree(folder)
        write_if_changed(self.folder / "config.json", json.dumps(config, indent=1, default=str).encode())
        return bool(others)

    def commit(self, unit: Unit, records: Mapping[int, FieldRecord]) -> None:
        """Record a unit whose files are in place."""
        fields = {str(i): {"row": dict(r.row), "files": dict(r.files)} for i, r in records.items()}
        document = {"digest": self.digest, "well": unit.well, "written_ns": time.time_ns(), "fields": fields}
        write_atomically(self.folder / f"{unit.key}.json", json.dumps(document).encode())

    def read(self) -> dict[FieldKey, FieldRecord]:
        """Read the records of all fields, finished or failed; of several, the latest is taken."""
        found = sorted(map(_read_record, sorted(self.folder.glob("*-*.json"))), key=lambda record: record[0])
        return {key: record for _, fields in found for key, record in fields.items()}

    def pending(self, units: Iterable[Unit]) -> list[Unit]:
        """Cut the units down to the fields that have no record, failed, or whose files are not there in full size."""
        records = self.read()

        def is_done(key: FieldKey) -> bool:
            record = records.get(key)
            return record is not None and not record.failed and files_have_sizes(self.plate, dict(record.files))

        remaining = (replace(u, fields=tuple(f for f in u.fields if not is_done((u.well, f)))) for u in units)
        return [unit for unit in remaining if unit.fields]


def _read_record(file: Path) -> tuple[int, dict[FieldKey, FieldRecord]]:
    """Time and fields of one record file; no field where it is torn, so that they are done again."""
    try:
        document = json.loads(file.read_bytes())
        return document["written_ns"], {
            (document["well"], int(index)): FieldRecord(
                entry["row"], {name: FileStamp(*stamp) for name, stamp in entry["files"].items()}
            )
            for index, entry in document["fields"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0, {}


def plan_units(fields: Iterable[FieldKey], *, fields_per_unit: int) -> list[Unit]:
    """Cut fields into units of one well each.

    Examples
    --------
    >>> [unit.key for unit in plan_units([("B/2", 0), ("B/2", 1), ("B/2", 2), ("B/3", 0)], fields_per_unit=2)]
    ['B2-0_1', 'B2-2', 'B3-0']
    """
    by_well: dict[str, list[int]] = {}
    for well, index in fields:
        by_well.setdefault(well, []).append(index)
    return [
        Unit(well, tuple(indices[start : start + fields_per_unit]))
        for well, indices in by_well.items()
        for start in range(0, len(indices), fields_per_unit)
    ]


def digest_of(*parts: object) -> str:
    """Digest of everything that determines a result: configuration, model, software, input."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
