"""Start a Dask cluster that uses the machine without oversubscribing it."""

from collections.abc import Iterator
from contextlib import contextmanager

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster

from artifact_mask.config import ClusterConfig

MAX_DEFAULT_WORKERS = 8
TASKS_PER_WORKER = 2
"""So that one waits for the disk while the other computes."""

_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1024**3), "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2)}
"""glibc keeps the megabytes of a field's buffers for the next field instead of fetching them from the system again."""


@contextmanager
def start_cluster(config: ClusterConfig) -> Iterator[Client]:
    """Run a local cluster of processes and yield its client; both are closed at the end.

    Notes
    -----
    Each worker computes with its share of the cores. The scheduler and the dashboard listen on the loopback address
    only: whoever reaches a scheduler can run code.
    """
    n_workers = config.workers or min(CPU_COUNT, MAX_DEFAULT_WORKERS)
    n_threads = config.threads_per_worker or max(1, CPU_COUNT // n_workers)
    threads = {f"{name}_NUM_THREADS": str(n_threads) for name in ("OMP", "MKL", "OPENBLAS")}
    settings = {
        "distributed.nanny.pre-spawn-environ": threads | _KEEP_MEMORY,
        # One retry: a unit that kills its worker is split, so that the culprit stands alone soon.
        "distributed.scheduler.allowed-failures": 1,
        "distributed.comm.timeouts.connect": "60s",
        # Every 10 ms, as is Dask's default, the dashboard's profile costs a tenth of a worker's time.
        "distributed.worker.profile.interval": "100ms",
        # Ctrl-C reaches every process of a terminal; the workers leave it to the one that started them.
        "distributed.worker.preload": ["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=TASKS_PER_WORKER,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": config.dashboard},
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
