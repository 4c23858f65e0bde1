"""Put a model on every worker, once."""

from collections.abc import Callable
from typing import Any

from distributed import Client, Worker, WorkerPlugin, get_worker


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
