"""The project's own files agree with each other."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import artifact_mask

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "universal-pathlib": "universal_pathlib"}


def _split(requirement: str) -> tuple[str, str]:
    name, constraint = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", requirement).groups()
    return name, constraint.replace(" ", "")


def test_conda_environment_requires_what_the_package_requires():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    expected = {CONDA_NAMES.get(name, name): constraint for name, constraint in map(_split, project["dependencies"])}
    expected["python"] = project["requires-python"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (from_pip,) = (entry["pip"] for entry in environment if isinstance(entry, dict))
    listed = [entry for entry in environment if isinstance(entry, str) and entry != "pip"]
    listed += [entry for entry in from_pip if not entry.startswith("--")]
    assert dict(map(_split, listed)) == expected


def test_every_public_name_is_there():
    assert all(getattr(artifact_mask, name) is not None for name in artifact_mask.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        artifact_mask.no_such_name  # noqa: B018


def test_changelog_has_an_unreleased_section():
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()


def test_version_is_a_release_number():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", artifact_mask.__version__)


def test_readme_links_to_files_that_exist():
    readme = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert links
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing


def test_scaling_page_shows_what_its_script_prints():
    script = [sys.executable, str(ROOT / "benchmarks" / "scaling_model.py")]
    printed = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    page = (ROOT / "docs" / "scaling.md").read_text().splitlines()
    rows = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(rows) > 20
    assert [row for row in rows if row not in page] == []


@pytest.mark.parametrize(
    ("name", "limit"), [("weak-unet", 3_000_000), ("supervised-unet", 3_000_000), ("default-classifier", 6_000_000)]
)
def test_default_models_are_small_enough_to_ship(name, limit):
    assert (ROOT / "artifact_mask" / "models" / f"{name}.safetensors").stat().st_size < limit
