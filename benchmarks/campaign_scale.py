"""A campaign of fields that cost nothing: what streaming and records cost, and whether they grow with the campaign.

`python benchmarks/campaign_scale.py 10000 100000 1000000` streams so many no-op fields, 26 a well, 384 wells a plate,
through the code that `artmask run` uses: leases, resume scan, bounded submission, a record for each unit, tables. The
scheduler is a process of its own, so that its CPU time and memory can be told from the client's. Afterwards the same
campaign is started again: the time to find that nothing is left to do is that of the resume scan.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import psutil

from artifact_mask.config import ClusterConfig
from artifact_mask.engine.journal import FieldKey, FieldRecord, Journal, Unit, plan_units
from artifact_mask.io.files import StagedFiles
from artifact_mask.location import Location
from artifact_mask.metadata import Plate, well_path
from artifact_mask.workflows.campaign import PlannedStage, Stage, Workload, process_campaign
from artifact_mask.workflows.progress import Silent
from artifact_mask.workflows.unit import Receipt, Row, process_unit

WELLS = [well_path(row, column) for row in range(1, 17) for column in range(1, 25)]


@dataclass(frozen=True)
class NoOpStage(Stage):
    """A stage whose fields have nothing to do."""

    name = "noop"
    ngff = "0.5"
    plate: Location
    n_fields: int
    fields_per_well: int
    fields_per_unit: int

    def describe(self) -> Plate:
        """Nothing."""
        return Plate(self.plate.name, 16, 24, ())

    @property
    def settings(self) -> dict[str, object]:
        """Nothing."""
        return {}

    def units(self) -> list[Unit]:
        """Well by well."""
        keys = [(WELLS[i // self.fields_per_well], i % self.fields_per_well) for i in range(self.n_fields)]
        return plan_units(keys, fields_per_unit=self.fields_per_unit)

    def bind(self, journal: Journal, unit: Unit) -> Callable[[], Receipt]:
        """Task that records its unit."""
        return partial(_do_nothing, journal, unit)

    def owned(self, key: FieldKey) -> list[Location]:
        """Nothing."""
        return []

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """Count the fields."""
        assert len(records) == self.n_fields
        return {"fields": pd.DataFrame({"plate": [self.plate.name], "well": [""], "field_id": [0], "error": [""]})}


def _do_nothing(journal: Journal, unit: Unit) -> Receipt:
    def process(staged: Mapping[int, StagedFiles]) -> Iterator[tuple[int, Row | Exception]]:
        yield from ((index, {"value": index}) for index in staged)

    return process_unit(journal, unit, process, lambda key: [], field_bytes=0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fields", type=int, nargs="+")
    parser.add_argument("--fields-per-well", type=int, default=26)
    parser.add_argument("--fields-per-unit", type=int, default=26)
    arguments = parser.parse_args()
    print(
        "fields      units  wall s  us/field  scheduler: us/field  growth MiB  client: us/field  growth MiB  resume s"
    )
    for n_fields in arguments.fields:
        with tempfile.TemporaryDirectory() as folder, _cluster() as (address, scheduler):
            _measure(Path(folder), n_fields, address, scheduler, arguments)


def _measure(
    folder: Path, n_fields: int, address: str, scheduler: psutil.Process, arguments: argparse.Namespace
) -> None:
    def run_campaign(n: int, name: str) -> None:
        planned = list(_plan(folder / name, n, arguments))
        process_campaign(Workload("noop", planned, {}, ClusterConfig(kind=address, dashboard=False)), Silent())

    run_campaign(5000, "warm-up")  # imports, connections, code caches
    client = psutil.Process()
    with _Memory(client) as client_memory, _Memory(scheduler) as scheduler_memory:
        start, of_scheduler, of_client = time.perf_counter(), _cpu(scheduler), _cpu(client)
        run_campaign(n_fields, "campaign")
        wall, of_scheduler, of_client = (
            time.perf_counter() - start,
            _cpu(scheduler) - of_scheduler,
            _cpu(client) - of_client,
        )
    start = time.perf_counter()
    run_campaign(n_fields, "campaign")
    resume = time.perf_counter() - start
    units = sum(1 for _ in (folder / "campaign").glob("*.artmask/noop/*/*.json"))
    print(
        f"{n_fields:9,d} {units:7,d} {wall:7.1f} {wall / n_fields * 1e6:9.1f} {of_scheduler / n_fields * 1e6:20.1f} "
        f"{scheduler_memory.growth_mib:11.1f} {of_client / n_fields * 1e6:17.1f} {client_memory.growth_mib:11.1f} "
        f"{resume:9.2f}",
        flush=True,
    )


def _plan(folder: Path, n_fields: int, arguments: argparse.Namespace) -> Iterator[PlannedStage]:
    folder.mkdir(exist_ok=True)
    per_plate = len(WELLS) * arguments.fields_per_well
    for number, start in enumerate(range(0, n_fields, per_plate)):
        n = min(per_plate, n_fields - start)
        plate = folder / f"plate{number:03d}.zarr"
        stage = partial(NoOpStage, plate, n, arguments.fields_per_well, arguments.fields_per_unit)
        yield PlannedStage(plate, n, stage)


class _Memory:
    """Watches the resident memory of a process: highest of the last tenth of the samples against the first tenth."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._samples: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def growth_mib(self) -> float:
        """Growth from the beginning to the end."""
        tenth = max(1, len(self._samples) // 10)
        return (max(self._samples[-tenth:]) - min(self._samples[:tenth])) / 2**20

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            self._samples.append(self._process.memory_info().rss)
        self._samples.append(self._process.memory_info().rss)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


@contextmanager
def _cluster() -> Iterator[tuple[str, psutil.Process]]:
    """Start a scheduler and two workers, each a process of its own, on the loopback address."""
    dask = [sys.executable, "-m", "dask"]
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"

        def start(*command: str) -> subprocess.Popen[bytes]:
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=folder, env=environment)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process

        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        scheduler = start(*dask, "scheduler", *options)
        while not file.exists() or not file.read_text().strip():
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        for _ in range(2):
            start(*dask, "worker", address, "--nthreads", "2", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
        yield address, psutil.Process(scheduler.pid)


if __name__ == "__main__":
    # As a module that the workers can import, like the stages of artmask.
    from campaign_scale import main as main_of_module

    main_of_module()
