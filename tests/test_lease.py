"""Leases of plates: one holder at a time, however the last one ended."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from artifact_mask.engine import lease as lease_module
from artifact_mask.engine.journal import Journal, beside, hold_plate, lease_folder
from artifact_mask.engine.lease import Lease, hold_lease, is_alive, read_holder
from artifact_mask.errors import LeaseError

DIES_HOLDING = """
import os, pathlib, sys
from artifact_mask.engine.lease import hold_lease
with hold_lease(pathlib.Path(sys.argv[1]), "run"):
    if len(sys.argv) > 2:
        print("held", flush=True)
        sys.stdin.read()
    os._exit(9)
"""


def die_holding(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES_HOLDING, str(folder)], check=False)


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator[Path]:
    """Folder whose lease another living process holds."""
    command = [sys.executable, "-c", DIES_HOLDING, str(tmp_path), "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield tmp_path


def pretend_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_machine", lambda: "another machine")


def test_epochs_count_up(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        with hold_lease(tmp_path, "ingest") as lease:
            assert lease == Lease(tmp_path, epoch)
            assert lease.is_held
    assert [file.name for file in tmp_path.iterdir()] == ["00000003.json"]


def test_a_released_lease_is_free_at_once(tmp_path: Path) -> None:
    with hold_lease(tmp_path, "ingest"):
        pass
    holder = read_holder(tmp_path)
    assert holder is not None
    assert holder.released
    assert not is_alive(tmp_path, holder)


def test_a_second_run_is_refused_and_told_who_holds_the_plate(other_process: Path) -> None:
    holder = read_holder(other_process)
    assert holder is not None
    with (
        pytest.raises(LeaseError, match=f"run, process {holder.pid} on {holder.host}"),
        hold_lease(other_process, "run"),
    ):
        pass
    assert Lease(other_process, 1).is_held


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_at_once(tmp_path: Path) -> None:
    die_holding(tmp_path)
    start = time.monotonic()
    with hold_lease(tmp_path, "run", silence_s=60) as lease:
        assert lease.epoch == 2
    assert time.monotonic() - start < 30


def test_another_process_with_the_number_of_a_dead_one_is_not_taken_for_it(tmp_path: Path) -> None:
    with hold_lease(tmp_path, "run"):
        pass
    file = tmp_path / "00000001.json"
    document = json.loads(file.read_text()) | {"released": False}
    file.write_text(json.dumps(document | {"pid_started": document["pid_started"] - 100}))
    holder = read_holder(tmp_path)
    assert holder is not None
    assert not is_alive(tmp_path, holder)


def test_a_holder_on_another_machine_is_known_to_live_by_its_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold_lease(tmp_path, "run", beat_s=0.1):
        pretend_another_machine(monkeypatch)
        with pytest.raises(LeaseError, match="in use"), hold_lease(tmp_path, "run", silence_s=20):
            pass


def test_a_holder_on_another_machine_that_is_silent_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_holding(tmp_path)
    pretend_another_machine(monkeypatch)
    with hold_lease(tmp_path, "run", silence_s=0.5) as lease:
        assert lease.epoch == 2


def test_a_holder_that_was_taken_over_notices_and_does_not_beat_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold_lease(tmp_path, "run", beat_s=0.05) as first:
        monkeypatch.setattr(lease_module, "is_alive", lambda *_, **__: False)
        with hold_lease(tmp_path, "run") as second:
            assert second.is_held
            assert not first.is_held
            with pytest.raises(LeaseError, match="taken over"):
                first.require()
            time.sleep(0.3)
    # Neither a heartbeat nor the release has brought the first one back.
    assert [file.name for file in tmp_path.iterdir()] == ["00000002.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"epoch": 1}'])
def test_a_damaged_lease_is_taken_over_when_it_stays_silent(tmp_path: Path, content: str) -> None:
    (tmp_path / "00000001.json").write_text(content)
    with hold_lease(tmp_path, "run", silence_s=0.3) as lease:
        assert lease.epoch == 2


def test_of_many_that_want_a_plate_at_once_one_gets_it(tmp_path: Path) -> None:
    die_holding(tmp_path)
    barrier, release = threading.Barrier(8), threading.Event()
    got: list[int] = []
    refused: list[str] = []

    def want() -> None:
        barrier.wait()
        try:
            with hold_lease(tmp_path, "run") as lease:
                got.append(lease.epoch)
                release.wait(30)
        except LeaseError as error:
            refused.append(str(error))
        if len(refused) == 7:
            release.set()

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [2]
    assert len(refused) == 7


def test_a_plate_that_is_taken_over_is_swept_of_what_was_staged(tmp_path: Path) -> None:
    plate = tmp_path / "plate.zarr"
    with hold_plate(plate, "run") as lease:
        journal = Journal(plate, "run", "digest", lease.epoch)
        files = journal.stage_files()
        files.write(plate / "x", b"x")
        assert list(beside(plate).rglob("staging/*/*/*"))
    assert not (beside(plate) / "staging").exists()
    assert not plate.exists()


def test_what_was_not_released_does_not_stop_a_plate(tmp_path: Path) -> None:
    plate = tmp_path / "plate.zarr"
    die_holding(lease_folder(plate))
    with hold_plate(plate, "run") as lease:
        assert replace(Journal(plate, "run", "digest"), epoch=lease.epoch).lease.is_held
