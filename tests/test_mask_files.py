"""Masks of other tools are read as they were meant, or refused with a reason."""

import json
import zipfile

import imagecodecs
import numpy as np
import pytest
import roifile
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from artifact_mask.errors import ConfigError, ImageError
from artifact_mask.io.mask_files import list_masks, read_mask
from artifact_mask.kernels.outlines import ellipse, fill_outline

SHAPE = (40, 50)
SQUARE = [(10, 5), (20, 5), (20, 15), (10, 15)]
"""x and y."""


def classes():
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:15, 10:20] = 3
    mask[30, 30] = 255
    return mask


def square(value=1):
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:15, 10:20] = value
    return mask


def save(folder, pixels, suffix):
    path = folder / f"mask{suffix}"
    if suffix == ".npy":
        np.save(path, pixels)
    elif suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    else:
        tifffile.imwrite(path, pixels)
    return path


def write_geojson(path, *features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def feature(geometry, *, name=None, classification=None):
    """Describe an annotation as QuPath 0.5 exports it."""
    properties = {"objectType": "annotation"}
    if name:
        properties["name"] = name
    if classification:
        properties["classification"] = {"name": classification, "color": [200, 0, 0]}
    return {"type": "Feature", "id": "1b3f", "geometry": geometry, "properties": properties}


def polygon(*rings):
    return {"type": "Polygon", "coordinates": [[*map(list, ring), list(ring[0])] for ring in rings]}


def roi_of(points, name="0001"):
    roi = roifile.ImagejRoi.frompoints(points)
    roi.roitype = roifile.ROI_TYPE.POLYGON
    roi.name = name
    return roi


def shape_roi(kind, top, left, bottom, right, name="shape"):
    return roifile.ImagejRoi(
        roitype=kind, top=top, left=left, bottom=bottom, right=right, name=name, n_coordinates=0, version=227
    )


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".npy"])
def test_any_value_but_that_to_ignore_is_an_artifact(tmp_path, suffix):
    mask = read_mask(save(tmp_path, classes(), suffix), SHAPE, ignore=255)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, np.where(classes() == 3, 1, classes()))


def test_255_beside_other_values_must_be_explained(tmp_path):
    path = save(tmp_path, classes(), ".png")
    with pytest.raises(ConfigError, match=r"255 beside others of 3.*--ignore 255.*--ignore -1"):
        read_mask(path, SHAPE, ignore=None)
    assert read_mask(path, SHAPE, ignore=-1)[30, 30] == 1


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 2, 3), (0, 255, 700)])
def test_values_without_doubt_need_no_word(tmp_path, values):
    pixels = np.resize(np.array(values, np.uint16), SHAPE)
    assert np.array_equal(read_mask(save(tmp_path, pixels, ".tif"), SHAPE, ignore=None), pixels > 0)


def test_truth_may_be_boolean_or_one_bit(tmp_path):
    truth = square() > 0
    np.save(tmp_path / "mask.npy", truth)
    assert np.array_equal(read_mask(tmp_path / "mask.npy", None, ignore=None), truth)


def test_grey_with_colours_is_read_and_colours_are_refused(tmp_path):
    grey = np.repeat(square(255)[..., None], 4, axis=-1)
    grey[..., 3] = 255
    assert np.array_equal(read_mask(save(tmp_path, grey, ".png"), SHAPE, ignore=None), square())
    grey[0, 0, 1] = 7
    with pytest.raises(ImageError, match="greyscale"):
        read_mask(save(tmp_path, grey, ".png"), SHAPE, ignore=None)


def test_probabilities_are_no_mask(tmp_path):
    with pytest.raises(ImageError, match="threshold"):
        read_mask(save(tmp_path, np.full(SHAPE, 0.3, np.float32), ".tif"), SHAPE, ignore=None)


def test_wrong_size_names_both(tmp_path):
    with pytest.raises(ImageError, match=r"40 x 50 pixels, the image 80 x 100"):
        read_mask(save(tmp_path, square(), ".png"), (80, 100), ignore=None)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.roi", "a.zip", "a.geojson"])
def test_damaged_files_say_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00 not what it seems")
    with pytest.raises(ImageError, match=rf"{name}.*(again|ROI)"):
        read_mask(tmp_path / name, SHAPE, ignore=None)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.png is missing"):
        read_mask(tmp_path / "gone.png", SHAPE, ignore=None)


def test_npy_with_pickles_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(ImageError, match="damaged"):
        read_mask(tmp_path / "a.npy", None, ignore=None)


def test_imagej_rois_are_filled(tmp_path):
    roifile.roiwrite(
        tmp_path / "a.zip",
        [
            roi_of(SQUARE),
            shape_roi(roifile.ROI_TYPE.RECT, 30, 2, 34, 8),
            roi_of([(30, 20), (36, 20), (36, 24), (30, 24)], name="Ignore 1"),
        ],
    )
    expected = square()
    expected[30:34, 2:8] = 1
    expected[20:24, 30:36] = 255
    assert np.array_equal(read_mask(tmp_path / "a.zip", SHAPE, ignore=None), expected)


def test_a_single_roi_and_files_of_a_mac_are_understood(tmp_path):
    roi_of(SQUARE).tofile(tmp_path / "a.roi")
    assert np.array_equal(read_mask(tmp_path / "a.roi", SHAPE, ignore=None), square())
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("one.roi", roi_of(SQUARE).tobytes())
        archive.writestr("__MACOSX/._one.roi", b"resource fork")
    assert np.array_equal(read_mask(tmp_path / "b.zip", SHAPE, ignore=None), square())


def test_an_oval_has_the_area_of_an_ellipse(tmp_path):
    shape_roi(roifile.ROI_TYPE.OVAL, 5, 10, 35, 40).tofile(tmp_path / "a.roi")
    mask = read_mask(tmp_path / "a.roi", SHAPE, ignore=None)
    assert mask.sum() == pytest.approx(np.pi * 15**2, rel=0.02)
    assert mask[20, 25] == 1
    assert not mask[6, 11]


def test_composite_rois_have_holes(tmp_path):
    path = []
    for ring in (SQUARE, [(13, 8), (16, 8), (16, 11), (13, 11)]):
        path += [0, *ring[0], *(value for point in ring[1:] for value in (1, *point)), 4]
    roi = shape_roi(roifile.ROI_TYPE.RECT, 5, 10, 15, 20)
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    roi.tofile(tmp_path / "a.roi")
    expected = square()
    expected[8:11, 13:16] = 0
    assert np.array_equal(read_mask(tmp_path / "a.roi", SHAPE, ignore=None), expected)


def test_lines_surround_nothing(tmp_path):
    roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, x1=1, y1=2, x2=8, y2=9, name="scratch", version=227)
    roi.tofile(tmp_path / "a.roi")
    with pytest.raises(ImageError, match=r"lines or points \(scratch\)"):
        read_mask(tmp_path / "a.roi", SHAPE, ignore=None)


def test_zip_without_rois_is_not_clean(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "nothing")
    with pytest.raises(ImageError, match="has no ROI"):
        read_mask(tmp_path / "a.zip", SHAPE, ignore=None)


def test_outlines_need_the_size_of_the_image(tmp_path):
    with pytest.raises(ConfigError, match="how large"):
        read_mask(write_geojson(tmp_path / "a.geojson"), None, ignore=None)


def test_qupath_annotations_are_filled(tmp_path):
    hole = [(13, 8), (16, 8), (16, 11), (13, 11)]
    pair = {
        "type": "MultiPolygon",
        "coordinates": [polygon([(0, 0), (2, 0), (2, 2), (0, 2)])["coordinates"], polygon(SQUARE, hole)["coordinates"]],
    }
    path = write_geojson(
        tmp_path / "a.geojson",
        feature(pair, classification="Debris"),
        feature(polygon([(30, 20), (36, 20), (36, 24), (30, 24)]), classification="Ignore*"),
        feature(polygon([(40, 30), (42, 30), (42, 32), (40, 32)]), name="IGNORE me", classification="Debris"),
    )
    expected = square()
    expected[8:11, 13:16] = 0
    expected[0:2, 0:2] = 1
    expected[20:24, 30:36] = 255
    expected[30:32, 40:42] = 255
    assert np.array_equal(read_mask(path, SHAPE, ignore=None), expected)


def test_what_is_to_be_ignored_lies_above(tmp_path):
    path = write_geojson(
        tmp_path / "a.geojson",
        feature(polygon(SQUARE), classification="Ignore*"),
        feature(polygon(SQUARE), classification="Debris"),
    )
    assert np.array_equal(read_mask(path, SHAPE, ignore=None), square(255))


@pytest.mark.parametrize("document", [[feature(polygon(SQUARE))], feature(polygon(SQUARE))])
def test_lists_and_single_features_are_understood(tmp_path, document):
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert np.array_equal(read_mask(tmp_path / "a.json", SHAPE, ignore=None), square())


@pytest.mark.parametrize("classification", ["Ignore", {"names": ["ignore", "edge"]}])
def test_classes_of_other_versions_of_qupath_are_understood(tmp_path, classification):
    one = feature(polygon(SQUARE))
    one["properties"]["classification"] = classification
    assert np.array_equal(read_mask(write_geojson(tmp_path / "a.geojson", one), SHAPE, ignore=None), square(255))


def test_a_field_without_annotations_is_clean(tmp_path):
    assert not read_mask(write_geojson(tmp_path / "a.geojson"), SHAPE, ignore=None).any()


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "Topology"}',
        '{"type": "FeatureCollection", "features": [{"type": "Feature"}]}',
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": {"type": "Polygon", '
        '"coordinates": [[[0, NaN], [1, 1], [2, 0]]]}}]}',
        "[1, 2]",
    ],
)
def test_json_that_is_no_geojson_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ImageError, match="no GeoJSON"):
        read_mask(tmp_path / "a.json", SHAPE, ignore=None)


def test_outlines_beyond_the_image_are_cut(tmp_path):
    path = write_geojson(tmp_path / "a.geojson", feature(polygon([(-50, -50), (500, -50), (500, 500), (-50, 500)])))
    assert read_mask(path, SHAPE, ignore=None).all()


@given(st.lists(st.tuples(st.floats(-5, 15), st.floats(-5, 15)), min_size=0, max_size=8))
def test_filling_agrees_with_a_ray_for_each_pixel(points):
    def is_inside(x, y):
        inside = False
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            if (y0 <= y) != (y1 <= y) and x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                inside = not inside
        return inside

    expected = [[is_inside(x + 0.5, y + 0.5) for x in range(9)] for y in range(7)]
    filled = fill_outline([np.reshape(points, (-1, 2))], (7, 9))
    # Where an edge runs through the middle of a pixel, either is right.
    assert (
        np.count_nonzero(filled != np.array(expected))
        <= sum(abs((x * 2) % 2 - 1) < 1e-6 or abs((y * 2) % 2 - 1) < 1e-6 for x, y in points) * 9
    )


def test_an_ellipse_reaches_its_box():
    outline = ellipse(2, 3, 10, 6)
    assert np.allclose([outline.min(axis=0), outline.max(axis=0)], [(2, 3), (12, 9)])


def test_masks_are_listed_by_name(tmp_path):
    for name in ("b.png", "a.geojson", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert list_masks(tmp_path) == {"a": tmp_path / "a.geojson", "b": tmp_path / "b.png"}


def test_two_masks_of_one_name_are_refused(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "a.zip").touch()
    with pytest.raises(ConfigError, match=r"a\.png and a\.zip"):
        list_masks(tmp_path)


def test_folders_without_masks_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="has no mask"):
        list_masks(tmp_path)
    with pytest.raises(ConfigError, match="cannot be listed"):
        list_masks(tmp_path / "nowhere")
