"""The command line's manners: examples that work, plans that write nothing, JSON, and errors that suggest."""

import json
import shlex
import shutil
from dataclasses import replace

import pytest
import typer
from commands import artmask
from exports import CHANNELS, make_plate, write_export

from artifact_mask.config import ClusterConfig, IngestConfig, LabelConfig, RunConfig
from artifact_mask.engine.journal import hold_plate
from artifact_mask.errors import ConfigError, LeaseError, PlateError
from artifact_mask.frozen import load_config
from artifact_mask.metadata import Field, Well
from artifact_mask.workflows.controls import find_controls
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.plan import plan
from artifact_mask.workflows.run import run
from artmask.app import app
from artmask.examples import EXAMPLES

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
COMMANDS = typer.main.get_command(app)


def flatten(group, path=()):
    """All commands, by their names as one types them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from flatten(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """Plate of 2 wells x 2 fields that has been ingested, with its export beside it."""
    folder = tmp_path_factory.mktemp("manners")
    described = make_plate(wells=[(2, 3), (2, 4)], channels=CHANNELS[:2])
    export = write_export(folder / "export", described)
    ingest(IngestConfig(exports=export, dest=folder / "plate.zarr", cluster=CLUSTER))
    return folder / "plate.zarr"


def test_every_command_has_examples_and_no_example_is_of_another():
    assert dict(flatten(COMMANDS)).keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_understood_and_shown(name):
    command = dict(flatten(COMMANDS))[name]
    for example in EXAMPLES[name]:
        start = ["artmask", *name.split()]
        words = shlex.split(example)
        assert words[: len(start)] == start
        command.make_context(name, words[len(start) :])  # raises if there is no such option
        assert example in command.epilog


@pytest.mark.parametrize("name", [name for name, _ in flatten(COMMANDS) if name not in ("demo", "view")])
def test_every_command_with_a_result_prints_json(name):
    assert "as_json" in {parameter.name for parameter in dict(flatten(COMMANDS))[name].params}


def test_a_plan_writes_nothing_and_says_what_would_be_done(plate):
    before = contents(plate.parent)
    export = plate.with_name("export")
    planned = {
        "again": plan(IngestConfig(exports=export, dest=plate)),
        "elsewhere": plan(IngestConfig(exports=export, dest=plate.with_name("other.zarr"))),
        "run": plan(RunConfig(plates=plate)),
        "label": plan(LabelConfig(plates=plate)),
    }
    assert contents(plate.parent) == before
    assert {name: (one.plates[0].n_fields, one.n_left) for name, one in planned.items()} == {
        "again": (4, 0),
        "elsewhere": (4, 4),
        "run": (4, 4),
        "label": (4, 4),
    }
    assert planned["again"].bytes_to_write == 0
    assert planned["elsewhere"].plates[0].pixel_bytes == 4 * 2 * 64 * 64 * 2
    assert planned["run"].plates[0].pixel_bytes == 4 * 64 * 64 * 2
    assert planned["run"].fits
    assert planned["run"].seconds > 0


def test_a_plan_names_what_has_changed(plate, tmp_path):
    copy = tmp_path / "plate.zarr"
    for suffix in ("", ".artmask"):
        shutil.copytree(f"{plate}{suffix}", f"{copy}{suffix}")
    run(RunConfig(plates=copy, cluster=CLUSTER))
    assert plan(RunConfig(plates=copy)).n_left == 0
    (changed,) = plan(RunConfig(plates=copy, threshold=0.77)).plates
    assert changed.n_left == 4
    assert [change.split(":")[0] for change in changed.changes] == ["threshold"]


def test_a_plan_ends_with_the_error_that_the_work_would_end_with(plate):
    with pytest.raises(PlateError, match="Did you mean 'Brightfield'"):
        plan(RunConfig(plates=plate, channel="Brightfeld"))
    with pytest.raises(ConfigError, match=r"has no option 'memory_limt'. Did you mean 'memory_limit'\?"):
        plan(RunConfig(plates=plate, cluster={"options": {"memory_limt": "2GB"}}))


def test_a_plan_of_a_plate_that_is_in_use_is_refused(plate, tmp_path):
    with hold_plate(plate, "run"), pytest.raises(LeaseError, match="in use by another run"):
        plan(RunConfig(plates=plate))


def test_time_on_a_cluster_of_unknown_size_is_not_guessed(plate):
    planned = plan(RunConfig(plates=plate, cluster={"kind": "tcp://10.0.0.1:8786"}))
    assert planned.seconds is None


def test_dry_run_prints_one_json_document(plate):
    result = artmask("run", plate, "--dry-run", "--json")
    assert result.returncode == 0
    document = json.loads(result.stdout)
    assert document["n_left"] == 4
    assert document["plates"][0]["plate"] == str(plate)
    said = artmask("run", plate, "--dry-run")
    assert "Nothing was written" in said.stdout
    assert str(plate) in said.stdout  # not cut, though it is piped
    assert "\x1b" not in said.stdout


def test_results_and_errors_are_one_json_document(plate):
    result = artmask("info", plate, "--json")
    document = json.loads(result.stdout)
    assert document["ngff"] == "0.5"
    assert document["acquisitions"][0]["channels"][0]["name"] == "Brightfield"
    again = artmask("ingest", plate.with_name("export"), plate, "--json")
    assert json.loads(again.stdout) | {"seconds": 0} == {
        "n_fields": 4,
        "n_resumed": 4,
        "failures": [],
        "refused": {},
        "problems": [],
        "outputs": json.loads(again.stdout)["outputs"],
        "seconds": 0,
        "exit_code": 0,
    }
    failed = artmask("run", plate.with_name("plat.zarr"), "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["kind"] == "PlateError"
    assert "Did you mean 'plate.zarr'?" in json.loads(failed.stdout)["error"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"fill": "medain"}, "median"),
        ({"stain_threshold": "otzu"}, "otsu"),
        ({"cluster": {"kind": "slrum"}}, "slurm"),
        ({"treshold": 0.3}, "threshold"),
        ({"cluster": {"wokers": 3}}, "workers"),
    ],
)
def test_wrong_values_and_keys_name_the_nearest(given, meant):
    with pytest.raises(ConfigError, match=f"Did you mean '{meant}'"):
        load_config(RunConfig, None, {"plates": ["p.zarr"], **given})


@pytest.mark.parametrize(("control", "meant"), [("Compund=DMSO", "Compound"), ("Compound=DSMO", "DMSO")])
def test_controls_name_the_nearest(tmp_path, control, meant):
    described = make_plate()
    (acquisition,) = described.acquisitions
    well = Well(2, 3, (Field(0, 1, 0, 0),), {"Compound": "DMSO"})
    treated = replace(described, acquisitions=(replace(acquisition, wells=(well,)),))
    with pytest.raises(ConfigError, match=rf"Did you mean '{meant}'\?$"):
        find_controls(treated, [control])
