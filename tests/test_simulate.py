"""A simulated campaign looks like an export of Harmony, and the truth lies beside it."""

import csv
import hashlib
from xml.etree import ElementTree

import imagecodecs
import numpy as np
import pytest
import tifffile
from listener import Listener
from pydantic import ValidationError
from reading import read_export

from artifact_mask.config import SimulateConfig
from artifact_mask.errors import StorageError
from artifact_mask.io.harmony_index_writer import image_name, write_index
from artifact_mask.io.label_list import read_label_list
from artifact_mask.io.operetta_folder import find_measurements
from artifact_mask.io.operetta_writer import (
    TRUTH_ILLUMINATION_STEP,
    Layer,
    write_assay_layout,
    write_ffc_profile,
    write_plane,
)
from artifact_mask.kernels.scene_optics import FLUORESCENCE_SHADING
from artifact_mask.metadata import Acquisition, Channel, Field, Plate, Well
from artifact_mask.workflows import simulate as workflow
from artifact_mask.workflows.simulate import simulate

NS = {"h": "http://www.perkinelmer.com/PEHH/HarmonyV5"}
SIZE = 128


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    dest = tmp_path_factory.mktemp("campaign")
    config = SimulateConfig(dest=dest, plates=2, wells=3, fields=2, size=SIZE, channels=2, seed=5)
    return config, simulate(config)


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


BRIGHTFIELD = (Channel(1, "Brightfield", "brightfield"),)


def small_plate(name="P <1> & more", channels=BRIGHTFIELD):
    wells = (Well(2, 3, (Field(0, 1, y_um=-10.0, x_um=20.0), Field(1, 100, y_um=10.0, x_um=-20.0))),)
    return Plate(
        name, 8, 12, (Acquisition("id & more", (1, len(channels), 1, 8, 10), 0.3, 1.0, tuple(channels), wells),)
    )


def test_index_names_every_tiff_and_no_other(campaign):
    _, folders = campaign
    for folder in folders:
        index = ElementTree.parse(folder / "Images" / "Index.idx.xml")
        named = [url.text for url in index.iterfind(".//h:Images/h:Image/h:URL", NS)]
        assert len(named) == 3 * 2 * 2
        assert sorted(named) == sorted(path.name for path in (folder / "Images").glob("*.tiff"))


def test_index_starts_with_a_byte_order_mark(campaign):
    assert (campaign[1][0] / "Images" / "Index.idx.xml").read_bytes().startswith(b"\xef\xbb\xbf<?xml")


def test_wells_of_the_index_list_the_images_by_id(campaign):
    index = ElementTree.parse(campaign[1][0] / "Images" / "Index.idx.xml")
    listed = [image.get("id") for image in index.iterfind(".//h:Wells/h:Well/h:Image", NS)]
    assert listed == [i.text for i in index.iterfind(".//h:Images/h:Image/h:id", NS)]
    assert listed[:3] == ["0202K1F1P1R1", "0202K1F1P1R2", "0202K1F2P1R1"]


def test_export_reads_back_as_the_plate_that_was_asked_for(campaign):
    config, folders = campaign
    plate = read_export(folders[1]).plate
    assert plate.name == folders[1].name == "Plate02"
    assert plate.acquisitions[0].shape == (1, 2, 1, SIZE, SIZE)
    assert plate.acquisitions[0].pixel_size_um == pytest.approx(config.pixel_size_um)
    assert [channel.kind for channel in plate.acquisitions[0].channels] == ["brightfield", "fluorescence"]
    assert [well.name for well in plate.wells] == ["B02", "B03", "B04"]
    assert [(f.field_id, f.y_um, f.x_um) for f in plate.wells[0].fields] == [(1, 0.0, -19.2), (2, 0.0, 19.2)]


def test_plates_have_measurements_of_their_own(campaign):
    first, second = (read_export(folder).plate.acquisitions[0].measurement_id for folder in campaign[1])
    assert first != second


def test_tiffs_are_single_strip_lzw_of_the_right_size_and_dtype(campaign):
    for path in (campaign[1][0] / "Images").glob("*.tiff"):
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            assert len(tiff.pages) == 1
            assert page.compression == tifffile.COMPRESSION.LZW
            assert page.predictor == 1
            assert len(page.dataoffsets) == 1
            assert (page.shape, page.dtype) == ((SIZE, SIZE), np.uint16)


def test_every_field_has_its_truth_beside_the_images(campaign):
    for folder in campaign[1]:
        stems = sorted(path.stem for path in (folder / "Images").glob("*-ch1sk1fk1fl1.tiff"))
        for stem in stems:
            artifacts, stain = (
                imagecodecs.png_decode((folder / "Truth" / f"{stem}_{kind}.png").read_bytes())
                for kind in ("artifacts", "stain")
            )
            illumination = tifffile.imread(folder / "Truth" / f"{stem}_illumination.tif")
            assert (artifacts.shape, artifacts.dtype) == ((SIZE, SIZE), np.uint8)
            assert set(np.unique(artifacts)) <= {0, 1, 2, 3}
            assert set(np.unique(stain)) <= {0, 255}
            assert illumination.shape == (SIZE // TRUTH_ILLUMINATION_STEP,) * 2
            assert illumination.dtype == np.float32


def test_table_agrees_with_the_truth_images(campaign):
    folder = campaign[1][0]
    with (folder / "Truth" / "fields.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "row",
        "column",
        "field_id",
        "dose",
        "stained_fraction",
        "artifact_fraction",
        "n_artifacts",
    ]
    assert [(r["row"], r["column"], r["field_id"], r["dose"]) for r in rows[:3]] == [
        ("2", "2", "1", "0.0"),
        ("2", "2", "2", "0.0"),
        ("2", "3", "1", "0.5"),
    ]
    for row in rows:
        stem = f"r{int(row['row']):02d}c{int(row['column']):02d}f{int(row['field_id']):02d}p01-ch1sk1fk1fl1"
        stain = imagecodecs.png_decode((folder / "Truth" / f"{stem}_stain.png").read_bytes())
        assert float(row["stained_fraction"]) == pytest.approx((stain > 0).mean(), abs=1e-6)


def true_artifacts(folder, place):
    row, column = ord(place.well[0]) - ord("A") + 1, int(place.well[1:])
    name = f"r{row:02d}c{column:02d}f{place.field + 1:02d}p01-ch1sk1fk1fl1_artifacts.png"
    return imagecodecs.png_decode((folder / "Truth" / name).read_bytes()) > 0


@pytest.mark.parametrize(("pixel_size_um", "enough"), [(0.3, 28), (0.6, 7)])
def test_tiles_are_labelled_by_the_artifacts_in_them(tmp_path, pixel_size_um, enough):
    config = SimulateConfig(dest=tmp_path, wells=2, fields=2, size=600, pixel_size_um=pixel_size_um, seed=3)
    (folder,) = simulate(config)
    places = read_label_list(folder / "Truth" / "tiles.csv")
    side = {0.3: 200, 0.6: 120}[pixel_size_um]
    assert len(places) == 2 * 2 * (600 // side) ** 2
    assert {(place.plate, place.well, place.field) for place in places} == {
        ("Plate01", well, field) for well in ("B02", "B03") for field in (0, 1)
    }
    for place in places:
        y0, x0, height, width = place.box
        assert (height, width) == (side, side)
        n_px = true_artifacts(folder, place)[y0 : y0 + height, x0 : x0 + width].sum()
        assert place.label == ("clean" if n_px == 0 else "artifact" if n_px >= enough else "unsure")
    assert {place.label for place in places} >= {"clean", "artifact"}


def test_exactly_28_pixels_of_the_default_size_are_an_artifact(tmp_path):
    config = SimulateConfig(dest=tmp_path, wells=1, fields=1, size=64)
    (well,), _, _ = workflow._layout(config)
    task = workflow._Task(tmp_path, config, 1, 1, well, 1, 1.0)
    for n_px, label in ((0, "clean"), (1, "unsure"), (27, "unsure"), (28, "artifact")):
        artifacts = (np.arange(64 * 64) < n_px).reshape(64, 64)
        (place,) = workflow._label_tiles(task, artifacts)
        assert (place.label, place.box) == (label, (0, 0, 64, 64))


def test_layout_tells_compound_and_concentration(campaign):
    layout = ElementTree.parse(campaign[1][0] / "Assaylayout" / "Plate01.xml")
    layers = {layer.find("h:Name", NS).text: layer for layer in layout.iterfind("h:Layer", NS)}
    assert list(layers) == ["Compound", "Concentration"]
    values = {name: [v.text for v in layer.iterfind("h:Well/h:Value", NS) if v.text] for name, layer in layers.items()}
    assert values == {"Compound": ["DMSO", "Compound A", "Compound A"], "Concentration": ["0", "5", "10"]}
    assert all(len(layer.findall("h:Well", NS)) == 96 for layer in layers.values())


def test_other_seed_writes_other_images(campaign, tmp_path):
    config, folders = campaign
    again = simulate(config.model_copy(update={"dest": tmp_path, "seed": 6, "plates": 1}))
    name = "Images/r02c02f01p01-ch1sk1fk1fl1.tiff"
    assert (again[0] / name).read_bytes() != (folders[0] / name).read_bytes()


@pytest.mark.parametrize("cores", [1, 5])
def test_same_seed_writes_the_same_bytes_on_any_number_of_cores(campaign, tmp_path, monkeypatch, cores):
    config, folders = campaign
    monkeypatch.setattr(workflow, "_cores", lambda: cores)
    again = simulate(config.model_copy(update={"dest": tmp_path}))
    assert [digests(folder) for folder in again] == [digests(folder) for folder in folders]


def test_a_full_disk_is_reported_and_leaves_no_index(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workflow, "write_truth", full)
    with pytest.raises(StorageError, match=r"Plate01 cannot be written.*No space left.*remove the folder"):
        simulate(SimulateConfig(dest=tmp_path, wells=2, fields=1, size=64))
    assert not list(tmp_path.rglob("Index.idx.xml"))


def test_fewer_fields_are_a_part_of_more_fields(campaign, tmp_path):
    config, folders = campaign
    again = simulate(config.model_copy(update={"dest": tmp_path, "fields": 1, "plates": 1}))
    name = "Images/r02c03f01p01-ch1sk1fk1fl1.tiff"
    assert (again[0] / name).read_bytes() == (folders[0] / name).read_bytes()


def test_progress_counts_every_field(tmp_path):
    simulate(SimulateConfig(dest=tmp_path, wells=2, fields=2, size=64), listener := Listener())
    assert listener.begun == [("simulate", 4)]
    assert listener.advanced == [(1, 0, 64 * 64 * 2)] * 4


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    used = tmp_path / "Plate02"
    used.mkdir()
    (used / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"Plate02.*1 entries.*another destination"):
        simulate(SimulateConfig(dest=tmp_path, plates=2, wells=1, fields=1, size=64))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["Plate02", "notes.txt"]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "Plate01").mkdir()
    assert simulate(SimulateConfig(dest=tmp_path, wells=1, fields=1, size=64)) == [tmp_path / "Plate01"]


@pytest.mark.parametrize(
    ("wells", "size", "first", "rows"),
    [(1, (8, 12), "B02", 1), (6, (8, 12), "B02", 2), (60, (8, 12), "B02", 6), (61, (16, 24), "B02", 3)],
)
def test_wells_fill_the_plate_from_b02(tmp_path, wells, size, first, rows):
    placed, doses, found = workflow._layout(SimulateConfig(dest=tmp_path, wells=wells))
    assert len(placed) == len(doses) == wells
    assert found == size
    assert placed[0].name == first
    assert len({well.row for well in placed}) == rows
    assert all(1 < well.row < size[0] and 1 < well.column < size[1] for well in placed)
    assert max(doses.values()) == 1
    assert wells == 1 or min(doses.values()) == 0


def test_a_full_plate_uses_every_well(tmp_path):
    placed, doses, size = workflow._layout(SimulateConfig(dest=tmp_path, wells=384))
    assert size == (16, 24)
    assert (placed[0].name, placed[-1].name, len(doses)) == ("A01", "P24", 384)


def test_field_names_widen_past_99():
    assert image_name(Well(2, 2, ()), 256, 1) == "r02c02f256p01-ch1sk1fk1fl1.tiff"


def test_text_is_escaped(tmp_path):
    plate = small_plate(channels=(Channel(1, '405ex, "<570>"', "fluorescence"),))
    index = ElementTree.parse(write_index(tmp_path, plate))
    assert index.find(".//h:Plates/h:Plate/h:Name", NS).text == plate.name
    assert index.find(".//h:ChannelName", NS).text == plate.acquisitions[0].channels[0].name
    layer = Layer("A & B", "string", {(2, 3): "<x>"})
    layout = ElementTree.parse(write_assay_layout(tmp_path, small_plate("plain"), [layer]))
    assert layout.find("h:Layer/h:Name", NS).text == "A & B"
    assert [v.text for v in layout.iterfind(".//h:Value", NS) if v.text] == ["<x>"]


def test_upwards_y_of_harmony_is_the_negative_of_the_image_y(tmp_path):
    index = ElementTree.parse(write_index(tmp_path, small_plate()))
    assert [float(y.text) for y in index.iterfind(".//h:PositionY", NS)] == pytest.approx([1e-5, -1e-5])


def test_brightfield_has_an_identity_profile_and_fluorescence_a_polynomial(tmp_path):
    channels = (Channel(1, "Brightfield", "brightfield"), Channel(2, "GFP", "fluorescence"))
    profiles = {2: FLUORESCENCE_SHADING}
    index = ElementTree.parse(write_index(tmp_path, small_plate(channels=channels), profiles=profiles))
    brightfield, fluorescence = (p.text for p in index.iterfind(".//h:FlatfieldProfile", NS))
    assert "Profile: {Type: Identity}" in brightfield
    assert "Coefficients: [[1.1], [0.06, -0.04], [-0.6, 0, -0.6]], Dims: [10, 8]" in fluorescence
    for text in (brightfield, fluorescence):
        assert text.count("{") == text.count("}")
        assert text.count("[") == text.count("]")


def test_what_was_written_plane_by_plane_is_read_back(tmp_path):
    plate = small_plate("plain")
    (well,) = plate.wells
    for field in well.fields:
        write_plane(tmp_path, image_name(well, field.field_id, 1), np.full((8, 10), field.field_id, np.uint16), 0.3)
    index = write_index(tmp_path, plate)
    assert read_export(tmp_path).plate.n_fields == 2
    written = tifffile.imread(index.parent / "r02c03f100p01-ch1sk1fk1fl1.tiff")
    np.testing.assert_array_equal(written, np.full((8, 10), 100))


SMALL = {"wells": 2, "fields": 1, "size": 64, "channels": 2}


@pytest.fixture(scope="module")
def measured_twice(tmp_path_factory):
    dest = tmp_path_factory.mktemp("twice")
    return simulate(SimulateConfig(dest=dest, measurements=2, **SMALL))


def test_measurements_of_a_plate_lie_side_by_side_and_are_named_as_harmony_does(measured_twice):
    assert [folder.name for folder in measured_twice] == [
        "Plate01__2026-01-05T09_00_00-Measurement 1",
        "Plate01__2026-01-06T09_00_00-Measurement 2",
    ]
    found, problems = find_measurements(measured_twice[0].parent)
    assert not problems
    assert [(one.folder, one.plate_name) for one in found] == [(folder, "Plate01") for folder in measured_twice]
    (first,), (second,) = (read_export(folder).plate.acquisitions for folder in measured_twice)
    assert first.measurement_id != second.measurement_id
    assert [first.started, second.started] == ["2026-01-05T09:00:00+00:00", "2026-01-06T09:00:00+00:00"]


def test_the_first_of_several_measurements_is_the_only_one_of_one(measured_twice, tmp_path):
    (only,) = simulate(SimulateConfig(dest=tmp_path, **SMALL))
    assert digests(only) == digests(measured_twice[0])


def test_a_further_measurement_has_the_same_objects_and_noise_of_its_own(measured_twice):
    first, second = ({k: v for k, v in digests(folder).items() if "Index" not in k} for folder in measured_twice)
    assert first.keys() == second.keys()
    differing = {name for name in first if first[name] != second[name]}
    assert differing == {name for name in first if name.startswith("Images/")}
    name = "Images/r02c02f01p01-ch1sk1fk1fl1.tiff"
    one, other = (tifffile.imread(folder / name).astype(float) for folder in measured_twice)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.5


@pytest.mark.parametrize(("harmony", "n_profiles"), [("v5", 0), ("v7", 1)])
def test_harmony_7_keeps_the_profiles_of_the_index_in_a_file_too(tmp_path, harmony, n_profiles):
    (folder,) = simulate(SimulateConfig(dest=tmp_path, harmony=harmony, **SMALL))
    files = sorted(folder.glob("FFC_Profile/*"))
    assert [file.name for file in files] == ["FFC_Profile_Measurement 1.xml"][:n_profiles]
    for file in files:
        texts = [[e.text for e in ElementTree.parse(f).iter() if "Flat" in e.tag] for f in (folder / "Index.xml", file)]
        assert len(texts[0]) == 2
        assert texts[0] == texts[1]


def test_a_stand_alone_profile_has_the_elements_of_a_real_one_in_its_order(tmp_path, shared_data):
    real = shared_data / "operetta" / "ffc-profile" / "FFC_Profile_Measurement 2.xml"
    plate = small_plate(channels=[Channel(i, f"Alexa {i}", "fluorescence") for i in (1, 2, 3, 4)])
    ours = write_ffc_profile(tmp_path, plate, number=2, profiles={2: FLUORESCENCE_SHADING})
    assert ours.relative_to(tmp_path).as_posix() == f"FFC_Profile/{real.name}"
    assert ours.read_bytes()[:3] == real.read_bytes()[:3] == b"\xef\xbb\xbf"
    first, second = ([(e.tag, e.attrib) for e in ElementTree.parse(file).iter()] for file in (ours, real))
    assert first == second


@pytest.mark.parametrize("harmony", ["v5", "v7", "columbus"])
def test_channels_of_a_stack_are_focused_at_heights_of_their_own(tmp_path, harmony):
    (folder,) = simulate(SimulateConfig(dest=tmp_path, harmony=harmony, planes=3, **SMALL))
    (index,) = (file for file in folder.rglob("*.xml") if "Index" in file.name and "Measurement" not in file.name)
    heights = {}
    for image in ElementTree.parse(index).iterfind(".//{*}Images/{*}Image"):
        channel, plane = (int(image.find(f"{{*}}{tag}").text) for tag in ("ChannelID", "PlaneID"))
        z, above = (float(image.find(f"{{*}}{tag}").text) for tag in ("PositionZ", "AbsPositionZ"))
        heights[channel, plane] = round(z * 1e6, 3)
        assert above - z == pytest.approx(0.1375)
    assert heights == {(1, 1): 0, (1, 2): 2, (1, 3): 4, (2, 1): 3, (2, 2): 5, (2, 3): 7}
    (acquisition,) = read_export(folder).plate.acquisitions
    assert (acquisition.shape[2], acquisition.z_step_um) == (3, pytest.approx(2.0))


def test_pixels_of_harmony_4_fit_into_its_14_bits(tmp_path):
    folders = [simulate(SimulateConfig(dest=tmp_path / h, harmony=h, **SMALL))[0] for h in ("v4", "v5")]
    for path in (folders[0] / "Images").glob("*.tiff"):
        small, large = (tifffile.imread(folder / "Images" / path.name) for folder in folders)
        assert (small.dtype, small.max() <= 16383) == (np.uint16, True)
        np.testing.assert_array_equal(small, large // 4)


@pytest.mark.parametrize(
    "wrong", [{"wells": 385}, {"size": 32}, {"channels": 0}, {"fields": 0}, {"harmony": "v8"}, {"shape": 3}]
)
def test_configuration_out_of_bounds_is_refused(tmp_path, wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SimulateConfig(dest=tmp_path, **wrong)
