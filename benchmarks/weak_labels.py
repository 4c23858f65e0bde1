"""How good labels without a drawn pixel are: cross-validated over wells, each step beside its alternatives.

Usage, from the root of the repository::

    python -m benchmarks.weak_labels --images DIR --masks DIR --tiles tiles.csv --work DIR [--start CLASSIFIER]

Images are TIFFs named ``rNNcNN...``, ``tiles.csv`` has the columns stem, y0, x0, label and px_ignore, for tiles of 270
px. Masks (0 background, 1 debris, 2 defocused blob, 3 well edge, 255 leave out) serve for the scores alone. The
classifier of each fold is kept as ``DIR/fold<N>.safetensors``, and the wells that it has not seen as ``DIR/folds.csv``;
they are used again. From which probability on a tile of a fold is called artifact, the *other* folds decide. Simulated
fields, drawn with seeds of their own, are labelled with the classifier of the first fold.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact_mask.config import ExplanationConfig
from artifact_mask.kernels.agreement import pool
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.scene import draw_scene
from artifact_mask.kernels.split import fold_groups, split_groups
from artifact_mask.nn.checkpoint import load_model, save_model
from artifact_mask.nn.fit_classifier import Recipe, Samples, fit_classifier
from artifact_mask.nn.model_card import ClassifierCard, ResNetSpec
from artifact_mask.nn.resnet import build_classifier
from artifact_mask.workflows.label import LabelParameters, resolve
from artifact_mask.workflows.planes import ChosenPlanes
from artifact_mask.workflows.weak_label import Explainer, Look
from benchmarks.gold import RING_PX, GoldField, make_gold, read_gold, well_of

TILE_PX = 270
PIXEL_SIZE_UM = 0.3
STRICT_IGNORE_PX = 20
"""A clean tile with as many pixels that the annotator left open is not judged."""

Fields = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Variant:
    """One way from a classifier to labels."""

    name: str
    options: Mapping[str, object]


@dataclass(frozen=True)
class Judge:
    """A classifier that has not seen a field, and the probability from which it calls a tile artifact."""

    explainer: Explainer
    threshold: float


PLAIN = {"object_threshold": 0.0, "reach_um": 0.0}
VARIANTS = (
    Variant("published: edges, fixed cut", {"refinement": "published"}),
    Variant("saliency alone, Otsu", {"refinement": "none", **PLAIN}),
    Variant("x edges", {"refinement": "edges", **PLAIN}),
    Variant("x darkness", {"refinement": "darkness", **PLAIN}),
    Variant("x edges and darkness", {"refinement": "edges-and-darkness", **PLAIN}),
    Variant("x edges, checked", {"refinement": "edges", "reach_um": 0.0}),
    Variant("alone, checked and grown", {"refinement": "none"}),
    Variant("x edges, checked and grown", {"refinement": "edges"}),
    Variant("x edges and darkness, checked and grown", {"refinement": "edges-and-darkness"}),
)
SALIENCIES = ("score-cam", "mean", "cam")


def main() -> None:
    """Train what is not there yet, judge, label, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--tiles", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for the classifiers")
    parser.add_argument("--start", type=Path, help="classifier to start each fold from; it must not know the fields")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--simulated", type=int, default=8)
    args = parser.parse_args()

    gold = read_gold(args.images, args.masks)
    fields = {stem: field.contrast for stem, field in gold.items()}
    tiles = read_tiles(args.tiles)
    args.work.mkdir(parents=True, exist_ok=True)
    tiles["fold"] = tiles["well"].map(share_out(tiles, args.work / "folds.csv", args.folds))
    explainers = {}
    for fold, mine in tiles.groupby("fold"):
        path = args.work / f"fold{fold}.safetensors"
        if not path.exists():
            train_fold(path, tiles[tiles["fold"] != fold], fields, args)
        explainers[fold] = Explainer.load(path)
        seen = np.stack([cut_tile(fields, tile) for tile in mine.itertuples()])
        tiles.loc[mine.index, "probability"] = explainers[fold].classifier.predict(seen)
    judges = {}
    for fold, mine in tiles.groupby("fold"):
        threshold = choose_threshold(tiles[tiles["strict"] & (tiles["fold"] != fold)])
        tiles.loc[mine.index, "threshold"] = threshold
        judges |= dict.fromkeys(mine["stem"].unique(), Judge(explainers[fold], threshold))
    print_classification(tiles[tiles["strict"]])
    print_labels("real fields", fields, gold, judges)
    if args.simulated:
        drawn, truth = draw_fields(args.simulated)
        print_labels("simulated fields", drawn, truth, dict.fromkeys(drawn, next(iter(judges.values()))))


def read_tiles(path: Path) -> pd.DataFrame:
    """Read the tiles; ``strict`` are those whose label is beyond doubt."""
    tiles = pd.read_csv(path)
    tiles["well"] = tiles["stem"].map(well_of)
    tiles["artifact"] = (tiles["label"] == "artifact").astype(int)
    tiles["strict"] = (tiles["artifact"] == 1) | (tiles["px_ignore"] < STRICT_IGNORE_PX)
    return tiles


def share_out(tiles: pd.DataFrame, path: Path, n_folds: int) -> pd.Series:
    """Fold of each well; once decided, it is kept."""
    if not path.exists():
        folds = fold_groups(tiles["artifact"].to_numpy(), tiles["well"].to_numpy(), n_folds, seed=0)
        tiles[["well"]].assign(fold=folds).drop_duplicates().to_csv(path, index=False)
    return pd.read_csv(path).set_index("well")["fold"]


def cut_tile(fields: Fields, tile: object) -> NDArray[np.float32]:
    """Pixels of a row of the table of tiles."""
    return fields[tile.stem][tile.y0 : tile.y0 + TILE_PX, tile.x0 : tile.x0 + TILE_PX]


def train_fold(path: Path, others: pd.DataFrame, fields: Fields, args: argparse.Namespace) -> None:
    """Train on the other folds; some wells of these decide when to stop."""
    rest = others[others["strict"]]
    watched = split_groups(rest["artifact"].to_numpy(), rest["well"].to_numpy(), 0.2, seed=0)
    samples = [
        Samples([cut_tile(fields, tile) for tile in part.itertuples()], part["artifact"].to_numpy())
        for part in (rest[~watched], rest[watched])
    ]
    network = load_model(args.start, ClassifierCard)[0].train() if args.start else build_classifier(ResNetSpec())
    began = time.perf_counter()
    fitted = fit_classifier(network, *samples, Recipe(max_epochs=args.epochs), tell=print)
    print(f"{path.stem}: {len(fitted.course.epochs)} epochs in {time.perf_counter() - began:.0f} s", flush=True)
    card = ClassifierCard(
        name=path.stem,
        version="1",
        architecture=ResNetSpec(),
        pixel_size_um=PIXEL_SIZE_UM,
        tile_px=TILE_PX,
        licence="BSD-3-Clause",
    )
    save_model(path, fitted.network, card)


def choose_threshold(tiles: pd.DataFrame) -> float:
    """Probability at which the worse of both classes' F1 is best."""
    is_artifact = tiles["artifact"].to_numpy() == 1
    probabilities = tiles["probability"].to_numpy()
    candidates = np.linspace(0.05, 0.95, 91)
    return float(max(candidates, key=lambda p: min(f1_of(probabilities >= p, is_artifact))))


def f1_of(called: NDArray[np.bool_], is_artifact: NDArray[np.bool_]) -> tuple[float, float]:
    """F1 of clean and of artifact."""
    classes = ((~called, ~is_artifact), (called, is_artifact))
    return tuple(2 * np.count_nonzero(a & b) / (a.sum() + b.sum()) for a, b in classes)


def print_classification(strict: pd.DataFrame) -> None:
    """Print precision, recall and F1 of both classes over held-out strict tiles."""
    called = (strict["probability"] >= strict["threshold"]).to_numpy()
    is_artifact = strict["artifact"].to_numpy() == 1
    print(f"\n## Classifier: {len(strict)} strict tiles of wells that it was not trained on\n")
    print("| class | precision | recall | F1 |\n|---|---|---|---|")
    for name, found, true in (("clean", ~called, ~is_artifact), ("artifact", called, is_artifact)):
        hits = np.count_nonzero(found & true)
        precision, recall = hits / max(np.count_nonzero(found), 1), hits / np.count_nonzero(true)
        f1 = f1_of(called, is_artifact)[name == "artifact"]
        print(f"| {name} | {precision:.3f} | {recall:.3f} | {f1:.3f} |")
    ranks = strict["probability"].rank().to_numpy()
    n_true = is_artifact.sum()
    auc = (ranks[is_artifact].sum() - n_true * (n_true + 1) / 2) / (n_true * (len(strict) - n_true))
    thresholds = ", ".join(f"{threshold:.2f}" for threshold in sorted(strict["threshold"].unique()))
    print(f"\nAUC {auc:.3f}; called artifact from p = {thresholds} (by the other folds)")


def print_labels(name: str, fields: Fields, gold: Mapping[str, GoldField], judges: Mapping[str, Judge]) -> None:
    """Print the scores of all variants, over all tiles, clean ones included."""
    print(f"\n## Weak labels of debris, {name}, ring {RING_PX}\n")
    print("| saliency | label | precision | recall | F1 | objects found | false objects a field |")
    print("|---|---|---|---|---|---|---|")
    for saliency in SALIENCIES:
        looks: dict[str, Look] = {}
        began = time.perf_counter()
        for stem, contrast in fields.items():
            (looks[stem],) = judges[stem].explainer.look([contrast], parameters_of(judges[stem], saliency, {}))
        seconds = (time.perf_counter() - began) / len(fields)
        for variant in VARIANTS:
            counts = []
            for stem, contrast in fields.items():
                parameters = parameters_of(judges[stem], saliency, variant.options)
                labels = judges[stem].explainer.label(contrast, looks[stem], parameters).labels
                counts.append(gold[stem].truths["debris"].count(labels > 0, ring_px=RING_PX))
            found = pool(counts)
            print(
                f"| {saliency} | {variant.name} | {found.artifact.precision:.3f} | {found.artifact.recall:.3f} | "
                f"**{found.artifact.f1:.3f}** | {found.n_found} of {found.n_objects} | "
                f"{found.n_false_objects / len(counts):.1f} |",
                flush=True,
            )
        n_forwards = sum(found.n_forwards for look in looks.values() for found in look.saliencies) / len(fields)
        print(f"\n{saliency}: {seconds:.1f} s and {n_forwards:.0f} masked forward passes a field\n")


def parameters_of(judge: Judge, saliency: str, options: Mapping[str, object]) -> LabelParameters:
    """Parameters of a variant, for fields of the classifier's pixel size."""
    config = ExplanationConfig.model_validate({"saliency": saliency, "threshold": judge.threshold, **options})
    return resolve(config, judge.explainer.classifier.card, ChosenPlanes(0, 1.0, PIXEL_SIZE_UM), ngff="0.5")


def draw_fields(n: int) -> tuple[dict[str, NDArray[np.float32]], dict[str, GoldField]]:
    """Draw simulated fields and their truth."""
    gold = {}
    for number in range(n):
        scene = draw_scene((1080, 1080), seed=(4711, number), dose=number / n)
        contrast = normalise_by_background(scene.image[0], estimate_background(scene.image[0]))
        gold[f"simulated{number}"] = make_gold(contrast, scene.artifacts)
    return {name: field.contrast for name, field in gold.items()}, gold


if __name__ == "__main__":
    main()
