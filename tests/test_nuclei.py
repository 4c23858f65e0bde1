"""Nuclei are found as often as a person would find them, and each figure of a cell is what one counts by hand."""

import math

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from artifact_mask.config import SimulateConfig
from artifact_mask.kernels.cell_measurements import measure_cells
from artifact_mask.kernels.nuclei import NucleusSearch, expand_to_cells, segment_nuclei
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.workflows.simulate import simulate

SEARCH = NucleusSearch()


def draw(*disks, shape=(120, 160), noise=10.0, background=300.0):
    """Nuclei ``(y, x, radius, height)`` in pixels and grey values, blurred a little, on a noisy background."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.random.default_rng(1).normal(background, noise, shape)
    for cy, cx, radius, height in disks:
        image += height * np.clip(radius + 0.5 - np.hypot(y - cy, x - cx), 0, 1)
    return np.clip(image, 0, 65535).astype(np.uint16)


def find(image, pixel_size_um=0.5, search=SEARCH):
    return segment_nuclei(image, pixel_size_um=pixel_size_um, search=search)


def match(found, scene, pixel_size_um):
    """How many nuclei are found with more than half in common, over their union; how many there are to find; found.

    What others hide for more than half, and slivers at the border that are smaller than what is looked for, need not be
    found.
    """
    areas = np.bincount(scene.nuclei.ravel()) * pixel_size_um**2
    hard = {n for n in range(1, len(areas)) if scene.nuclei_hidden[n] > 0.5 or areas[n] < SEARCH.min_area_um2}
    hits = unwanted = 0
    for number in range(1, int(found.max()) + 1):
        own = found == number
        true = [n for n in set(scene.nuclei[own].tolist()) - {0} if _iou(own, scene.nuclei == n) > 0.5]
        hits += any(n not in hard for n in true)
        unwanted += all(n not in hard for n in set(scene.nuclei[own].tolist())) and not true
    return hits, hits + unwanted, len(areas) - 1 - len(hard)


def _iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_simulated_nuclei_are_found():
    counted = np.zeros(3)
    for seed in range(4):
        scene = draw_scene((720, 720), seed=(5, seed), dose=0.5, n_channels=2)
        counted += match(find(scene.image[1], 0.3), scene, 0.3)
    hits, found, true = counted
    assert true > 20
    assert 2 * hits / (found + true) >= 0.95


def test_disk_is_found_where_it_is_and_as_large():
    nuclei = find(draw((60, 80, 12, 3000)))
    y, x = np.nonzero(nuclei)
    assert nuclei.dtype == np.int32
    assert nuclei.max() == 1
    assert (y.mean(), x.mean()) == pytest.approx((60, 80), abs=0.2)
    assert y.size == pytest.approx(math.pi * 12**2, rel=0.05)


def test_touching_nuclei_are_split_and_one_long_nucleus_is_not():
    touching = find(draw((60, 60, 12, 3000), (60, 82, 12, 3000)))
    assert touching.max() == 2
    assert touching[60, 60] != touching[60, 82]
    y, x = np.mgrid[:120, :160]
    long = draw() + (3000 * (np.hypot((y - 60) / 10, (x - 80) / 24) < 1)).astype(np.uint16)
    assert find(long).max() == 1


def test_faint_nucleus_beside_a_bright_one_has_its_whole_area():
    nuclei = find(draw((60, 40, 12, 20000), (60, 110, 12, 3500)))
    assert nuclei.max() == 2
    faint = np.count_nonzero(nuclei == nuclei[60, 110])
    assert faint == pytest.approx(math.pi * 12**2, rel=0.1)


def test_nucleus_at_the_border_is_kept():
    nuclei = find(draw((0, 80, 12, 3000), (60, 159, 12, 3000)))
    assert nuclei[0, 80] > 0
    assert nuclei[60, 159] > 0


def test_noise_and_a_flat_field_have_no_nuclei():
    assert find(draw(noise=40.0)).max() == 0
    assert find(np.full((100, 100), 500, np.uint16)).max() == 0
    assert find(np.zeros((100, 100), np.uint16)).max() == 0


def test_sizes_are_in_micrometre_at_any_pixel_size():
    for pixel_size_um in (0.25, 0.5, 1.0):
        radius = 5 / pixel_size_um
        shape = (round(60 / pixel_size_um), round(80 / pixel_size_um))
        disks = [(shape[0] / 2, shape[1] * k / 4, r, 3000) for k, r in ((1, radius), (3, radius / 3))]
        nuclei = find(draw(*disks, shape=shape), pixel_size_um)
        assert nuclei.max() == 1
        assert np.count_nonzero(nuclei) * pixel_size_um**2 == pytest.approx(math.pi * 25, rel=0.15)
    assert find(draw((60, 80, 12, 3000)), 0.5, NucleusSearch(max_area_um2=100)).max() == 0


@given(
    nuclei=arrays(np.int32, (7, 9), elements=st.sampled_from([0, 0, 0, 0, 1, 2, 3])),
    reach=st.sampled_from([0.0, 1.0, 1.5, 3.0]),
)
def test_cell_is_what_is_near_its_nucleus(nuclei, reach):
    cells = expand_to_cells(nuclei, pixel_size_um=0.5, reach_um=reach * 0.5)
    np.testing.assert_array_equal(cells[nuclei > 0], nuclei[nuclei > 0])
    places = np.argwhere(nuclei)
    for y, x in np.ndindex(nuclei.shape):
        distances = np.hypot(*(places - (y, x)).T) if len(places) else np.array([np.inf])
        near = distances <= reach
        assert (cells[y, x] > 0) == near.any()
        if near.any():
            nearest = nuclei[tuple(places[distances == distances.min()].T)]
            assert cells[y, x] in nearest


CELLS = np.array([[5, 5, 5, 0], [5, 5, 0, 3], [0, 0, 3, 3], [8, 8, 0, 0]], np.int32)
NUCLEI = np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0]], np.int32)
NUCLEAR = np.array([[1, 1, 1, 1], [1, 70, 1, 1], [1, 1, 90, 1], [1, 1, 1, 1]], np.uint16)
DENSITY = np.array([[0.1, 0.2, 0.3, 9], [0.4, 0.5, 9, 0.6], [9, 9, 0.2, 0.4], [0.7, 0.7, 9, 9]], np.float32)
ARTIFACT = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]], bool)


def test_every_figure_of_three_cells_counted_by_hand():
    found = measure_cells(CELLS, NUCLEI, nuclear=NUCLEAR, density=DENSITY, is_artifact=ARTIFACT)
    expected = {
        "label": [3, 5, 8],
        "y_px": [(1 + 2 + 2) / 3, (0 + 0 + 0 + 1 + 1) / 5, 3],
        "x_px": [(3 + 2 + 3) / 3, (0 + 1 + 2 + 0 + 1) / 5, 0.5],
        "nucleus_area_px": [1, 1, 0],
        "nucleus_mean_intensity": [90, 70, math.nan],
        "cell_area_px": [3, 5, 2],
        "cell_mean_od": [(0.6 + 0.2) / 2, (0.1 + 0.2 + 0.4 + 0.5) / 4, math.nan],
        "cell_integrated_od_px": [0.8, 1.2, 0],
        "artifact_fraction": [1 / 3, 1 / 5, 1],
        # The nuclei do not reach the border, and the third cell, which has none, does.
        "touches_border": [False, False, True],
    }
    assert set(expected) == set(found._fields)
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(found, name), values, rtol=1e-6, err_msg=name)


def test_without_nuclei_the_cells_alone_are_measured():
    found = measure_cells(CELLS, None, nuclear=None, density=DENSITY, is_artifact=ARTIFACT)
    assert found.nucleus_area_px.tolist() == [0, 0, 0]
    assert np.isnan(found.nucleus_mean_intensity).all()
    assert found.touches_border.tolist() == [True, True, True]


def test_field_without_cells_has_no_figures():
    nothing = np.zeros_like(CELLS)
    found = measure_cells(nothing, nothing, nuclear=NUCLEAR, density=DENSITY, is_artifact=ARTIFACT)
    assert [len(column) for column in found] == [0] * len(found)


@given(st.permutations([3, 5, 8]))
def test_numbers_of_cells_do_not_matter(numbers):
    of = dict(zip((3, 5, 8), (n * 1000 for n in numbers), strict=True)) | {0: 0}
    renamed = np.vectorize(of.get)(CELLS).astype(np.int32)
    first = measure_cells(CELLS, NUCLEI, nuclear=NUCLEAR, density=DENSITY, is_artifact=ARTIFACT)
    other = measure_cells(renamed, NUCLEI, nuclear=NUCLEAR, density=DENSITY, is_artifact=ARTIFACT)
    order = np.argsort([of[label] for label in first.label.tolist()])
    for name in set(first._fields) - {"label"}:
        np.testing.assert_array_equal(getattr(first, name)[order], getattr(other, name))


def test_truth_about_nuclei_is_where_they_shine():
    scene = draw_scene((500, 600), seed=(5, 0), dose=0.5, n_channels=2)
    assert (scene.nuclei.shape, scene.nuclei.dtype) == ((500, 600), np.int32)
    assert sorted(set(scene.nuclei.ravel().tolist())) == list(range(len(scene.nuclei_hidden)))
    assert scene.nuclei_hidden.min() >= 0
    assert scene.nuclei_hidden.max() < 1
    light = scene.image[1].astype(float)
    assert np.median(light[scene.nuclei > 0]) > 3 * np.median(light[scene.nuclei == 0])


def test_simulation_writes_the_truth_about_nuclei_where_a_channel_shows_them(tmp_path):
    size = {"wells": 1, "fields": 1, "size": 128, "seed": 2}
    (one,) = simulate(SimulateConfig(dest=tmp_path / "one", **size))
    (two,) = simulate(SimulateConfig(dest=tmp_path / "two", channels=2, **size))
    assert not list((one / "Truth").glob("*nuclei*"))
    (file,) = (two / "Truth").glob("*_nuclei.png")
    assert file.name == "r02c02f01p01-ch1sk1fk1fl1_nuclei.png"
    nuclei = imagecodecs.png_decode(file.read_bytes())
    assert (nuclei.shape, nuclei.dtype) == ((128, 128), np.uint16)
    for name in ("artifacts.png", "stain.png", "illumination.tif"):
        (a,), (b,) = ((folder / "Truth").glob(f"*_{name}") for folder in (one, two))
        assert a.read_bytes() == b.read_bytes()
