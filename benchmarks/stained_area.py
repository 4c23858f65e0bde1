"""Error of the stained area of wells before and after masking: `python benchmarks/stained_area.py [--model FILE]`.

A simulated dose series is drawn twice: with artifacts, and without any (`artifact_density=0`: the same cells, stain,
light and noise). Both are measured as `artmask run` measures. What the field without artifacts says is the truth, so
that an error is what artifacts make of it, not what the stain's threshold does. It is the absolute difference of a
well's stained fraction, the mean over its fields, in points (1 % of the area), averaged over wells.

Masks are the model's, and the drawn ones, the best that a model could find. *Of unmasked* is the fraction of the pixels
outside of the mask, as in the tables; *of all* counts the same stained pixels against all pixels. *Same pixels*
compares what is outside of the mask with the same pixels of the field without artifacts: what is left there is artifact
that was missed, the rest is that covered pixels are not measured. Each beside its ratio: error before over error after.

One well edge in 33 fields is drawn, which decides over a mean of few wells; `--no-edges` leaves these fields out.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifact_mask.config import RunConfig
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.labels import label_artifacts
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.kernels.staining import density_steps, optical_density, step_of
from artifact_mask.nn.predict import Segmenter

SIDE_PX = 1080
WELL_EDGE = 3
"""Class of the truth."""
MASKS = ("none", "model", "drawn")


class Measured(NamedTuple):
    """What was measured of one field, by mask.

    Attributes
    ----------
    well, dose
        Where it is.
    truth
        Stained fraction without artifacts.
    stained
        Stained fraction outside of the mask.
    truth_outside
        The same pixels without artifacts.
    covered
        Fraction that the mask covers.
    has_edge
        Whether a well edge was drawn.
    """

    well: int
    dose: float
    truth: float
    stained: dict[str, float]
    truth_outside: dict[str, float]
    covered: dict[str, float]
    has_edge: bool


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="by default the one that artmask ships")
    parser.add_argument("--wells", type=int, default=12)
    parser.add_argument("--fields", type=int, default=4, help="of each well")
    parser.add_argument("--seeds", type=int, nargs="+", default=[901, 902, 903], help="one campaign each")
    parser.add_argument("--no-edges", action="store_true", help="leave out fields with a well edge")
    parser.add_argument("--threshold", type=float, help="of the model; by default its own")
    arguments = parser.parse_args()
    threshold = RunConfig.model_fields["stain_threshold"].default
    measure = partial(_measure, model=arguments.model, stain_threshold=threshold, cut=arguments.threshold)
    places = [
        (seed, well, field)
        for seed in arguments.seeds
        for well in range(arguments.wells)
        for field in range(arguments.fields)
    ]
    doses = [0.0, *np.linspace(0.1, 1, arguments.wells - 1)] if arguments.wells > 1 else [1.0]
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(measure, places, [doses[well] for _, well, _ in places]))
    if arguments.no_edges:
        kept = [(place, field) for place, field in zip(places, found, strict=True) if not field.has_edge]
        places, found = [place for place, _ in kept], [field for _, field in kept]
    _print(places, found, arguments)


def _measure(
    place: tuple[int, int, int], dose: float, *, model: Path | None, stain_threshold: float, cut: float | None
) -> Measured:
    """Measure one field with and without artifacts, through the steps of `artifact_mask.workflows.run`."""
    seed, well, _ = place
    with_artifacts = draw_scene((SIDE_PX, SIDE_PX), seed=place, dose=dose)
    without = draw_scene((SIDE_PX, SIDE_PX), seed=place, dose=dose, artifact_density=0)
    if not np.array_equal(with_artifacts.stain, without.stain):
        raise RuntimeError(f"the stain of seed {seed} depends on its artifacts; nothing can be compared")
    pixels, clean = with_artifacts.image[0], without.image[0]
    background, clean_background = estimate_background(pixels), estimate_background(clean)
    segmenter = _segmenter(model)
    contrast = normalise_by_background(pixels, background, contrast_unit=segmenter.card.normalisation.contrast_unit)
    probability = segmenter.predict(contrast[np.newaxis])[0]
    card = segmenter.card
    labels = label_artifacts(probability, contrast, card.cut(threshold=cut))
    masks = {
        "none": np.zeros(pixels.shape, bool),
        "model": labels > 0,
        "drawn": with_artifacts.artifacts > 0,
    }

    def stained(image: NDArray[np.uint16], light: NDArray[np.float32]) -> dict[str, float]:
        is_stained = density_steps(optical_density(image, light)) >= step_of(stain_threshold)
        return {name: float(is_stained[~mask].mean()) for name, mask in masks.items()}

    of_clean = stained(clean, clean_background)
    return Measured(
        well,
        dose,
        of_clean["none"],
        stained(pixels, background),
        of_clean,
        {name: float(mask.mean()) for name, mask in masks.items()},
        bool((with_artifacts.artifacts == WELL_EDGE).any()),
    )


@cache
def _segmenter(model: Path | None) -> Segmenter:
    import torch

    torch.set_num_threads(1)
    return Segmenter.load(model, device="cpu")


def _print(places: Sequence[tuple[int, int, int]], found: Sequence[Measured], arguments: argparse.Namespace) -> None:
    wells: dict[tuple[int, int], list[Measured]] = {}
    for (seed, well, _), field in zip(places, found, strict=True):
        wells.setdefault((seed, well), []).append(field)
    model = arguments.model or "shipped"
    print(
        f"{len(wells)} wells of {arguments.fields} fields, seeds {arguments.seeds}, model {model}\n"
        f"stained {_mean([field.truth for field in found]):.3%} on average, "
        f"artifacts {_mean([field.covered['drawn'] for field in found]):.2%}, "
        f"{sum(field.has_edge for field in found)} fields with a well edge\n"
    )
    print("| mask | covers | of unmasked | median, worst well | | of all | | same pixels | |")
    print("|---|---|---|---|---|---|---|---|---|")
    before = _errors(wells, "none", "unmasked").mean()
    for mask in MASKS:
        errors = {kind: 100 * _errors(wells, mask, kind) for kind in ("unmasked", "all", "same")}
        columns = [f"{of.mean():.4f} | {100 * before / of.mean():.1f}x" for of in errors.values()]
        spread = f"{np.median(errors['unmasked']):.4f}, {errors['unmasked'].max():.4f}"
        covers = f"{_mean([field.covered[mask] for field in found]):.2%}"
        first, ratio = columns[0].split(" | ")
        print(f"| {mask} | {covers} | {first} | {spread} | {ratio} | {' | '.join(columns[1:])} |")
    print("\n| dose | truth | none | model | drawn |\n|---|---|---|---|---|")
    for dose in sorted({field.dose for field in found}):
        of_dose = [field for field in found if field.dose == dose]
        shown = [f"{_mean([field.stained[mask] for field in of_dose]):.3%}" for mask in MASKS]
        print(f"| {dose:.2f} | {_mean([field.truth for field in of_dose]):.3%} | {' | '.join(shown)} |")


def _errors(
    wells: dict[tuple[int, int], list[Measured]], mask: str, kind: Literal["unmasked", "all", "same"]
) -> NDArray[np.float64]:
    """Absolute error of each well's mean over its fields, as the table of wells averages them."""
    errors = []
    for fields in wells.values():
        truth = [field.truth_outside[mask] if kind == "same" else field.truth for field in fields]
        found = [field.stained[mask] * (1 - field.covered[mask] if kind == "all" else 1) for field in fields]
        errors.append(abs(np.nanmean(found) - np.nanmean(truth)))
    return np.array(errors)


def _mean(values: Sequence[float]) -> float:
    return float(np.nanmean(values))


if __name__ == "__main__":
    main()
