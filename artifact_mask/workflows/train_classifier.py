"""`artmask train classifier`: teach a network which tiles have artifacts, from labels of fields or tiles."""

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifact_mask.config import TrainClassifierConfig
from artifact_mask.errors import ConfigError
from artifact_mask.kernels.split import split_groups
from artifact_mask.nn.model_card import (
    ClassifierCard,
    ResNetSpec,
    default_classifier_path,
    model_digest,
)
from artifact_mask.workflows.labelled_fields import find_labelled_fields
from artifact_mask.workflows.labelled_tiles import LabelledTiles, TileFormat, choose_format, read_labelled_tiles
from artifact_mask.workflows.progress import Progress, Silent
from artifact_mask.workflows.training import (
    Training,
    digest_settings,
    list_software,
    list_wells,
    naming_storage_errors,
)
from artifact_mask.workflows.training_report import write_training_report

if TYPE_CHECKING:
    from artifact_mask.nn.fit_classifier import Recipe

FEWEST_OF_A_CLASS = 4
THRESHOLD = 0.5
FROM_SCRATCH, FROM_WEIGHTS = 1e-3, 3e-4
"""Learning rates: a higher one undoes what weights have learnt before."""
_THRESHOLD_CHOICE = (
    "0.5, not tuned: both classes are trained on as often. The held-out wells also decided when training stopped, so "
    "that their figures are slightly better than those of further plates."
)
_PACKAGES = ("torch", "torchvision", "lightning", "numpy")


def train_classifier(config: TrainClassifierConfig, progress: Progress | None = None) -> Training:
    """Train a classifier on labelled fields or tiles, and report how good it is on wells of its own.

    Parameters
    ----------
    config
        Labels, plates, network.
    progress
        Listener.

    Returns
    -------
    Training
        Where model and report are, and the figures.

    Raises
    ------
    ConfigError
        If the labels cannot be understood or name what is not there, are too few, or all of one well.
    PlateError
        If a plate is not there, is not complete, or lacks the channel.
    ModelError
        If the weights to start from are not there or do not fit, or training diverges.
    StorageError
        If the model cannot be written.

    Notes
    -----
    No field of a well is on both sides of the split. What is left in ``<dest>.training`` when a training is interrupted
    lets the same command go on from the last epoch; it is removed in the end.
    """
    # Imported here, so that a command pays for torch and Lightning only when it trains.
    from artifact_mask.nn.checkpoint import save_model
    from artifact_mask.nn.fit_classifier import Recipe, Samples, fit_classifier
    from artifact_mask.nn.judgement import judge
    from artifact_mask.nn.start_weights import start_network
    from artifact_mask.nn.training_folder import prepare_folder, remove_folder

    progress, began = progress or Silent(), time.monotonic()
    spec = ResNetSpec(name=config.network, last_stage=config.last_stage)
    network, start = start_network(spec, config.start, config.seed)
    tiles, form, checksum = _read(config, progress)
    is_held = _split(tiles, config)
    train, held_out = tiles.part(~is_held), tiles.part(is_held)
    progress.note(f"{_describe(train)} to learn from, {_describe(held_out)} held out; starting from {start}.")
    recipe = Recipe(
        max_epochs=config.max_epochs,
        patience=config.patience,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate or (FROM_SCRATCH if start.startswith("random") else FROM_WEIGHTS),
        precision=config.precision,
        seed=config.seed,
    )
    folder = config.dest.with_name(f"{config.dest.name}.training")
    with naming_storage_errors(config.dest):
        if prepare_folder(folder, _digest(config, recipe, tiles, form, checksum)):
            progress.note(f"{folder} is of another training, with other labels or settings; this one starts anew.")
        fitted = fit_classifier(
            network,
            Samples(train, train.labels),
            Samples(held_out, held_out.labels),
            recipe,
            folder=folder,
            tell=progress.note,
        )
        judgement = judge(held_out.labels, fitted.probabilities, THRESHOLD)
        card = _make_card(config, spec, form, tiles, judgement.metrics)
        report = config.dest.with_name(f"{config.dest.stem}.report")
        described = {"card": card.model_dump(mode="json"), "start": start, "recipe": vars(recipe)} | {
            name: {"tiles": len(part), "artifact": int(part.labels.sum()), "wells": list_wells(part.groups)}
            for name, part in (("train", train), ("held_out", held_out))
        }
        write_training_report(report, fitted, judgement, held_out, described, threshold=THRESHOLD)
        save_model(config.dest, fitted.network, card)
        remove_folder(folder)
    return Training(
        model=config.dest,
        report=report,
        metrics=judgement.metrics,
        n_train=len(train),
        n_held_out=len(held_out),
        n_epochs=len(fitted.course.epochs),
        best_epoch=fitted.course.best_epoch,
        n_resumed=fitted.course.n_resumed,
        seconds=time.monotonic() - began,
    )


def _read(config: TrainClassifierConfig, progress: Progress) -> tuple[LabelledTiles, TileFormat, int]:
    fields = find_labelled_fields(config, progress)
    _require_both(config, np.array([label for field in fields for label in field.labels], np.intp))
    form = choose_format(fields, config.field_px)
    tiles, checksum = read_labelled_tiles(fields, form, progress)
    _require_both(config, tiles.labels)
    return tiles, form, checksum


def _require_both(config: TrainClassifierConfig, labels: NDArray[np.intp]) -> None:
    for number, name in enumerate(("clean", "artifact")):
        n = int((labels == number).sum())
        if n < FEWEST_OF_A_CLASS:
            raise ConfigError(
                f"{config.labels} has {n} {name} places that can be read; expected {FEWEST_OF_A_CLASS} at the very "
                "least, and some hundred for a good classifier. Label more."
            )


def _split(tiles: LabelledTiles, config: TrainClassifierConfig) -> NDArray[np.bool_]:
    groups = tiles.groups
    if len(set(groups)) == 1:
        raise ConfigError(
            f"All labels of {config.labels} are of one well, {' '.join(groups[0]).strip()}; expected two wells or "
            "more, because a classifier is judged on wells that it has not seen. Label fields of further wells."
        )
    is_held = split_groups(tiles.labels, groups, config.validation, config.seed)
    if len(set(tiles.labels[~is_held])) < 2:
        raise ConfigError(
            f"However the wells of {config.labels} are parted, what is left to learn from has one class alone. Label "
            "clean and artifact places in more wells."
        )
    return is_held


def _digest(
    config: TrainClassifierConfig, recipe: "Recipe", tiles: LabelledTiles, form: TileFormat, checksum: int
) -> str:
    """Digest of everything that decides the training; where the files lie does not."""
    start = default_classifier_path() if config.start == "default" else Path(config.start).expanduser()
    rows = [
        (field.plate, field.well, field.field, field.file, box, int(label))
        for number, label in enumerate(tiles.labels)
        for field, box in [tiles.source(number)]
    ]
    given = {
        "software": list_software(_PACKAGES),
        "network": [config.network, config.last_stage],
        "start": model_digest(start) if start.is_file() else config.start,
        "recipe": vars(recipe),
        "validation": config.validation,
        "format": vars(form),
        "rows": rows,
        "pixels": checksum,
    }
    return digest_settings(given)


def _make_card(
    config: TrainClassifierConfig,
    spec: ResNetSpec,
    form: TileFormat,
    tiles: LabelledTiles,
    metrics: dict[str, float],
) -> ClassifierCard:
    plates = Counter(plate for plate, _ in tiles.groups)
    wells = Counter(plate for plate, _ in set(tiles.groups))
    return ClassifierCard(
        name=config.dest.stem,
        version="1",
        architecture=spec,
        tile_px=form.tile_px,
        pixel_size_um=form.pixel_size_um,
        threshold=THRESHOLD,
        threshold_choice=_THRESHOLD_CHOICE,
        training_data=tuple(f"{plate or 'TIFFs'}: {n} tiles of {wells[plate]} wells" for plate, n in plates.items()),
        metrics=metrics,
        software=list_software(_PACKAGES),
        licence=config.licence,
    )


def _describe(tiles: LabelledTiles) -> str:
    n_artifact = int(tiles.labels.sum())
    return f"{len(tiles) - n_artifact} clean and {n_artifact} artifact of {len(set(tiles.groups))} wells"
