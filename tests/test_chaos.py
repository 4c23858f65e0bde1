"""Workers, scheduler and client of a campaign are killed at random; `benchmarks/chaos.py` does it at full size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "chaos.py"


@pytest.mark.slow
def test_a_campaign_that_is_killed_at_random_ends_as_if_nothing_had_happened() -> None:
    small = ["--kills", "8", "--plates", "2", "--wells", "2", "--fields", "3", "--size", "96"]
    run = subprocess.run([sys.executable, str(BENCHMARK), *small], stdout=subprocess.PIPE, text=True, check=False)
    tally = json.loads(run.stdout)
    assert sum(tally["kills"].values()) == 8
    assert tally["fields"] == tally["campaigns"] * 2 * 2 * 3 * 2  # plates, wells, fields, stages
    assert (tally["lost"], tally["failed"]) == (0, 0)
    assert (tally["differing_files"], tally["left_over"]) == ([], [])
    assert tally["clean"]
    assert run.returncode == 0
