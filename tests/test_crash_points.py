"""Work is killed before every single operation on a file; nothing is lost, doubled or torn."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from exports import make_plate, write_export

SCRIPT = Path(__file__).with_name("crash_script.py")
STEPS = ("os.mkdir staging", "open staging", "os.rename store", "os.rename record", "open log")
"""A file is written apart, published, and recorded; then a line is logged."""


def crash(mode: str, folder: Path) -> list[dict[str, object]]:
    """What became of each crash, in the order of the operations."""
    export = write_export(folder / "export", make_plate(wells=[(2, 3)], field_ids=[1, 2, 3]))
    command = [sys.executable, str(SCRIPT), mode, str(export), str(folder / "work")]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture(scope="module")
def ingests(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Ingests that were killed, and taken up again."""
    return crash("ingest", tmp_path_factory.mktemp("ingests"))


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Tasks that were killed when another had done their unit already."""
    return crash("late", tmp_path_factory.mktemp("late"))


def test_every_step_of_an_ingest_is_among_the_crashes(ingests: list[dict[str, object]]) -> None:
    steps = {entry["before"] for entry in ingests}
    assert {*STEPS, "open lease", "os.remove lease"} <= steps
    assert len(ingests) > 80


def test_after_any_crash_the_store_is_byte_for_byte_what_it_would_have_been(ingests: list[dict[str, object]]) -> None:
    assert [entry for entry in ingests if entry["differences"]] == []


def test_nothing_is_left_beside_the_store_but_records_logs_and_the_lease(ingests: list[dict[str, object]]) -> None:
    assert [entry for entry in ingests if entry["left"]] == []


def test_only_what_was_not_recorded_is_done_again(ingests: list[dict[str, object]]) -> None:
    for entry in ingests:
        assert entry["recorded"] + entry["redone"] == 3  # type: ignore[operator]
    assert {entry["recorded"] for entry in ingests} == {0, 1, 2, 3}


def test_a_task_that_dies_late_damages_nothing_that_is_committed(late: list[dict[str, object]]) -> None:
    assert set(STEPS) <= {entry["before"] for entry in late}
    assert [entry for entry in late if entry["differences"] or entry["redone"]] == []


@pytest.mark.parametrize("mode", ["ingests", "late"])
def test_all_were_killed_but_the_last(mode: str, request: pytest.FixtureRequest) -> None:
    entries = request.getfixturevalue(mode)
    assert [entry["exit"] for entry in entries] == [9] * (len(entries) - 1) + [0]
