"""The command line: help at once, errors in one message, exit codes as documented."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from commands import artmask
from exports import make_plate, write_export

from artifact_mask import config as configurations
from artifact_mask.config import RunConfig
from artifact_mask.errors import ConfigError
from artifact_mask.frozen import load_config
from artmask.app import app

HEAVY = {
    "torch",
    "monai",
    "dask",
    "distributed",
    "zarr",
    "ome_zarr",
    "yaozarrs",
    "pandas",
    "pyarrow",
    "skimage",
    "scipy",
}


def test_help_imports_no_heavy_package():
    code = "import sys; from artmask.app import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {line.split(".")[0] for line in result.stdout.split()}
    assert "artmask" in imported
    assert not imported & HEAVY
    # 0.5 s is what a user bears to wait; this many modules take a fifth of a second.
    assert len(result.stdout.split()) < 900


@pytest.mark.parametrize("command", ["simulate", "ingest", "run", "status", "verify", "demo"])
def test_every_command_has_help(command):
    result = artmask(command, "--help")
    assert result.returncode == 0
    assert command in result.stdout


def test_version_is_printed():
    from artifact_mask import __version__

    assert artmask("--version").stdout.strip() == __version__


def test_wrong_usage_exits_with_2():
    assert artmask("run").returncode == 2
    assert artmask("no-such-command").returncode == 2


def test_error_is_one_message_without_traceback(tmp_path):
    result = artmask("ingest", tmp_path / "nowhere", tmp_path / "plate.zarr")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert "does not exist" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "plate.zarr").exists()


@pytest.mark.parametrize("command", ["run", "status", "verify"])
def test_something_that_is_no_plate_exits_with_1(tmp_path, command):
    result = artmask(command, tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert "neither a plate" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.parent.glob("*.artmask")) == []


def test_misspelt_key_in_a_configuration_file_names_the_known_ones(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("treshold: 0.5\n")
    result = artmask("run", tmp_path, "--config", config)
    assert result.returncode == 2
    assert "treshold" in result.stderr
    assert "threshold" in result.stderr.replace("treshold", "")


def test_options_override_the_configuration_file(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"threshold": 0.3, "min_object_px": 9, "cluster": {"workers": 3}}))
    given = {
        "plates": ["p.zarr", "s3://bucket/q.zarr"],
        "threshold": 0.7,
        "min_object_px": None,
        "cluster": {"workers": None, "dashboard": False},
    }
    settings = load_config(RunConfig, config, given)
    assert (settings.threshold, settings.min_object_px) == (0.7, 9)
    assert (settings.cluster.workers, settings.cluster.dashboard) == (3, False)
    # Absolute: a worker elsewhere starts in another folder.
    assert [str(plate) for plate in settings.plates] == [str(Path.cwd() / "p.zarr"), "s3://bucket/q.zarr"]


def test_value_out_of_range_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"^The configuration is wrong:\n  threshold: [^\n]*less than 1$"):
        load_config(RunConfig, None, {"plates": [tmp_path], "threshold": 2.0})


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [\n", "\x00"])
def test_configuration_file_that_is_no_mapping_is_refused(tmp_path, content):
    config = tmp_path / "run.yaml"
    config.write_text(content)
    with pytest.raises(ConfigError):
        load_config(RunConfig, config, {"plates": [tmp_path]})


def test_channel_names_must_look_like_number_and_name(tmp_path):
    result = artmask("ingest", tmp_path, tmp_path / "p.zarr", "--channel-name", "Brightfield")
    assert result.returncode == 2
    assert "1=Brightfield" in result.stderr


def ingest_command(folder):
    return [sys.executable, "-m", "artmask", "ingest", folder / "export", folder / "plate.zarr", "--workers", "1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_interrupted_command_says_so_and_goes_on_later(tmp_path, number):
    write_export(tmp_path / "export", make_plate(field_ids=range(1, 13)))
    command = ingest_command(tmp_path)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    seen = next(line for line in process.stderr if "dashboard" in line)
    assert "http://127.0.0.1" in seen
    process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in rest
    assert "Traceback" not in rest
    again = artmask(*command[3:])
    assert again.returncode == 0
    assert "12 fields" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "Missing argument"),
        (["run", "p.zarr", "--fil", "nan"], "--fill"),
        (["rnu"], "Did you mean 'run'?"),
        (["ingest", "e", "p.zarr", "--channel-name", "x"], "1=Brightfield"),
    ],
)
def test_wrong_usage_is_json_for_who_asked_for_json(arguments, said):
    result = artmask(*arguments, "--json")
    document = json.loads(result.stdout)
    assert (result.returncode, document["exit_code"], document["kind"]) == (2, 2, "UsageError")
    assert said in document["error"]


def commands_and_configurations():
    of_command = {
        "cells": "CellsConfig",
        "correct": "CorrectConfig",
        "evaluate": "EvaluateConfig",
        "export": "ExportConfig",
        "illumination": "IlluminationConfig",
        "ingest": "IngestConfig",
        "label": "LabelConfig",
        "label-sheet": "LabelSheetConfig",
        "run": "RunConfig",
        "simulate": "SimulateConfig",
    }
    group = typer.main.get_command(app)
    for name, config in of_command.items():
        yield pytest.param(group.commands[name], getattr(configurations, config), id=name)
    for name, config in {"classifier": "TrainClassifierConfig", "unet": "TrainUNetConfig"}.items():
        yield pytest.param(group.commands["train"].commands[name], getattr(configurations, config), id=name)


@pytest.mark.parametrize(("command", "config"), [*commands_and_configurations()])
def test_defaults_in_the_help_are_those_of_the_configuration(command, config):
    wrong = {}
    for parameter in command.params:
        said = re.search(r"\\?\[default: ([^\]]*)\]", getattr(parameter, "help", None) or "")
        field = config.model_fields.get(parameter.name)
        # Where the default is found at run time, the help says how, in words of its own.
        if said is None or field is None or field.default is None or field.default in ((), ""):
            continue
        known = field.default[0] if isinstance(field.default, tuple) else getattr(field.default, "kind", field.default)
        if str(known) != said[1]:
            wrong[parameter.name] = (said[1], known)
    assert not wrong


def test_output_into_a_pipe_has_no_colours(ingested):
    result = artmask("status", ingested)
    assert "\x1b" not in result.stdout + result.stderr
    assert str(ingested.name) in result.stdout


def test_colours_follow_the_environment(ingested):
    def output(**variables):
        environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        command = [sys.executable, "-m", "artmask", "run", ingested.with_name("nowhere.zarr")]
        run = subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=False)
        return run.stderr

    assert "\x1b" not in output()
    assert "\x1b[1;31m" in output(FORCE_COLOR="1")
    assert "31m" not in output(FORCE_COLOR="1", NO_COLOR="1")


def test_no_bar_is_drawn_into_a_log_even_in_colours(tmp_path):
    write_export(tmp_path / "export", make_plate())
    environment = {**os.environ, "FORCE_COLOR": "1"}
    run = subprocess.run(ingest_command(tmp_path), env=environment, capture_output=True, text=True, check=True)
    assert "\x1b[?25l" not in run.stderr  # hides the cursor
