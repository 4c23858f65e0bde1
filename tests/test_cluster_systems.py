"""Clusters of a real batch system and over real SSH, both on this machine."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from clusters import listening, slurm, slurm_jobs, slurm_script, squares, ssh_server, until

from artifact_mask.config import ClusterConfig
from artifact_mask.engine.cluster import start_cluster
from artifact_mask.errors import ClusterError

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def _slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if shutil.which("slurmctld") is None or os.getuid() != 0:
        pytest.skip("needs Debian's slurm-wlm, and root")
    with slurm(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    if not (shutil.which("sshd") or Path("/usr/sbin/sshd").exists()):
        pytest.skip("needs Debian's openssh-server")
    pytest.importorskip("asyncssh")
    with ssh_server(tmp_path_factory.mktemp("ssh")) as options:
        yield {"hosts": "127.0.0.1", "interface": "lo", **options}


def slurm_config(folder: Path, **options: Any) -> ClusterConfig:
    where = {"interface": "lo", "memory": "1GiB", "shared_temp_directory": str(folder), "log_directory": str(folder)}
    return ClusterConfig(
        kind="slurm", workers=2, threads_per_worker=1, dashboard=False, options={**where, "wait_s": 60, **options}
    )


@contextmanager
def client_process(folder: Path, config: ClusterConfig) -> "Iterator[tuple[subprocess.Popen[bytes], str]]":
    """Run another process that has started a cluster; yields it and the address of the scheduler."""
    script = folder / "client.py"
    script.write_text(
        "import time\n"
        "from artifact_mask.config import ClusterConfig\n"
        "from artifact_mask.engine.cluster import start_cluster\n"
        f"with start_cluster(ClusterConfig.model_validate_json({config.model_dump_json()!r})) as client:\n"
        "    print(client.scheduler.address, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().decode().strip()
        finally:
            process.kill()


def command_lines() -> dict[int, str]:
    """Return the commands of all processes that run; zombies have none."""
    return {
        process.pid: " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"]
    }


@pytest.mark.usefixtures("_slurm")
def test_jobs_of_slurm_do_the_work_and_are_gone_at_the_end(tmp_path: Path) -> None:
    with start_cluster(slurm_config(tmp_path, walltime="1:00:00")) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        assert squares(client) == [n * n for n in range(1, 9)]
        client.wait_for_workers(2, timeout=30)
        script = slurm_script(slurm_jobs()[0])
        started = client.run(lambda: (os.environ["OMP_NUM_THREADS"], os.environ["SLURM_JOB_ID"])).values()
        slots = {worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()}
    assert "#SBATCH -t 01:00:00" in script
    assert "#SBATCH --cpus-per-task=1" in script
    assert "--lifetime 3240s --lifetime-stagger 180s" in script
    assert "PRIVATE KEY" not in script
    assert {threads for threads, _ in started} == {"1"}
    assert len({job for _, job in started}) == 2
    assert slots == {2}
    assert slurm_jobs() == []
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".artmask")] == []


@pytest.mark.usefixtures("_slurm")
def test_workers_in_jobs_listen_where_they_are_told_to(tmp_path: Path) -> None:
    with start_cluster(slurm_config(tmp_path)) as client:
        pids = client.run(lambda: (os.getpid(), os.getppid())).values()
        assert {address for pair in pids for pid in pair for address in listening(pid)} == {"127.0.0.1"}


@pytest.mark.usefixtures("_slurm")
def test_a_job_whose_time_is_up_is_replaced(tmp_path: Path) -> None:
    config = slurm_config(tmp_path, worker_extra_args=["--lifetime", "4s", "--lifetime-stagger", "0s"])
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}), start_cluster(config) as client:
        first = set(slurm_jobs())
        until(lambda: len(set(slurm_jobs()) - first) > 0)
        assert squares(client) == [n * n for n in range(1, 9)]
    assert slurm_jobs() == []


@pytest.mark.usefixtures("_slurm")
def test_what_sbatch_says_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(ClusterError, match="invalid partition specified"),
        start_cluster(slurm_config(tmp_path, queue="nowhere")),
    ):
        pass
    assert slurm_jobs() == []


@pytest.mark.usefixtures("_slurm")
def test_jobs_that_never_start_are_an_error_that_says_where_to_look(tmp_path: Path) -> None:
    config = slurm_config(tmp_path, job_extra_directives=["--begin=now+1hour"], wait_s=2)
    with pytest.raises(ClusterError, match="squeue"), start_cluster(config):
        pass
    assert slurm_jobs() == []


@pytest.mark.usefixtures("_slurm")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_jobs_end_when_the_client_is_stopped(tmp_path: Path, sent: signal.Signals) -> None:
    with client_process(tmp_path, slurm_config(tmp_path, death_timeout=3)) as (process, _):
        assert slurm_jobs() != []
        process.send_signal(sent)
        process.wait(30)
        if sent is signal.SIGINT:
            assert slurm_jobs() == []
        until(lambda: slurm_jobs() == [])


def test_hosts_over_ssh_do_the_work_and_nothing_is_left_there(ssh: dict[str, object]) -> None:
    config = ClusterConfig(kind="ssh", workers=2, threads_per_worker=1, dashboard=False, options=ssh)
    with start_cluster(config) as client:
        client.wait_for_workers(2, timeout=30)
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        assert squares(client) == [n * n for n in range(1, 9)]
        started = client.run(lambda: (os.getpid(), os.getppid(), os.environ["OMP_NUM_THREADS"])).values()
        pids = {pid for *pair, _ in started for pid in pair}
        settings = client.run(lambda: os.environ["DASK_INTERNAL_INHERIT_CONFIG"]).popitem()[1]
        commands = command_lines().values()
        assert {address for pid in pids for address in listening(pid)} == {"127.0.0.1"}
    assert {threads for *_, threads in started} == {"1"}
    assert "PRIVATE KEY" in dask.config.deserialize(settings)["distributed.comm.tls.worker.key"]
    assert not any(settings in command for command in commands)
    until(lambda: not pids & command_lines().keys())


def test_a_python_without_artmask_on_a_host_is_told(ssh: dict[str, object]) -> None:
    config = ClusterConfig(kind="ssh", dashboard=False, options={**ssh, "python": "/usr/bin/false"})
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1: /usr/bin/false has no artmask"), start_cluster(config):
        pass


def test_a_host_that_does_not_answer_is_told(ssh: dict[str, object]) -> None:
    config = ClusterConfig(kind="ssh", dashboard=False, options={**ssh, "port": 1})
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1 cannot be reached over SSH"), start_cluster(config):
        pass


def test_workers_on_hosts_end_when_the_client_is_killed(ssh: dict[str, object], tmp_path: Path) -> None:
    def workers() -> list[str]:
        return [command for command in command_lines().values() if address in command]

    config = ClusterConfig(kind="ssh", workers=1, dashboard=False, options=ssh)
    with client_process(tmp_path, config) as (process, address):
        assert workers() != []
        process.kill()
        process.wait(30)
        until(lambda: workers() == [])
