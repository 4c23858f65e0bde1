"""Real fields with masks by hand, and scores against them: what the benchmarks of labels and networks share.

Images are TIFFs named ``rNNcNN...``, masks PNGs of the same stem: 0 background, 1 debris, 2 defocused blob, 3 well
edge, 255 leave out.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from artifact_mask.kernels.agreement import Counts, Truth, pool
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background

TARGETS = {"debris": (1,), "all classes": (1, 2, 3)}
RING_PX = 10


class GoldField(NamedTuple):
    """A field of contrast ``(y, x)``, its classes ``(y, x)`` uint8, and the truth for each target."""

    contrast: NDArray[np.float32]
    classes: NDArray[np.uint8]
    truths: dict[str, Truth]


def read_gold(images: Path, masks: Path) -> dict[str, GoldField]:
    """Read and normalise every field that has a mask, by its stem."""
    fields = {}
    for path in sorted(masks.glob("*.png")):
        image = tifffile.imread(images / f"{path.stem}.tiff")
        classes = imagecodecs.png_decode(path.read_bytes())
        fields[path.stem] = make_gold(normalise_by_background(image, estimate_background(image)), classes)
    return fields


def make_gold(contrast: NDArray[np.float32], classes: NDArray[np.uint8]) -> GoldField:
    """Prepare a field; what is marked, but not of the target, is left out."""
    targets = {name: np.isin(classes, kinds) for name, kinds in TARGETS.items()}
    return GoldField(contrast, classes, {name: Truth(t, (classes > 0) & ~t) for name, t in targets.items()})


def well_of(stem: str) -> str:
    """Well of a field, from its name."""
    return stem[:6]


HEADER = (
    "| what | target | ring | precision | recall | F1 | IoU | median F1 | median IoU | objects | false a field |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def print_scores(name: str, fields: Iterable[GoldField], predicted: Sequence[NDArray[np.bool_]]) -> None:
    """Print a row for each target and ring, below :data:`HEADER`."""
    fields = list(fields)
    for target in TARGETS:
        for ring_px in (0, RING_PX):
            counts = [
                field.truths[target].count(mask, ring_px=ring_px) for field, mask in zip(fields, predicted, strict=True)
            ]
            print(f"| {name} | {target} | {ring_px} | {describe(counts)} |", flush=True)


def describe(counts: list[Counts]) -> str:
    """Scores of some fields in the columns of :data:`HEADER`."""
    found = pool(counts)
    with_objects = [each.artifact for each in counts if each.n_objects]
    medians = (float(np.median([getattr(each, name) for each in with_objects])) for name in ("f1", "iou"))
    scores = " | ".join(f"{value:.3f}" for value in (*found.artifact, *medians))
    return f"{scores} | {found.n_found} of {found.n_objects} | {found.n_false_objects / len(counts):.2f}"
