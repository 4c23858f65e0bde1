import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from distributed import Client

from artifact_mask.config import ClusterConfig
from artifact_mask.engine import stream as stream_module
from artifact_mask.engine.cluster import start_cluster
from artifact_mask.engine.journal import Unit
from artifact_mask.engine.placement import LoadModel, placed_model, worker_model
from artifact_mask.engine.stream import WINDOW_PER_WORKER, Outcome, Work, stream
from artifact_mask.errors import ClusterError, LeaseError, ModelError, StorageError

WINDOW = 2 * WINDOW_PER_WORKER


@pytest.fixture(autouse=True)
def _workers_are_there(client: Client) -> None:
    """Let workers that an earlier test killed come back."""
    client.wait_for_workers(2, timeout=30)


def units_of(n: int, *, fields: int = 1) -> list[Unit]:
    return [Unit(f"B/{column}", tuple(range(fields))) for column in range(1, n + 1)]


def works_of(
    bind: Callable[[Unit], Callable[[], Any]], units: Iterable[Unit], *, name: str = ""
) -> Iterator[Work[Any]]:
    name = name or f"test-{time.time_ns()}"
    return (Work(unit, bind, name) for unit in units)


def run_all(client: Client, task: Callable[[Unit], Any], units: Iterable[Unit]) -> list[Outcome[Any]]:
    """Outcomes of a stream. Tasks are closures, so that they travel to the workers by value."""

    def bind(unit: Unit) -> Callable[[], Any]:
        return lambda: task(unit)

    return list(stream(client, works_of(bind, units)))


def note_calls(folder: Path) -> Callable[[Unit], None]:
    """Make a function that tasks call, for :func:`calls`."""
    place = str(folder)

    def note(unit: Unit) -> None:
        with open(f"{place}/{unit.key}", "a") as file:
            file.write("x")

    return note


def calls(folder: Path) -> dict[str, int]:
    """How often each unit was tried."""
    return {file.name: len(file.read_text()) for file in folder.iterdir()}


def done(outcomes: list[Outcome[Any]]) -> Counter[tuple[str, int]]:
    return Counter((o.work.unit.well, index) for o in outcomes if o.error is None for index in o.work.unit.fields)


def blamed(outcomes: list[Outcome[Any]]) -> list[tuple[str, tuple[int, ...]]]:
    return sorted((o.work.unit.well, o.work.unit.fields) for o in outcomes if o.error is not None)


@pytest.mark.parametrize("n", [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 5 * WINDOW])
def test_every_unit_is_processed_exactly_once(client: Client, tmp_path: Path, n: int) -> None:
    note = note_calls(tmp_path)

    def task(unit: Unit) -> str:
        note(unit)
        return unit.key

    outcomes = run_all(client, task, units_of(n))
    assert sorted(o.receipt for o in outcomes) == sorted(unit.key for unit in units_of(n))
    assert all(o.receipt == o.work.unit.key for o in outcomes)
    assert calls(tmp_path) == {unit.key: 1 for unit in units_of(n)}


def test_units_are_taken_only_as_room_becomes_free(client: Client) -> None:
    taken = 0

    def count() -> Iterator[Unit]:
        nonlocal taken
        for unit in units_of(40):
            taken += 1
            yield unit

    def bind(unit: Unit) -> Callable[[], str]:
        return lambda: unit.key

    for finished, _ in enumerate(stream(client, works_of(bind, count())), start=1):
        assert taken <= finished + WINDOW
    assert (taken, finished) == (40, 40)


@pytest.mark.parametrize("fails", [False, True])
def test_no_more_units_are_in_flight_than_the_window(client: Client, fails: bool) -> None:
    in_flight = []

    def bind(unit: Unit) -> Callable[[], str]:
        # Before this one is submitted; it may include the one that just ended.
        in_flight.append(len(client.futures))

        def task() -> str:
            if fails:
                raise ValueError(unit.key)
            return unit.key

        return task

    outcomes = list(stream(client, works_of(bind, units_of(12, fields=8))))
    assert len(outcomes) == (96 if fails else 12)
    assert max(in_flight) <= WINDOW


def test_a_unit_that_fails_once_is_tried_again_as_a_whole(client: Client, tmp_path: Path) -> None:
    note, folder = note_calls(tmp_path), str(tmp_path)

    def task(unit: Unit) -> int:
        note(unit)
        if os.path.getsize(f"{folder}/{unit.key}") == 1:
            raise OSError("the network was away for a moment")
        return len(unit.fields)

    outcomes = run_all(client, task, units_of(5, fields=8))
    assert sorted(o.work.unit.key for o in outcomes) == sorted(unit.key for unit in units_of(5, fields=8))
    assert [o.receipt for o in outcomes] == [8] * 5
    assert set(calls(tmp_path).values()) == {2}


def test_a_unit_is_split_after_its_second_failure_and_the_good_half_is_tried_once(
    client: Client, tmp_path: Path
) -> None:
    note = note_calls(tmp_path)

    def task(unit: Unit) -> int:
        note(unit)
        if 3 in unit.fields:
            raise ValueError("field 3 cannot be read")
        return len(unit.fields)

    run_all(client, task, units_of(1, fields=4))
    assert calls(tmp_path) == {"B1-0_1_2_3": 2, "B1-0_1": 1, "B1-2_3": 2, "B1-2": 1, "B1-3": 2}


def test_the_last_error_of_a_field_is_told(client: Client, tmp_path: Path) -> None:
    note, folder = note_calls(tmp_path), str(tmp_path)

    def task(unit: Unit) -> None:
        note(unit)
        raise ValueError(f"attempt {os.path.getsize(f'{folder}/{unit.key}')}")

    (outcome,) = run_all(client, task, units_of(1))
    assert outcome.receipt is None
    assert str(outcome.error) == "attempt 2"


def test_units_of_several_plates_are_one_stream_and_keep_their_plate(client: Client) -> None:
    def bind_to(plate: str) -> Callable[[Unit], Callable[[], str]]:
        return lambda unit: lambda: f"{plate} {unit.key}"

    now = time.time_ns()
    plates = [f"{plate}-{now}" for plate in "abc"]
    # The same units in each: keys of tasks do not collide.
    works = [Work(unit, bind_to(plate), plate) for plate in plates for unit in units_of(4, fields=2)]
    outcomes = list(stream(client, works))
    assert len(outcomes) == 12
    assert all(o.receipt == f"{o.work.name} {o.work.unit.key}" for o in outcomes)
    assert Counter(o.work.name for o in outcomes) == dict.fromkeys(plates, 4)


def test_a_unit_that_fails_does_not_stop_another_plate(client: Client) -> None:
    def bind(unit: Unit) -> Callable[[], int]:
        def task() -> int:
            raise ValueError("every field of this plate is damaged")

        return task

    now = time.time_ns()
    works = [Work(unit, bind, f"bad-{now}") for unit in units_of(3)]
    works += [Work(unit, lambda unit: lambda: 1, f"good-{now}") for unit in units_of(9)]
    outcomes = list(stream(client, works))
    assert Counter((o.work.name, o.error is None) for o in outcomes) == {
        (f"bad-{now}", False): 3,
        (f"good-{now}", True): 9,
    }


def test_a_unit_that_fails_is_split_until_the_culprit_stands_alone(client: Client) -> None:
    def task(unit: Unit) -> int:
        if unit.well == "B/2" and 5 in unit.fields:
            raise ValueError("field 5 cannot be read")
        return len(unit.fields)

    outcomes = run_all(client, task, units_of(4, fields=8))
    assert blamed(outcomes) == [("B/2", (5,))]
    (error,) = [o.error for o in outcomes if o.error is not None]
    assert isinstance(error, ValueError)
    expected = Counter((unit.well, index) for unit in units_of(4, fields=8) for index in unit.fields)
    del expected["B/2", 5]
    assert done(outcomes) == expected


def test_a_field_that_kills_its_worker_is_found_and_the_others_finish(client: Client) -> None:
    def task(unit: Unit) -> int:
        if unit.well == "B/2" and 1 in unit.fields:
            os._exit(1)
        return len(unit.fields)

    outcomes = run_all(client, task, units_of(6, fields=4))
    assert blamed(outcomes) == [("B/2", (1,))]
    expected = Counter((unit.well, index) for unit in units_of(6, fields=4) for index in unit.fields)
    del expected["B/2", 1]
    assert done(outcomes) == expected


def test_neighbours_of_a_field_that_kills_its_worker_are_not_blamed(client: Client) -> None:
    def task(unit: Unit) -> int:
        if unit.well == "B/2":
            os._exit(1)
        time.sleep(0.3)  # long enough to be on the worker when it dies
        return len(unit.fields)

    outcomes = run_all(client, task, units_of(8))
    assert blamed(outcomes) == [("B/2", (0,))]
    assert len(done(outcomes)) == 7


def test_a_stream_that_begins_while_workers_are_coming_back_loses_nothing(client: Client) -> None:
    for pid in client.run(os.getpid).values():
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while len(client.scheduler_info(n_workers=-1)["workers"]) == 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    outcomes = run_all(client, lambda unit: len(unit.fields), units_of(5))
    assert len(done(outcomes)) == 5


@pytest.mark.parametrize("kind", [StorageError, ModelError, LeaseError])
def test_an_error_that_every_unit_would_meet_stops_the_stream(
    client: Client, tmp_path: Path, kind: type[Exception]
) -> None:
    note = note_calls(tmp_path)

    def task(unit: Unit) -> str:
        note(unit)
        if unit.well == "B/3":
            raise kind("the disk is full")
        time.sleep(0.2)  # so that the others cannot run away while the error travels
        return unit.key

    with pytest.raises(kind, match="the disk is full"):
        run_all(client, task, units_of(20 * WINDOW))
    tried = calls(tmp_path)
    assert len(tried) < 4 * WINDOW
    assert tried["B3-0"] == 1


def test_a_model_is_loaded_once_on_each_worker(client: Client, tmp_path: Path) -> None:
    folder = str(tmp_path)

    def load() -> dict[str, int]:
        with open(f"{folder}/{os.getpid()}", "a") as file:
            file.write("x")
        return {"pid": os.getpid()}

    def task(unit: Unit) -> tuple[int, int]:
        return worker_model("model")["pid"], os.getpid()

    with placed_model(client, load, "model"):
        outcomes = run_all(client, task, units_of(40))
    assert all(o.receipt[0] == o.receipt[1] for o in outcomes)
    pids = set(client.run(os.getpid).values())
    assert {int(file.name) for file in tmp_path.iterdir()} == pids
    assert [file.read_text() for file in tmp_path.iterdir()] == ["x", "x"]


def test_runs_that_share_workers_have_a_model_each(client: Client) -> None:
    with placed_model(client, partial(str, "first"), "1"), placed_model(client, partial(str, "second"), "2"):
        outcomes = run_all(client, lambda unit: (worker_model("1"), worker_model("2")), units_of(6))
    assert {o.receipt for o in outcomes} == {("first", "second")}


def test_a_model_is_taken_off_the_workers_when_its_run_ends(client: Client) -> None:
    name = LoadModel(str, "model").name
    with placed_model(client, partial(str, "x"), "model"):
        assert all(client.run(lambda dask_worker: name in dask_worker.plugins).values())
    assert not any(client.run(lambda dask_worker: name in dask_worker.plugins).values())


def test_a_worker_that_takes_the_place_of_a_dead_one_has_the_model(client: Client) -> None:
    before = set(client.run(os.getpid).values())

    def task(unit: Unit) -> object:
        if unit.well == "B/1":
            os._exit(1)
        return worker_model("model")

    with placed_model(client, lambda: "x", "model"):
        outcomes = run_all(client, task, units_of(6))
        assert {o.receipt for o in outcomes if o.error is None} <= {"x"}
        client.wait_for_workers(2, timeout=30)
        assert set(client.run(os.getpid).values()) != before
        found = client.run(lambda dask_worker: LoadModel(str, "model").name in dask_worker.plugins)
        assert list(found.values()) == [True, True]


def test_a_model_that_cannot_be_loaded_is_an_error_at_once_and_is_forgotten(client: Client) -> None:
    def load() -> None:
        raise ModelError("x.safetensors is no model")

    with pytest.raises(ModelError, match="is no model"), placed_model(client, load, "broken"):
        pass
    placed = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.worker_plugins))
    assert LoadModel(str, "broken").name not in placed


def test_clusters_stand_side_by_side_and_listen_to_this_machine_only(client: Client) -> None:
    # A warning, such as of a port that is taken, would be an error here.
    with start_cluster(ClusterConfig(workers=1, dashboard=False)):
        me = psutil.Process()
        listening = [
            connection.laddr.ip
            for process in [me, *me.children(recursive=True)]
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
    assert len(listening) >= 4
    assert set(listening) == {"127.0.0.1"}


CLUSTER_OF_ONE_PROCESS = """
import sys
from distributed import LocalCluster
cluster = LocalCluster(1, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None)
print(cluster.scheduler_address, flush=True)
sys.stdin.read()
"""


def test_the_death_of_the_scheduler_is_told_and_no_field_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_SCHEDULER_ANSWERS_S", 1.0)
    begun = str(tmp_path / "begun")

    def task(unit: Unit) -> None:
        with open(begun, "w"):
            time.sleep(60)

    command = [sys.executable, "-c", CLUSTER_OF_ONE_PROCESS]
    outcomes: list[Outcome[None]] = []

    def kill_when_begun() -> None:
        while not os.path.exists(begun):
            time.sleep(0.05)
        process.kill()

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with Client(process.stdout.readline().strip(), set_as_default=False) as client:
            Thread(target=kill_when_begun, daemon=True).start()
            with pytest.raises(ClusterError, match="run the same command again"):
                outcomes.extend(stream(client, works_of(lambda unit: partial(task, unit), units_of(4))))
    assert outcomes == []
