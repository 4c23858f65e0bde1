import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from artifact_mask.kernels.tiles import plan_tiles

PLANS = st.fixed_dictionaries(
    {
        "shape": st.tuples(st.integers(1, 90), st.integers(1, 90)),
        "core_px": st.integers(1, 60),
        "halo_px": st.integers(0, 40),
        "multiple": st.sampled_from([1, 2, 8, 32]),
    }
)


def plan(arguments):
    arguments = dict(arguments)
    return plan_tiles(arguments.pop("shape"), **arguments)


@given(PLANS)
def test_every_pixel_lies_in_exactly_one_core(arguments):
    covered = np.zeros(arguments["shape"], int)
    for tile in plan(arguments):
        covered[tile.core] += 1
    assert (covered == 1).all()


@given(PLANS)
def test_the_inner_part_of_what_is_read_is_the_core(arguments):
    image = np.arange(np.prod(arguments["shape"])).reshape(arguments["shape"])
    for tile in plan(arguments):
        np.testing.assert_array_equal(image[tile.read][tile.inner], image[tile.core])


@given(PLANS)
def test_tiles_read_the_whole_halo_unless_the_image_ends(arguments):
    for tile in plan(arguments):
        for core, read, size in zip(tile.core, tile.read, arguments["shape"], strict=True):
            assert read.start <= max(core.start - arguments["halo_px"], 0)
            assert read.stop >= min(core.stop + arguments["halo_px"], size)


@given(PLANS)
def test_tiles_start_at_multiples_and_end_at_them_or_at_the_border(arguments):
    for tile in plan(arguments):
        for span, size in zip((*tile.core, *tile.read), 2 * arguments["shape"], strict=True):
            assert span.start % arguments["multiple"] == 0
            assert span.stop % arguments["multiple"] == 0 or span.stop == size


@given(PLANS)
def test_cores_are_not_longer_than_asked_for(arguments):
    longest = -(-arguments["core_px"] // arguments["multiple"]) * arguments["multiple"]
    assert all(span.stop - span.start <= longest for tile in plan(arguments) for span in tile.core)


@given(PLANS)
def test_a_filter_on_tiles_equals_the_filter_on_the_image(arguments):
    radius = arguments["halo_px"]
    image = np.random.default_rng(0).integers(0, 9, arguments["shape"])
    whole = ndimage.maximum_filter(image, 2 * radius + 1, mode="constant")
    tiled = np.empty_like(whole)
    for tile in plan(arguments):
        tiled[tile.core] = ndimage.maximum_filter(image[tile.read], 2 * radius + 1, mode="constant")[tile.inner]
    np.testing.assert_array_equal(tiled, whole)


def test_an_image_that_fits_is_one_tile():
    (tile,) = plan_tiles((1088, 1088), core_px=1536, halo_px=224, multiple=32)
    assert tile.core == tile.read == tile.inner == (slice(0, 1088), slice(0, 1088))


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((0, 5), {}), ((5, 5), {"core_px": 0}), ((5, 5), {"halo_px": -1}), ((5, 5), {"multiple": 0})],
)
def test_impossible_sizes_are_refused(shape, sizes):
    with pytest.raises(ValueError, match="expected positive sizes"):
        plan_tiles(shape, **({"core_px": 4, "halo_px": 0} | sizes))
