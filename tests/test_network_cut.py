"""A worker that is cut off from its scheduler for a while, by a real network: see ``benchmarks/network_cut.py``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "network_cut.py"
LIMIT_S = 240


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    """Skip where no network namespace can be made."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need Linux and root")
    if shutil.which("ip") is None:
        pytest.skip("the command `ip` (iproute2) is not here")
    name = f"artmask-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no network namespace can be made here: {made.stderr.strip()}")
    subprocess.run(["ip", "netns", "delete", name], check=True)


def cut_network(*options: str) -> str:
    """Run the script on 24 small fields; return what it printed."""
    command = [sys.executable, str(SCRIPT), "--wells", "6", "--size", "540", "--limit", str(LIMIT_S), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S + 30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("how", ["drop", "down"])
def test_a_worker_cut_off_for_seconds_goes_on_where_it_was(how: str) -> None:
    printed = cut_network("--seconds", "5", "--how", how)
    assert "units done twice: 0" in printed
    assert "has 1 workers" not in printed


@pytest.mark.cluster
@pytest.mark.slow
def test_units_of_a_worker_that_is_given_up_are_done_by_another() -> None:
    # Eleven seconds are the least that Dask takes.
    printed = cut_network("--seconds", "40", "--timeout", "11s")
    assert "has 1 workers" in printed
    assert "units done twice: 0" not in printed
