"""Clusters of jobs: batch systems (SLURM, PBS, SGE, LSF) and Kubernetes."""

import inspect
import re
import shlex
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
from distributed.deploy import Cluster

from artifact_mask.config import ClusterConfig
from artifact_mask.engine.machine import (
    DEATH_TIMEOUT_S,
    GPU,
    LOOPBACK_PORT,
    TASKS_PER_WORKER,
    required,
    thread_environment,
)
from artifact_mask.engine.security import TLS_OPTIONS, cluster_security, write_credentials
from artifact_mask.errors import ConfigError

DEFAULT_THREADS = 4
DEFAULT_MEMORY_GIB = 4
"""Of a worker: the two fields that it has in hand take about 1.5 GB."""

_OURS = {
    *("self", "scheduler", "name", "loop", "asynchronous", "n_workers", "job_cls", "scheduler_cls", "nanny", "host"),
    *("security", "protocol", "cores", "silence_logs", "dashboard_address", "config_name", "worker_command", "quiet"),
    *("job_kwargs", "base_class_kwargs", "kwargs", "create_mode", "shutdown_on_close", "jupyter"),
    # Old names, of which dask-jobqueue warns.
    *("extra", "job_extra", "env_extra", "header_skip"),
}


@dataclass(frozen=True)
class Lifetime:
    """When a worker leaves, in seconds after its start, and by how much each may differ."""

    seconds: int
    stagger: int


def batch_options(kind: str) -> set[str]:
    """Return the options of a batch system: those of its class in dask-jobqueue, less what we decide, and ours."""
    cluster = _batch_class(kind)
    return _parameters(*cluster.__mro__, *cluster.job_cls.__mro__) | {"gpu", *TLS_OPTIONS}


def start_batch(config: ClusterConfig, options: dict[str, Any], stack: ExitStack) -> Cluster:
    """Submit one job a worker; they are cancelled when the stack is left."""
    files = {name: options.pop(name) for name in TLS_OPTIONS if name in options}
    folder = options.pop("shared_temp_directory", None) or dask.config.get(f"jobqueue.{config.kind}.shared-temp-directory")
    arguments = batch_arguments(config, options, dask.config.get(f"jobqueue.{config.kind}"))
    if not config.insecure:
        shared = stack.enter_context(TemporaryDirectory(prefix=".artmask-", dir=folder or Path.home()))
        arguments["security"] = write_credentials(cluster_security(files), Path(shared))
    cluster = stack.enter_context(_batch_class(config.kind)(**arguments))
    workers, processes = arguments_workers(config), arguments["processes"]
    cluster.scale(workers)
    # Otherwise an error of the command that submits is only logged.
    cluster.sync(cluster._correct_state)
    # Between equal bounds, too: jobs that reached their time are replaced.
    cluster.adapt(minimum=max(workers, processes), maximum=max(config.workers or 1, processes))
    return cluster
