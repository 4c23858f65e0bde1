"""What may be over in a moment is tried again; what is about contents, or about all units, is not."""

import errno

import pytest

from artifact_mask.engine import retry as module
from artifact_mask.engine.retry import FULL_DISK, PAUSES_S, retry
from artifact_mask.errors import ArtmaskError, ImageError, PlateError, StorageError


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that were asked for; none is waited for."""
    asked: list[float] = []
    monkeypatch.setattr(module.time, "sleep", asked.append)
    return asked


class Failing:
    """Function that fails some times before it answers."""

    def __init__(self, error: BaseException, times: int) -> None:
        self.error = error
        self.times = times
        self.n_calls = 0

    def __call__(self) -> str:
        self.n_calls += 1
        if self.n_calls <= self.times:
            raise self.error
        return "answer"


def test_what_works_is_called_once(pauses: list[float]) -> None:
    call = Failing(OSError(), 0)
    assert retry(call) == "answer"
    assert (call.n_calls, pauses) == (1, [])


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        OSError("a store's error without a number"),
        TimeoutError(),
        ConnectionResetError(),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_trouble_that_passes_is_not_seen(error: OSError, times: int, pauses: list[float]) -> None:
    call = Failing(error, times)
    assert retry(call) == "answer"
    assert call.n_calls == times + 1
    assert pauses == list(PAUSES_S[:times])


def test_a_trouble_that_lasts_is_raised_after_three_more_attempts(pauses: list[float]) -> None:
    error = OSError(errno.EIO, "Input/output error")
    call = Failing(error, 99)
    with pytest.raises(OSError, match="Input/output") as caught:
        retry(call)
    assert caught.value is error
    assert call.n_calls == 4
    assert pauses == list(PAUSES_S)


def test_pauses_grow_and_are_over_in_seconds() -> None:
    assert list(PAUSES_S) == sorted(set(PAUSES_S))
    assert sum(PAUSES_S) < 10


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file"),
        FileExistsError(errno.EEXIST, "File exists"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory"),
        IsADirectoryError(errno.EISDIR, "Is a directory"),
        PermissionError(errno.EACCES, "Permission denied"),
        *(OSError(number, "full") for number in FULL_DISK),
        ValueError("wrong shape"),
        MemoryError(),
        ArtmaskError("contents"),
        ImageError("x.tiff is damaged"),
        PlateError("damaged"),
        StorageError("an OSError of our own"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_what_would_happen_again_is_raised_at_once(error: BaseException, pauses: list[float]) -> None:
    call = Failing(error, 99)
    with pytest.raises(type(error)) as caught:
        retry(call)
    assert caught.value is error
    assert (call.n_calls, pauses) == (1, [])


def test_another_error_on_the_second_attempt_counts_as_itself() -> None:
    errors = iter([OSError(errno.EIO, "Input/output error"), FileNotFoundError("gone since")])

    def call() -> None:
        raise next(errors)

    with pytest.raises(FileNotFoundError, match="gone since"):
        retry(call)
    assert next(errors, None) is None
