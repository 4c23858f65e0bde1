"""The folder of checkpoints that lets an interrupted training go on."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

LAST, BEST, FINISHED = "last.ckpt", "best.ckpt", "finished"
"""Checkpoints of the last and the best epoch, and what is there once training came to its end."""
_IDENTITY = "identity.json"

Tell = Callable[[str], None]
"""Takes a line for people."""


def prepare_folder(folder: Path, digest: str) -> bool:
    """Make a folder for the checkpoints of one training; those of another one are removed.

    Parameters
    ----------
    folder
        Files in it that are no checkpoints are left alone.
    digest
        Of everything that decides the training.

    Returns
    -------
    bool
        Whether there were checkpoints of another training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    identity = folder / _IDENTITY
    try:
        is_same = json.loads(identity.read_text())["digest"] == digest
    except (OSError, ValueError, LookupError, TypeError):
        is_same = False
    if is_same:
        return False
    had_any = (folder / LAST).exists()
    _clear(folder)
    identity.write_text(json.dumps({"digest": digest}))
    return had_any


def remove_folder(folder: Path) -> None:
    """Remove the checkpoints, and their folder if nothing else is in it."""
    _clear(folder)
    (folder / _IDENTITY).unlink(missing_ok=True)
    with suppress(OSError):  # not empty
        folder.rmdir()


def usable_checkpoint(folder: Path, tell: Tell | None) -> tuple[Path | None, int]:
    """Find the checkpoint to go on from, and how many epochs it has; none is kept if one of them is damaged."""
    last = folder / LAST
    if not last.exists():
        _clear(folder)
        return None, 0
    try:
        n_epochs = len(load_checkpoint(last)["callbacks"]["Record"]["epochs"])
        if (folder / BEST).exists():
            load_checkpoint(folder / BEST)
    except Exception as error:  # whatever a damaged file makes of the reader
        _clear(folder)
        if tell:
            tell(f"The checkpoints in {folder} cannot be read ({type(error).__name__}); the training starts anew.")
        return None, 0
    if tell:
        tell(f"An interrupted training goes on after epoch {n_epochs}.")
    return last, n_epochs


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, which Lightning pickles; nothing but tensors and plain values is unpickled."""
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def _clear(folder: Path) -> None:
    for name in (FINISHED, LAST, BEST):
        (folder / name).unlink(missing_ok=True)
