"""Start a Dask cluster, or connect to one: on this machine, in a batch system, over SSH, in Kubernetes."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import dask
from distributed import Client, LocalCluster, performance_report
from distributed.comm.core import CommClosedError
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import SpecCluster
from tornado.ioloop import PeriodicCallback

from artifact_mask.config import ClusterConfig
from artifact_mask.engine.jobs import batch_options, kubernetes_options, open_batch, start_kubernetes
from artifact_mask.engine.machine import (
    GPU,
    LOOPBACK_PORT,
    TASKS_PER_WORKER,
    VERSION,
    WORKER_SETTINGS,
    Share,
    nanny_options,
    required,
    share,
    this_machine,
    worker_environment,
)
from artifact_mask.engine.placement import LimitThreads, require_version
from artifact_mask.engine.security import TLS_OPTIONS, address_security
from artifact_mask.engine.ssh import ssh_options, start_ssh
from artifact_mask.errors import ArtmaskError, ClusterError, ConfigError, did_you_mean

_SETTINGS = {
    **WORKER_SETTINGS,
    # One retry: a unit that kills its worker is split, so that the culprit stands alone soon.
    "distributed.scheduler.allowed-failures": 1,
    # Only a few units are in flight at a time: whatever waits is a reason for another worker.
    "distributed.adaptive.target-duration": "100ms",
}
_WAIT_S = {"slurm": 600, "pbs": 600, "sge": 600, "lsf": 600, "kubernetes": 600}
_DEFAULT_WAIT_S = 60
REPLACE_AFTER_S = 10.0
SCHEDULER_LOST = (
    "The Dask scheduler was lost. What was finished is kept: start the cluster and run the same command again."
)
_LOOK_AT = {
    "slurm": "squeue, and the jobs' logs: slurm-*.out, or where the option log_directory says",
    "pbs": "qstat, and the jobs' logs: the option log_directory says where they are written",
    "sge": "qstat, and the jobs' logs: the option log_directory says where they are written",
    "lsf": "bjobs, and the jobs' logs: the option log_directory says where they are written",
    "ssh": "whether the hosts reach this one: the option interface says through which network",
    "kubernetes": "kubectl get pods",
}


@contextmanager
def start_cluster(config: ClusterConfig, *, use_gpus: bool = True) -> Iterator[Client]:
    """Start a cluster, or connect to a running one, and yield its client once a worker is there.

    Parameters
    ----------
    config
        Which cluster.
    use_gpus
        False for work that a GPU does not speed up: on this machine, workers are then chosen from the cores.

    Notes
    -----
    What was started is ended when the context is left. A cluster on this machine listens on the loopback address only;
    one beyond it uses TLS: whoever reaches a scheduler can run code. Dashboards are served on the loopback address.

    Raises
    ------
    ConfigError
        If an option is unknown, a package is missing, or a connection would leave this machine unencrypted.
    ClusterError
        If the cluster cannot be started or reached, no worker comes, or the scheduler is lost.
    """
    options = dict(config.options)
    wait_s = options.pop("wait_s", _WAIT_S.get(config.kind, _DEFAULT_WAIT_S))
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_SETTINGS))
        try:
            check_options(config.kind, options, known_options(config.kind, use_gpus=use_gpus))
            if "://" in config.kind:
                client = _connect(config, options, stack, timeout_s=wait_s)
            else:
                client = stack.enter_context(Client(_start(config, options, stack, use_gpus=use_gpus)))
            _ready(client, config, wait_s)
        except ArtmaskError:
            raise
        except Exception as error:
            # Whatever a batch system, a network or another library comes up with.
            raise ClusterError(f"The cluster {config.kind} cannot be started or reached: {error}") from error
        if config.performance_report is not None:
            stack.enter_context(performance_report(filename=str(config.performance_report)))
        try:
            yield client
        except CommClosedError as error:
            raise ClusterError(SCHEDULER_LOST) from error


def _connect(config: ClusterConfig, options: dict[str, Any], stack: ExitStack, *, timeout_s: float) -> Client:
    security = address_security(config.kind, options, insecure=config.insecure)
    client: Client = stack.enter_context(Client(config.kind, security=security, timeout=timeout_s))
    if config.threads_per_worker is not None:
        client.register_plugin(LimitThreads(config.threads_per_worker))
        stack.callback(_unlimit_threads, client)
    return client


def _unlimit_threads(client: Client) -> None:
    # The scheduler may be gone by then.
    with suppress(Exception):
        client.unregister_worker_plugin(LimitThreads.name)


def _start(config: ClusterConfig, options: dict[str, Any], stack: ExitStack, *, use_gpus: bool) -> Cluster:
    match config.kind:
        case "cuda" if use_gpus:
            return _start_cuda(config, options, stack)
        case "local" | "cuda":
            return _start_local(config, options, stack, use_gpus=use_gpus)
        case "ssh":
            return start_ssh(config, options, stack)
        case "kubernetes":
            return start_kubernetes(config, options, stack)
        case _:
            cluster = open_batch(config, options, stack)
            assert config.workers is not None
            # Between equal numbers, too: adapting submits another job for one that reached its time.
            return _scale(cluster, config.min_workers or config.workers, config.workers)


def _ready(client: Client, config: ClusterConfig, wait_s: float) -> None:
    try:
        client.wait_for_workers(1, timeout=wait_s)
    except TimeoutError as error:
        hint = _LOOK_AT.get(config.kind, "whether workers are started for that scheduler")
        raise ClusterError(
            f"No worker of the cluster {config.kind} came within {wait_s:g} s. Look at {hint}. "
            "The option wait_s sets how long to wait."
        ) from error
    client.run(require_version, VERSION)


def _start_local(config: ClusterConfig, options: dict[str, Any], stack: ExitStack, *, use_gpus: bool) -> Cluster:
    machine = this_machine() if use_gpus else replace(this_machine(), gpus=())
    part = share(machine, config.workers, config.threads_per_worker)
    stack.enter_context(_environment(part.threads))
    cluster = PinnedCluster(part, machine.gpus, **_on_this_machine(config), **options)
    stack.enter_context(cluster)
    return _scale(cluster, config.min_workers or part.workers, part.workers if config.min_workers else None)


def _start_cuda(config: ClusterConfig, options: dict[str, Any], stack: ExitStack) -> Cluster:
    cuda_class = required("dask_cuda", "cuda").LocalCUDACluster
    machine = this_machine()
    part = share(machine, config.workers, config.threads_per_worker)
    if part.workers > len(machine.gpus):
        raise ConfigError(
            f"cuda: {part.workers} workers need as many GPUs, and here are {len(machine.gpus)}. Check nvidia-smi "
            "and CUDA_VISIBLE_DEVICES."
        )
    stack.enter_context(_environment(part.threads))
    at_first = config.min_workers or part.workers
    # It pins by itself: to the GPU, and to the cores that are near it.
    cluster = cuda_class(n_workers=at_first, resources={GPU: 1}, **_on_this_machine(config), **options)
    stack.enter_context(cluster)
    return _scale(cluster, at_first, part.workers if config.min_workers else None)


def cuda_options(cuda_class: Callable[..., Cluster]) -> set[str]:
    """Return the options of dask-cuda's cluster, less what we decide."""
    ours = {"self", "n_workers", "threads_per_worker", "CUDA_VISIBLE_DEVICES", "protocol", "kwargs"}
    return set(inspect.signature(cuda_class).parameters) - ours


def _on_this_machine(config: ClusterConfig) -> dict[str, Any]:
    return {
        "threads_per_worker": TASKS_PER_WORKER,
        "processes": True,
        "host": "127.0.0.1",
        "dashboard_address": LOOPBACK_PORT,
        "scheduler_kwargs": {"dashboard": config.dashboard},
        "silence_logs": "CRITICAL",
    }


class PinnedCluster(LocalCluster):
    """Workers on this machine, each with a GPU of its own as far as there are any; more workers than GPUs share them.

    Parameters
    ----------
    part
        How the machine is divided.
    gpus
        Its GPUs.
    **options
        As for :class:`distributed.LocalCluster`.
    """

    def __init__(self, part: Share, gpus: tuple[str, ...], **options: Any) -> None:
        self._part = part
        self._gpus = gpus
        self._missing: set[Any] = set()
        super().__init__(n_workers=0, **options)  # type: ignore[no-untyped-call]
        self.periodic_callbacks["replace"] = PeriodicCallback(self._replace_lost, 1000 * REPLACE_AFTER_S)
        self.sync(self._watch)  # type: ignore[no-untyped-call]

    async def _watch(self) -> None:
        self.periodic_callbacks["replace"].start()

    async def _replace_lost(self) -> None:
        """Start another worker for one that has had no process for a while.

        A nanny does not start its worker again if that dies in the moment between its start and the nanny's notice.
        """
        missing = {name for name, nanny in self.workers.items() if not nanny.is_alive()}
        for name in missing & self._missing & self.worker_spec.keys():
            del self.worker_spec[name]
            self.worker_spec.update(self.new_worker_spec())
        if len(self.worker_spec.keys() & self.workers.keys()) < len(self.worker_spec):
            await self._correct_state()  # type: ignore[no-untyped-call]
        self._missing = missing

    def new_worker_spec(self) -> dict[Any, Any]:
        """Return name and specification of another worker; called by Dask."""
        taken = [spec["options"]["env"]["CUDA_VISIBLE_DEVICES"] for spec in self.worker_spec.values() if self._gpus]
        gpu = min(self._gpus, key=taken.count) if self._gpus else None
        ((name, spec),) = super().new_worker_spec().items()  # type: ignore[no-untyped-call]
        # What the user gave, such as a memory limit, is in `spec`.
        return {name: spec | {"options": nanny_options(self._part, gpu) | spec["options"]}}


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Have new workers of this process start with their variables, whatever the shell or an earlier cluster set."""
    chosen = worker_environment(threads)
    before = {name: os.environ.pop(name, None) for name in chosen}
    try:
        with dask.config.set({"distributed.nanny.pre-spawn-environ": chosen}):
            yield
    finally:
        # Dask sets them here to hand them down.
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _scale(cluster: SpecCluster, at_first: int, at_most: int | None) -> SpecCluster:
    """Ask for workers; where a most is given, let their number follow the work."""

    async def start() -> None:
        while len(cluster.plan) < at_first:
            cluster.worker_spec.update(cluster.new_worker_spec())
        await cluster._correct_state()

    # Unlike `cluster.scale`, this waits until they are started or submitted, and raises what goes wrong.
    cluster.sync(start)
    if at_most is not None:
        cluster.adapt(minimum=at_first, maximum=at_most)
    return cluster


def known_options(kind: str, *, use_gpus: bool) -> set[str]:
    """Return the options that a kind of cluster has, beside ``wait_s``.

    Raises
    ------
    ConfigError
        If a package is missing that it needs.
    """
    match kind:
        case "cuda" if use_gpus:
            return cuda_options(required("dask_cuda", "cuda").LocalCUDACluster)
        case "local" | "cuda":
            return {"memory_limit", "local_directory"}
        case "ssh":
            return ssh_options()
        case "kubernetes":
            return kubernetes_options()
        case address if "://" in address:
            return set(TLS_OPTIONS)
        case batch:
            return batch_options(batch)


def check_options(kind: str, options: Mapping[str, Any], known: set[str]) -> None:
    """Refuse options that a kind of cluster does not have.

    Raises
    ------
    ConfigError
        If there is one; the message names the nearest that it has.
    """
    known = known | {"wait_s"}
    for name in sorted(options.keys() - known):
        raise ConfigError(
            f"{kind} has no option {name!r}.{did_you_mean(name, known)} Known are {', '.join(sorted(known))}."
        )
