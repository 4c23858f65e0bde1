import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client

from artifact_mask.config import ClusterConfig
from artifact_mask.engine.cluster import start_cluster
from artifact_mask.engine.journal import Unit
from artifact_mask.engine.placement import LoadModel, place_model, worker_model
from artifact_mask.engine.stream import WINDOW_PER_WORKER, Outcome, stream
from artifact_mask.errors import ModelError, StorageError

WINDOW = 2 * WINDOW_PER_WORKER


@pytest.fixture(autouse=True)
def _workers_are_there(client: Client) -> None:
    """Let workers that an earlier test killed come back."""
    client.wait_for_workers(2, timeout=30)


def units_of(n: int, *, fields: int = 1) -> list[Unit]:
    return [Unit(f"B/{column}", tuple(range(fields))) for column in range(1, n + 1)]


def run_all(client: Client, task: Callable[[Unit], Any], units: Iterable[Unit]) -> list[Outcome[Any]]:
    """Outcomes of a stream. Tasks are closures, so that they travel to the workers by value."""

    def bind(unit: Unit) -> Callable[[], Any]:
        return lambda: task(unit)

    return list(stream(client, bind, units, name=f"test-{time.time_ns()}"))


def done(outcomes: list[Outcome[Any]]) -> Counter[tuple[str, int]]:
    return Counter((o.unit.well, index) for o in outcomes if o.error is None for index in o.unit.fields)


def blamed(outcomes: list[Outcome[Any]]) -> list[tuple[str, tuple[int, ...]]]:
    return sorted((o.unit.well, o.unit.fields) for o in outcomes if o.error is not None)


@pytest.mark.parametrize("n", [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 5 * WINDOW])
def test_every_unit_is_processed_exactly_once(client: Client, tmp_path: Path, n: int) -> None:
    folder = str(tmp_path)

    def task(unit: Unit) -> str:
        with open(f"{folder}/{unit.key}", "a") as file:
            file.write("x")
        return unit.key

    outcomes = run_all(client, task, units_of(n))
    assert sorted(o.receipt for o in outcomes) == sorted(unit.key for unit in units_of(n))
    assert all(o.receipt == o.unit.key for o in outcomes)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["x"] * n


def test_units_are_taken_only_as_room_becomes_free(client: Client) -> None:
    taken = 0

    def count() -> Iterator[Unit]:
        nonlocal taken
        for unit in units_of(40):
            taken += 1
            yield unit

    def bind(unit: Unit) -> Callable[[], str]:
        return lambda: unit.key

    for finished, _ in enumerate(stream(client, bind, count(), name="window"), start=1):
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

    outcomes = list(stream(client, bind, units_of(12, fields=8), name=f"in-flight-{fails}"))
    assert len(outcomes) == (96 if fails else 12)
    assert max(in_flight) <= WINDOW


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


@pytest.mark.parametrize("kind", [StorageError, ModelError])
def test_an_error_that_every_unit_would_meet_stops_the_stream(
    client: Client, tmp_path: Path, kind: type[Exception]
) -> None:
    folder = str(tmp_path)

    def task(unit: Unit) -> str:
        with open(f"{folder}/{unit.key}", "w"):
            pass
        if unit.well == "B/3":
            raise kind("the disk is full")
        return unit.key

    with pytest.raises(kind, match="the disk is full"):
        run_all(client, task, units_of(20 * WINDOW))
    assert len(list(tmp_path.iterdir())) < 4 * WINDOW


def test_a_model_is_loaded_once_on_each_worker(client: Client, tmp_path: Path) -> None:
    folder = str(tmp_path)

    def load() -> dict[str, int]:
        with open(f"{folder}/{os.getpid()}", "a") as file:
            file.write("x")
        return {"pid": os.getpid()}

    def task(unit: Unit) -> tuple[int, int]:
        return worker_model()["pid"], os.getpid()

    place_model(client, load)
    outcomes = run_all(client, task, units_of(40))
    assert all(o.receipt[0] == o.receipt[1] for o in outcomes)
    pids = set(client.run(os.getpid).values())
    assert {int(file.name) for file in tmp_path.iterdir()} == pids
    assert [file.read_text() for file in tmp_path.iterdir()] == ["x", "x"]


def test_another_model_takes_the_place_of_the_first(client: Client) -> None:
    for name in ("first", "second"):
        place_model(client, partial(str, name))
        outcomes = run_all(client, lambda unit: worker_model(), units_of(6))
        assert {o.receipt for o in outcomes} == {name}


def test_a_worker_that_takes_the_place_of_a_dead_one_has_the_model(client: Client) -> None:
    place_model(client, lambda: "model")
    before = set(client.run(os.getpid).values())

    def task(unit: Unit) -> object:
        if unit.well == "B/1":
            os._exit(1)
        return worker_model()

    outcomes = run_all(client, task, units_of(6))
    assert {o.receipt for o in outcomes if o.error is None} <= {"model"}
    client.wait_for_workers(2, timeout=30)
    assert set(client.run(os.getpid).values()) != before
    found = client.run(lambda dask_worker: LoadModel.name in dask_worker.plugins)
    assert list(found.values()) == [True, True]


def test_a_model_that_cannot_be_loaded_is_an_error_at_once(client: Client) -> None:
    def load() -> None:
        raise ModelError("x.safetensors is no model")

    with pytest.raises(ModelError, match="is no model"):
        place_model(client, load)


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
