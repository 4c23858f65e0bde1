"""Work for a cluster, and SLURM and an SSH server of this machine alone: own folder, own ports, loopback addresses."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from distributed import Client

from artifact_mask.engine.journal import Unit
from artifact_mask.engine.stream import Work, stream

TIMEOUT_S = 30


def squares(client: Client) -> list[int]:
    """Stream eight units of one field, whose results are the squares of their columns."""

    def bind(unit: Unit) -> Callable[[], int]:
        return lambda: int(unit.well.split("/")[1]) ** 2

    works = [Work(Unit(f"B/{column}", (0,)), bind, f"square-{time.time_ns()}") for column in range(1, 9)]
    return sorted(outcome.receipt or 0 for outcome in stream(client, works))


def listening(pid: int) -> set[str]:
    """Return the addresses that a process listens on."""
    connections = psutil.Process(pid).net_connections(kind="inet")
    return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


def until(is_so: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """Run a controller and a node of four cores; ``SLURM_CONF`` leads the commands to them. Needs root."""
    host = socket.gethostname().split(".")[0]
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(
        f"""
        ClusterName=artmask
        SlurmctldHost={host}(127.0.0.1)
        SlurmctldPort={free_port()}
        SlurmdPort={free_port()}
        CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
        AuthType=auth/munge
        AuthInfo=socket={folder}/munge.socket
        SlurmUser=root
        SlurmdUser=root
        StateSaveLocation={folder}/state
        SlurmdSpoolDir={folder}/spool
        SlurmctldPidFile={folder}/slurmctld.pid
        SlurmdPidFile={folder}/slurmd.pid
        SlurmctldLogFile={folder}/slurmctld.log
        SlurmdLogFile={folder}/slurmd.log
        ProctrackType=proctrack/linuxproc
        TaskPlugin=task/none
        SelectType=select/cons_tres
        SelectTypeParameters=CR_Core
        SchedulerParameters=sched_interval=1,batch_sched_delay=0
        SlurmdParameters=config_overrides
        SwitchType=switch/none
        MpiDefault=none
        KillWait=2
        ReturnToService=2
        NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 State=UNKNOWN
        PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
        """.replace("        ", "")
    )
    os.environ["SLURM_CONF"] = str(conf)
    files = [f"--{name}={folder}/munge{end}" for name, end in (("pid-file", "d.pid"), ("log-file", "d.log"))]
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}"]
    try:
        with (
            _running([*munged, *files, f"--seed-file={folder}/munge.seed"], folder / "munged.out"),
            _running(["slurmctld", "-D", "-f", str(conf)], folder / "slurmctld.out"),
            _running(["slurmd", "-D", "-f", str(conf)], folder / "slurmd.out"),
        ):
            until(lambda: _output("sinfo", "--noheader", "--format=%T") == "idle")
            yield
    finally:
        del os.environ["SLURM_CONF"]


def slurm_jobs() -> list[str]:
    """Return the numbers of the jobs that wait or run."""
    return _output("squeue", "--noheader", "--states=PENDING,RUNNING", "--format=%A").split()


def slurm_script(job: str) -> str:
    """Return the script of a job."""
    return _output("scontrol", "write", "batch_script", job, "-")


@contextmanager
def ssh_server(folder: Path) -> Iterator[dict[str, object]]:
    """Run an SSH server that lets a new key in; yields the options to connect with."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port = free_port()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = shutil.which("sshd") or "/usr/sbin/sshd"
    with _running([server, "-D", "-e", "-f", str(folder / "sshd_config")], folder / "sshd.out"):
        until(lambda: _listens(port))
        yield {
            "username": getpass.getuser(),
            "port": port,
            "client_keys": [str(folder / "user")],
            "known_hosts": str(folder / "known"),
        }


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield
        finally:
            process.terminate()


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
