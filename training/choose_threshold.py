"""Choose threshold and smallest object on the pooled predictions of a cross-validation, and write what scores need.

Usage, from the root of the repository::

    python -m training.choose_threshold --masks DIR --predictions DIR [--threshold T --min-object N]

Reads ``STEM.npy`` (probabilities of held-out fields), writes ``masks/STEM.png`` (255: artifact) and ``choice.json``
with the choice and its scores beside them. Two numbers are chosen from coarse grids by one criterion on debris,
tolerant F1 + share of objects found - 0.01 for every false object a field, so that there is little to overfit.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
MIN_OBJECTS = (15, 25, 40, 60)
RING_PX = 10
EIGHT = np.ones((3, 3))
TARGETS = {"debris": (1,), "all": (1, 2, 3)}


class GoldField:
    """A mask with everything about it that doesn't depend on the prediction."""

    def __init__(self, classes: NDArray[np.uint8]) -> None:
        self.classes = classes
        self.distance = ndimage.distance_transform_edt(classes == 0)
        self.objects = {name: ndimage.label(np.isin(classes, kinds), EIGHT) for name, kinds in TARGETS.items()}

    def count(self, predicted: NDArray[np.bool_], target: str, ring_px: int) -> NDArray[np.int64]:
        """Count true, false and missed pixels, found and all objects, and false objects."""
        labels, n_objects = self.objects[target]
        gold = labels > 0
        left_out = (self.distance <= ring_px) & ~gold
        n_true = np.count_nonzero(gold & predicted)
        n_false = np.count_nonzero(predicted & ~gold & ~left_out)
        covered = ndimage.mean(predicted, labels, np.arange(1, n_objects + 1)) if n_objects else np.zeros(0)
        components, n_components = ndimage.label(predicted, EIGHT)
        touching = np.unique(components[self.distance <= max(ring_px, 1)])
        n_false_objects = n_components - np.count_nonzero(touching)
        n_missed = np.count_nonzero(gold) - n_true
        return np.array([n_true, n_false, n_missed, np.count_nonzero(covered >= 0.5), n_objects, n_false_objects])


def binarise(probability: NDArray[np.float32], threshold: float, min_object_px: int) -> NDArray[np.bool_]:
    """Threshold a field and drop small objects."""
    labels, _ = ndimage.label(probability >= threshold, EIGHT)
    keep = np.bincount(labels.ravel()) >= min_object_px
    keep[0] = False
    kept: NDArray[np.bool_] = keep[labels]
    return kept


def scores(counts: Iterable[NDArray[np.int64]]) -> dict[str, float]:
    """Pool counts of fields into scores."""
    per_field = np.array(list(counts))
    n_true, n_false, n_missed, n_found, n_objects, n_false_objects = per_field.sum(axis=0).tolist()
    return {
        "precision": n_true / max(n_true + n_false, 1),
        "recall": n_true / max(n_true + n_missed, 1),
        "f1": 2 * n_true / max(2 * n_true + n_false + n_missed, 1),
        "iou": n_true / max(n_true + n_false + n_missed, 1),
        "objects_found": n_found,
        "objects": n_objects,
        "false_objects_per_field": n_false_objects / len(per_field),
    }


def main() -> None:
    """Choose, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--min-object", type=int)
    args = parser.parse_args()

    stems = sorted(path.stem for path in args.predictions.glob("*.npy"))
    probabilities = {s: np.load(args.predictions / f"{s}.npy").astype(np.float32) for s in stems}
    gold = {s: GoldField(np.array(Image.open(args.masks / f"{s}.png"))) for s in stems}

    def score(threshold: float, min_object_px: int, target: str, ring_px: int) -> dict[str, float]:
        return scores(
            gold[s].count(binarise(probabilities[s], threshold, min_object_px), target, ring_px) for s in stems
        )

    best, best_value = (0.5, 25), -np.inf
    for threshold in [args.threshold] if args.threshold else THRESHOLDS:
        for min_object_px in [args.min_object] if args.min_object else MIN_OBJECTS:
            now = score(threshold, min_object_px, "debris", RING_PX)
            value = now["f1"] + now["objects_found"] / now["objects"] - 0.01 * now["false_objects_per_field"]
            print(
                f"{threshold:.2f} {min_object_px:3d} P {now['precision']:.3f} R {now['recall']:.3f} F1 {now['f1']:.3f} "
                f"found {now['objects_found']}/{now['objects']} false {now['false_objects_per_field']:.2f}"
            )
            if value > best_value:
                best, best_value = (threshold, min_object_px), value
    folder = args.predictions / "masks"
    folder.mkdir(exist_ok=True)
    for stem in stems:
        mask = binarise(probabilities[stem], *best).astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / f"{stem}.png")
    metrics = {
        f"cv_{target}_ring{ring_px}_{name}": round(value, 4)
        for target in TARGETS
        for ring_px in (0, RING_PX)
        for name, value in score(*best, target, ring_px).items()
    }
    choice = {"threshold": best[0], "min_object_px": best[1], "metrics": metrics}
    (args.predictions / "choice.json").write_text(json.dumps(choice, indent=1))
    print(json.dumps(choice, indent=1))


if __name__ == "__main__":
    main()
