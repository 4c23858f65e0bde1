"""Clusters of jobs: batch systems (SLURM, PBS, SGE, LSF) and Kubernetes."""

import inspect
import re
import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask
from distributed.core import Status
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import SpecCluster

from artifact_mask.config import ClusterConfig
from artifact_mask.engine.machine import (
    DEATH_TIMEOUT_S,
    GPU,
    LOOPBACK_PORT,
    TASKS_PER_WORKER,
    WORKER_SETTINGS,
    required,
    worker_environment,
)
from artifact_mask.engine.security import TLS_OPTIONS, cluster_security, write_credentials
from artifact_mask.errors import ConfigError

DEFAULT_THREADS = 4
DEFAULT_MEMORY_GIB = 4
"""Of a worker: the two units that it has in hand take about 1.5 GB."""

_INHERITED = {"DASK_INTERNAL_INHERIT_CONFIG": dask.config.serialize(WORKER_SETTINGS)}
"""The variable in which Dask's processes look for settings."""

_OURS = {
    *("self", "scheduler", "name", "loop", "asynchronous", "n_workers", "job_cls", "scheduler_cls", "nanny", "host"),
    *("security", "protocol", "cores", "silence_logs", "dashboard_address", "config_name", "worker_command", "quiet"),
    *("create_mode", "shutdown_on_close", "jupyter"),
    # Old names, of which dask-jobqueue warns.
    *("extra", "job_extra", "env_extra", "header_skip"),
}


def batch_options(kind: str) -> set[str]:
    """Return the options of a batch system: those of its class in dask-jobqueue, less what we decide, and ours."""
    cluster = _batch_class(kind)
    return _parameters(*cluster.__mro__[:-1], *cluster.job_cls.__mro__[:-1]) | {"gpu", *TLS_OPTIONS}


def site_defaults(kind: str) -> dict[str, Any]:
    """Return the section of a batch system in Dask's configuration, where a site sets its defaults."""
    # The import brings dask-jobqueue's own.
    _batch_class(kind)
    section: dict[str, Any] = dask.config.get(f"jobqueue.{kind}")
    return section


def open_batch(config: ClusterConfig, options: dict[str, Any], stack: ExitStack) -> SpecCluster:
    """Start a scheduler here; the jobs that are submitted later are cancelled when the stack is left."""
    site = site_defaults(config.kind)
    files = {name: options.pop(name) for name in TLS_OPTIONS if name in options}
    folder = options.pop("shared_temp_directory", None) or site["shared-temp-directory"] or "~"
    arguments = batch_arguments(config, options, site)
    if not config.insecure:
        shared = stack.enter_context(TemporaryDirectory(prefix=".artmask-", dir=Path(folder).expanduser()))
        arguments["security"] = write_credentials(cluster_security(files), Path(shared))
    cluster_class = _batch_class(config.kind)
    cluster: SpecCluster = cluster_class(job_cls=_closing(cluster_class.job_cls), **arguments)
    stack.enter_context(cluster)
    return cluster


def batch_arguments(config: ClusterConfig, options: Mapping[str, Any], site: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords for dask-jobqueue.

    Parameters
    ----------
    config
        The cluster.
    options
        Its options, those for TLS left out.
    site
        What :func:`site_defaults` returns.

    Notes
    -----
    A job asks for the cores that its workers compute with; how many tasks a worker has in hand does not depend on
    them. A worker leaves before its wall time ends, so that no unit is cut off, and not all leave at once.
    """
    if config.workers is None:
        raise ConfigError(f"{config.kind}: say how many workers to ask for, such as --workers 40.")
    given = dict(options)
    processes = given.setdefault("processes", 1)
    threads = config.threads_per_worker or DEFAULT_THREADS
    walltime, lifetime, stagger = _times(given.pop("walltime", None) or site["walltime"], config.kind)
    flags = ["--nthreads", TASKS_PER_WORKER, "--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{stagger}s"]
    # TLS does not cover the workers' own pages.
    flags += ["--no-dashboard", "--dashboard-address", LOOPBACK_PORT]
    if given.pop("gpu", False):
        if processes != 1:
            raise ConfigError("gpu: one worker a job, and one GPU a worker; leave `processes` away.")
        flags += ["--resources", f"{GPU}=1"]
    flags += given.pop("worker_extra_args", None) or site["worker-extra-args"]
    before = given.pop("job_script_prologue", None) or site["job-script-prologue"]
    environment = worker_environment(threads) | _INHERITED
    return {
        "cores": threads * processes,
        "memory": site["memory"] or f"{DEFAULT_MEMORY_GIB * processes}GiB",
        "walltime": walltime,
        "death_timeout": DEATH_TIMEOUT_S,
        "silence_logs": "CRITICAL",
        **given,
        "worker_extra_args": [str(flag) for flag in flags],
        "job_script_prologue": [
            *([before] if isinstance(before, str) else before),
            *(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
        ],
        "scheduler_options": {
            **(given.get("scheduler_options") or site["scheduler-options"]),
            "dashboard": config.dashboard,
            "dashboard_address": LOOPBACK_PORT,
        },
    }


def kubernetes_options() -> set[str]:
    """Return the options of Kubernetes: those of the operator's ``KubeCluster``, less what we decide."""
    return _parameters(required("dask_kubernetes.operator", "kubernetes").KubeCluster) | {"name"}


def start_kubernetes(config: ClusterConfig, options: dict[str, Any], stack: ExitStack) -> Cluster:
    """Let Dask's operator start pods; they are deleted when the stack is left."""
    operator = required("dask_kubernetes.operator", "kubernetes")
    cluster: Cluster = stack.enter_context(operator.KubeCluster(**kubernetes_arguments(config, options)))
    if config.min_workers is not None:
        cluster.adapt(minimum=config.min_workers, maximum=config.workers)
    return cluster


def kubernetes_arguments(config: ClusterConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords for ``KubeCluster``.

    Raises
    ------
    ConfigError
        If it is not said that pods may talk to each other in the clear, or what they run.
    """
    if not config.insecure:
        raise ConfigError(
            "kubernetes: Dask's operator cannot encrypt the connections between pods: close the namespace to others "
            "with a network policy and say --insecure."
        )
    if config.workers is None:
        raise ConfigError("kubernetes: say how many workers to ask for, such as --workers 40.")
    if not {"image", "custom_cluster_spec"} & set(options):
        raise ConfigError("kubernetes: name an image with artmask in it: --cluster-option image=...")
    threads = config.threads_per_worker or DEFAULT_THREADS
    needs = {"cpu": str(threads), "memory": f"{DEFAULT_MEMORY_GIB}Gi"}
    resources = options.get("resources") or {"requests": needs, "limits": {"memory": needs["memory"]}}
    command = ["dask", "worker", "--nthreads", str(TASKS_PER_WORKER), "--death-timeout", str(DEATH_TIMEOUT_S)]
    if "nvidia.com/gpu" in resources.get("limits", {}):
        command += ["--resources", f"{GPU}=1"]
    return {
        "name": "artmask-{uuid}",
        "quiet": True,
        **options,
        "n_workers": config.min_workers or config.workers,
        "resources": resources,
        "worker_command": command,
        "env": worker_environment(threads) | _INHERITED | options.get("env", {}),
    }


def _batch_class(kind: str) -> Any:
    return getattr(required("dask_jobqueue", "jobqueue"), f"{kind.upper()}Cluster")


def _closing(job_class: type) -> type:
    """Return a class of jobs that tell that they are closed, as Dask asserts when the cluster is."""

    class ClosingJob(job_class):  # type: ignore[misc]
        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    return ClosingJob


def _parameters(*classes: type) -> set[str]:
    found = [p for each in classes for p in inspect.signature(each).parameters.values()]
    return {p.name for p in found if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} - _OURS


def _times(walltime: object, kind: str) -> tuple[str, int, int]:
    """Return the wall time as its batch system writes it, and a worker's lifetime and its spread in seconds."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?", str(walltime))
    if match is None or (match[4] is None and kind != "lsf"):
        # Unquoted, YAML reads 12:00:00 as 43200.
        raise ConfigError(
            f'walltime: {walltime!r} must be a text such as "12:00:00" or "2-00:00:00"; YAML needs the quotes.'
        )
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    hours += 24 * days
    total = 3600 * hours + 60 * minutes + seconds
    margin = min(600, max(60, total // 10), total // 2)
    text = f"{hours:02}:{minutes:02}" if kind == "lsf" else f"{hours:02}:{minutes:02}:{seconds:02}"
    return text, total - margin, margin // 2
