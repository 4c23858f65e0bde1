"""Reading, computing and writing overlap, and an error is the outcome of its item alone."""

from collections.abc import Callable, Iterator
from threading import Barrier, Event, Lock, Thread, current_thread, main_thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifact_mask.engine.pipeline import overlap

LONG_S = 20.0
"""Nobody waits so long unless a test fails."""


def take(
    items: Any,
    *,
    read: Callable[[int], Any] = lambda item: item,
    compute: Callable[[list[Any]], list[Any]] = lambda batch: [10 * p for p in batch],
    write: Callable[[int, Any, Any], Any] = lambda item, prepared, computed: (item, prepared, computed),
    batch: int = 2,
    threads: int = 2,
) -> Iterator[tuple[int, Any]]:
    return overlap(items, read=read, compute=compute, write=write, batch=batch, threads=threads)


def failing(kind: type[BaseException], *items: int) -> Callable[[int], int]:
    """Step that fails for some items."""

    def step(item: int) -> int:
        if item in items:
            raise kind(f"item {item}")
        return item

    return step


# What comes out


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 25), batch=st.integers(1, 6), threads=st.integers(1, 4))
def test_each_item_goes_through_the_three_steps_once_and_comes_out_in_order(n: int, batch: int, threads: int) -> None:
    sizes = []

    def compute(prepared: list[int]) -> list[int]:
        sizes.append(len(prepared))
        return [10 * p for p in prepared]

    found = list(take(range(n), read=lambda item: item + 1, compute=compute, batch=batch, threads=threads))
    assert found == [(i, (i, i + 1, 10 * (i + 1))) for i in range(n)]
    # Every batch is full but the last.
    assert sizes == [batch] * (n // batch) + ([n % batch] if n % batch else [])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), n=st.integers(1, 15), batch=st.integers(1, 5), threads=st.integers(1, 3))
def test_an_error_is_the_outcome_of_its_item_alone(data: st.DataObject, n: int, batch: int, threads: int) -> None:
    some = st.sets(st.integers(0, n - 1))
    unread, uncomputed, unwritten = data.draw(some), data.draw(some), data.draw(some)
    read = failing(OSError, *unread)
    write = failing(ValueError, *unwritten)
    computed_alone = failing(RuntimeError, *uncomputed)

    outcomes = list(
        take(
            range(n),
            read=read,
            compute=lambda prepared: [computed_alone(p) for p in prepared],
            write=lambda item, *_: write(item),
            batch=batch,
            threads=threads,
        )
    )
    assert [item for item, _ in outcomes] == list(range(n))
    for item, outcome in outcomes:
        kind = (
            OSError
            if item in unread
            else RuntimeError
            if item in uncomputed
            else ValueError
            if item in unwritten
            else int
        )
        assert type(outcome) is kind
        assert outcome == item if kind is int else str(outcome) == f"item {item}"


def test_a_batch_that_cannot_be_computed_is_computed_one_by_one() -> None:
    batches = []

    def compute(prepared: list[int]) -> list[int]:
        batches.append(prepared)
        if 4 in prepared:
            raise MemoryError("too much at once")
        return prepared

    outcomes = dict(take(range(7), compute=compute, batch=3))
    assert batches == [[0, 1, 2], [3, 4, 5], [3], [4], [5], [6]]
    assert {item for item, outcome in outcomes.items() if isinstance(outcome, Exception)} == {4}


def test_a_batch_that_is_only_too_large_loses_nothing() -> None:
    def compute(prepared: list[int]) -> list[int]:
        if len(prepared) > 1:
            raise MemoryError("too much at once")
        return prepared

    assert [outcome for _, outcome in take(range(5), compute=compute, batch=4)] == [(i, i, i) for i in range(5)]


def test_nothing_is_computed_where_nothing_could_be_read() -> None:
    def compute(prepared: list[int]) -> list[int]:
        raise AssertionError(f"asked to compute {prepared}")

    outcomes = list(take(range(5), read=failing(OSError, *range(5)), compute=compute))
    assert [type(outcome) for _, outcome in outcomes] == [OSError] * 5


@pytest.mark.parametrize("step", ["read", "compute", "write"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_outcome(step: str, kind: type[BaseException]) -> None:
    fail = failing(kind, 3)
    steps: dict[str, Any] = {
        "read": fail,
        "compute": lambda prepared: [fail(p) for p in prepared],
        "write": lambda item, *_: fail(item),
    }
    with pytest.raises(kind):
        list(take(range(9), **{step: steps[step]}))


# How much is held


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 30), batch=st.integers(1, 4), threads=st.integers(1, 4))
def test_at_most_two_batches_are_read_ahead_and_two_wait_to_be_written(n: int, batch: int, threads: int) -> None:
    n_taken = n_computed = n_out = 0

    def items() -> Iterator[int]:
        nonlocal n_taken
        for item in range(n):
            n_taken += 1
            yield item

    def compute(prepared: list[int]) -> list[int]:
        nonlocal n_computed
        assert n_taken - n_computed <= 2 * batch
        assert n_computed - n_out <= 2 * batch
        n_computed += len(prepared)
        return prepared

    for _ in take(items(), compute=compute, batch=batch, threads=threads):
        n_out += 1
        assert n_taken - n_out <= 5 * batch
    assert n_taken == n_computed == n_out == n


def test_nothing_is_read_before_an_outcome_is_asked_for() -> None:
    taken = []
    outcomes = take(iter(lambda: taken.append(1), None))
    assert taken == []
    outcomes.close()  # type: ignore[attr-defined]


def test_who_stops_asking_waits_for_what_is_being_written() -> None:
    done, started, go_on = [], Event(), Event()

    def write(item: int, *_: int) -> None:
        if item > 0:
            started.set()
            assert go_on.wait(LONG_S)
        done.append(item)

    outcomes = take(range(20), write=write, batch=1)
    assert next(outcomes)[0] == 0
    assert started.wait(LONG_S)
    stopping = Thread(target=outcomes.close)  # type: ignore[attr-defined]
    stopping.start()
    assert done == [0]
    go_on.set()
    stopping.join(LONG_S)
    # Nothing is still being written into files that the caller is about to throw away.
    assert sorted(done) == [0, 1, 2]


@pytest.mark.parametrize("change", [[], [7, 7, 7]], ids=["fewer", "more"])
def test_a_model_that_returns_another_number_of_results_is_an_error_of_its_own(change: list[int]) -> None:
    with pytest.raises(ValueError, match="zip"):
        list(take(range(4), compute=lambda prepared: change))


# What happens at the same time


def test_one_item_is_computed_while_the_next_is_read_and_the_last_is_written() -> None:
    together = Barrier(3)

    def read(item: int) -> int:
        if item == 2:
            together.wait(LONG_S)
        return item

    def compute(prepared: list[int]) -> list[int]:
        if prepared == [1]:
            together.wait(LONG_S)
        return prepared

    def write(item: int, *_: int) -> int:
        if item == 0:
            together.wait(LONG_S)
        return item

    # A barrier that nobody else comes to would be an error in the outcome.
    outcomes = take(range(5), read=read, compute=compute, write=write, batch=1)
    assert list(outcomes) == [(i, i) for i in range(5)]


def test_reads_overlap_each_other() -> None:
    together = Barrier(3)

    def read(item: int) -> int:
        together.wait(LONG_S)
        return item

    assert [outcome for _, outcome in take(range(6), read=read, batch=3, threads=3)] == [
        (i, i, 10 * i) for i in range(6)
    ]


def test_everything_is_computed_in_the_calling_thread_and_nothing_else_is() -> None:
    seen: dict[str, set[bool]] = {"read": set(), "compute": set(), "write": set()}
    lock = Lock()

    def note(step: str) -> None:
        with lock:
            seen[step].add(current_thread() is main_thread())

    list(
        take(
            range(9),
            read=lambda item: note("read"),
            compute=lambda prepared: [note("compute") for _ in prepared],
            write=lambda *_: note("write"),
        )
    )
    assert seen == {"read": {False}, "compute": {True}, "write": {False}}
