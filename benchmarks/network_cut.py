"""Cut the network between a scheduler and a worker in the middle of a run: `python benchmarks/network_cut.py`.

For Linux and root. The worker is in a network namespace of its own, which a pair of virtual Ethernet devices joins to
a scheduler outside of it; a second worker is beside the scheduler. A plate is run on undisturbed, then a copy of it
with the cut. At the end every field of the copy must be done once, without a failure, and every byte be the same.

With 192 fields (`--wells 48`) a run on two cores outlasts a cut of a minute. After half a minute of silence Dask gives
the worker up, which then ends instead of coming back: its units are done by the other one.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from distributed import Client

from artifact_mask.config import ClusterConfig, IngestConfig, RunConfig, SimulateConfig
from artifact_mask.engine.journal import beside, open_journal
from artifact_mask.io.tables import read_table
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.progress import Silent
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBNETS = [ip_network(f"10.213.{i}.0/30") for i in range(256)]
"""Private ones; the first that this machine has no way to is taken."""
NO_DEVICE = "02:00:00:00:00:00"
START_S = 60
LOOK_S = 0.2


class Link:
    """A network namespace, and a pair of virtual Ethernet devices that joins it to this one.

    Parameters
    ----------
    how
        Cut by ``drop``, where packets vanish in both directions without a sign, or by ``down``, where the device
        outside goes down: the scheduler's system then knows that there is no way.
    """

    def __init__(self, how: str) -> None:
        self._how = how
        self.namespace = f"artmask-{os.getpid()}"
        self._devices = (f"am{os.getpid()}a", f"am{os.getpid()}b")
        self.here, self.there = (str(host) for host in _free_subnet().hosts())

    def __enter__(self) -> "Link":
        here, there = self._devices
        try:
            _ip("netns", "add", self.namespace)
            _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.namespace)
            _ip("addr", "add", f"{self.here}/30", "dev", here)
            _ip("link", "set", here, "up")
            self._inside("addr", "add", f"{self.there}/30", "dev", there)
            self._inside("link", "set", there, "up")
            self._inside("link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # The devices go with it.
        with suppress(subprocess.CalledProcessError):
            _ip("netns", "delete", self.namespace)

    def cut(self) -> None:
        """Let nothing through."""
        here, there = self._devices
        if self._how == "down":
            _ip("link", "set", here, "down")
        else:
            _ip("neighbour", "replace", self.there, "lladdr", NO_DEVICE, "dev", here, "nud", "permanent")
            self._inside("neighbour", "replace", self.here, "lladdr", NO_DEVICE, "dev", there, "nud", "permanent")

    def mend(self) -> None:
        """Let everything through again."""
        here, there = self._devices
        if self._how == "down":
            _ip("link", "set", here, "up")
        else:
            _ip("neighbour", "delete", self.there, "dev", here)
            self._inside("neighbour", "delete", self.here, "dev", there)

    def _inside(self, *arguments: str) -> None:
        _ip("-netns", self.namespace, *arguments)


class Cutter(Silent):
    """Listener of a run that cuts a link once some fields are done, and mends it after a time."""

    def __init__(self, link: Link, address: str, *, after: int, seconds: float) -> None:
        self._link = link
        self._address = address
        self._after = after
        self._seconds = seconds
        self._thread = Thread(target=self._cut_and_mend)
        self._start = 0.0
        self.n_done = 0
        self.was_cut = Event()
        self.is_over = Event()

    def begin(self, stage: str, total: int) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def advance(self, fields: int, failed: int, n_bytes: int) -> None:
        """Count; cut when it is time."""
        self.n_done += fields
        if self.n_done >= self._after and not self.was_cut.is_set():
            self.was_cut.set()
            self._thread.start()

    def close(self) -> None:
        """Wait until the link is mended."""
        self.is_over.set()
        if self.was_cut.is_set():
            self._thread.join()

    def say(self, what: str) -> None:
        """Print what happens and when."""
        print(f"{time.monotonic() - self._start:7.1f} s  {what} ({self.n_done} fields done)", flush=True)

    def _cut_and_mend(self) -> None:
        with Client(self._address) as client:
            self._link.cut()
            self.say(f"the link is cut for {self._seconds:g} s")
            self._watch(client, time.monotonic() + self._seconds)
            self._link.mend()
            self.say("the link is mended")
            self._watch(client, time.monotonic() + 10 * START_S)

    def _watch(self, client: Client, end: float) -> None:
        seen = _n_workers(client)
        while time.monotonic() < end and not (self.is_over.is_set() and seen):
            time.sleep(LOOK_S)
            now = _n_workers(client)
            if now != seen:
                self.say(f"the scheduler has {now} workers")
            seen = now


def main() -> None:
    """Cut, mend, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long the link is cut")
    parser.add_argument("--how", choices=("drop", "down"), default="drop", help="whether systems notice [drop]")
    parser.add_argument("--wells", type=int, default=12)
    parser.add_argument("--fields", type=int, default=4, help="of each well")
    parser.add_argument("--size", type=int, default=1080, help="side of a field, in pixels")
    parser.add_argument("--timeout", help="Dask's distributed.comm.timeouts.tcp, such as 3s, instead of its default")
    parser.add_argument("--limit", type=int, default=900, help="seconds after which all is given up")
    arguments = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0:
        sys.exit("Network namespaces need Linux and root.")
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, _give_up)
    signal.alarm(arguments.limit)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if _measure(Path(folder), arguments) else 1)


def _measure(folder: Path, arguments: argparse.Namespace) -> bool:
    campaign = SimulateConfig(
        dest=folder / "export", wells=arguments.wells, fields=arguments.fields, size=arguments.size
    )
    (measurement,) = simulate(campaign)
    warm, plain, disturbed = (folder / f"{name}.zarr" for name in ("warm", "plain", "disturbed"))
    ingest(IngestConfig(exports=measurement, dest=warm, cluster=ClusterConfig(workers=2, dashboard=False)))
    for copy in (plain, disturbed):
        shutil.copytree(warm, copy)
        shutil.copytree(beside(warm), beside(copy))
    n_fields = arguments.wells * arguments.fields
    with ExitStack() as stack:
        link = stack.enter_context(Link(arguments.how))
        address = _start_cluster(link, folder, arguments.timeout, stack)
        cluster = ClusterConfig(kind=address, threads_per_worker=1, insecure=True)
        run(RunConfig(plates=(warm,), fields_per_unit=1, cluster=cluster))
        undisturbed = run(RunConfig(plates=(plain,), fields_per_unit=1, cluster=cluster))
        print(f"undisturbed: {n_fields} fields in {undisturbed.seconds:.1f} s")
        cutter = Cutter(link, address, after=n_fields // 4, seconds=arguments.seconds)
        try:
            summary = run(RunConfig(plates=(disturbed,), fields_per_unit=1, cluster=cluster), cutter)
            cutter.say("the run has ended")
        finally:
            cutter.close()
    redone = [unit for unit, n in _times_done(disturbed).items() if n > 1]
    print(f"time lost: {summary.seconds - undisturbed.seconds:.1f} s; units done twice: {len(redone)} {redone}")
    checks = {
        "the link was cut during the run": cutter.was_cut.is_set(),
        "no field failed": not summary.failures and not summary.refused,
        "every field is on record, none with an error": _on_record(disturbed) == (n_fields, 0),
        "every field has one row": _rows(disturbed) == n_fields,
        "every byte is that of the undisturbed run": _contents(plain) == _contents(disturbed),
    }
    for what, holds in checks.items():
        print(f"{'yes' if holds else 'NO '}  {what}")
    return all(checks.values())


def _start_cluster(link: Link, folder: Path, timeout: str | None, stack: ExitStack) -> str:
    """Start a scheduler and two workers, one of them behind the link; return the scheduler's address."""
    file = folder / "scheduler.json"
    environment = os.environ | ({"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": timeout} if timeout else {})
    dask = [sys.executable, "-m", "dask"]
    quiet = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
    worker = [*dask, "worker", "--nthreads", "2", "--local-directory", str(folder), *quiet]
    commands = {
        "scheduler": [*dask, "scheduler", "--host", link.here, "--port", "0", *quiet],
        "worker here": [*worker, "--host", link.here],
        "worker there": ["ip", "netns", "exec", link.namespace, *worker, "--host", link.there],
    }
    started = {
        name: stack.enter_context(_process(command, folder / f"{name}.log", environment))
        for name, command in commands.items()
    }
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        dead = [name for name, process in started.items() if process.poll() is not None]
        if dead:
            raise RuntimeError(f"{dead[0]} has ended: {(folder / f'{dead[0]}.log').read_text()}")
        if file.exists():
            address: str = json.loads(file.read_bytes())["address"]
            with Client(address, timeout=START_S) as client:
                if _n_workers(client) == 2:
                    return address
        time.sleep(LOOK_S)
    raise RuntimeError(f"no cluster within {START_S} s")


@contextmanager
def _process(command: list[str], log: Path, environment: dict[str, str]) -> "Iterator[subprocess.Popen[bytes]]":
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True, cwd=log.parent
        )
        try:
            yield process
        finally:
            # A group of its own: a worker has a process beside it that starts it again.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _n_workers(client: Client) -> int:
    return len(client.scheduler_info(n_workers=-1)["workers"])


def _times_done(plate: Path) -> Counter[str]:
    """How often each unit was done, by the workers' own logs."""
    logs = (beside(plate) / "logs").glob("run-*.jsonl")
    return Counter(json.loads(line)["unit"] for log in logs for line in log.read_text().splitlines())


def _on_record(plate: Path) -> tuple[int, int]:
    journal = open_journal(plate, "run")
    records = journal.read() if journal else {}
    return len(records), sum(record.failed for record in records.values())


def _rows(plate: Path) -> int:
    fields = read_table(plate, "fields")
    return len(fields[fields["error"] == ""].drop_duplicates(["well", "field"])) if fields["error"].eq("").all() else 0


def _contents(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def _free_subnet() -> IPv4Network:
    listed = subprocess.run(
        ["ip", "-json", "route", "show", "table", "all"], check=True, capture_output=True, timeout=10
    )
    routes = [
        route["dst"] for route in json.loads(listed.stdout) if route["dst"] != "default" and ":" not in route["dst"]
    ]
    return next(net for net in SUBNETS if not any(net.overlaps(ip_network(route)) for route in routes))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10)


def _give_up(*_: object) -> None:
    raise TimeoutError("the time limit has passed, or someone has ended this")


if __name__ == "__main__":
    main()
