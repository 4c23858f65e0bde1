"""`artmask status` tells how far plates are, and writes nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from commands import run_here
from exports import make_plate
from stores import writing

from artifact_mask.engine import journal as journal_module
from artifact_mask.engine.journal import FieldRecord, Journal, Unit, beside, hold_plate, lease_folder
from artifact_mask.engine.lease import read_holder
from artifact_mask.errors import PlateError
from artifact_mask.io.ome_zarr_plate import create_plate
from artifact_mask.workflows.status import StageStatus, read_status

SECOND = 10**9
DIES_HOLDING = """
import os, pathlib, sys
from artifact_mask.engine.journal import hold_plate
with hold_plate(pathlib.Path(sys.argv[1]), "run"):
    os._exit(9)
"""


def plate_at(root: Path, *, fields: int = 4) -> Path:
    """Plate of one well, without any pixels: its records tell how far it is."""
    plate = make_plate(wells=[(2, 3)], field_ids=range(1, fields + 1), name=root.stem)
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="digest")
    return root


def record(plate: Path, stage: str, good: Iterable[int], failed: Iterable[int] = ()) -> None:
    """Record fields as a run does, in one unit each."""
    with hold_plate(plate, stage) as lease:
        journal = Journal(plate, stage, "digest", lease.epoch)
        journal.begin({}, {})
        for index in good:
            journal.commit(Unit("B/3", (index,)), {index: FieldRecord({}, {})})
        for index in failed:
            journal.commit(Unit("B/3", (index,)), {index: FieldRecord({"error": "cannot be read"}, {})})


def record_at(monkeypatch: pytest.MonkeyPatch, plate: Path, stage: str, times_s: Iterable[float], first: int) -> None:
    """Record units of one field at given times, as one run."""
    times = list(times_s)
    clock = iter(times)
    with monkeypatch.context() as patch:
        patch.setattr(journal_module.time, "time_ns", lambda: int(next(clock) * SECOND))
        record(plate, stage, range(first, first + len(times)))


def status_of(plate: Path, stage: str) -> StageStatus:
    (found,) = [status for status in read_status([plate]) if status.stage == stage]
    return found


def table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *places: Path) -> list[list[str]]:
    """Words of each line that `artmask status` prints."""
    monkeypatch.setenv("COLUMNS", "200")
    assert run_here(monkeypatch, "status", *places) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *places: Path) -> list[dict[str, Any]]:
    assert run_here(monkeypatch, "status", "--json", *places) == 0
    documents = json.loads(capsys.readouterr().out)
    assert isinstance(documents, list)
    return documents


def states(*roots: Path) -> dict[Path, tuple[int, int]]:
    files = [file for root in roots for file in root.rglob("*")]
    return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


# How far


def test_a_real_plate_is_finished_and_nothing_of_it_is_written(
    ingested: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = states(ingested, beside(ingested))
    heading, *rows = table(monkeypatch, capsys, ingested)
    assert heading == ["plate", "stage", "done", "failed", "left", "fields/s", "now"]
    assert [row[:5] for row in rows] == [
        ["plate.zarr", "ingest", "5/5", "0", "0"],
        ["plate.zarr", "run", "0/5", "0", "5"],
    ]
    assert rows[0][6:] == ["finished"]
    assert rows[1][5:] == ["0.0"]
    # Five units in one run: there is a rate.
    assert float(rows[0][5]) > 0
    assert states(ingested, beside(ingested)) == before


def test_json_says_the_same_for_scripts(
    ingested: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_ingest, of_run = as_json(monkeypatch, capsys, ingested)
    assert of_ingest.pop("fields_per_s") > 0
    assert of_ingest.pop("written_ns") > 0
    assert of_ingest == {
        "plate": str(ingested),
        "stage": "ingest",
        "n_fields": 5,
        "n_done": 5,
        "n_failed": 0,
        "n_left": 0,
        "running": None,
        "seconds_left": None,
    }
    assert of_run["written_ns"] == 0
    assert (of_run["stage"], of_run["n_done"], of_run["n_left"], of_run["fields_per_s"]) == ("run", 0, 5, 0)


def test_a_plate_that_stopped_half_way_shows_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plate = plate_at(tmp_path / "p.zarr")
    record(plate, "ingest", good=[0, 1], failed=[3])
    _, of_ingest, of_run = table(monkeypatch, capsys, plate)
    assert of_ingest[:5] == ["p.zarr", "ingest", "2/4", "1", "1"]
    assert of_ingest[6:] == ["stopped"]
    assert of_run[:5] == ["p.zarr", "run", "0/4", "0", "4"]


def test_a_plate_with_failed_fields_only_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plate = plate_at(tmp_path / "p.zarr")
    record(plate, "ingest", good=[0, 1, 2], failed=[3])
    assert table(monkeypatch, capsys, plate)[1][2:5] == ["3/4", "1", "0"]
    assert table(monkeypatch, capsys, plate)[1][6:] == ["finished"]


def test_a_field_that_was_mended_is_no_failure_any_more(tmp_path: Path) -> None:
    plate = plate_at(tmp_path / "p.zarr")
    record(plate, "ingest", good=[0, 1, 2], failed=[3])
    record(plate, "ingest", good=[3])
    status = status_of(plate, "ingest")
    assert (status.n_done, status.n_failed, status.n_left) == (4, 0, 0)


def test_a_plate_that_was_only_laid_out_has_all_before_it(tmp_path: Path) -> None:
    for status in read_status([plate_at(tmp_path / "p.zarr")]):
        assert (status.n_fields, status.n_done, status.n_failed, status.n_left) == (4, 0, 0, 4)
        assert (status.running, status.fields_per_s, status.seconds_left) == (None, 0, None)


def test_records_of_a_former_configuration_are_not_counted(tmp_path: Path) -> None:
    plate = plate_at(tmp_path / "p.zarr")
    record(plate, "run", good=[0, 1, 2, 3])
    with hold_plate(plate, "run") as lease:
        Journal(plate, "run", "another", lease.epoch).begin({"threshold": 0.7}, {})
    assert status_of(plate, "run").n_left == 4


def test_a_folder_of_plates_is_a_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, n_done in (("b", 1), ("a", 4), ("c", 0)):
        record(plate_at(tmp_path / "screen" / f"{name}.zarr"), "ingest", good=range(n_done))
    (tmp_path / "screen" / "notes.zarr").mkdir()
    alone = plate_at(tmp_path / "alone.zarr", fields=2)
    _, *rows = table(monkeypatch, capsys, alone, tmp_path / "screen")
    assert [(row[0], row[2]) for row in rows if row[1] == "ingest"] == [
        ("alone.zarr", "0/2"),
        ("a.zarr", "4/4"),
        ("b.zarr", "1/4"),
        ("c.zarr", "0/4"),
    ]


def test_a_name_that_looks_like_markup_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plate = plate_at(tmp_path / "[red]p[1].zarr")
    assert table(monkeypatch, capsys, plate)[1][0] == "[red]p[1].zarr"


def test_what_is_no_plate_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlateError, match="does not exist"):
        read_status([tmp_path / "nowhere.zarr"])


# Who is at work


def test_a_run_that_is_alive_is_named_at_its_own_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plate = plate_at(tmp_path / "p.zarr")
    record(plate, "ingest", good=range(4))
    record(plate, "run", good=[0])
    with hold_plate(plate, "run"):
        _, of_ingest, of_run = table(monkeypatch, capsys, plate)
        assert status_of(plate, "ingest").running is None
    assert of_ingest[6:] == ["finished"]
    assert of_run[2:5] == ["1/4", "0", "3"]
    assert of_run[6:11] == ["running:", "run,", "process", str(os.getpid()), "on"]
    assert table(monkeypatch, capsys, plate)[2][6:] == ["stopped"]


def test_a_run_that_was_killed_is_not_at_work(tmp_path: Path) -> None:
    plate = plate_at(tmp_path / "p.zarr")
    record(plate, "run", good=[0])
    ended = subprocess.run([sys.executable, "-c", DIES_HOLDING, str(plate)], check=False)
    assert ended.returncode == 9
    holder = read_holder(lease_folder(plate))
    assert holder is not None
    assert not holder.released
    assert status_of(plate, "run").running is None


def test_a_plate_can_be_looked_at_while_it_is_held(tmp_path: Path) -> None:
    plate = plate_at(tmp_path / "p.zarr")
    with hold_plate(plate, "run") as lease:
        journal = Journal(plate, "run", "digest", lease.epoch)
        journal.begin({}, {})
        found = []
        for index in range(4):
            journal.commit(Unit("B/3", (index,)), {index: FieldRecord({}, {})})
            found.append(status_of(plate, "run").n_done)
        assert lease.is_held
    assert found == [1, 2, 3, 4]


# How fast


def test_the_rate_is_of_the_fields_after_the_first_record_by_the_time_they_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = plate_at(tmp_path / "p.zarr", fields=10)
    record_at(monkeypatch, plate, "run", [1000, 1004, 1010, 1020], first=0)
    assert status_of(plate, "run").fields_per_s == pytest.approx(3 / 20)


def test_a_rate_counts_fields_and_not_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plate = plate_at(tmp_path / "p.zarr", fields=10)
    clock = iter([100 * SECOND, 110 * SECOND])
    with hold_plate(plate, "run") as lease, monkeypatch.context() as patch:
        patch.setattr(journal_module.time, "time_ns", lambda: next(clock))
        journal = Journal(plate, "run", "digest", lease.epoch)
        journal.begin({}, {})
        for fields in ((0, 1), (2, 3, 4, 5, 6)):
            journal.commit(Unit("B/3", fields), {index: FieldRecord({}, {}) for index in fields})
    assert status_of(plate, "run").fields_per_s == pytest.approx(5 / 10)


@pytest.mark.parametrize("times", [[], [1000], [1000, 1000]])
def test_there_is_no_rate_without_two_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: list[float]
) -> None:
    plate = plate_at(tmp_path / "p.zarr", fields=10)
    record_at(monkeypatch, plate, "run", times, first=0)
    assert status_of(plate, "run").fields_per_s == 0


def test_a_former_run_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plate = plate_at(tmp_path / "p.zarr", fields=10)
    record_at(monkeypatch, plate, "run", [1000, 1001, 1002], first=0)
    # A night later, and slower; its clock is even behind.
    record_at(monkeypatch, plate, "run", [500, 510, 520], first=3)
    assert status_of(plate, "run").fields_per_s == pytest.approx(2 / 20)


def test_only_the_last_ten_minutes_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plate = plate_at(tmp_path / "p.zarr", fields=10)
    record_at(monkeypatch, plate, "run", [0, 1, 2, 3, 5000, 5100, 5200], first=0)
    assert status_of(plate, "run").fields_per_s == pytest.approx(2 / 200)


def test_the_time_that_is_left_is_told_while_a_run_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plate = plate_at(tmp_path / "p.zarr", fields=10)
    record_at(monkeypatch, plate, "run", [1000, 1010, 1020, 1030], first=0)
    assert status_of(plate, "run").seconds_left is None
    with hold_plate(plate, "run"):
        assert status_of(plate, "run").seconds_left == pytest.approx(6 / 0.1)
        _, of_run = as_json(monkeypatch, capsys, plate)
        assert of_run["seconds_left"] == pytest.approx(60)
        assert "process" in of_run["running"]
        assert " ".join(table(monkeypatch, capsys, plate)[2]).endswith(", 1 min 0 s left")
