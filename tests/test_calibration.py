"""Thresholds are chosen where they are best, and cuts make objects of probabilities as they say."""

import numpy as np
import pytest

from artifact_mask.kernels.calibration import calibrate
from artifact_mask.kernels.labels import Cut, label_artifacts
from artifact_mask.kernels.truth import TruthField
from artifact_mask.nn.model_card import UNetCard, UNetSpec


def graded(peak, alarm, *, left_out=False):
    """Give an object of a probability, and a small false alarm of another one."""
    truth, probability = np.zeros((80, 80), np.uint8), np.zeros((80, 80), np.float16)
    truth[20:30, 20:30] = 1
    probability[20:30, 20:30] = peak
    probability[60:64, 60:65] = alarm
    if left_out:
        truth[55:70, 55:70] = 255
    return TruthField(np.zeros((80, 80), np.float32), truth), probability


def test_the_threshold_lies_between_alarms_and_artifacts():
    chosen = calibrate([graded(0.75, 0.45), graded(0.7, 0.35)], 0, min_objects_px=(1,))
    assert chosen.cut.threshold in (0.5, 0.6)
    assert chosen.n_fields == 2


def test_small_alarms_are_told_by_their_size():
    chosen = calibrate([graded(0.75, 0.95)] * 2, 0, thresholds=(0.5,), min_objects_px=(5, 40, 200))
    assert chosen.cut.min_object_px == 40


def test_what_is_left_out_counts_for_nothing():
    fields = [graded(0.75, 0.95, left_out=True), graded(0.35, 0.95, left_out=True)]
    assert calibrate(fields, 0, min_objects_px=(5,)).cut.threshold == 0.3


def test_a_faint_shadow_is_worth_a_lower_threshold_of_large_objects():
    field, probability = graded(0.9, 0.3)
    field.truth[35:79, 2:50] = 1
    probability[35:79, 2:50] = 0.22
    chosen = calibrate([(field, probability)], 0, thresholds=(0.5,), min_objects_px=(5,))
    assert chosen.cut.large_threshold in (0.1, 0.15, 0.2)
    assert calibrate([graded(0.9, 0.3)], 0).cut.large_threshold is None


def test_without_an_artifact_there_is_nothing_to_choose():
    nothing = TruthField(np.zeros((9, 9), np.float32), np.zeros((9, 9), np.uint8))
    assert calibrate([(nothing, np.zeros((9, 9), np.float16))], 0) is None
    assert calibrate([], 0) is None


def scene():
    """Give a sure core in a dark clump, a sure speck, a large faint shadow, and a small faint alarm."""
    probability, contrast = np.zeros((120, 120), np.float32), np.zeros((120, 120), np.float32)
    contrast[10:30, 10:30] = -3
    probability[14:28, 14:28] = 0.9
    probability[10:14, 60:64] = 0.9
    probability[60:110, 10:60] = 0.3
    probability[60:70, 80:90] = 0.3
    return probability, contrast


@pytest.mark.parametrize(
    ("given", "areas"),
    [
        ({}, [196, 16]),
        ({"reach_px": 20}, [400, 16]),
        ({"large_threshold": 0.2}, [196, 16, 2500]),
        ({"reach_px": 20, "large_threshold": 0.2, "large_object_px": 100}, [400, 16, 2500, 100]),
        ({"min_object_px": 20}, [196]),
    ],
)
def test_a_cut_makes_the_objects_that_it_says(given, areas):
    labels = label_artifacts(*scene(), Cut(**{"threshold": 0.5, "min_object_px": 5} | given))
    assert sorted(np.bincount(labels.ravel())[1:]) == sorted(areas)


def test_objects_that_meet_become_one():
    probability, contrast = np.zeros((40, 60), np.float32), np.zeros((40, 60), np.float32)
    contrast[10:20, 10:40] = -3
    probability[10:20, 10:22] = probability[10:20, 28:40] = 0.9
    labels = label_artifacts(probability, contrast, Cut(0.5, 5, reach_px=10))
    assert np.bincount(labels.ravel())[1:].tolist() == [300]


@pytest.mark.parametrize(("believed", "areas"), [(0.9, [400]), (0.1, [])])
def test_an_object_in_a_dark_clump_that_is_not_believed_is_a_stained_cell(believed, areas):
    probability, contrast = np.zeros((60, 60), np.float32), np.zeros((60, 60), np.float32)
    contrast[20:40, 20:40] = -2
    probability[20:40, 20:40] = believed
    probability[20:30, 20:30] = 0.95
    labels = label_artifacts(probability, contrast, Cut(0.5, 5, reach_px=20))
    assert np.bincount(labels.ravel())[1:].tolist() == areas
    # Nothing tells a cell from an artifact where nothing is known of what is dark, or nobody looks around.
    alone = [400] if areas else [100]
    for contrast_or_none, reach_px in ((None, 20), (contrast, 0)):
        labels = label_artifacts(probability, contrast_or_none, Cut(0.5, 5, reach_px=reach_px))
        assert np.bincount(labels.ravel())[1:].tolist() == alone


def test_an_unsure_object_in_a_light_place_is_kept():
    probability = np.zeros((30, 30), np.float32)
    probability[5:15, 5:15] = 0.25
    labels = label_artifacts(probability, np.zeros((30, 30), np.float32), Cut(0.2, 5, reach_px=20))
    assert np.count_nonzero(labels) == 100


def test_a_stained_cell_leaves_the_artifact_beside_it_alone():
    probability, contrast = np.zeros((60, 60), np.float32), np.zeros((60, 60), np.float32)
    contrast[20:40, 20:40] = -2
    probability[20:25, 20:25] = 0.9
    probability[45:50, 20:40] = 0.9
    labels = label_artifacts(probability, contrast, Cut(0.5, 5, reach_px=30))
    assert labels[45:50, 20:40].all()
    assert np.count_nonzero(labels) == 100


@pytest.mark.parametrize(("n_dark", "is_kept"), [(0, True), (11, True), (13, False), (50, False)])
def test_a_large_object_is_a_shadow_only_if_little_of_it_is_dark(n_dark, is_kept):
    probability, contrast = np.zeros((80, 80), np.float32), np.zeros((80, 80), np.float32)
    probability[10:60, 10:60] = 0.3
    contrast[10 : 10 + n_dark, 10:60] = -2
    for given, expected in ((contrast, is_kept), (None, True)):
        labels = label_artifacts(probability, given, Cut(0.5, 5, reach_px=0, large_threshold=0.2))
        assert np.count_nonzero(labels) == (2500 if expected else 0)


def test_a_card_says_how_to_cut_at_any_pixel_size():
    card = UNetCard(
        name="n",
        version="1",
        architecture=UNetSpec(),
        pixel_size_um=0.3,
        threshold=0.5,
        min_object_px=40,
        reach_um=9,
        large_threshold=0.15,
        licence="0BSD",
    )
    assert card.cut() == Cut(0.5, 40, pytest.approx(30), 0.15, 1500)
    assert card.cut(2.0) == Cut(0.5, 10, pytest.approx(15), 0.15, 375)
    assert card.cut(threshold=0.1, min_object_px=7, reach_um=0) == Cut(0.1, 7, 0, 0.1, 1500)
