"""What workers need: the same software, their number of threads, a model that is loaded once, tasks that fit them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from distributed import Client, Worker, WorkerPlugin, get_worker

from artifact_mask.engine.machine import GPU, TASKS_PER_WORKER, VERSION, thread_environment
from artifact_mask.errors import ClusterError


class LimitThreads(WorkerPlugin):
    """Worker plugin that says how many threads to compute with, for workers that somebody else started.

    Parameters
    ----------
    threads
        The number.
    """

    name = "artmask-threads"

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def setup(self, worker: Worker) -> None:
        """Put it where :func:`worker_threads` looks; called by Dask."""
        os.environ.update(thread_environment(self._threads))


def require_version(version: str) -> None:
    """Refuse to work, on a worker, for a client with another version of artmask.

    Raises
    ------
    ClusterError
        If this process has another version.
    """
    if version != VERSION:
        raise ClusterError(
            f"The workers have artmask {VERSION}, and here is {version}: install the same version on both."
        )


class LoadModel(WorkerPlugin):
    """Worker plugin that calls ``load`` when a worker starts; tasks get its result from :func:`worker_model`.

    Parameters
    ----------
    load
        Picklable; heavy imports belong inside of it, so that only workers pay for them.
    name
        Of the model: runs with different models may share a cluster.
    """

    def __init__(self, load: Callable[[], Any], name: str) -> None:
        self.name = _plugin_name(name)
        self._load = load
        self.model: Any = None

    def setup(self, worker: Worker) -> None:
        """Load the model; called by Dask."""
        self.model = self._load()


@contextmanager
def placed_model(client: Client, load: Callable[[], Any], name: str) -> Iterator[None]:
    """Keep a model on all workers, present and future; an error of ``load`` is raised here."""
    try:
        client.register_plugin(LoadModel(load, name))
        yield
    finally:
        # A scheduler that goes on would make every later worker load it; one that was lost forgets by itself.
        with suppress(Exception):
            if client.status == "running":
                client.unregister_worker_plugin(_plugin_name(name))


def worker_model(name: str) -> Any:
    """Return the model that :func:`placed_model` keeps on the worker that runs the calling task."""
    plugin = get_worker().plugins[_plugin_name(name)]
    assert isinstance(plugin, LoadModel)
    return plugin.model


def _plugin_name(name: str) -> str:
    return f"artmask-model-{name}"


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
