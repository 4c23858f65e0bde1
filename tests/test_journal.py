import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import writing
from upath import UPath

from artifact_mask.engine.journal import (
    FieldRecord,
    Journal,
    Unit,
    beside,
    digest_of,
    hold_plate,
    open_journal,
    plan_units,
)
from artifact_mask.errors import LeaseError
from artifact_mask.io.files import FileStamp, StagedFiles, publish
from artifact_mask.location import Location, to_location

UNIT = Unit("B/3", (0, 1))


@pytest.fixture(params=["disk", "object store"])
def plate(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    """Plate that has the files of fields 0 and 1."""
    root = tmp_path / "plate.zarr" if request.param == "disk" else to_location(f"memory://{tmp_path}/plate.zarr")
    with writing(root) as files:
        for index in (0, 1):
            files.write(root / "B" / "3" / str(index) / "zarr.json", b"field %d" % index)
    yield root
    if isinstance(root, UPath):
        root.fs.rm(str(tmp_path), recursive=True)


@pytest.fixture
def journal(plate: Location) -> Iterator[Journal]:
    """Journal of a run that holds the plate."""
    with hold_plate(plate, "ingest") as lease:
        yield Journal(plate, "ingest", "digest", lease.epoch)


def finished(journal: Journal, index: int) -> FieldRecord:
    file = journal.plate / "B" / "3" / str(index) / "zarr.json"
    return FieldRecord({"value": index}, {f"B/3/{index}/zarr.json": FileStamp(file.stat().st_size, 0)})


def failed() -> FieldRecord:
    return FieldRecord({"error": "it broke"}, {})


def pending(journal: Journal, *units: Unit) -> list[Unit]:
    return journal.pending(units or (UNIT,), journal.read())


def names(folder: Location) -> list[str]:
    """Files below a folder, relative to it."""
    return sorted(str(file)[len(str(folder)) + 1 :] for file in folder.rglob("*") if file.is_file())


# Units


def test_units_hold_fields_of_one_well_each() -> None:
    units = plan_units([("A/1", 0), ("A/1", 1), ("A/1", 5), ("B/2", 0)], fields_per_unit=2)
    assert units == [Unit("A/1", (0,)), Unit("A/1", (1, 5)), Unit("B/2", (0,))]


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
    journal.begin({}, {"plate": "p"})
    records = {0: finished(journal, 0), 1: failed()}
    journal.commit(UNIT, records)
    read = journal.read()
    assert set(read) == {("B/3", 0), ("B/3", 1)}
    assert read["B/3", 0] == records[0]
    assert isinstance(read["B/3", 0].files["B/3/0/zarr.json"], FileStamp)
    assert read["B/3", 1].failed


def test_records_are_beside_the_store_not_in_it(journal: Journal) -> None:
    before = names(journal.plate)
    journal.begin({}, {})
    journal.commit(UNIT, {0: finished(journal, 0)})
    assert names(journal.plate) == before
    assert journal.folder == journal.plate.parent / "plate.zarr.artmask" / "ingest" / "digest"
    assert names(journal.folder.parent) == ["digest/B3-0_1.1.json", "state.json"]
    assert names(beside(journal.plate)) == ["ingest/digest/B3-0_1.1.json", "ingest/state.json", "lease/00000001.json"]


def test_nothing_is_done_at_first(journal: Journal) -> None:
    assert journal.read() == {}
    assert pending(journal) == [UNIT]


def test_what_is_recorded_is_done(journal: Journal) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: finished(journal, 1)})
    assert pending(journal) == []


def test_a_failed_field_is_pending_alone(journal: Journal) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: failed()})
    assert pending(journal) == [Unit("B/3", (1,))]


def test_records_serve_units_cut_in_another_way(journal: Journal) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: finished(journal, 1)})
    assert pending(journal, Unit("B/3", (0,)), Unit("B/3", (1, 2))) == [Unit("B/3", (2,))]


@pytest.mark.parametrize("change", ["missing", "shorter", "longer", "folder"])
def test_a_field_whose_files_are_not_whole_is_pending(journal: Journal, change: str) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: finished(journal, 1)})
    file = journal.plate / "B" / "3" / "1" / "zarr.json"
    if change == "missing":
        file.unlink()
    elif change == "folder":
        file.unlink()
        if isinstance(file.parent, Path):
            shutil.rmtree(file.parent)
        file.parent.write_text("a file where a folder was")
    else:
        file.write_text("x" if change == "shorter" else "x" * 99)
    assert pending(journal) == [Unit("B/3", (1,))]


def test_another_digest_has_done_nothing(journal: Journal) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: finished(journal, 1)})
    assert pending(Journal(journal.plate, "ingest", "another")) == [UNIT]
    assert pending(Journal(journal.plate, "run", "digest")) == [UNIT]


@pytest.mark.parametrize("kept", [0, 1, 20, 0.5, 0.99])
def test_a_torn_record_is_as_good_as_none(journal: Journal, kept: float) -> None:
    journal.commit(UNIT, {0: finished(journal, 0), 1: finished(journal, 1)})
    journal.commit(Unit("B/4", (0,)), {0: finished(journal, 0)})
    file = journal.folder / f"{UNIT.key}.1.json"
    content = file.read_bytes()
    file.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    assert set(journal.read()) == {("B/4", 0)}
    assert pending(journal) == [UNIT]


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{}",
        b"null",
        b'{"fields": {"0": 1}, "well": "B/3"}',
        b'{"epoch": 1, "written_ns": 1, "well": "B/3", "fields": {"0": {"row": {}, "files": {"x": [1, 2, 3]}}}}',
        b"\xff\xfe",
        b"\0" * 99,
    ],
)
def test_a_record_that_is_none_is_as_good_as_none(journal: Journal, content: bytes) -> None:
    journal.commit(UNIT, {0: finished(journal, 0)})
    (journal.folder / f"{UNIT.key}.1.json").write_bytes(content)
    assert journal.read() == {}
    assert pending(journal) == [UNIT]


def test_a_record_whose_writing_was_cut_off_is_no_record(tmp_path: Path) -> None:
    with hold_plate(tmp_path / "plate.zarr", "ingest") as lease:
        journal = Journal(tmp_path / "plate.zarr", "ingest", "digest", lease.epoch)
        cut_off = StagedFiles(journal.folder, beside(journal.plate) / "staging" / "1")
        cut_off.write(journal.folder / f"{UNIT.key}.1.json", b'{"epoch": 1, "written')
        assert names(beside(journal.plate) / "staging") != []
        assert journal.read() == {}
        assert pending(journal) == [UNIT]


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True), (False, False)])
def test_of_two_records_of_one_run_success_is_believed(journal: Journal, first: bool, second: bool) -> None:
    # A task that was thought dead, and the one that was sent after it, in whatever order they end.
    journal.commit(UNIT, {0: finished(journal, 0) if first else failed(), 1: finished(journal, 1)})
    journal.commit(UNIT, {0: finished(journal, 0) if second else failed(), 1: finished(journal, 1)})
    assert journal.read()["B/3", 0].failed == (not (first or second))
    assert not journal.read()["B/3", 1].failed


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
def test_the_record_of_the_later_run_is_believed(plate: Location, first: bool, second: bool) -> None:
    for is_good in (first, second):
        with hold_plate(plate, "ingest") as lease:
            journal = Journal(plate, "ingest", "digest", lease.epoch)
            journal.commit(UNIT, {0: finished(journal, 0) if is_good else failed(), 1: finished(journal, 1)})
    assert journal.read()["B/3", 0].failed == (not second)
    assert not journal.read()["B/3", 1].failed
    assert sorted(unit.epoch for unit in journal.read_units()) == [1, 2]


def test_of_two_good_records_of_one_run_the_later_is_believed(journal: Journal) -> None:
    journal.commit(UNIT, {0: FieldRecord({"value": "first"}, {})})
    journal.commit(Unit("B/3", (0,)), {0: FieldRecord({"value": "second"}, {})})
    assert journal.read()["B/3", 0].row == {"value": "second"}


# Beginning


def test_a_start_forgets_other_digests_of_its_own_stage_only(journal: Journal) -> None:
    assert journal.begin({}, {}) is None
    journal.commit(UNIT, {0: finished(journal, 0)})
    run = Journal(journal.plate, "run", "digest", journal.epoch)
    assert run.begin({}, {}) is None
    run.commit(UNIT, {0: finished(journal, 0)})
    assert journal.begin({}, {}) is None
    assert set(journal.read()) == {("B/3", 0)}
    assert Journal(journal.plate, "ingest", "another", journal.epoch).begin({}, {}) == []
    assert journal.read() == {}
    assert set(run.read()) == {("B/3", 0)}


def test_records_left_by_a_start_that_was_killed_are_forgotten(journal: Journal) -> None:
    # What was recorded under a digest that no state names was not recorded since it was begun.
    journal.commit(UNIT, {0: finished(journal, 0)})
    assert journal.begin({}, {}) is None
    assert journal.read() == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_torn_state_makes_everything_be_done_again(journal: Journal, content: bytes) -> None:
    journal.begin({}, {})
    journal.commit(UNIT, {0: finished(journal, 0)})
    (journal.folder.parent / "state.json").write_bytes(content)
    assert open_journal(journal.plate, "ingest") is None
    assert journal.begin({}, {}) is None
    assert journal.read() == {}
    assert open_journal(journal.plate, "ingest") is not None


def test_a_start_names_each_setting_that_has_changed(journal: Journal) -> None:
    journal.begin({"model": "a", "threshold": 0.5, "shape": (1, 2)}, {})
    other = Journal(journal.plate, "ingest", "another", journal.epoch)
    changes = other.begin({"model": "a", "threshold": 0.7, "shape": (1, 2), "new": 1}, {})
    assert changes == ["new: None -> 1", "threshold: 0.5 -> 0.7"]


def test_a_start_stores_the_configuration_and_what_the_digest_is_of(journal: Journal) -> None:
    journal.begin({"software": "1"}, {"plate": journal.plate, "fields_per_unit": 8})
    state = json.loads((journal.folder.parent / "state.json").read_bytes())
    assert state["config"] == {"plate": str(journal.plate), "fields_per_unit": 8}
    assert state["settings"] == {"software": "1"}
    # What does not change the result replaces the configuration, and nothing else.
    journal.commit(UNIT, {0: finished(journal, 0)})
    journal.begin({"software": "1"}, {"plate": journal.plate, "fields_per_unit": 2})
    assert json.loads((journal.folder.parent / "state.json").read_bytes())["config"]["fields_per_unit"] == 2
    assert set(journal.read()) == {("B/3", 0)}


def test_a_stage_is_opened_by_what_its_last_start_named(journal: Journal) -> None:
    assert open_journal(journal.plate, "ingest") is None
    journal.begin({}, {})
    opened = open_journal(journal.plate, "ingest")
    assert opened == Journal(journal.plate, "ingest", "digest", epoch=0)
    assert open_journal(journal.plate, "run") is None


# Holding a plate


def test_each_run_on_a_plate_has_a_higher_number(plate: Location) -> None:
    epochs = []
    for _ in range(3):
        with hold_plate(plate, "ingest") as lease:
            epochs.append(lease.epoch)
            assert lease.is_held
        assert not (beside(plate) / "staging").exists()
    assert epochs == [1, 2, 3]
    assert names(beside(plate)) == ["lease/00000003.json"]


def test_what_a_killed_run_staged_is_swept_away_and_never_published(tmp_path: Path) -> None:
    plate = tmp_path / "plate.zarr"
    with hold_plate(plate, "ingest") as first:
        old = Journal(plate, "ingest", "digest", first.epoch)
        staging = beside(plate) / "staging" / "1"
        saved = tmp_path / "saved"
        late = old.stage_files()
        late.write(plate / "B" / "3" / "0" / "zarr.json", b"late")
        shutil.copytree(staging, saved)
    shutil.copytree(saved, staging)  # as a run leaves it that is killed
    with hold_plate(plate, "ingest") as second:
        assert not staging.exists()
        with pytest.raises(FileNotFoundError):
            publish([late])
        with pytest.raises(FileNotFoundError):
            old.stage_files().write(plate / "late", b"")
        with pytest.raises(FileNotFoundError):
            old.commit(UNIT, {0: failed()})
        with pytest.raises(LeaseError, match="taken over"):
            old.lease.require()
        second.require()
    assert not plate.exists()
    assert old.read() == {}
