"""Labels that a network contradicts are left out; thresholds are chosen where they are best."""

import numpy as np
import pytest

from artifact_mask.kernels.calibration import calibrate
from artifact_mask.kernels.label_cleaning import clean_truth

SQUARES = {"seen": (10, 10), "denied": (10, 50), "unlabelled": (50, 10)}


def scene():
    truth, probability = np.zeros((80, 80), np.uint8), np.full((80, 80), 0.01, np.float32)
    for name, (y, x) in SQUARES.items():
        window = np.s_[y : y + 8, x : x + 8]
        if name != "unlabelled":
            truth[window] = 1
        if name != "denied":
            probability[window] = 0.95
    return truth, probability


def test_contradictions_are_left_out_and_agreement_stays():
    truth, probability = scene()
    cleaned, n_denied, n_added = clean_truth(truth, probability)
    assert (n_denied, n_added) == (1, 1)
    assert (cleaned[10:18, 10:18] == 1).all()
    for name in ("denied", "unlabelled"):
        y, x = SQUARES[name]
        assert (cleaned[y - 3 : y + 11, x - 3 : x + 11] == 255).all()
    assert (cleaned == 255).sum() == 2 * 14 * 14
    assert truth.max() == 1


def test_a_neighbour_of_a_doubtful_object_keeps_its_label():
    truth, probability = scene()
    truth[10:18, 60:68] = 1  # two pixels beside the denied one
    probability[10:18, 60:68] = 0.9
    assert (clean_truth(truth, probability)[0][10:18, 60:68] == 1).all()


def test_where_all_agree_nothing_changes():
    truth, probability = scene()
    agreed = np.where(truth == 1, 0.9, 0.05).astype(np.float32)
    assert clean_truth(truth, agreed)[1:] == (0, 0)
    np.testing.assert_array_equal(clean_truth(truth, agreed)[0], truth)
    assert clean_truth(np.zeros_like(truth), np.zeros_like(probability))[1:] == (0, 0)


def graded(peak, alarm):
    """Give an object of a probability, and a small false alarm of another one."""
    truth, probability = np.zeros((80, 80), np.uint8), np.zeros((80, 80), np.float32)
    truth[20:30, 20:30] = 1
    probability[20:30, 20:30] = peak
    probability[60:64, 60:65] = alarm
    return truth, probability


def test_the_threshold_lies_between_alarms_and_artifacts():
    chosen = calibrate([graded(0.75, 0.45), graded(0.7, 0.35)], min_objects_px=(1,))
    assert chosen.threshold in (0.5, 0.6)
    assert chosen.n_fields == 2


def test_small_alarms_are_told_by_their_size():
    chosen = calibrate([graded(0.75, 0.95)] * 2, thresholds=(0.5,), min_objects_px=(5, 40, 200))
    assert chosen.min_object_px == 40


def test_what_is_left_out_counts_for_nothing():
    truth, probability = graded(0.75, 0.95)
    truth[55:70, 55:70] = 255
    assert calibrate([(truth, probability)], thresholds=(0.5,), min_objects_px=(5,)) is not None
    without = calibrate([(truth, probability)], min_objects_px=(5,))
    assert without.threshold == pytest.approx(0.4, abs=0.2)


def test_without_an_artifact_there_is_nothing_to_choose():
    assert calibrate([(np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.float32))]) is None
    assert calibrate([]) is None
