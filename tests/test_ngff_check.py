"""Metadata that we write pass; whatever is broken in them is named in one line."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
from exports import CHANNELS, make_plate
from stores import writing

from artifact_mask.io.ngff_check import check_field, check_plate
from artifact_mask.io.ome_zarr import write_field, write_labels, write_masked
from artifact_mask.io.ome_zarr_plate import create_plate
from artifact_mask.location import Location, to_location
from artifact_mask.metadata import Masking, NgffVersion

FIELD = "B/3/0"
WELLS = [(2, 3), (3, 11)]


def _write(root: Location, ngff: NgffVersion) -> None:
    """Write a plate, and one field of it with all that a field may have."""
    plate = make_plate(wells=WELLS, channels=CHANNELS[:2], size=(1079, 300))
    acquisition = plate.acquisitions[0]
    field, folder, plane = acquisition.wells[0].fields[0], root / FIELD, np.ones((1079, 300), np.uint16)
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="digest", ngff=ngff)
        write_field(files, folder, acquisition, field, [((0, 0, 0), plane)], {}, ngff=ngff)
        write_masked(files, folder, acquisition, field, 0, [((0, 0, 0), plane)], masking=Masking("median"), ngff=ngff)
    for name in ("weak", "artifacts"):
        with writing(root) as files:
            labels = [((0, 0), plane.astype(np.int32))]
            write_labels(files, folder, acquisition, field, labels, name=name, ngff=ngff)


@pytest.fixture(scope="module")
def valid(ngff: NgffVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("valid") / "p.zarr"
    _write(root, ngff)
    return root


@pytest.fixture
def root(valid: Path, tmp_path: Path) -> Path:
    """Copy of a valid plate, to be broken."""
    shutil.copytree(valid, tmp_path / "p.zarr")
    return tmp_path / "p.zarr"


@pytest.fixture
def bucket(ngff: NgffVersion) -> Iterator[Location]:
    place = to_location("memory://bucket-to-check/p.zarr")
    _write(place, ngff)
    yield place
    place.fs.rm("/bucket-to-check", recursive=True)


def _change_json(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(file.read_bytes())
    change(document)
    file.write_text(json.dumps(document))


def _change_ome(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    if (folder / "zarr.json").exists():
        _change_json(folder / "zarr.json", lambda document: change(document["attributes"]["ome"]))
    else:
        _change_json(folder / ".zattrs", change)


def _array(folder: Path) -> Path:
    return next(folder / name for name in ("zarr.json", ".zarray") if (folder / name).exists())


def test_what_we_write_is_valid(valid: Path, ngff: NgffVersion) -> None:
    yaozarrs.validate_zarr_store(valid / FIELD)
    assert check_plate(valid) == check_plate(valid, ngff=ngff) == []
    assert check_field(valid / FIELD) == check_field(valid / FIELD, ngff=ngff) == []


def test_what_we_write_into_an_object_store_is_valid(bucket: Location) -> None:
    assert check_plate(bucket) == []
    assert check_field(bucket / FIELD) == []
    bucket.fs.rm((bucket / "C" / "11").path, recursive=True)
    bucket.fs.rm((bucket / FIELD / "labels" / "weak").path, recursive=True)
    assert check_plate(bucket) == ["C/11: is not there, or has no metadata of NGFF"]
    assert check_field(bucket / FIELD) == ["labels: weak is listed and not there"]


def test_a_field_without_results_is_valid(root: Path) -> None:
    shutil.rmtree(root / FIELD / "labels")
    shutil.rmtree(root / FIELD / "masked")
    assert check_field(root / FIELD) == []


def test_a_field_or_plate_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert check_plate(tmp_path / "p.zarr") == ["plate: is not there, or has no metadata of NGFF"]
    assert check_field(tmp_path / "0") == ["image: is not there, or has no metadata of NGFF"]


def test_another_version_is_not_the_one_that_was_asked_for(valid: Path, ngff: NgffVersion) -> None:
    other: NgffVersion = "0.4" if ngff == "0.5" else "0.5"
    assert check_plate(valid, ngff=other) == ["plate: is not there, or has no metadata of NGFF"]
    assert check_field(valid / FIELD, ngff=other) == ["image: is not there, or has no metadata of NGFF"]


def _drop_version(ome: dict[str, Any]) -> None:
    for entry in (ome, *ome.get("multiscales", []), ome.get("plate", {}), ome.get("well", {})):
        entry.pop("version", None)


def _swap_axes(ome: dict[str, Any]) -> None:
    axes = ome["multiscales"][0]["axes"]
    axes[0], axes[1] = axes[1], axes[0]


def _drop_an_axis(ome: dict[str, Any]) -> None:
    del ome["multiscales"][0]["axes"][0]


def _shorten_a_scale(ome: dict[str, Any]) -> None:
    ome["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"].pop()


def _stretch_a_scale(ome: dict[str, Any]) -> None:
    ome["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"][-1] *= 2


def _name_another_level(ome: dict[str, Any]) -> None:
    ome["multiscales"][0]["datasets"][1]["path"] = "7"


def _drop_the_datasets(ome: dict[str, Any]) -> None:
    del ome["multiscales"][0]["datasets"]


def _drop_a_level(ome: dict[str, Any]) -> None:
    ome["multiscales"][0]["datasets"].pop()


@pytest.mark.parametrize("place", ["", "masked", "labels/artifacts"])
@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_drop_version, "version"),
        (_swap_axes, "axes"),
        (_drop_an_axis, "transformation"),
        (_shorten_a_scale, "transformation|same number of dimensions"),
        (_stretch_a_scale, "its scale says"),
        (_name_another_level, "level 7: the array is not there"),
        (_drop_the_datasets, "multiscales.0.datasets: Field required"),
    ],
)
def test_what_is_wrong_with_an_image_is_named(
    root: Path, place: str, damage: Callable[[dict[str, Any]], None], problem: str
) -> None:
    _change_ome(root / FIELD / place, damage)
    problems = check_field(root / FIELD)
    assert problems
    assert any(re.search(problem, text) for text in problems)
    assert all(text.startswith(place or "image") and "\n" not in text for text in problems)


@pytest.mark.parametrize("place", ["masked", "labels/artifacts"])
def test_results_with_fewer_levels_than_the_image_are_named(root: Path, place: str) -> None:
    _change_ome(root / FIELD / place, _drop_a_level)
    (problem,) = check_field(root / FIELD)
    assert problem.startswith(f"{place}: its levels are [(1079, 300), (540, 150), (270, 75)], those of the image")


def test_a_dimension_of_another_name_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "p.zarr", "0.5")  # Zarr v2 has no names of dimensions
    folder = tmp_path / "p.zarr" / FIELD
    _change_json(folder / "1" / "zarr.json", lambda array: array["dimension_names"].reverse())
    problem = "image, level 1: the array's dimensions are x, y, z, c, t, and the image's axes t, c, z, y, x"
    assert check_field(folder) == [problem]


def test_an_array_of_another_shape_is_named(root: Path) -> None:
    _change_json(_array(root / FIELD / "1"), lambda array: array["shape"].pop(0))
    (problem, *_) = check_field(root / FIELD)
    assert problem == "image, level 1: the array has 4 dimensions, and the image 5 axes"


def test_labels_that_are_not_integers_are_named(root: Path) -> None:
    def change(array: dict[str, Any]) -> None:
        array |= {"data_type": "float32"} if "data_type" in array else {"dtype": "<f4"}

    _change_json(_array(root / FIELD / "labels" / "weak" / "0"), change)
    (problem,) = check_field(root / FIELD)
    assert problem.startswith("labels/weak, level 0: labels are integers, and the array is of ")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null"])
@pytest.mark.parametrize("level", ["1", "masked/0", "labels/artifacts/0"])
def test_the_damaged_document_of_an_array_is_named(root: Path, level: str, content: bytes) -> None:
    _array(root / FIELD / level).write_bytes(content)
    place, _, number = f"image/{level}".rpartition("/")
    (problem, *_) = check_field(root / FIELD)
    assert problem.startswith(f"{place.removeprefix('image/')}, level {number}: its metadata are not those of an array")


def test_labels_that_are_not_listed_are_named(root: Path) -> None:
    _change_ome(root / FIELD / "labels", lambda ome: ome["labels"].remove("weak"))
    assert check_field(root / FIELD) == ["labels: weak is there and not listed"]


def test_labels_that_are_listed_and_gone_are_named(root: Path) -> None:
    shutil.rmtree(root / FIELD / "labels" / "weak")
    assert check_field(root / FIELD) == ["labels: weak is listed and not there"]


def test_a_label_of_another_image_is_named(root: Path) -> None:
    _change_ome(root / FIELD / "labels" / "weak", lambda ome: ome["image-label"]["source"].update(image="../"))
    assert check_field(root / FIELD) == ["labels/weak: its source is ../, which is not the field"]


@pytest.mark.parametrize("name", [".zgroup", "zarr.json", ".zattrs"])
def test_a_group_without_its_document_is_named(root: Path, name: str) -> None:
    files = [root / place / name for place in ("C/11", f"{FIELD}/masked", FIELD, "B")]
    for file in files:
        if file.exists():
            file.unlink()
            problems = check_plate(root) + check_field(root / FIELD)
            assert problems, file


def _misplace_a_well(ome: dict[str, Any]) -> None:
    ome["plate"]["wells"][0]["columnIndex"] = 1


def _list_a_well(ome: dict[str, Any]) -> None:
    ome["plate"]["wells"].append({"path": "C/3", "rowIndex": 1, "columnIndex": 0})


def _list_a_well_out_of_range(ome: dict[str, Any]) -> None:
    ome["plate"]["wells"][0]["rowIndex"] = 9


def _drop_the_rows(ome: dict[str, Any]) -> None:
    del ome["plate"]["rows"]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_misplace_a_well, "plate: the well B/3 is in row and column B/11"),
        (_list_a_well, "C/3: is not there, or has no metadata of NGFF"),
        (_list_a_well_out_of_range, "plate: plate: Value error, Well B/3 has rowIndex 9 but only 2 rows exist"),
        (_drop_the_rows, "plate: plate.rows: Field required"),
        (_drop_version, "plate: says no version of NGFF"),
    ],
)
def test_what_is_wrong_with_a_plate_is_named(
    root: Path, damage: Callable[[dict[str, Any]], None], problem: str
) -> None:
    _change_ome(root, damage)
    assert check_plate(root) == [problem]


def _give_another_acquisition(ome: dict[str, Any]) -> None:
    ome["well"]["images"][1]["acquisition"] = 4


def _list_an_image_twice(ome: dict[str, Any]) -> None:
    ome["well"]["images"][1]["path"] = "0"
    ome["well"]["images"][1]["acquisition"] = None


def _drop_the_images(ome: dict[str, Any]) -> None:
    ome["well"]["images"].clear()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_give_another_acquisition, "C/11: the image 1 is of acquisition 4, which the plate does not have"),
        (_list_an_image_twice, "C/11: the image 0 is listed twice"),
        (_drop_the_images, "C/11: well.images: Value should have at least 1 item after validation, not 0"),
        (_drop_version, "C/11: says no version of NGFF"),
    ],
)
def test_what_is_wrong_with_a_well_is_named(root: Path, damage: Callable[[dict[str, Any]], None], problem: str) -> None:
    _change_ome(root / "C" / "11", damage)
    assert check_plate(root) == [problem]


def test_a_plate_that_is_no_json_is_named(root: Path) -> None:
    for folder in (root, root / "C" / "11", root / FIELD):
        _change = next(folder / name for name in ("zarr.json", ".zattrs") if (folder / name).exists())
        _change.write_bytes(_change.read_bytes()[:30])
    (problem,) = check_plate(root)
    assert "is damaged" in problem
    (problem,) = check_field(root / FIELD)
    assert "is damaged" in problem
