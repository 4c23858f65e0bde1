"""Labels that a network contradicts are left out of the next round."""

import numpy as np

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
