"""Where a model does not fit: fields of the training kind are familiar, others are told, and `run` warns of a plate."""

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from listener import Listener
from scipy import ndimage

from artifact_mask.config import ClusterConfig, IngestConfig, RunConfig, SimulateConfig
from artifact_mask.engine.journal import FieldRecord
from artifact_mask.kernels.familiarity import Unfamiliar, describe_field, find_unfamiliar, summarise
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.metadata import Acquisition, Channel, Field, Plate, Well
from artifact_mask.nn.checkpoint import load_model, save_model
from artifact_mask.nn.model_card import UNetCard, find_unet, read_card
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate
from artifact_mask.workflows.unfamiliar import describe_unfamiliar

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
SIDE = 540


@cache
def _scene(seed, dose):
    return draw_scene((SIDE, SIDE), seed=(seed, 77), dose=dose, n_channels=3)


def _describe(image, mask):
    image = image.astype(np.float32)
    return describe_field(normalise_by_background(image, estimate_background(image)), mask)


def _fields(seeds, change=lambda image: image, channel=0):
    scenes = [_scene(seed, seed % 5 / 4) for seed in seeds]
    return [_describe(change(scene.image[channel]), scene.artifacts > 0) for scene in scenes]


def _columns(fields):
    return {name: [field[name] for field in fields] for name in fields[0]}


@pytest.fixture(scope="module")
def seen():
    return summarise(_fields(range(15)))


def _unusual(seen, *arguments, **options):
    return {found.name for found in find_unfamiliar(_columns(_fields(range(20, 28), *arguments, **options)), seen)}


def test_fields_of_the_training_kind_are_familiar(seen):
    assert _unusual(seen) == set()


def test_a_12_bit_camera_is_familiar(seen):
    assert _unusual(seen, lambda image: image // 16) == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda image: 65535 - image, "contrast_asymmetry"),
        (lambda image: image // 256, "flat_fraction"),
        (lambda image: np.minimum(image, np.percentile(image, 70)), "flat_fraction"),
        (lambda image: image * (1 + 0.08 * np.random.default_rng(0).standard_normal(image.shape)), "roughness"),
        (
            lambda image: (
                ndimage.gaussian_filter(image.astype(float), 8)
                * (1 + 0.01 * np.random.default_rng(0).standard_normal(image.shape))
            ),
            "sharpness",
        ),
    ],
    ids=["inverted", "8 bits", "clipped", "noisy", "defocused"],
)
def test_another_kind_of_image_is_told(seen, change, expected):
    assert expected in _unusual(seen, change)


@pytest.mark.parametrize("channel", [1, 2])
def test_a_fluorescence_channel_is_told(seen, channel):
    assert {"contrast_p99", "contrast_asymmetry"} <= _unusual(seen, channel=channel)


def test_a_plate_full_of_predicted_artifact_is_told(seen):
    measured = {"artifact_fraction": [0.4] * 6 + [0.01] * 3}
    (found,) = find_unfamiliar(measured, seen)
    assert (found.name, found.found, found.high) == ("artifact_fraction", 0.4, seen["artifact_fraction"][1])


def test_one_odd_field_does_not_make_a_plate_unfamiliar(seen):
    fields = _fields(range(20, 24)) + _fields([24], lambda image: 65535 - image)
    assert find_unfamiliar(_columns(fields), seen) == []


def test_real_fields_are_familiar_and_inverted_ones_are_not(shared_data):
    files = sorted((shared_data / "sabgal" / "images").glob("*.tiff"))
    images = [tifffile.imread(file) for file in files]
    clean = np.zeros(images[0].shape, bool)
    known = summarise([_describe(image, clean) for image in images[::2]])
    assert find_unfamiliar(_columns([_describe(image, clean) for image in images[1::2]]), known) == []
    inverted = find_unfamiliar(_columns([_describe(65535 - image, clean) for image in images[1::2]]), known)
    assert [found.name for found in inverted] == ["contrast_asymmetry"]


def test_what_is_masked_is_not_measured():
    scene = _scene(1, 0.25)
    image, mask = scene.image[0].copy(), np.zeros((SIDE, SIDE), bool)
    mask[100:160, 200:300] = True
    before = _describe(image, mask)
    contrast = normalise_by_background(image, estimate_background(image))
    contrast[mask] = np.random.default_rng(0).normal(0, 50, np.count_nonzero(mask))
    assert describe_field(contrast, mask) == before


@given(st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_any_size_and_a_full_mask_are_described(y, x, covered):
    described = describe_field(np.ones((y, x), np.float32), np.full((y, x), covered))
    assert described["artifact_fraction"] == covered
    if covered:
        assert all(math.isnan(value) for name, value in described.items() if name != "artifact_fraction")


def test_a_range_leaves_out_the_ends_of_many_fields_and_what_nobody_could_measure():
    fields = [{"roughness": i, "sharpness": math.nan} for i in range(101)]
    assert summarise(fields) == {"roughness": (2.5, 97.5)}
    assert summarise(fields[:10]) == {"roughness": (0, 9)}
    assert summarise([]) == {}


def test_nothing_is_said_without_a_range_or_a_measurement(seen):
    assert find_unfamiliar({"roughness": [99.0]}, {}) == []
    assert find_unfamiliar({"roughness": [math.nan]}, seen) == []
    assert find_unfamiliar({}, seen) == []


def test_a_range_is_widened_whatever_its_sign():
    seen = {"contrast_p01": (-2.0, -1.0)}
    assert find_unfamiliar({"contrast_p01": [-3.9]}, seen) == []
    assert find_unfamiliar({"contrast_p01": [-4.1]}, seen) == [Unfamiliar("contrast_p01", -4.1, -2.0, -1.0)]


def _plate(n_wells):
    wells = tuple(Well(2, 2 + i, (Field(0, 1, 0.0, 0.0),)) for i in range(n_wells))
    channels = (Channel(1, "Brightfield", "brightfield", 740.0),)
    return Plate("screen1", 16, 24, (Acquisition("m", (1, 1, 1, 64, 64), 0.3, 1.0, channels, wells),))


def _records(plate, fractions):
    keys = plate.acquisitions[0].field_keys
    return {key: FieldRecord({"artifact_fraction": value}, {}) for key, value in zip(keys, fractions, strict=True)}


def test_wells_that_stick_out_are_named():
    plate = _plate(6)
    (warning,) = describe_unfamiliar(
        plate, _records(plate, [0.01, 0.3, 0.0, 0.0, 0.6, 0.01]), {"artifact_fraction": (0, 0.02)}
    )
    assert "screen1: in wells B03, B06 artifacts cover more than 10%" in warning
    assert "2.0% at most" in warning


def test_a_dozen_wells_are_named_at_most():
    plate = _plate(22)
    fractions = [0.0] * 2 + [0.5] * 4 + [0.0] * 16
    assert "and" not in describe_unfamiliar(plate, _records(plate, fractions), {"artifact_fraction": (0, 0.02)})[0][:70]
    plate = _plate(40)
    fractions = [0.0] * 21 + [0.5] * 19
    assert "and 7 more" in describe_unfamiliar(plate, _records(plate, fractions), {"artifact_fraction": (0, 0.02)})[0]


def test_failed_fields_and_records_of_old_runs_are_passed_over(seen):
    plate = _plate(3)
    records = _records(plate, [0.01] * 3) | {("B/2", 0): FieldRecord({"error": "damaged"}, {})}
    assert describe_unfamiliar(plate, records, seen) == []
    assert describe_unfamiliar(plate, {}, seen) == []


def test_texture_is_not_compared_at_another_pixel_size(seen):
    plate = _plate(4)
    records = {key: FieldRecord({"roughness": 9.0, "contrast_asymmetry": 0.9}, {}) for key in plate.acquisition_of}
    (warning,) = describe_unfamiliar(plate, records, seen, resampled=True)
    assert "contrast_asymmetry" in warning
    assert "roughness" not in warning
    (warning,) = describe_unfamiliar(plate, records, seen)
    assert "roughness" in warning


def test_a_few_fields_say_too_little(seen):
    plate = _plate(3)
    records = {key: FieldRecord({"roughness": 9.0}, {}) for key in plate.acquisition_of}
    assert describe_unfamiliar(plate, records, seen) == []


@pytest.fixture
def small_plate(tmp_path):
    (export,) = simulate(SimulateConfig(dest=tmp_path / "export", wells=2, fields=2, size=320, channels=2, seed=3))
    ingest(IngestConfig(exports=export, dest=tmp_path / "plate.zarr", cluster=CLUSTER))
    return tmp_path / "plate.zarr"


@pytest.fixture
def model(tmp_path, seen):
    """The shipped model, with a card that says what it has seen."""
    network, card = load_model(find_unet(), UNetCard)
    save_model(tmp_path / "model.safetensors", network, card.model_copy(update={"seen": seen}))
    return tmp_path / "model.safetensors"


def test_a_card_keeps_what_was_seen(model, seen):
    assert read_card(model, UNetCard).seen == seen


@pytest.mark.usefixtures("shared_cluster")
class TestRun:
    def test_brightfield_is_familiar_and_its_statistics_are_in_the_tables(self, small_plate, model):
        listener = Listener()
        run(RunConfig(plates=small_plate, model=model, cluster=CLUSTER), listener)
        assert not any("Warning" in note for note in listener.notes)
        fields = pd.read_parquet(small_plate / "tables" / "fields" / "table.parquet")
        image = _columns([{"roughness": value} for value in fields["roughness"]])
        assert 0.02 < np.median(image["roughness"]) < 0.2
        assert fields[["contrast_p01", "contrast_p99", "contrast_asymmetry", "sharpness"]].notna().all(axis=None)

    def test_another_channel_is_warned_of_and_again_when_resumed(self, small_plate, model):
        config = RunConfig(plates=small_plate, model=model, channel="HOECHST 33342", cluster=CLUSTER)
        for _ in range(2):
            listener = Listener()
            run(config, listener)
            (warning,) = [note for note in listener.notes if "unlike" in note]
            assert "in the median of 4 fields" in warning
            assert "(another channel than brightfield, or clipped?)" in warning
            assert "artmask train unet" in warning
