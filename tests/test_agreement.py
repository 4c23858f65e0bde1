"""Scores of masks agree with their definitions, with a plain implementation, and with values by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from sklearn.metrics import average_precision_score

from artifact_mask.kernels.agreement import BINS, NOTHING, Counts, Truth, pool, precision_recall

EIGHT = np.ones((3, 3))
CLASSES = arrays(np.uint8, (14, 17), elements=st.sampled_from([0, 0, 0, 0, 0, 1, 2, 255]))
MASKS = arrays(np.bool_, (14, 17), elements=st.sampled_from([False, False, True]))


def truth_of(classes):
    return Truth(classes == 1, classes > 1)


def scores_by_loops(classes, predicted, ring_px):
    """Count as the definitions say it, pixel by pixel and object by object."""
    marks = np.argwhere(classes > 0)

    def distance(place):
        return min((math.dist(place, mark) for mark in marks), default=math.inf)

    n_true = n_false = n_missed = n_background = 0
    for place in np.ndindex(classes.shape):
        if classes[place] == 1:
            n_true, n_missed = n_true + predicted[place], n_missed + (not predicted[place])
        elif classes[place] == 0 and distance(place) > ring_px:
            n_false, n_background = n_false + predicted[place], n_background + (not predicted[place])
    labels, n_objects = ndimage.label(classes == 1, EIGHT)
    n_found = sum(2 * predicted[labels == i].sum() >= (labels == i).sum() for i in range(1, n_objects + 1))
    parts, n_parts = ndimage.label(predicted, EIGHT)
    n_false_objects = sum(
        all(distance(tuple(place)) > max(ring_px, 1) for place in np.argwhere(parts == i))
        for i in range(1, n_parts + 1)
    )
    return (n_true, n_false, n_missed, n_background, n_objects, n_found, n_false_objects)


@pytest.mark.parametrize("ring_px", [0, 2, 10])
@given(classes=CLASSES, predicted=MASKS)
def test_counts_are_those_of_the_definitions(ring_px, classes, predicted):
    expected = scores_by_loops(classes, predicted, ring_px)
    assert truth_of(classes).count(predicted, ring_px=ring_px) == Counts(*map(int, expected))


@given(classes=CLASSES)
def test_the_truth_agrees_with_itself(classes):
    counts = truth_of(classes).count(classes == 1, ring_px=0)
    assert (counts.false_px, counts.missed_px, counts.n_false_objects) == (0, 0, 0)
    assert counts.n_found == counts.n_objects


@given(classes=CLASSES, predicted=MASKS)
def test_what_is_left_out_does_not_matter(classes, predicted):
    truth = truth_of(classes)
    other = np.where(classes > 1, ~predicted, predicted)
    before, after = (truth.count(mask, ring_px=0) for mask in (predicted, other))
    assert (before.true_px, before.false_px, before.missed_px) == (after.true_px, after.false_px, after.missed_px)
    assert before.background_px == after.background_px


def test_scores_are_those_by_hand():
    counts = Counts(true_px=6, false_px=2, missed_px=4, background_px=88, n_objects=3, n_found=2, n_false_objects=1)
    assert counts.artifact == pytest.approx((6 / 8, 6 / 10, 12 / 18, 6 / 12))
    assert counts.background == pytest.approx((88 / 92, 88 / 90, 176 / 182, 88 / 94))
    assert counts.mean_iou == pytest.approx((6 / 12 + 88 / 94) / 2)
    assert counts.accuracy == pytest.approx(0.94)
    assert counts.object_recall == pytest.approx(2 / 3)


def test_a_ratio_of_nothing_is_nan():
    assert all(math.isnan(value) for value in (*NOTHING.artifact, NOTHING.mean_iou, NOTHING.object_recall))


def test_fields_are_pooled_by_their_counts():
    assert pool([Counts(1, 2, 3, 4, 5, 6, 7), Counts(10, 20, 30, 40, 50, 60, 70)]) == Counts(11, 22, 33, 44, 55, 66, 77)


def test_alarms_in_a_clean_field_are_counted():
    clean = Truth(np.zeros((9, 9), bool), np.zeros((9, 9), bool))
    predicted = np.zeros((9, 9), bool)
    predicted[0, 0] = predicted[8, 8] = True
    for ring_px in (0, 10):
        counts = clean.count(predicted, ring_px=ring_px)
        assert (counts.n_false_objects, counts.false_px) == (2, 2)
        assert counts.artifact.f1 == 0


def test_curve_and_its_area_are_those_of_scikit_learn():
    rng = np.random.default_rng(7)
    fields = [(rng.random((40, 50)) < 0.1, np.clip(rng.normal(0.4, 0.2, (40, 50)), 0, 1)) for _ in range(3)]
    # On the edges of bins nothing is rounded.
    fields = [(target, (np.round((p + 0.2 * target).clip(0, 1) * (BINS - 1)) / BINS)) for target, p in fields]
    counts = sum(Truth(t, np.zeros_like(t)).count_probabilities(p.astype(np.float32), ring_px=0) for t, p in fields)
    curve = precision_recall(counts)
    target, probability = (np.concatenate([field[i].ravel() for field in fields]) for i in (0, 1))
    assert curve.average_precision == pytest.approx(average_precision_score(target, probability))
    for threshold in (0.25, 0.5, 0.75):
        (place,) = np.flatnonzero(curve.thresholds == threshold)
        mask = probability >= threshold
        assert curve.precision[place] == pytest.approx(target[mask].mean())
        assert curve.recall[place] == pytest.approx(mask[target].mean())


def test_the_curve_meets_the_counts_at_a_threshold():
    rng = np.random.default_rng(3)
    classes = rng.choice([0, 0, 0, 0, 1, 255], (60, 60)).astype(np.uint8)
    probability = rng.random((60, 60), np.float32)
    truth = truth_of(classes)
    curve = precision_recall(truth.count_probabilities(probability, ring_px=1.5))
    scores = truth.count(probability >= 0.5, ring_px=1.5).artifact
    place = np.flatnonzero(curve.thresholds == 0.5)[0]
    assert (curve.precision[place], curve.recall[place]) == pytest.approx(scores[:2])


def test_a_perfect_prediction_has_an_area_of_one_and_none_is_nan():
    target = np.eye(5, dtype=bool)
    perfect = Truth(target, ~target & False).count_probabilities(target.astype(np.float32), ring_px=0)
    assert precision_recall(perfect).average_precision == 1
    clean = Truth(target & False, target & False).count_probabilities(target.astype(np.float32), ring_px=0)
    assert math.isnan(precision_recall(clean).average_precision)
