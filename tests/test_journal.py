import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifact_mask.engine.journal import FieldRecord, Journal, Unit, digest_of, plan_units
from artifact_mask.io.files import FileStamp, files_have_sizes, stamp_files, write_atomically

UNIT = Unit("B/3", (0, 1))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Journal of a plate that has the files of fields 0 and 1."""
    for index in (0, 1):
        file = tmp_path / "plate.zarr" / "B" / "3" / str(index) / "zarr.json"
        file.parent.mkdir(parents=True)
        file.write_text(f"field {index}")
    return Journal(tmp_path / "plate.zarr", "ingest", "digest")


def finished(journal: Journal, index: int) -> FieldRecord:
    return FieldRecord({"value": index}, stamp_files(journal.plate, {0: [journal.plate / "B" / "3" / str(index)]})[0])


def failed() -> FieldRecord:
    return FieldRecord({"error": "it broke"}, {})


# Units


def test_units_hold_fields_of_one_well_each() -> None:
    units = plan_units([("A/1", 0), ("A/1", 1), ("A/1", 5), ("B/2", 0)], fields_per_unit=2)
    assert units == [Unit("A/1", (0, 1)), Unit("A/1", (5,)), Unit("B/2", (0,))]


@given(
    fields=st.lists(st.tuples(st.sampled_from(["A/1", "A/11", "AA/1", "B/2"]), st.integers(0, 300)), unique=True),
    fields_per_unit=st.integers(1, 300),
)
def test_every_field_is_in_exactly_one_unit_and_every_key_is_a_file_name_of_its_own(
    fields: list[tuple[str, int]], fields_per_unit: int
) -> None:
    units = plan_units(fields, fields_per_unit=fields_per_unit)
    assert sorted((unit.well, index) for unit in units for index in unit.fields) == sorted(fields)
    assert all(1 <= len(unit.fields) <= fields_per_unit for unit in units)
    keys = [unit.key for unit in units]
    assert len(set(keys)) == len(keys)
    assert all("/" not in key and len(key) <= 200 for key in keys)


def test_halves_share_the_fields() -> None:
    assert Unit("A/1", (0, 1, 5)).halves() == (Unit("A/1", (0,)), Unit("A/1", (1, 5)))


def test_a_unit_of_many_fields_is_committed(journal: Journal) -> None:
    unit = Unit("B/3", tuple(range(100, 356)))
    journal.commit(unit, {index: failed() for index in unit.fields})
    assert len(journal.read()) == 256


# Digests


def test_a_digest_tells_every_difference_but_the_order_of_keys() -> None:
    digests = [
        digest_of("ingest", {"a": 1, "b": 2}),
        digest_of("ingest", {"a": 1, "b": 3}),
        digest_of("run", {"a": 1, "b": 2}),
        digest_of("ingest", {"a": 1}, {"b": 2}),
        digest_of("ingest", {"a": 1, "b": "2"}),
        digest_of("ingest", [1, 2]),
        digest_of("ingest", [2, 1]),
    ]
    assert len(set(digests)) == len(digests)
    assert digest_of("ingest", {"b": 2, "a": 1}) == digests[0]
    assert all(len(digest) == 16 and digest.isalnum() for digest in digests)


# Records


def test_records_are_read_as_they_were_committed(journal: Journal) -> None:
    journal.start({"plate": "p"})
    records = {0: finished(journal, 0), 1: failed()}
    journal.commit(UNIT, records)
    read = journal.read()
    assert set(read) == {("B/3", 0), ("B/3", 1)}
    assert read["B/3", 0] == records[0]
    assert isinstance(read["B/3", 0].files["B/3/0/zarr.json"], FileStamp)
    assert read["B/3", 1].failed


def test_records_are_beside_the_store_not_in_it(journal: Journal) -> None:
    before = sorted(journal.plate.rglob("*"))
    journal.start({})
    journal.commit(UNIT, {0: finished(journal, 0)})
    assert sorted(journal.plate.rglob("*")) == before
    assert journal.folder == journal.plate.parent / "plate.zarr.artmask" / "ingest" / "digest"
    assert sorted(file.name for file in journal.folder.iterdir()) == ["B3-0_1.json", "config.json"]


def test_nothing_is_done_at_first(journal: Journal) -> None:
    assert journal.read() == {}
    assert journal.pending([UNIT]) == [UNIT]


def test_what_is_recorded_is_done(journal: Journal) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: finished(journal, 1)})
    assert journal.pending([UNIT]) == []


def test_a_failed_field_is_pending_alone(journal: Journal) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: failed()})
    assert journal.pending([UNIT]) == [Unit("B/3", (1,))]


def test_records_serve_units_cut_in_another_way(journal: Journal) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: finished(journal, 1)})
    assert journal.pending([Unit("B/3", (0,)), Unit("B/3", (1, 2))]) == [Unit("B/3", (2,))]


@pytest.mark.parametrize("change", ["missing", "shorter", "longer", "folder"])
def test_a_field_whose_files_are_not_whole_is_pending(journal: Journal, change: str) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: finished(journal, 1)})
    file = journal.plate / "B" / "3" / "1" / "zarr.json"
    if change == "missing":
        shutil.rmtree(file.parent)
    elif change == "folder":
        shutil.rmtree(file.parent)
        file.parent.write_text("a file where a folder was")
    else:
        file.write_text("x" if change == "shorter" else "x" * 99)
    assert journal.pending([UNIT]) == [Unit("B/3", (1,))]


def test_another_digest_has_done_nothing(journal: Journal) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: finished(journal, 1)})
    other = Journal(journal.plate, "ingest", "another")
    assert other.pending([UNIT]) == [UNIT]
    assert Journal(journal.plate, "run", "digest").pending([UNIT]) == [UNIT]


def test_a_start_forgets_other_digests_of_its_own_stage_only(journal: Journal) -> None:
    assert not journal.start({})
    journal.commit(UNIT, {0: finished(journal, 0)})
    run = Journal(journal.plate, "run", "digest")
    run.start({})
    run.commit(UNIT, {0: finished(journal, 0)})
    assert not journal.start({})
    assert Journal(journal.plate, "ingest", "another").start({})
    assert journal.read() == {}
    assert set(run.read()) == {("B/3", 0)}


def test_a_start_stores_the_configuration(journal: Journal) -> None:
    journal.start({"plate": journal.plate, "fields_per_unit": 8})
    config = json.loads((journal.folder / "config.json").read_bytes())
    assert config == {"plate": str(journal.plate), "fields_per_unit": 8}


@pytest.mark.parametrize("kept", [0, 1, 20, 0.5, 0.99])
def test_a_torn_record_is_as_good_as_none(journal: Journal, kept: float) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: finished(journal, 1)})
    journal.commit(Unit("B/4", (0,)), {0: finished(journal, 0)})
    file = journal.folder / f"{UNIT.key}.json"
    content = file.read_bytes()
    file.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    assert set(journal.read()) == {("B/4", 0)}
    assert journal.pending([UNIT]) == [UNIT]


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b"null", b'{"fields": {"0": 1}, "well": "B/3"}', b"\xff\xfe", b"\0" * 99]
)
def test_a_record_that_is_none_is_as_good_as_none(journal: Journal, content: bytes) -> None:
    journal.commit(UNIT, {0: finished(journal, 0)})
    (journal.folder / f"{UNIT.key}.json").write_bytes(content)
    assert journal.read() == {}
    assert journal.pending([UNIT]) == [UNIT]


def test_a_record_whose_writing_was_cut_off_is_no_record(journal: Journal) -> None:
    journal.start({})
    (journal.folder / f".{UNIT.key}.json.abc.partial").write_text("{")
    assert journal.read() == {}


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_the_later_record_of_a_field_is_believed(journal: Journal, first: bool, second: bool) -> None:
    journal.commit(UNIT, {0: finished(journal, 0) if first else failed(), 1: finished(journal, 1)})
    journal.commit(Unit("B/3", (0,)), {0: finished(journal, 0) if second else failed()})
    assert journal.read()["B/3", 0].failed == (not second)
    assert not journal.read()["B/3", 1].failed


# Files


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "x", b"first")
    write_atomically(tmp_path / "deep" / "x", b"second")
    assert (tmp_path / "deep" / "x").read_bytes() == b"second"
    assert os.listdir(tmp_path / "deep") == ["x"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_atomically(tmp_path / "x", b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    write_atomically(tmp_path / "x", b"")
    (tmp_path / "y").touch()
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


def test_stamps_tell_size_and_checksum_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"123456789")
    (tmp_path / "a" / "y").write_bytes(b"")
    stamps = stamp_files(tmp_path, {"mine": [tmp_path / "a", tmp_path / "absent"]})["mine"]
    assert stamps == {"a/b/x": FileStamp(9, 0xE3069283), "a/y": FileStamp(0, 0)}
    assert files_have_sizes(tmp_path, stamps)
    (tmp_path / "a" / "y").write_bytes(b"1")
    assert not files_have_sizes(tmp_path, stamps)
