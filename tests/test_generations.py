"""Every generation of Harmony, and Columbus: what `artmask simulate` writes, and what `artmask ingest` makes of it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import yaozarrs
from exports import children, local_name, make_plate, parse_index, places, plane_pixels, small_screen, write_export
from reading import read_export
from scipy import ndimage

from artifact_mask.config import ClusterConfig, IngestConfig, SimulateConfig
from artifact_mask.io.harmony_index_writer import GENERATIONS, write_index
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.metadata import Harmony
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.simulate import simulate

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
ALL: tuple[Harmony, ...] = get_args(Harmony)


@pytest.fixture(scope="module", params=ALL)
def harmony(request: pytest.FixtureRequest) -> Harmony:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.usefixtures("shared_cluster")
def test_every_pixel_of_every_generation_arrives(tmp_path: Path, harmony: Harmony) -> None:
    plate = small_screen()
    export = write_export(tmp_path / "export", plate, harmony=harmony)
    summary = ingest(IngestConfig(exports=(export,), dest=tmp_path / "p.zarr", cluster=CLUSTER))
    assert summary.is_whole
    yaozarrs.validate_zarr_store(tmp_path / "p.zarr")
    for place in places(plate):
        found = open_level(tmp_path / "p.zarr" / place.well.path / str(place.field.index))[place.plane]
        np.testing.assert_array_equal(np.asarray(found), plane_pixels(plate, place))


def test_every_generation_says_the_same_of_a_plate(tmp_path: Path, harmony: Harmony) -> None:
    plate = small_screen()
    described = replace(plate.acquisitions[0], t_step_s=600.0)
    plate = replace(plate, acquisitions=(described,), barcode="BR7")
    found = read_export(write_export(tmp_path / "e", plate, harmony=harmony)).plate
    (acquisition,) = found.acquisitions
    assert (found.name, found.barcode, found.n_rows, found.n_columns) == ("screen", "BR7", 8, 12)
    assert (acquisition.shape, acquisition.z_step_um, acquisition.t_step_s) == (described.shape, 2.0, 600.0)
    assert acquisition.pixel_size_um == pytest.approx(0.5)
    assert (acquisition.magnification, acquisition.numerical_aperture) == (40.0, 0.75)
    assert [(c.channel_id, c.name, c.kind, c.excitation_nm, c.emission_nm) for c in acquisition.channels] == [
        (c.channel_id, c.name, c.kind, c.excitation_nm, c.emission_nm) for c in described.channels
    ]
    assert [(c.exposure_s, c.binning) for c in acquisition.channels] == [(0.01, 2), (0.1, 2)]
    for well, expected in zip(acquisition.wells, described.wells, strict=True):
        assert [(f.index, f.field_id, f.y_um, f.x_um) for f in well.fields] == [
            (f.index, f.field_id, f.y_um, f.x_um) for f in expected.fields
        ]
        for field in well.fields:
            first, second = field.times_s
            assert first >= 60
            assert second - first == pytest.approx(600.0)


def test_a_stack_whose_file_is_missing_is_missing_as_a_whole_and_shifts_no_other(
    tmp_path: Path, shared_cluster: None
) -> None:
    plate = make_plate(field_ids=[1, 2, 3], n_z=2)
    export = write_export(tmp_path / "e", plate, harmony="columbus")
    (export / "Images" / "002003-1-002.tif").unlink()
    summary = ingest(IngestConfig(exports=(export,), dest=tmp_path / "p.zarr", cluster=CLUSTER))
    (failure,) = summary.failures
    assert failure.field_id == 2
    assert failure.error.startswith("2 of 2 planes missing")
    for place in places(plate):
        found = np.asarray(open_level(tmp_path / "p.zarr" / place.well.path / str(place.field.index))[place.plane])
        expected = 0 if place.field.field_id == 2 else plane_pixels(plate, place)
        np.testing.assert_array_equal(found, np.broadcast_to(np.uint16(expected), found.shape))


def test_a_stack_that_is_too_short_lacks_its_last_planes_only(tmp_path: Path, shared_cluster: None) -> None:
    plate = make_plate(field_ids=[1], n_z=3)
    export = write_export(tmp_path / "e", plate, harmony="columbus")
    pages = [plane_pixels(plate, place) for place in places(plate)]
    tifffile.imwrite(export / "Images" / "002003-1-001.tif", np.stack(pages[:2]), photometric="minisblack")
    summary = ingest(IngestConfig(exports=(export,), dest=tmp_path / "p.zarr", cluster=CLUSTER))
    (failure,) = summary.failures
    assert "1 of 3 planes missing" in failure.error
    assert "has 2 pages, expected 3" in failure.error


def test_the_index_of_each_generation_is_where_that_one_has_it(tmp_path: Path) -> None:
    found = {h: write_index(tmp_path / h, make_plate(), harmony=h).relative_to(tmp_path / h).as_posix() for h in ALL}
    assert found == {
        "v4": "Images/Index.idx.xml",
        "v5": "Images/Index.idx.xml",
        "v6": "Images/Index.idx.xml",
        "v7": "Index.xml",
        "columbus": "Images/ImageIndex.ColumbusIDX.xml",
    }
    assert (tmp_path / "columbus" / "Images" / "MeasurementIndex.ColumbusIDX.xml").exists()


@pytest.mark.parametrize(
    ("harmony", "timepoints", "intensity"),
    [("v4", ["1", "2"], "16383"), ("v5", ["0", "1"], "65535"), ("v7", ["1", "2"], "65536")],
)
def test_generations_count_time_and_intensity_as_they_do(
    tmp_path: Path, harmony: Harmony, timepoints: list[str], intensity: str
) -> None:
    root = parse_index(write_index(tmp_path, small_screen(), harmony=harmony).read_bytes())
    assert sorted({t.text for t in children(root, "Images", "Image", "TimepointID")}) == timepoints
    assert {element.text for element in root.iter() if local_name(element) == "MaxIntensity"} == {intensity}


def test_columbus_numbers_the_pages_of_a_field_from_0(tmp_path: Path) -> None:
    root = parse_index(write_index(tmp_path, small_screen(), harmony="columbus").read_bytes())
    urls = [url for url in children(root, "Images", "Image", "URL") if url.text == "002003-1-001.tif"]
    assert sorted(int(url.attrib["BufferNo"]) for url in urls) == list(range(8))


@pytest.mark.parametrize(
    ("harmony", "real"), [("v5", "operetta-cls-v5/Images/Index.idx.xml"), ("v7", "phenix-v7/Index.xml")]
)
def test_elements_are_those_of_a_real_index_and_in_its_order(
    tmp_path: Path, shared_data: Path, harmony: Harmony, real: str
) -> None:
    ours = parse_index(write_index(tmp_path, make_plate(), harmony=harmony).read_bytes())
    theirs = parse_index((shared_data / "operetta" / real).read_bytes())
    assert ours.tag == theirs.tag
    assert ours.get("Version") == theirs.get("Version")
    for path in (("Images", "Image"), ("Plates", "Plate"), ("Wells", "Well")):
        assert _tags(children(ours, *path)[0]) == _tags(children(theirs, *path)[0])
    assert [_tags(children(m, "Entry")[0]) for m in children(ours, "Maps", "Map")] == [
        _tags(children(m, "Entry")[0]) for m in children(theirs, "Maps", "Map")
    ]


def _tags(element: ElementTree.Element) -> list[tuple[str, tuple[str, ...]]]:
    return list(dict.fromkeys((local_name(child), tuple(child.attrib)) for child in element))


def test_a_simulated_stack_is_sharpest_in_its_middle_and_no_two_planes_are_alike(tmp_path: Path) -> None:
    config = SimulateConfig(dest=tmp_path, wells=1, fields=1, size=128, channels=2, planes=3, timepoints=2, seed=3)
    (folder,) = simulate(config)
    planes = {path.name: tifffile.imread(path) for path in (folder / "Images").glob("*.tiff")}
    assert len(planes) == 12
    assert len({plane.tobytes() for plane in planes.values()}) == 12
    sharpness = []
    for z in (1, 2, 3):
        name = next(name for name in planes if re.search(rf"p0{z}-ch1sk1", name))
        sharpness.append(ndimage.gaussian_laplace(planes[name].astype(float), 1.5).std())
    assert sharpness[1] > max(sharpness[0], sharpness[2])


@pytest.mark.parametrize("harmony", ["v7", "columbus"])
def test_a_simulated_campaign_of_another_generation_has_the_same_pixels(tmp_path: Path, harmony: Harmony) -> None:
    common = {"wells": 1, "fields": 2, "size": 64, "channels": 2, "planes": 2}
    (first,) = simulate(SimulateConfig(dest=tmp_path / "v5", **common))  # type: ignore[arg-type]
    (other,) = simulate(SimulateConfig(dest=tmp_path / "other", harmony=harmony, **common))  # type: ignore[arg-type]
    names = sorted(path.name for path in (first / "Images").glob("*.tiff"))
    planes = [tifffile.imread(first / "Images" / name) for name in names]
    stacked = GENERATIONS[harmony].stacked
    others = [np.asarray(tifffile.imread(file)) for file in sorted((other / "Images").glob("*.tif*"))]
    # Pages go by depth, then channel; so do the names of a field's files.
    found = [page for stack in others for page in stack.reshape(-1, 64, 64)] if stacked else others
    np.testing.assert_array_equal(np.stack(found), np.stack(planes))
    assert (first / "Truth" / "fields.csv").read_bytes() == (other / "Truth" / "fields.csv").read_bytes()


def test_read_back_a_simulated_plate_knows_its_barcode_and_layout(tmp_path: Path, shared_cluster: None) -> None:
    (folder,) = simulate(SimulateConfig(dest=tmp_path / "e", wells=3, fields=1, size=64, harmony="v7"))
    ingest(IngestConfig(exports=(folder,), dest=tmp_path / "p.zarr", cluster=CLUSTER))
    plate = read_plate(tmp_path / "p.zarr").plate
    assert plate.barcode == "Plate01"
    layout = [well.layout for well in plate.wells]
    assert [entry["Compound"] for entry in layout] == ["DMSO", "Compound A", "Compound A"]
    assert [entry["Concentration"] for entry in layout] == [0.0, 5.0, 10.0]
