"""Clusters of hosts that are reached over SSH."""

import asyncio
import json
import shlex
import sys
from collections import deque
from contextlib import ExitStack, suppress
from typing import Any

import dask
from distributed import Scheduler
from distributed.deploy.spec import ProcessInterface, SpecCluster

from artifact_mask.config import ClusterConfig
from artifact_mask.engine.machine import (
    DEATH_TIMEOUT_S,
    LOOPBACK_PORT,
    VERSION,
    WORKER_SETTINGS,
    Machine,
    Share,
    nanny_options,
    required,
    share,
    worker_environment,
)
from artifact_mask.engine.security import TLS_OPTIONS, cluster_security, tls_settings
from artifact_mask.errors import ClusterError, ConfigError

_CONNECT = {"username", "port", "client_keys", "known_hosts"}
_COMMAND = """\
read -r DASK_INTERNAL_INHERIT_CONFIG
read -r specification
export DASK_INTERNAL_INHERIT_CONFIG {exported}
exec 3<&0
{{ cat <&3; kill $$; }} >/dev/null 2>&1 &
exec {python} -m distributed.cli.dask_spec {scheduler} --spec "$specification" </dev/null 3<&-
"""
"""The first line is Dask's configuration, with the credentials: a variable that its processes look for, and nobody else
sees. The end of the input, as when this process dies, ends the workers: not every SSH server passes signals on."""

_CLOSE_TIMEOUT_S = 10


def ssh_options() -> set[str]:
    """Return the options of an SSH cluster."""
    required("asyncssh", "ssh")
    return {"hosts", "python", "interface", "memory_limit", "local_directory", *_CONNECT, *TLS_OPTIONS}


def start_ssh(config: ClusterConfig, options: dict[str, Any], stack: ExitStack) -> SpecCluster:
    """Start the scheduler here and workers on the hosts; they end when the stack is left.

    Notes
    -----
    The hosts must reach this one: ``interface`` says through which network.
    """
    hosts = options.pop("hosts", None)
    hosts = [host.strip() for host in hosts.split(",")] if isinstance(hosts, str) else hosts
    if not hosts:
        raise ConfigError("ssh: name the hosts, such as --cluster-option hosts=node1,node2.")
    files = {name: options.pop(name) for name in TLS_OPTIONS if name in options}
    security = None if config.insecure else cluster_security(files)
    interface = options.pop("interface", None)
    connect = {name: options.pop(name) for name in _CONNECT & set(options)}
    python = options.pop("python", sys.executable)
    scheduler = {
        "protocol": "tls://" if security else "tcp://",
        "security": security,
        "interface": interface,
        "port": 0,
        "dashboard": config.dashboard,
        "dashboard_address": LOOPBACK_PORT,
    }
    workers = {
        f"{number}-{host}": {
            "cls": HostWorkers,
            "options": {
                "host": host,
                "connect": connect,
                "python": python,
                "workers": count,
                "threads": config.threads_per_worker,
                "options": {"interface": interface, **options},
                "credentials": tls_settings(security) if security else {},
            },
        }
        for number, (host, count) in enumerate(zip(hosts, _divided(config.workers, len(hosts)), strict=True))
        if count != 0
    }
    cluster = SpecCluster(
        workers=workers,
        scheduler={"cls": Scheduler, "options": scheduler},
        security=security,
        silence_logs="CRITICAL",
        name="artmask-ssh",
    )
    stack.enter_context(cluster)
    return cluster


class HostWorkers(ProcessInterface):
    """The worker processes of one host, divided there as on this machine.

    Parameters
    ----------
    scheduler
        Its address.
    host
        Name or address.
    connect
        Keywords of :func:`asyncssh.connect`.
    python
        The host's Python, in an environment with artmask.
    workers, threads
        What was asked for; None to choose.
    options
        Further keywords of :class:`distributed.Nanny`.
    credentials
        Dask's configuration for TLS. It is sent through the connection, so that it is in no file and no command line.

    Notes
    -----
    Dask's own SSH cluster has no way to hand over temporary credentials, and no shares or GPUs of a host.
    """

    def __init__(
        self,
        scheduler: str,
        *,
        host: str,
        connect: dict[str, Any],
        python: str,
        workers: int | None,
        threads: int | None,
        options: dict[str, Any],
        credentials: dict[str, Any],
        name: str,
    ) -> None:
        super().__init__(scheduler=scheduler, name=name)  # type: ignore[no-untyped-call]
        self._scheduler = scheduler
        self._name = name
        self._host = host
        self._connect = connect
        self._python = python
        self._workers = workers
        self._threads = threads
        self._options = options
        self._credentials = credentials
        self._tail: deque[str] = deque(maxlen=20)
        self._connection: Any = None
        self._process: Any = None
        self._drain: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ask the host what it has, and start its workers."""
        asyncssh = required("asyncssh", "ssh")
        try:
            self._connection = await asyncssh.connect(self._host, **self._connect)
            machine = await self._ask()
            part = share(machine, self._workers, self._threads)
            await self._launch(machine, part)
        except (OSError, asyncssh.Error) as error:
            raise ClusterError(f"{self._host} cannot be reached over SSH: {error}") from error
        await super().start()  # type: ignore[no-untyped-call]

    async def _ask(self) -> Machine:
        answer = await self._connection.run(f"{shlex.quote(self._python)} -m artifact_mask.engine.machine")
        if answer.exit_status != 0:
            raise ClusterError(
                f"{self._host}: {self._python} has no artmask {VERSION} "
                f"(the option `python` names another): {str(answer.stderr).strip()[-500:]}"
            )
        found = json.loads(answer.stdout)
        return Machine(**{**found, "gpus": tuple(found["gpus"])})

    async def _launch(self, machine: Machine, part: Share) -> None:
        specs = {}
        for i in range(part.workers):
            gpu = machine.gpus[i % len(machine.gpus)] if machine.gpus else None
            opts = nanny_options(part, gpu) | self._options
            opts |= {"name": f"{self._name}-{i}", "death_timeout": DEATH_TIMEOUT_S, "dashboard_address": LOOPBACK_PORT}
            specs[str(i)] = {"cls": "distributed.Nanny", "opts": opts}
        exported = " ".join(f"{name}={value}" for name, value in worker_environment(part.threads).items())
        command = _COMMAND.format(python=shlex.quote(self._python), scheduler=self._scheduler, exported=exported)
        self._process = await self._connection.create_process(f"exec sh -c {shlex.quote(command)}")
        settings = dask.config.serialize(WORKER_SETTINGS | self._credentials)
        self._process.stdin.write(f"{settings}\n{json.dumps(specs)}\n")
        async for line in self._process.stderr:
            self._tail.append(line)
            if "worker at" in line:
                # Whoever stops reading stops those who write.
                self._drain = asyncio.create_task(self._read_on())
                return
        raise ClusterError(f"{self._host}: no worker could be started there:\n{''.join(self._tail).strip()}")

    async def _read_on(self) -> None:
        async for line in self._process.stderr:
            self._tail.append(line)

    async def close(self) -> None:
        """End the workers, and the connection."""
        if self._process is not None:
            with suppress(OSError):
                self._process.stdin.write_eof()
                await asyncio.wait_for(self._process.wait_closed(), _CLOSE_TIMEOUT_S)
        if self._connection is not None:
            self._connection.close()
            await self._connection.wait_closed()
        if self._drain is not None:
            await self._drain
        await super().close()  # type: ignore[no-untyped-call]


def _divided(workers: int | None, hosts: int) -> list[int | None]:
    if workers is None:
        return [None] * hosts
    return [workers // hosts + (number < workers % hosts) for number in range(hosts)]
