"""How good a U-Net is that saw no mask, and one that did: cross-validated over wells, on real fields.

Usage, from the root of the repository::

    python -m benchmarks.unet --images DIR --masks DIR --tiles tiles.csv --classifiers DIR --work DIR

Images and masks are those of :mod:`benchmarks.gold`; the classifiers, ``fold<N>.safetensors`` and ``folds.csv``, are
what :mod:`benchmarks.weak_labels` leaves in its folder. In each fold, `artmask train unet` learns from the fields of
the other wells alone:

* ``weak``: labels that the fold's own classifier gave them, by what it looked at. A person has said of each tile of
  `tiles.csv` whether it is clean; no mask is seen.
* ``supervised``: their masks.

Threshold and smallest object are chosen on the pooled predictions of the *other* folds. What is trained stays in
``DIR/<kind>/fold<N>.safetensors`` and is used again.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact_mask.config import ExplanationConfig, TrainUNetConfig
from artifact_mask.kernels.calibration import calibrate
from artifact_mask.kernels.labels import label_artifacts
from artifact_mask.kernels.truth import IGNORE, TruthField
from artifact_mask.nn.predict import Segmenter
from artifact_mask.workflows.label import resolve
from artifact_mask.workflows.planes import ChosenPlanes
from artifact_mask.workflows.train_unet import train_unet
from artifact_mask.workflows.weak_label import Explainer
from benchmarks.gold import HEADER, GoldField, print_scores, read_gold, well_of
from benchmarks.weak_labels import PIXEL_SIZE_UM, STRICT_IGNORE_PX, TILE_PX, read_tiles

KINDS = ("weak", "supervised")
OBJECT_THRESHOLD = 0.24
"""Probability that an object must reach when the classifier sees it alone; the tiles' own labels are known."""
REACH_UM = 9.0


def main() -> None:
    """Label, train and predict what is not there yet; score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("images", "masks", "tiles", "classifiers", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--simulated", type=int, default=24)
    args = parser.parse_args()

    gold = read_gold(args.images, args.masks)
    tiles = read_tiles(args.tiles)
    fold_of = pd.read_csv(args.classifiers / "folds.csv").set_index("well")["fold"]
    folds = {fold: [s for s in gold if fold_of[well_of(s)] == fold] for fold in sorted(fold_of.unique())}
    print(HEADER)
    for kind in args.kinds:
        predicted: dict[str, NDArray[np.float32]] = {}
        for fold, held_out in folds.items():
            path = args.work / kind / f"fold{fold}.safetensors"
            if not path.exists():
                train_fold(kind, path, [s for s in gold if s not in held_out], gold, tiles, args)
            segmenter = Segmenter.load(path)
            predicted |= {stem: segmenter.predict(gold[stem].contrast[None])[0] for stem in held_out}
        masks = {}
        for held_out in folds.values():
            others = [(as_truth(gold[s]), predicted[s].astype(np.float16)) for s in gold if s not in held_out]
            chosen = calibrate(others, REACH_UM / PIXEL_SIZE_UM)
            print(f"{kind}: {chosen.cut}", flush=True)
            masks |= {s: label_artifacts(predicted[s], gold[s].contrast, chosen.cut) > 0 for s in held_out}
        print_scores(kind, gold.values(), [masks[stem] for stem in gold])


def as_truth(field: GoldField) -> TruthField:
    """All classes of artifacts as one."""
    truth = np.where(field.classes == IGNORE, IGNORE, field.classes > 0)
    return TruthField(field.contrast, truth.astype(np.uint8))


def train_fold(
    kind: str,
    path: Path,
    stems: list[str],
    gold: Mapping[str, GoldField],
    tiles: pd.DataFrame,
    args: argparse.Namespace,
) -> None:
    """Write images and truth of a fold's training fields, and train on them."""
    folder = path.with_suffix("")
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    explainer = Explainer.load(args.classifiers / f"{path.stem}.safetensors") if kind == "weak" else None
    for stem in stems:
        link = folder / "images" / f"{stem}.tiff"
        link.unlink(missing_ok=True)
        link.symlink_to((args.images / link.name).resolve())
        truth = as_truth(gold[stem]).truth if explainer is None else label_weakly(explainer, gold[stem], tiles, stem)
        (folder / "masks" / f"{stem}.png").write_bytes(imagecodecs.png_encode(truth))
    began = time.perf_counter()
    config = TrainUNetConfig(
        places=folder,
        dest=path,
        ignore=IGNORE,
        pixel_size_um=PIXEL_SIZE_UM,
        simulated=args.simulated,
        max_epochs=args.epochs,
        validation=0,
        rounds=1,
    )
    train_unet(config)
    print(f"{kind} {path.stem}: {time.perf_counter() - began:.0f} s", flush=True)


def label_weakly(explainer: Explainer, field: GoldField, tiles: pd.DataFrame, stem: str) -> NDArray[np.uint8]:
    """Label a field by what a classifier looked at in the tiles that a person called artifact.

    A tile called clean is background; where a person would have been unsure, nothing is learnt from the background.
    """
    config = ExplanationConfig(object_threshold=OBJECT_THRESHOLD)
    parameters = resolve(config, explainer.classifier.card, ChosenPlanes(0, 1.0, PIXEL_SIZE_UM), ngff="0.5")
    mine = tiles[tiles["stem"] == stem]
    called = {(tile.y0, tile.x0) for tile in mine[mine["artifact"] == 1].itertuples()}
    (look,) = explainer.look([field.contrast], parameters, called=called)
    truth = (explainer.label(field.contrast, look, parameters).labels > 0).astype(np.uint8)
    for tile in mine[(mine["artifact"] == 0) & (mine["px_ignore"] >= STRICT_IGNORE_PX)].itertuples():
        truth[tile.y0 : tile.y0 + TILE_PX, tile.x0 : tile.x0 + TILE_PX] = IGNORE
    return truth


if __name__ == "__main__":
    main()
