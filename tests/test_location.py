"""A place is a path or a URL, and configurations carry both as text."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError
from upath import UPath

from artifact_mask.config import IngestConfig, RunConfig, VerifyConfig
from artifact_mask.frozen import Frozen, load_config
from artifact_mask.location import LocalPath, StoreLocation, to_location


class Places(Frozen):
    """Every kind of place."""

    store: StoreLocation
    file: LocalPath


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("plate.zarr", "plate.zarr"),
        ("./a/../plate.zarr", "a/../plate.zarr"),
        ("~/plate.zarr", "home/plate.zarr"),
        (Path("a/plate.zarr"), "a/plate.zarr"),
        ("plate with spaces & ümläuts.zarr", "plate with spaces & ümläuts.zarr"),
        ("C:plate.zarr", "C:plate.zarr"),
    ],
    ids=str,
)
def test_a_path_is_made_absolute_where_it_was_given(elsewhere: Path, given: str | Path, expected: str) -> None:
    location = to_location(given)
    assert type(location) is type(Path())
    assert location == elsewhere / expected
    assert to_location(location) == location
    assert to_location(str(location)) == location


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    assert to_location(f"file://{tmp_path}/plate.zarr") == tmp_path / "plate.zarr"
    assert to_location(UPath(f"file://{tmp_path}/plate.zarr")) == tmp_path / "plate.zarr"
    assert isinstance(to_location(UPath(tmp_path)), Path)


@pytest.mark.parametrize("url", ["s3://bucket/screens/plate.zarr", "memory://screens/plate.zarr"])
def test_a_url_stays_what_it_is(elsewhere: Path, url: str) -> None:
    location = to_location(url)
    assert isinstance(location, UPath)
    assert not isinstance(location, Path)
    assert (str(location), location.name) == (url, "plate.zarr")
    assert str(location.parent / "other.zarr") == url.replace("plate.", "other.")
    assert str(location.with_name(location.name + ".artmask")) == url + ".artmask"
    assert str(to_location(location)) == url


def test_an_object_store_remembers_no_listing() -> None:
    assert to_location("s3://bucket/plate.zarr").fs.dircache.use_listings_cache is False


def test_files_of_a_url_are_read_and_written_like_a_path() -> None:
    location = to_location("memory://test_location/plate.zarr")
    (location / "a" / "zarr.json").write_bytes(b"{}")
    assert (location / "a" / "zarr.json").read_bytes() == b"{}"
    assert [path.name for path in location.iterdir()] == ["a"]
    assert location.is_dir()
    location.fs.rm("/test_location", recursive=True)
    assert not location.exists()


@pytest.mark.parametrize("store", ["plate.zarr", "s3://bucket/plate.zarr", "memory://screens/plate.zarr"])
def test_a_configuration_reads_back_what_it_wrote(elsewhere: Path, store: str) -> None:
    config = Places(store=store, file="model.safetensors")
    assert config.store == to_location(store)
    assert config.file == elsewhere / "model.safetensors"
    dumped = config.model_dump(mode="json")
    assert dumped == {"store": str(to_location(store)), "file": str(elsewhere / "model.safetensors")}
    for again in (
        Places.model_validate(dumped),
        Places.model_validate_json(config.model_dump_json()),
        Places.model_validate(yaml.safe_load(yaml.safe_dump(dumped))),
        Places(store=config.store, file=config.file),
    ):
        assert again == config
        assert type(again.store) is type(config.store)


@pytest.mark.parametrize("wrong", [7, None, b"plate.zarr", ["plate.zarr"]])
def test_what_is_no_place_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError, match=r"^1 validation error for Places\nstore\n  .*should be a path or a URL"):
        Places(store=wrong, file="x")


@pytest.mark.parametrize(
    "config",
    [
        IngestConfig(exports="export", dest="s3://bucket/plate.zarr"),
        RunConfig(plates=("plate.zarr", "memory://screens"), model="model.safetensors"),
        VerifyConfig(plates=["plate.zarr"]),
    ],
    ids=lambda config: type(config).__name__,
)
def test_a_stored_configuration_can_be_run_again(config: BaseModel, tmp_path: Path) -> None:
    stored = tmp_path / "config.yaml"
    stored.write_text(json.dumps(config.model_dump(mode="json")))
    assert load_config(type(config), stored, {}) == config
