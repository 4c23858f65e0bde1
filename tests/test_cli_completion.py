"""Completion by the shell: quick, and by the words that the configurations accept."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
import typer

from artifact_mask import config as configurations
from artifact_mask import metadata
from artifact_mask.config import CLUSTER_KINDS
from artmask import choices
from artmask.app import app

HEAVY = {"artifact_mask.config", "artifact_mask.workflows", "pydantic", "numpy", "torch", "dask", "zarr", "pandas"}


def complete(words: str, shell: str = "bash") -> list[str]:
    """What a shell is told after these words; the last one is not finished."""
    variables = {"_ARTMASK_COMPLETE": f"complete_{shell}", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    variables |= {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    command = [sys.executable, "-c", "from artmask.app import app; app(prog_name='artmask')"]
    run = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    return run.stdout.splitlines()


def words_of(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for part in get_args(annotation):
            yield from words_of(part)


def accepted(config: str, key: str) -> set[str]:
    return set(words_of(getattr(configurations, config).model_fields[key].annotation))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("artmask ru", ["run"]),
        ("artmask run p.zarr --fill me", ["median"]),
        ("artmask run p.zarr --cluster s", ["slurm", "sge", "ssh"]),
        ("artmask export p.zarr out --as o", ["ome-tiff"]),
        ("artmask train unet p.zarr --preset resnet", ["resnet18", "resnet34", "resnet50"]),
    ],
)
def test_words_are_completed(words: str, expected: list[str]) -> None:
    assert complete(words) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_the_same(shell: str) -> None:
    assert any("median" in line for line in complete("artmask run p.zarr --fill me", shell))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_to_install_can_be_shown(shell: str) -> None:
    # A test has no shell around it that could be asked for its name.
    variables = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "artmask", "--show-completion", shell]
    shown = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert "_ARTMASK_COMPLETE" in shown.stdout


def test_completing_imports_nothing_heavy() -> None:
    code = "import sys; import artmask.app; artmask.choices.one_of(artmask.choices.FILLS)('me'); print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(imported)


@pytest.mark.parametrize(
    ("offered", "config", "key"),
    [
        (choices.EXPORT_FORMATS, "ExportConfig", "format"),
        (choices.FILLS, "RunConfig", "fill"),
        (choices.FILLS, "ExportConfig", "fill"),
        (choices.FLAT_FIELDS, "IngestConfig", "flatfield"),
        (choices.HARMONIES, "SimulateConfig", "harmony"),
        (choices.ILLUMINATION_METHODS, "IlluminationConfig", "method"),
        (choices.ILLUMINATION_USES, "RunConfig", "illumination"),
        (choices.NGFF_VERSIONS, "IngestConfig", "ngff"),
        (choices.REFINEMENTS, "LabelConfig", "refinement"),
        (choices.CUTS, "LabelConfig", "cut"),
        (choices.RESNETS, "TrainClassifierConfig", "network"),
        (choices.RESNET_STAGES, "TrainClassifierConfig", "last_stage"),
        (choices.SHADINGS, "SimulateConfig", "shading"),
        (choices.SHIPPED_UNETS, "RunConfig", "model"),
        (choices.STAIN_SCOPES, "RunConfig", "stain_scope"),
        (choices.STAIN_THRESHOLDS, "RunConfig", "stain_threshold"),
        (choices.UNET_PRESETS, "TrainUNetConfig", "preset"),
        (choices.WEIGHTS, "LabelConfig", "weight"),
    ],
)
def test_offered_words_are_those_that_are_accepted(offered: tuple[str, ...], config: str, key: str) -> None:
    assert set(offered) == accepted(config, key)


def test_offered_clusters_and_labels_are_those_that_exist() -> None:
    assert choices.CLUSTERS == CLUSTER_KINDS
    assert set(metadata.STAGE_LABELS) < set(choices.LABELS)


def test_every_option_that_takes_one_of_a_few_words_completes_them() -> None:
    of_command = {"run": "RunConfig", "export": "ExportConfig", "ingest": "IngestConfig", "label": "LabelConfig"}
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, config in of_command.items():
        for key in getattr(configurations, config).model_fields:
            option = next((p for p in commands[name].params if f"--{key.replace('_', '-')}" in p.opts), None)
            if option is not None and accepted(config, key):
                context = typer.Context(commands[name])
                assert {item.value for item in option.shell_complete(context, "")} == accepted(config, key), key
