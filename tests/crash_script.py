"""Kill an ingest before its k-th operation on a file, for every k, and print a line of JSON for each.

A process of its own, since it forks: `python crash_script.py ingest|late EXPORT FOLDER`. With `ingest` a whole ingest
is killed, and taken up again. With `late` one task is killed that was thought dead and has been done by another.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reading import read_export

from artifact_mask.engine.journal import Journal, beside, digest_of, hold_plate, open_journal
from artifact_mask.engine.stream import Outcome
from artifact_mask.workflows.campaign import Campaign, PlannedStage
from artifact_mask.workflows.ingest import IngestStage
from artifact_mask.workflows.progress import Silent

EVENTS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")


def open_stage(plate: Path, export: Path) -> IngestStage:
    """Plan the ingest of an export, a field a unit."""
    return IngestStage(plate, read_export(export), ngff="0.5", strict=False, fields_per_unit=1)


def ingest(plate: Path, export: Path) -> int:
    """Do what `artmask ingest` does, in this process; return the number of units done."""
    planned = PlannedStage(plate, None, lambda: open_stage(plate, export))
    n_units = 0
    with Campaign([planned], {}, Silent()) as campaign:
        for work in campaign.works():
            campaign.settle(Outcome(work, work.bind(work.unit)()))
            n_units += 1
    return n_units


def name_step(event: str, path: str, plate: Path) -> str:
    """Say what an operation is about."""
    if path.startswith(f"{plate}/"):
        return f"{event} store"
    kind = path[len(str(beside(plate))) + 1 :].split("/")[0]
    return f"{event} " + {"logs": "log", "ingest": "record"}.get(kind, kind)


def die_before(k: int, plate: Path, pipe: int) -> None:
    """Make this process end itself before its k-th operation on a file of a plate, or beside it."""
    n_events = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal n_events
        if event not in EVENTS:
            return
        path = str(arguments[1] if event == "os.rename" else arguments[0])
        reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if reads or not path.startswith(str(plate)):
            return
        if n_events == k:
            os.write(pipe, name_step(event, path, plate).encode())
            os._exit(9)
        n_events += 1

    sys.addaudithook(hook)


def crashes(plate: Path, prepare: Callable[[], object], work: Callable[[], object]) -> Iterator[dict[str, object]]:
    """Do some work in a child that is killed before its first operation, its second, and so on to the last."""
    for k in range(10_000):
        prepare()
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            die_before(k, plate, write_end)
            work()
            os._exit(0)
        os.close(write_end)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with os.fdopen(read_end) as pipe:
            yield {"before": pipe.read(), "exit": code}
        if code == 0:
            return


def read_tree(folder: Path) -> dict[str, bytes]:
    """Contents of all files of a folder."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def differences(plate: Path, expected: dict[str, bytes]) -> list[str]:
    """Files of a plate that are not what they should be."""
    found = read_tree(plate)
    return sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))


def crash_ingests(plate: Path, export: Path) -> Iterator[dict[str, object]]:
    """Kill whole ingests, and take them up again."""
    ingest(plate, export)
    expected = read_tree(plate)

    def prepare() -> None:
        shutil.rmtree(plate)
        shutil.rmtree(beside(plate))
        with hold_plate(plate, "ingest"):
            pass  # a run that ended before it began

    for crash in crashes(plate, prepare, lambda: ingest(plate, export)):
        journal = open_journal(plate, "ingest")
        recorded = len(journal.read()) if journal else 0
        redone = ingest(plate, export)
        kept = {"lease", "logs", "ingest", "export"}
        left = {path.parts[len(beside(plate).parts)] for path in beside(plate).rglob("*")} - kept
        partial = [path.name for path in beside(plate).rglob("*.partial")]
        yield crash | {
            "recorded": recorded,
            "redone": redone,
            "differences": differences(plate, expected),
            "left": sorted(left) + partial,
        }


def crash_late_tasks(plate: Path, export: Path) -> Iterator[dict[str, object]]:
    """Kill a task whose unit another one has done since."""
    stage = open_stage(plate, export)
    ingest(plate, export)
    expected = read_tree(plate)
    with hold_plate(plate, "ingest") as lease:
        journal = Journal(plate, "ingest", digest_of(stage.name, stage.settings), lease.epoch)
        for crash in crashes(plate, lambda: None, stage.bind(journal, stage.units()[0])):
            redone = len(journal.pending(stage.units(), journal.read()))
            yield crash | {"redone": redone, "differences": differences(plate, expected)}


def main() -> None:
    """Crash everywhere."""
    mode, export, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir()
    for crash in {"ingest": crash_ingests, "late": crash_late_tasks}[mode](folder / "plate.zarr", export):
        print(json.dumps(crash))


if __name__ == "__main__":
    main()
