"""What the trainings of classifiers and of U-Nets have in common."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from artifact_mask import __version__
from artifact_mask.errors import StorageError

N_THREADS = 4
"""That read: a disk serves several requests, and decompression lets go of the interpreter."""

Found = TypeVar("Found")
Found_co = TypeVar("Found_co", covariant=True)


@dataclass(frozen=True)
class Training:
    """How a training ended.

    Attributes
    ----------
    model
        The network's file.
    report
        Folder with figures, predictions and pictures.
    metrics
        On the held-out wells.
    n_train, n_held_out
        Samples of each part: tiles for a classifier, fields for a U-Net.
    n_epochs, best_epoch
        How long it took, and when it was best; counted from 1. Of several rounds, the last.
    n_resumed
        Epochs that an interrupted training had done before.
    seconds
        Wall time.
    """

    model: Path
    report: Path
    metrics: dict[str, float]
    n_train: int
    n_held_out: int
    n_epochs: int
    best_epoch: int
    n_resumed: int
    seconds: float


class Reader(Protocol[Found_co]):
    """Reads something when it is called."""

    def __call__(self) -> Found_co:
        """Read it."""


def read_in_order(readers: Sequence[Reader[Found]]) -> Iterator[Found | Exception]:
    """Read in threads, a few ahead, in order; what cannot be read gives its error.

    One bad field never ends a training, and a reader trips over damage in many ways.
    """

    def attempt(reader: Reader[Found]) -> Found | Exception:
        try:
            return reader()
        except Exception as error:
            return error

    with ThreadPoolExecutor(N_THREADS) as pool:
        waiting = iter(readers)
        ahead = [pool.submit(attempt, reader) for reader in islice(waiting, 2 * N_THREADS)]
        while ahead:
            yield ahead.pop(0).result()
            ahead += [pool.submit(attempt, reader) for reader in islice(waiting, 1)]


def list_software(packages: Sequence[str]) -> dict[str, str]:
    """Versions that decide what a training gives, as the card of a model lists them."""
    return {"python": platform.python_version(), "artmask": __version__} | {name: version(name) for name in packages}


def digest_settings(given: Mapping[str, object]) -> str:
    """Digest of everything that decides a training, as JSON knows it."""
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def list_wells(groups: Sequence[tuple[str, str]]) -> list[str]:
    """Name the wells of some groups (plate and well), each once."""
    return [f"{plate} {well}".strip() for plate, well in dict.fromkeys(groups)]


@contextmanager
def naming_storage_errors(dest: Path) -> Iterator[None]:
    """Say what to do when a model cannot be written."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"{dest} cannot be written ({error}). Make room or name another file, and run the same command "
            "again: it goes on from the last epoch."
        ) from error
