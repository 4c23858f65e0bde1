"""Kill workers, the scheduler and the client of a campaign at random, and compare what comes out with a quiet run.

`python benchmarks/chaos.py --kills 200` simulates a small campaign, ingests it and runs on it undisturbed, then does
the same with a scheduler and workers of its own, one of which is killed (SIGKILL) every few moments. What died is
started again, the client too, with the same command. A campaign that is finished before enough was killed is begun
anew. At the end of each every array and table has to be byte for byte that of the quiet run, every field has to be on
record once, and no more may have been done twice than was under way when something died. Exits with 1 if not.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from artifact_mask.config import SimulateConfig
from artifact_mask.engine.journal import open_journal
from artifact_mask.workflows.simulate import simulate

N_WORKERS = 2
WINDOW = 3 * N_WORKERS
"""Units that are in flight at most."""
VICTIMS = ("worker", "worker", "worker", "scheduler", "client")
QUIET = ["--no-dashboard"]


@dataclass
class Cluster:
    """A scheduler and workers that are started again when they die."""

    folder: Path
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return f"tcp://127.0.0.1:{self.port}"

    def revive(self) -> None:
        """Start what is not there."""
        dask = [sys.executable, "-m", "dask"]
        local = ["--host", "127.0.0.1", "--no-dashboard"]
        self._start("scheduler", *dask, "scheduler", "--port", str(self.port), *local)
        for i in range(N_WORKERS):
            self._start(f"worker{i}", *dask, "worker", self.address, "--nthreads", "2", "--death-timeout", "20", *local)

    def kill(self, victim: str, client: subprocess.Popen[bytes]) -> bool:
        """Kill a process at once; False if it was not there."""
        if victim == "client":
            process = client
        elif victim == "scheduler":
            process = self.processes["scheduler"]
        else:
            # The nanny's child, which computes; it has more of the kind that only watch.
            nanny = self.processes[f"worker{random.randrange(N_WORKERS)}"]
            with suppress(psutil.NoSuchProcess):
                busy = [p for p in psutil.Process(nanny.pid).children() if "spawn_main" in " ".join(p.cmdline())]
                if busy:
                    busy[-1].kill()
                    return True
            return False
        if process.poll() is not None:
            return False
        process.kill()
        return True

    def close(self) -> None:
        """End everything."""
        for process in self.processes.values():
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()

    def _start(self, name: str, *command: str) -> None:
        known = self.processes.get(name)
        if known is None or known.poll() is not None:
            with (self.folder / f"{name}.log").open("ab") as log:
                environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
                self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)


@dataclass
class Tally:
    """What was killed, and what came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    campaigns: int = 0
    client_starts: int = 0
    fields: int = 0
    lost: int = 0
    failed: int = 0
    differing_files: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    units: int = 0
    units_recorded_twice: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, torn or done twice without need."""
        broken = self.lost or self.failed or self.differing_files or self.left_over
        return not broken and self.units_recorded_twice <= WINDOW * sum(self.kills.values())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--plates", type=int, default=2)
    parser.add_argument("--wells", type=int, default=6)
    parser.add_argument("--fields", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-seconds", type=float, default=3600)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tally = _run(folder, arguments)
    print(json.dumps(vars(tally) | {"clean": tally.is_clean, "seconds": round(time.monotonic() - start)}, indent=1))
    sys.exit(0 if tally.is_clean else 1)


def _run(folder: Path, arguments: argparse.Namespace) -> Tally:
    campaign = SimulateConfig(
        dest=folder / "export",
        plates=arguments.plates,
        wells=arguments.wells,
        fields=arguments.fields,
        size=arguments.size,
        seed=arguments.seed,
    )
    exports = simulate(campaign)
    (folder / "small.yaml").write_text("fields_per_unit: 2\n")
    quiet = folder / "quiet"
    for command in _commands(exports, quiet, folder, [*QUIET, "--workers", "2"]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    expected = _read_tree(quiet)
    tally = Tally()
    end = time.monotonic() + arguments.most_seconds
    with _cluster(folder) as cluster:
        while sum(tally.kills.values()) < arguments.kills and time.monotonic() < end:
            plates = folder / f"campaign{tally.campaigns}"
            for command in _commands(exports, plates, folder, [*QUIET, "--cluster", cluster.address]):
                _disturb(command, cluster, tally, folder, arguments.kills)
            _check(plates, expected, arguments, tally)
            shutil.rmtree(plates)
            tally.campaigns += 1
            print(f"{dict(tally.kills)} in {tally.campaigns} campaigns", file=sys.stderr, flush=True)
    return tally


def _commands(exports: list[Path], plates: Path, folder: Path, options: list[str]) -> Iterator[list[str]]:
    artmask = [sys.executable, "-m", "artmask"]
    config = ["--config", str(folder / "small.yaml")]
    plates.mkdir()
    for export in exports:
        yield [*artmask, "ingest", str(export), str(plates / f"{export.name}.zarr"), *config, *options]
    yield [*artmask, "run", str(plates), *config, *options]


def _disturb(command: list[str], cluster: Cluster, tally: Tally, folder: Path, n_kills: int) -> None:
    """Repeat a command until it is done, and kill something every few moments."""
    while True:
        cluster.revive()
        with (folder / "client.log").open("ab") as log:
            client = subprocess.Popen(command, stdout=log, stderr=log)
        tally.client_starts += 1
        while client.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                client.wait(random.uniform(0.3, 6.0))
            if client.poll() is None and sum(tally.kills.values()) < n_kills:
                victim = random.choice(VICTIMS)
                tally.kills[victim] += cluster.kill(victim, client)
            cluster.revive()
        if client.returncode == 0:
            return


def _check(plates: Path, expected: dict[str, bytes], arguments: argparse.Namespace, tally: Tally) -> None:
    found = _read_tree(plates)
    tally.differing_files += [name for name in {*expected, *found} if expected.get(name) != found.get(name)]
    for plate in sorted(plates.glob("*.zarr")):
        side = plate.with_name(plate.name + ".artmask")
        tally.left_over += [str(path.relative_to(plates)) for path in side.glob("staging/*")]
        tally.left_over += [str(path.relative_to(plates)) for path in plates.rglob("*.partial")]
        for stage in ("ingest", "run"):
            journal = open_journal(plate, stage)
            records = journal.read() if journal else {}
            tally.fields += len(records)
            tally.lost += arguments.wells * arguments.fields - len(records)
            tally.failed += sum(record.failed for record in records.values())
            logged = Counter(
                json.loads(line)["unit"]
                for log in (side / "logs").glob(f"{stage}-*.jsonl")
                for line in log.read_text().splitlines()
                if line.endswith("}")  # a worker may have died while it wrote
            )
            tally.units += len(logged)
            tally.units_recorded_twice += sum(n - 1 for n in logged.values())


def _read_tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for plate in folder.glob("*.zarr")
        for path in plate.rglob("*")
        if path.is_file()
    }


@contextmanager
def _cluster(folder: Path) -> Iterator[Cluster]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cluster = Cluster(folder, port)
    try:
        yield cluster
    finally:
        cluster.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
