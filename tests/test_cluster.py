import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import pytest
from clusters import free_port, squares, until
from distributed import Client, LocalCluster
from distributed.comm.core import CommClosedError
from distributed.security import Security
from pydantic import ValidationError

from artifact_mask.config import ClusterConfig
from artifact_mask.engine import cluster as cluster_module
from artifact_mask.engine import jobs
from artifact_mask.engine.cluster import start_cluster
from artifact_mask.engine.machine import MEMORY_PER_WORKER, Machine, share, visible_gpus
from artifact_mask.engine.placement import require_version, task_resources, worker_threads
from artifact_mask.engine.security import is_loopback, write_credentials
from artifact_mask.errors import ClusterError, ConfigError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
AMPLE = 64 * 1024**3


def local(**values: Any) -> ClusterConfig:
    return ClusterConfig(**{"workers": 1, "threads_per_worker": 1, "dashboard": False, **values})


@contextmanager
def running(*arguments: object) -> Iterator[None]:
    command = [sys.executable, "-m", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def scheduler(*workers: list[str], protocol: str = "tcp", tls: tuple[object, ...] = ()) -> Iterator[str]:
    """Run ``dask scheduler`` and some ``dask worker``; yields the address."""
    address = f"{protocol}://127.0.0.1:{free_port()}"
    pages = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0", *tls)
    with ExitStack() as stack:
        stack.enter_context(running("distributed.cli.dask_scheduler", "--host", address, *pages))
        for options in workers:
            where = ("--host", "127.0.0.1", "--nworkers", "1", "--nthreads", "2", *pages)
            stack.enter_context(running("distributed.cli.dask_worker", address, *where, *options))
        yield address


# What the configuration accepts


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "slrum"}, "Did you mean 'slurm'"),
        ({"kind": "tcp://somewhere"}, "must be the address of a scheduler"),
        ({"kind": "http://somewhere:80"}, "there is no cluster"),
        ({"kind": "ssh", "min_workers": 1, "workers": 2}, "leave min_workers away"),
        ({"kind": "tls://somewhere:8786", "min_workers": 1, "workers": 2}, "leave min_workers away"),
        ({"min_workers": 3, "workers": 2}, "needs workers, and at least as many"),
        ({"min_workers": 3}, "needs workers, and at least as many"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ClusterConfig(**values)


def test_options_of_the_command_line_get_their_types_and_stay_when_read_again() -> None:
    given = {"a": "3", "b": "1.5", "c": "true", "d": "[x, y]", "e": "12:00:00", "f": "0123", "g": "gpu", "h": "{i: 1}"}
    config = ClusterConfig(options=given)
    typed = {"a": 3, "b": 1.5, "c": True, "d": ["x", "y"], "e": "12:00:00", "f": "0123", "g": "gpu", "h": {"i": 1}}
    assert config.options == typed
    assert ClusterConfig.model_validate_json(config.model_dump_json()) == config


# How a machine is shared


@pytest.mark.parametrize(
    ("cores", "gpus", "asked", "expected"),
    [
        (1, 0, (None, None), (1, 1)),
        (6, 0, (None, None), (6, 1)),
        (16, 0, (None, None), (8, 2)),
        (64, 0, (None, None), (16, 4)),
        (64, 0, (4, None), (4, 16)),
        (64, 0, (4, 2), (4, 2)),
        (2, 0, (5, None), (5, 1)),
        (32, 4, (None, None), (4, 8)),
        (32, 4, (2, None), (2, 16)),
    ],
)
def test_workers_and_threads_fill_a_machine(
    cores: int, gpus: int, asked: tuple[int | None, int | None], expected: tuple[int, int]
) -> None:
    part = share(Machine(cores, AMPLE, tuple(map(str, range(gpus)))), *asked)
    assert (part.workers, part.threads) == expected
    assert part.memory_bytes == AMPLE // part.workers


def test_little_memory_means_fewer_workers() -> None:
    assert share(Machine(8, 3 * MEMORY_PER_WORKER, ()), None, None).workers == 3
    assert share(Machine(8, MEMORY_PER_WORKER // 2, ()), None, None).workers == 1


@pytest.mark.parametrize(
    ("variable", "gpus"),
    [("0,1", ("0", "1")), ("GPU-8932f937,3", ("GPU-8932f937", "3")), ("", ()), ("-1", ()), ("2,-1,3", ("2",))],
)
def test_gpus_are_those_that_cuda_would_see(
    monkeypatch: pytest.MonkeyPatch, variable: str, gpus: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == gpus


def test_without_the_variable_gpus_are_those_that_the_driver_lists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == ()
    (tmp_path / "nvidia-smi").write_text('#!/bin/sh\necho "GPU 0: A"\necho "  MIG 1g.10gb"\necho "GPU 1: B"\n')
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert visible_gpus() == ("0", "1")


# On this machine


def test_workers_have_the_threads_of_the_configuration_whatever_the_shell_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    for threads in (3, 2):
        with start_cluster(local(threads_per_worker=threads)) as client:
            (found,) = client.run(lambda: [os.environ[name] for name in THREADS]).values()
            assert found == [str(threads)] * 3
            assert client.submit(worker_threads).result() == threads
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_each_worker_is_pinned_to_a_gpu_before_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8932f937")
    with start_cluster(local(workers=None)) as client:
        found = client.run(lambda: (os.environ["CUDA_VISIBLE_DEVICES"], "torch" in sys.modules)).values()
        assert sorted(found) == [("3", False), ("GPU-8932f937", False)]
        assert task_resources(client) == {"GPU": 0.5}
    with start_cluster(local(workers=2), use_gpus=False) as client:
        assert task_resources(client) is None


def test_the_number_of_workers_follows_the_work() -> None:
    def workers() -> int:
        return len(client.scheduler_info(n_workers=-1)["workers"])

    quick = dask.config.set({"distributed.adaptive.interval": "200ms"})
    with quick, start_cluster(local(workers=3, min_workers=1)) as client:
        assert workers() == 1
        futures = client.map(time.sleep, [0.2] * 100, pure=False)
        until(lambda: workers() == 3)
        client.cancel(futures)
        until(lambda: workers() == 1)


def test_clusters_leave_dasks_configuration_as_it_was() -> None:
    before = dask.config.get("distributed")
    with start_cluster(local()) as client:
        assert squares(client) == [n * n for n in range(1, 9)]
    assert dask.config.get("distributed") == before


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("local", "memory_limt", "local has no option 'memory_limt'. Did you mean 'memory_limit'"),
        ("slurm", "que", "slurm has no option 'que'. Did you mean 'queue'"),
        ("slurm", "cores", "slurm has no option 'cores'"),
        ("ssh", "host", "Did you mean 'hosts'"),
        ("tcp://127.0.0.1:8786", "queue", "has no option 'queue'"),
    ],
)
def test_an_option_that_a_cluster_does_not_have_is_named(kind: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said), start_cluster(ClusterConfig(kind=kind, options={name: 1})):
        pass


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [
        ("slurm", "dask_jobqueue", "jobqueue"),
        ("ssh", "asyncssh", "ssh"),
        ("kubernetes", "dask_kubernetes.operator", "kubernetes"),
        ("cuda", "dask_cuda", "cuda"),
    ],
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, kind: str, module: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(ConfigError, match=rf'pip install "artmask\[{extra}\]"'),
        start_cluster(ClusterConfig(kind=kind)),
    ):
        pass


# With dask-cuda's interface: the real package needs a GPU


class FakeCudaCluster(LocalCluster):
    """As dask-cuda's: pins by itself, and has no more workers than GPUs."""

    def __init__(self, CUDA_VISIBLE_DEVICES: object = None, device_memory_limit: object = None, **kwargs: Any) -> None:
        self.device_memory_limit = device_memory_limit
        super().__init__(**kwargs)

    def new_worker_spec(self) -> dict[Any, Any]:
        ((name, spec),) = super().new_worker_spec().items()
        return {name: {**spec, "options": {**spec["options"], "env": {"CUDA_VISIBLE_DEVICES": "0"}}}}


def test_dask_cuda_gets_one_worker_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_cuda", SimpleNamespace(LocalCUDACluster=FakeCudaCluster))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    config = local(kind="cuda", workers=None, threads_per_worker=2, options={"device_memory_limit": "0.5"})
    with start_cluster(config) as client:
        (worker,) = client.scheduler_info(n_workers=-1)["workers"].values()
        assert (worker["nthreads"], worker["resources"]) == (2, {"GPU": 1})
        assert client.cluster.device_memory_limit == 0.5
        assert client.submit(worker_threads).result() == 2
    with pytest.raises(ConfigError, match="3 workers need as many GPUs"), start_cluster(local(kind="cuda", workers=3)):
        pass


# Schedulers that run already


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.7:8786", "tcp://cluster.example.org:8786", "tcp://[2001:db8::1]:8786"]
)
def test_an_address_beyond_this_machine_without_tls_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="--insecure"), start_cluster(ClusterConfig(kind=address)):
        pass


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("node1", False),
    ],
)
def test_loopback_addresses_are_told_from_others(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs certificates"),
        ({"tls_ca_file": "ca.pem"}, "tls_ca_file and tls_cert"),
        ({"tls_ca_file": "nowhere.pem", "tls_cert": "nowhere.pem"}, "there is no file nowhere.pem"),
    ],
)
def test_tls_without_its_certificates_is_refused(options: dict[str, Any], said: str) -> None:
    with (
        pytest.raises(ConfigError, match=said),
        start_cluster(ClusterConfig(kind="tls://10.0.0.7:8786", options=options)),
    ):
        pass


def test_a_scheduler_that_is_not_there_is_an_error_soon() -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with (
        pytest.raises(ClusterError, match=f"{address} cannot be started or reached"),
        start_cluster(ClusterConfig(kind=address, options={"wait_s": 0.5})),
    ):
        pass


def test_a_scheduler_without_workers_is_an_error_that_says_so() -> None:
    with (
        scheduler() as address,
        pytest.raises(ClusterError, match=r"No worker of the cluster .* came within 3 s"),
        start_cluster(ClusterConfig(kind=address, options={"wait_s": 3})),
    ):
        pass


def test_tasks_that_compute_share_the_workers_with_a_gpu_and_leave_the_others_alone() -> None:
    def beside(_: int) -> int:
        """Return how many tasks of this worker run at this time."""
        import time

        from distributed import get_worker

        time.sleep(0.2)
        return len(get_worker().state.executing)

    with scheduler(["--resources", "GPU=1", "--name", "gpu"], ["--name", "cpu"]) as address:
        config = ClusterConfig(kind=address, threads_per_worker=3)
        with start_cluster(config) as client:
            client.wait_for_workers(2, timeout=30)
            assert task_resources(client) == {"GPU": 0.5}
            assert set(client.run(worker_threads).values()) == {3}
            names = {worker["name"]: where for where, worker in client.scheduler_info()["workers"].items()}
            futures = client.map(beside, range(8), resources=task_resources(client), pure=False)
            assert max(client.gather(futures)) == 2
            assert set(client.who_has(futures).values()) == {(names["gpu"],)}


def test_tls_reaches_a_scheduler_that_wants_it(tmp_path: Path) -> None:
    write_credentials(Security.temporary(), tmp_path)
    files = {name: str(tmp_path / name) for name in ("tls_ca_file", "tls_cert", "tls_key")}
    flags = ("--tls-ca-file", files["tls_ca_file"], "--tls-cert", files["tls_cert"], "--tls-key", files["tls_key"])
    with scheduler([], protocol="tls", tls=flags) as address:
        with start_cluster(ClusterConfig(kind=address, options=files)) as client:
            assert squares(client) == [n * n for n in range(1, 9)]
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_workers_with_another_version_of_artmask_are_refused(client: Client) -> None:
    with pytest.raises(ClusterError, match=r"and here is 0\.0\.1: install the same version on both"):
        client.run(require_version, "0.0.1")


def test_a_scheduler_that_dies_does_not_hold_up_the_end() -> None:
    with scheduler([]) as address, start_cluster(ClusterConfig(kind=address, threads_per_worker=1)) as client:
        client.shutdown()
        before = time.monotonic()
    assert time.monotonic() - before < 20


# What batch systems and Kubernetes are asked for


def asked(kind: str, **values: Any) -> dict[str, Any]:
    options = values.pop("options", {})
    config = ClusterConfig(kind=kind, **{"workers": 4, "threads_per_worker": 3, **values})
    return jobs.batch_arguments(config, options, jobs.site_defaults(kind))


@pytest.mark.parametrize(
    ("kind", "walltime", "written", "lifetime", "stagger"),
    [
        ("slurm", "00:30:00", "00:30:00", 1620, 90),
        ("pbs", "24:00:00", "24:00:00", 85800, 300),
        ("slurm", "2-00:00:00", "48:00:00", 172200, 300),
        ("sge", "0:01:00", "00:01:00", 30, 15),
        ("lsf", "10:30", "10:30", 37200, 300),
    ],
)
def test_workers_leave_before_their_wall_time_ends(
    kind: str, walltime: str, written: str, lifetime: int, stagger: int
) -> None:
    arguments = asked(kind, options={"walltime": walltime})
    assert arguments["walltime"] == written
    flags = " ".join(arguments["worker_extra_args"])
    assert f"--lifetime {lifetime}s --lifetime-stagger {stagger}s" in flags


@pytest.mark.parametrize("walltime", [43200, "12 hours", "12:00"])
def test_a_wall_time_that_yaml_spoiled_is_refused(walltime: object) -> None:
    with pytest.raises(ConfigError, match="YAML needs the quotes"):
        asked("slurm", options={"walltime": walltime})


def test_jobs_ask_for_the_cores_that_they_compute_with() -> None:
    one = asked("slurm")
    assert (one["cores"], one["processes"], one["memory"]) == (3, 1, "4GiB")
    two = asked("pbs", options={"processes": 2, "memory": "10GB", "job_script_prologue": ["module load cuda"]})
    assert (two["cores"], two["processes"], two["memory"]) == (6, 2, "10GB")
    assert two["job_script_prologue"][0] == "module load cuda"
    assert "export OMP_NUM_THREADS=3" in two["job_script_prologue"]


@pytest.mark.parametrize(
    ("kind", "options", "lines"),
    [
        (
            "pbs",
            {"queue": "long"},
            ["#PBS -q long", "#PBS -l select=1:ncpus=3:mem=4096MB", "#PBS -l walltime=24:00:00"],
        ),
        ("sge", {"queue": "long"}, ["#$ -q long", "#$ -l h_rt=24:00:00"]),
        ("lsf", {"queue": "long", "lsf_units": "mb"}, ["#BSUB -q long", "#BSUB -n 3", "#BSUB -W 24:00"]),
    ],
)
def test_scripts_of_other_batch_systems_ask_for_the_same(kind: str, options: dict[str, Any], lines: list[str]) -> None:
    arguments = asked(kind, options={**options, "walltime": "24:00:00"})
    of_cluster = {"silence_logs", "scheduler_options"}
    of_job = {name: value for name, value in arguments.items() if name not in of_cluster}
    script = jobs._batch_class(kind).job_cls("tls://127.0.0.1:8786", name="worker", **of_job).job_script()
    assert set(lines) <= set(script.splitlines())
    assert "export OMP_NUM_THREADS=3" in script
    # Of a flag that is given twice, the last counts.
    assert script.rindex("--nthreads 2") > script.rindex("--nthreads 3")


def test_jobs_with_a_gpu_have_one_worker_that_says_so() -> None:
    assert "--resources GPU=1" in " ".join(asked("slurm", options={"gpu": True})["worker_extra_args"])
    with pytest.raises(ConfigError, match="one worker a job"):
        asked("slurm", options={"gpu": True, "processes": 2})


def test_clusters_of_jobs_want_a_number_of_workers() -> None:
    with pytest.raises(ConfigError, match="--workers 40"):
        asked("slurm", workers=None)
    with pytest.raises(ConfigError, match="--workers 40"):
        jobs.kubernetes_arguments(ClusterConfig(kind="kubernetes", insecure=True), {})


def test_kubernetes_is_refused_until_it_is_said_that_pods_talk_in_the_clear() -> None:
    with pytest.raises(ConfigError, match="network policy"):
        jobs.kubernetes_arguments(ClusterConfig(kind="kubernetes", workers=2), {"image": "lab/artmask"})


def test_pods_get_the_cores_and_the_threads() -> None:
    config = ClusterConfig(kind="kubernetes", workers=2, threads_per_worker=3, insecure=True)
    arguments = jobs.kubernetes_arguments(config, {"image": "lab/artmask", "env": {"EXTRA": "1"}})
    assert arguments["n_workers"] == 2
    assert arguments["resources"]["requests"]["cpu"] == "3"
    assert arguments["env"]["OMP_NUM_THREADS"] == "3"
    assert arguments["env"]["EXTRA"] == "1"
    limits = {"limits": {"nvidia.com/gpu": 1}}
    on_gpus = jobs.kubernetes_arguments(config, {"image": "lab/artmask", "resources": limits})
    assert " ".join(on_gpus["worker_command"]).endswith("--resources GPU=1")


def test_kubernetes_takes_what_it_is_given() -> None:
    pytest.importorskip("dask_kubernetes")
    config = ClusterConfig(kind="kubernetes", workers=2, insecure=True)
    arguments = jobs.kubernetes_arguments(config, {"image": "lab/artmask"})
    assert {"image", "namespace", "resources", "env"} <= jobs.kubernetes_options()
    assert set(arguments) <= jobs.kubernetes_options() | {"n_workers", "worker_command", "quiet"}


def test_a_worker_that_its_nanny_does_not_start_again_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "REPLACE_AFTER_S", 0.5)
    with start_cluster(ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)) as client:
        client.wait_for_workers(2, timeout=30)
        nannies = client.cluster.workers
        lost = nannies[0]
        lost.auto_restart = False
        lost.process.on_exit = None  # what a death in the wrong moment comes to
        os.kill(lost.pid, signal.SIGKILL)
        until(lambda: lost not in client.cluster.workers.values() and len(nannies) == 2)
        client.wait_for_workers(2, timeout=30)
        assert squares(client) == [i * i for i in range(1, 9)]


def test_a_connection_that_breaks_while_the_cluster_is_used_is_told_as_a_lost_scheduler() -> None:
    with (
        pytest.raises(ClusterError, match="scheduler was lost"),
        start_cluster(ClusterConfig(workers=1, threads_per_worker=1, dashboard=False)),
    ):
        raise CommClosedError("stream is closed")
