"""Ready the workers: the same software, the right number of threads, and a model on each, once."""

import os
from collections.abc import Callable
from typing import Any

from distributed import Client, Worker, WorkerPlugin, get_worker

import artifact_mask
from artifact_mask.engine.machine import GPU, TASKS_PER_WORKER, thread_environment
from artifact_mask.errors import ClusterError


class ReadyWorker(WorkerPlugin):
    """Worker plugin that refuses another version of artmask and, where told to, limits the threads.

    Parameters
    ----------
    threads
        Threads to compute with; None leaves what the worker was started with.

    Raises
    ------
    ClusterError
        On a worker with another version of artmask.
    """

    name = "artmask-ready"

    def __init__(self, threads: int | None = None) -> None:
        self._version = artifact_mask.__version__
        self._threads = threads

    def setup(self, worker: Worker) -> None:
        """Check and set; called by Dask."""
        if artifact_mask.__version__ != self._version:
            raise ClusterError(
                f"Worker {worker.address} has artmask {artifact_mask.__version__}, and here is {self._version}: "
                "install the same version on both."
            )
        if self._threads is not None:
            os.environ.update(thread_environment(self._threads))


class LoadModel(WorkerPlugin):
    """Worker plugin that calls ``load`` when a worker starts; tasks get its result from :func:`worker_model`.

    Parameters
    ----------
    load
        Picklable; heavy imports belong inside of it, so that only workers pay for them.
    """

    name = "artmask-model"

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load
        self.model: Any = None

    def setup(self, worker: Worker) -> None:
        """Load the model; called by Dask."""
        self.model = self._load()


def place_model(client: Client, load: Callable[[], Any]) -> None:
    """Load a model on all workers, present and future; an error of ``load`` is raised here."""
    client.register_plugin(LoadModel(load))


def worker_model() -> Any:
    """Return the model that :func:`place_model` put on the worker that runs the calling task."""
    plugin = get_worker().plugins[LoadModel.name]
    assert isinstance(plugin, LoadModel)
    return plugin.model


def worker_threads() -> int:
    """Return how many threads the calling worker may compute with.

    Notes
    -----
    Every worker has it in its environment: we set it, or who started the worker did. Dask's own default is 1.
    """
    # OpenMP allows a list, one number a level of nesting.
    return int(os.environ.get("OMP_NUM_THREADS", "1").split(",")[0])


def task_resources(client: Client) -> dict[str, float] | None:
    """Return what a task that computes must ask for, so that it gets to a worker with a GPU.

    Returns
    -------
    dict of str to float, or None
        A share of a GPU, such that as many tasks as a worker runs at a time use it together: one computes while the
        other reads and writes. None where no worker has a GPU.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if any(worker["resources"].get(GPU, 0) > 0 for worker in workers):
        return {GPU: 1 / TASKS_PER_WORKER}
    return None
