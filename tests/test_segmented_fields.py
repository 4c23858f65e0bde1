"""Fields with known artifacts are found in plates and folders; whatever is left out is told."""

import json
import warnings

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from exports import make_plate
from listener import Listener
from ngio import open_ome_zarr_container
from stores import writing
from upath import UPath

from artifact_mask.config import SimulateConfig
from artifact_mask.errors import ConfigError, ImageError, PlateError
from artifact_mask.io.label_images import list_labels, read_label_image
from artifact_mask.io.ome_zarr import write_field, write_labels
from artifact_mask.io.ome_zarr_plate import create_plate
from artifact_mask.workflows.progress import Silent
from artifact_mask.workflows.segmented_fields import find_segmented_fields
from artifact_mask.workflows.simulate import simulate

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of ome_zarr's own classes, on import
    from ome_zarr.writer import write_labels as write_foreign_labels

SIZE = 64


def pixels_of(well, index, z=0):
    return np.random.default_rng((well.row, well.column, index, z)).integers(0, 4000, (SIZE, SIZE), np.uint16)


def instances(number):
    labels = np.zeros((SIZE, SIZE), np.int32)
    labels[4 : 4 + number, 8:16] = number
    return labels


def write_plate(root, labels=None, *, name="plate-1", n_z=1, ngff="0.5", **given):
    """Write a plate; ``labels`` gives the names of the label images of each ``(well, index)``."""
    plate = make_plate(**{"wells": [(2, 3), (2, 4)], "field_ids": [3, 5]} | given, size=SIZE, n_z=n_z, name=name)
    (acquisition,) = plate.acquisitions
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="of-a-test", ngff=ngff)
        for well in plate.wells:
            for field in well.fields:
                folder = root / well.path / str(field.index)
                planes = [((0, 0, z), pixels_of(well, field.index, z)) for z in range(n_z)]
                write_field(files, folder, acquisition, field, planes, {}, ngff=ngff)
    for (well_name, index), names in (labels or {}).items():
        (well,) = (well for well in plate.wells if well.name == well_name)
        (field,) = (field for field in well.fields if field.index == index)
        for number, label in enumerate(names, start=1):
            with writing(root) as files:
                planes = [((0, z), instances(number + z)) for z in range(n_z)]
                write_labels(files, root / well.path / str(index), acquisition, field, planes, name=label, ngff=ngff)
    return plate


def find(*places, **given):
    defaults = {
        "labels": ("corrected", "weak"),
        "masks": None,
        "channel": None,
        "pixel_size_um": None,
        "ignore": None,
        "progress": Silent(),
    }
    return find_segmented_fields(places, **defaults | given)


def write_mask(path, mask):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(imagecodecs.png_encode(np.asarray(mask, np.uint8)))


def write_images(folder, stems):
    for stem in stems:
        (folder / "images").mkdir(exist_ok=True, parents=True)
        tifffile.imwrite(folder / "images" / f"{stem}.tif", np.full((SIZE, SIZE), 9, np.uint16))


def test_the_first_label_that_a_field_has_is_taken(tmp_path):
    write_plate(tmp_path / "p.zarr", {("B03", 0): ["weak"], ("B04", 1): ["weak", "corrected"]})
    listener = Listener()
    fields = find(tmp_path / "p.zarr", progress=listener)
    assert [(field.group, field.field, field.source) for field in fields] == [
        (("plate-1", "B03"), 0, "weak"),
        (("plate-1", "B04"), 1, "corrected"),
    ]
    assert listener.notes == [
        "2 fields have no label image corrected or weak and are left out; 1 have weak, 1 have corrected."
    ]
    assert np.array_equal(fields[1].read_mask(), instances(2) > 0)
    assert fields[0].name == "plate-1 B03 field 0"
    assert (fields[0].shape, fields[0].pixel_size_um) == ((SIZE, SIZE), 0.5)


def test_pixels_are_those_of_the_middle_plane(tmp_path):
    plate = write_plate(tmp_path / "p.zarr", {("B03", 0): ["weak"]}, n_z=3)
    (field,) = find(tmp_path / "p.zarr")
    assert np.array_equal(field.read(), pixels_of(plate.wells[0], 0, 1))
    assert np.array_equal(field.read_mask(), instances(2) > 0)


def test_one_label_number_can_be_left_out(tmp_path):
    write_plate(tmp_path / "p.zarr", {("B03", 0): ["other", "weak"]})
    (field,) = find(tmp_path / "p.zarr", ignore=2)
    assert set(np.unique(field.read_mask())) == {0, 255}


def test_no_label_at_all_names_those_that_exist(tmp_path):
    write_plate(tmp_path / "p.zarr", {("B03", 0): ["artifacts"], ("B03", 1): ["artifacts"]})
    with pytest.raises(ConfigError, match=r"None of 4 fields.*corrected or weak; found: artifacts \(2 fields\)"):
        find(tmp_path / "p.zarr")


def test_a_folder_of_plates_is_searched(tmp_path):
    for name in ("p", "q"):
        write_plate(tmp_path / f"{name}.zarr", {("B03", 0): ["weak"]}, name=name)
    assert [field.plate for field in find(tmp_path)] == ["p", "q"]


def test_unknown_channel_and_place_are_told(tmp_path):
    write_plate(tmp_path / "p.zarr", {("B03", 0): ["weak"]})
    with pytest.raises(PlateError, match="plate-1 has 0 channel named 'DAPI's"):
        find(tmp_path / "p.zarr", channel="DAPI")
    with pytest.raises(PlateError, match="does not exist"):
        find(tmp_path / "q.zarr")


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_labels_of_ngio_are_read(tmp_path, ngff):
    write_plate(tmp_path / "p.zarr", ngff=ngff)
    container = open_ome_zarr_container(tmp_path / "p.zarr" / "B/3/0")
    label = container.derive_label("corrected")
    label.set_array(np.broadcast_to(instances(5), label.shape).astype(label.dtype))
    label.consolidate()
    assert list_labels(tmp_path / "p.zarr" / "B/3/0") == ["corrected"]
    (field,) = find(tmp_path / "p.zarr")
    assert np.array_equal(field.read_mask(), instances(5) > 0)


@pytest.mark.parametrize("axes", ["yx", "zyx", "tczyx"])
def test_labels_of_ome_zarr_are_read_whatever_their_axes(tmp_path, axes):
    group = zarr.open_group(tmp_path / "image.zarr")
    stack = np.zeros((3,) * axes.count("z") + (SIZE, SIZE), np.uint8)
    stack[..., :, :] = instances(3)
    if "z" in axes:
        stack[0], stack[2] = 0, 0
    stack = stack.reshape((1,) * axes.count("t") + (1,) * axes.count("c") + stack.shape)
    write_foreign_labels(stack, group, "nuclei", axes=axes, scaler=None, scale_factors=[{"y": 2, "x": 2}])
    found = read_label_image(tmp_path / "image.zarr", "nuclei", (0, 1))
    assert np.array_equal(found, instances(3))


def test_labels_are_read_from_other_stores():
    root = UPath("memory://segmented/p.zarr")
    write_plate(root, {("B03", 1): ["weak"]})
    (field,) = find(root)
    assert np.array_equal(field.read_mask(), instances(1) > 0)


def describe_label(folder, **changes):
    document = json.loads((folder / "zarr.json").read_text())
    document["attributes"]["ome"]["multiscales"][0] |= changes
    (folder / "zarr.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"datasets": []}, "where its levels are"),
        ({"datasets": [{"path": "9"}]}, "no array '9'"),
        ({"axes": [{"name": "y"}, {"name": "x"}]}, "expected one size"),
    ],
)
def test_labels_that_are_no_labels_say_why(tmp_path, changes, says):
    write_plate(tmp_path / "p.zarr", {("B03", 0): ["weak"]})
    describe_label(tmp_path / "p.zarr" / "B/3/0/labels/weak", **changes)
    with pytest.raises(PlateError, match=says):
        read_label_image(tmp_path / "p.zarr" / "B/3/0", "weak", (0, 0))


def test_missing_label_names_those_that_are_there(tmp_path):
    write_plate(tmp_path / "p.zarr", {("B03", 0): ["weak"]})
    with pytest.raises(PlateError, match="no label image 'mine'; found weak"):
        read_label_image(tmp_path / "p.zarr" / "B/3/0", "mine", (0, 0))


def test_coarse_label_names_both_sizes(tmp_path):
    write_plate(tmp_path / "p.zarr")
    group = zarr.open_group(tmp_path / "p.zarr" / "B/3/0")
    write_foreign_labels(instances(3)[::2, ::2].astype(np.int32), group, "weak", axes="yx", scaler=None)
    (field,) = find(tmp_path / "p.zarr")
    with pytest.raises(ImageError, match="32 x 32 pixels, the image 64 x 64"):
        field.read_mask()


def test_masks_of_a_plate_are_matched_by_name(tmp_path):
    write_plate(tmp_path / "p.zarr")
    for stem in ("R02C03f05p01-ch1_corrected", "B04_0", "plate-1_B04_1", "A01_0"):
        write_mask(tmp_path / "gold" / f"{stem}.png", instances(4) > 0)
    listener = Listener()
    fields = find(tmp_path / "p.zarr", masks=tmp_path / "gold", progress=listener)
    assert [(field.well, field.field, field.source) for field in fields] == [
        ("B03", 1, "gold"),
        ("B04", 0, "gold"),
        ("B04", 1, "gold"),
    ]
    assert np.array_equal(fields[0].read_mask(), instances(4) > 0)
    assert any("1 masks belong to no field" in note and "A01_0.png" in note for note in listener.notes)
    assert any(note.startswith("1 of 4 fields have no mask") for note in listener.notes)


def test_masks_that_match_nothing_are_an_error(tmp_path):
    write_plate(tmp_path / "p.zarr")
    write_mask(tmp_path / "gold" / "other-plate_B03_0.png", instances(4) > 0)
    with pytest.raises(ConfigError, match=r"No mask .* other-plate_B03_0\.png.*r02c03f03 or B03_0"):
        find(tmp_path / "p.zarr", masks=tmp_path / "gold")


def test_a_name_without_plate_is_ambiguous_among_several(tmp_path):
    for name in ("p", "q"):
        write_plate(tmp_path / "plates" / f"{name}.zarr", name=name)
    write_mask(tmp_path / "gold" / "B03_0.png", instances(4) > 0)
    with pytest.raises(ConfigError, match=r"could belong to 2 fields.*p_B03_0, q_B03_0"):
        find(tmp_path / "plates", masks=tmp_path / "gold")
    (tmp_path / "gold" / "B03_0.png").rename(tmp_path / "gold" / "q_B03_0.png")
    (field,) = find(tmp_path / "plates", masks=tmp_path / "gold")
    assert field.plate == "q"


def test_two_masks_for_a_field_are_refused(tmp_path):
    write_plate(tmp_path / "p.zarr")
    for stem in ("B03_0", "r02c03f03"):
        write_mask(tmp_path / "gold" / f"{stem}.png", instances(4) > 0)
    with pytest.raises(ConfigError, match=r"B03_0\.png, r02c03f03\.png for one field"):
        find(tmp_path / "p.zarr", masks=tmp_path / "gold")


def test_the_truth_of_a_simulation_can_be_given_as_it_is(tmp_path):
    (folder,) = simulate(SimulateConfig(dest=tmp_path, wells=1, fields=2, size=SIZE, seed=3))
    write_plate(tmp_path / "p.zarr", wells=[(2, 2)], field_ids=[1, 2])
    fields = find(tmp_path / "p.zarr", masks=folder / "Truth")
    assert [field.field for field in fields] == [0, 1]
    for field, number in zip(fields, (1, 2), strict=True):
        truth = (folder / "Truth" / f"r02c02f{number:02d}p01-ch1sk1fk1fl1_artifacts.png").read_bytes()
        assert np.array_equal(field.read_mask(), imagecodecs.png_decode(truth) > 0)


def test_images_and_masks_are_paired_by_name(tmp_path):
    write_images(tmp_path, ["r02c03f04p01", "scan", "lonely"])
    for stem in ("r02c03f04p01", "scan", "stranger"):
        write_mask(tmp_path / "masks" / f"{stem}.png", instances(2) > 0)
    listener = Listener()
    fields = find(tmp_path, pixel_size_um=0.3, progress=listener)
    assert [(f.name, f.group, f.field, f.source) for f in fields] == [
        ("r02c03f04p01.tif", ("", "B03"), 4, "masks"),
        ("scan.tif", ("", "scan"), 0, "masks"),
    ]
    assert fields[0].pixel_size_um == 0.3
    assert (fields[0].read() == 9).all()
    assert np.array_equal(fields[0].read_mask(), instances(2) > 0)
    assert [note.split(": ", 1)[1] for note in listener.notes] == [
        "1 images have no mask and are left out: lonely.",
        "1 masks have no image and are left out: stranger.",
    ]


def test_tiffs_need_a_pixel_size(tmp_path):
    write_images(tmp_path, ["a"])
    write_mask(tmp_path / "masks" / "a.png", instances(2) > 0)
    with pytest.raises(ConfigError, match="--pixel-size-um"):
        find(tmp_path)


def test_no_pair_is_an_error(tmp_path):
    write_images(tmp_path, ["a"])
    write_mask(tmp_path / "masks" / "b.png", instances(2) > 0)
    with pytest.raises(ConfigError, match=r"images a and the masks b"):
        find(tmp_path, pixel_size_um=0.3)


def test_damaged_images_are_left_out_and_named(tmp_path):
    write_images(tmp_path, ["a", "b"])
    (tmp_path / "images" / "a.tif").write_bytes(b"torn")
    for stem in "ab":
        write_mask(tmp_path / "masks" / f"{stem}.png", instances(2) > 0)
    listener = Listener()
    assert [field.name for field in find(tmp_path, pixel_size_um=0.3, progress=listener)] == ["b.tif"]
    assert "a.tif is left out" in listener.notes[0]


def test_masks_without_a_plate_make_no_sense(tmp_path):
    write_images(tmp_path, ["a"])
    write_mask(tmp_path / "masks" / "a.png", instances(2) > 0)
    with pytest.raises(ConfigError, match="no plate was given"):
        find(tmp_path, pixel_size_um=0.3, masks=tmp_path / "masks")
