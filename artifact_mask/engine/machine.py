"""What a machine has, and how workers share it without oversubscribing it.

``python -m artifact_mask.engine.machine`` prints it: that is how the hosts of an SSH cluster are asked.
"""

import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT

from artifact_mask.errors import ConfigError

VERSION = version("artmask")

TASKS_PER_WORKER = 2
"""So that one waits for the disk while the other computes."""

GPU = "GPU"
"""The Dask resource of a worker that has a GPU: one a worker, which its tasks share."""

MEMORY_PER_WORKER = 3 * 1024**3 // 2
LOOPBACK_PORT = "127.0.0.1:0"
DEATH_TIMEOUT_S = 60
"""Workers whose scheduler was killed leave after so long."""

WORKER_SETTINGS: dict[str, Any] = {
    "distributed.comm.timeouts.connect": "60s",
    # Every 10 ms, as is Dask's default, the dashboard's profile costs a tenth of a worker's time.
    "distributed.worker.profile.interval": "100ms",
    # Ctrl-C reaches every process of a terminal; the workers leave it to the one that started them.
    "distributed.worker.preload": ["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
}
"""Dask's configuration of every worker that we start."""

_NVIDIA_SMI_TIMEOUT_S = 30


@dataclass(frozen=True)
class Machine:
    """What this process may use of a machine; control groups (containers, batch jobs) are respected.

    Attributes
    ----------
    cores
        Number of cores.
    memory_bytes
        Memory, in bytes.
    gpus
        Numbers or UUIDs of the GPUs, as in ``CUDA_VISIBLE_DEVICES``.
    """

    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Share:
    """Worker processes of one machine.

    Attributes
    ----------
    workers
        Number of processes.
    threads
        Threads that each computes with.
    memory_bytes
        Memory of each.
    """

    workers: int
    threads: int
    memory_bytes: int


def this_machine() -> Machine:
    """Return what this process may use of the machine that it runs on."""
    return Machine(CPU_COUNT, MEMORY_LIMIT, visible_gpus())


def visible_gpus() -> tuple[str, ...]:
    """Return the NVIDIA GPUs that a process started from here would see, without starting CUDA."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        names = [name.strip() for name in visible.split(",")]
        # CUDA itself stops at the first that is not one; -1 or an empty text is how GPUs are hidden.
        hidden = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
        return tuple(names[:hidden])
    if shutil.which("nvidia-smi") is None:
        return ()
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=_NVIDIA_SMI_TIMEOUT_S
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(str(i) for i in range(sum(line.startswith("GPU ") for line in listing.splitlines())))


def share(machine: Machine, workers: int | None, threads: int | None) -> Share:
    """Divide a machine between workers.

    Parameters
    ----------
    machine
        The machine.
    workers, threads
        What was asked for; None to choose: one worker a GPU; without GPUs one a core up to eight, and on larger
        machines one for every four cores, as far as the memory goes.
    """
    if workers is None:
        few = max(min(machine.cores, 8), machine.cores // 4)
        workers = len(machine.gpus) or max(1, min(few, machine.memory_bytes // MEMORY_PER_WORKER))
    return Share(workers, threads or max(1, machine.cores // workers), machine.memory_bytes // workers)


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables that limit the threads of what computes, torch included."""
    return {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}


def worker_environment(threads: int) -> dict[str, str]:
    """Return the variables that a worker has to be started with: NumPy and the C library look at them only then."""
    # glibc keeps the megabytes of a field's buffers for the next field instead of asking the system for them again.
    keep_memory = {"MALLOC_TRIM_THRESHOLD_": str(1024**3), "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2)}
    return thread_environment(threads) | keep_memory


def nanny_options(part: Share, gpu: str | None) -> dict[str, Any]:
    """Return what a worker of a machine is started with, as keywords of :class:`distributed.Nanny`.

    Parameters
    ----------
    part
        How the machine is divided.
    gpu
        The GPU that the worker is pinned to; None for none.

    Notes
    -----
    Dask sets ``env`` in the new process before torch can be imported there.
    """
    options: dict[str, Any] = {"nthreads": TASKS_PER_WORKER, "memory_limit": part.memory_bytes}
    if gpu is None:
        return options
    return options | {"env": {"CUDA_VISIBLE_DEVICES": gpu}, "resources": {GPU: 1}}


def required(module: str, extra: str) -> Any:
    """Import a package that only one kind of cluster needs.

    Raises
    ------
    ConfigError
        If it is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f'This cluster needs another package ({error}): pip install "artmask[{extra}]"') from error


if __name__ == "__main__":
    print(json.dumps(asdict(this_machine())))
