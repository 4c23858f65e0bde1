"""What each worker did, unit by unit: lines of JSON beside the store."""

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from artifact_mask.engine.journal import Journal, Unit, beside


def log_unit(journal: Journal, unit: Unit, *, started: float, errors: Mapping[int, str]) -> None:
    """Append a line to this process's log, ``<plate>.artmask/logs/<stage>-<epoch>-<host>-<pid>.jsonl``.

    Parameters
    ----------
    journal, unit
        What was done.
    started
        When, in seconds since 1970.
    errors
        By field.

    Notes
    -----
    Object stores cannot append: there the records alone tell what was done. A log that cannot be written stops nothing.
    """
    folder = beside(journal.plate) / "logs"
    if not isinstance(folder, Path):
        return
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "stage": journal.stage,
        "unit": unit.key,
        "fields": len(unit.fields),
        "seconds": round(time.time() - started, 3),
        "errors": errors,
    }
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
        name = f"{journal.stage}-{journal.epoch}-{socket.gethostname()}-{os.getpid()}.jsonl"
        with (folder / name).open("a") as file:
            file.write(json.dumps(line) + "\n")
