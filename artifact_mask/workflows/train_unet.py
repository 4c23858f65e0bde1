"""`artmask train unet`: teach a network which pixels are artifacts, from weak labels, corrected ones, or masks."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from artifact_mask.config import ShippedUNet, TrainUNetConfig
from artifact_mask.errors import ConfigError
from artifact_mask.kernels.calibration import MIN_OBJECTS_PX, THRESHOLDS, Calibration, calibrate
from artifact_mask.kernels.label_cleaning import clean_truth
from artifact_mask.kernels.split import split_groups
from artifact_mask.nn.model_card import PRESETS, UNetCard, UNetSpec, find_unet, model_digest, read_card
from artifact_mask.workflows.crop_samples import sample_crops, simulate_fields
from artifact_mask.workflows.progress import Progress, Silent
from artifact_mask.workflows.segmented_fields import SegmentedField, find_segmented_fields
from artifact_mask.workflows.training import (
    Training,
    digest_settings,
    list_software,
    list_wells,
    naming_storage_errors,
)
from artifact_mask.workflows.training_fields import (
    PackedTruth,
    TrainingFields,
    read_training_fields,
    take_at_their_word,
)
from artifact_mask.workflows.unet_card import PACKAGES, add_calibration, describe_unet
from artifact_mask.workflows.unet_report import judge_fields, write_unet_report

if TYPE_CHECKING:
    from artifact_mask.nn.fit_unet import Recipe
    from artifact_mask.nn.fitting import Course
    from artifact_mask.nn.predict import Segmenter
    from artifact_mask.nn.unet import ArtifactUNet

FROM_SCRATCH, FROM_WEIGHTS = 3e-3, 1e-3
"""Learning rates: a higher one undoes what weights have learnt before."""
FEWEST_FIELDS = 2
MACHINE_MADE = ("weak", "artifacts")
"""Labels that a network may contradict; others were drawn or corrected by a person."""
_OF_THE_CUT = {"threshold", "min_object_px", "large_threshold", "reach_um"}
"""Settings that decide nothing before the weights are there."""
MOST_CALIBRATED = 20
"""Fields on which thresholds are tried."""


@dataclass(frozen=True)
class _Plan:
    """What a training starts from, and where it is going."""

    network: "ArtifactUNet"
    spec: UNetSpec
    start: str
    pixel_size_um: float

    def describe(self, config: TrainUNetConfig, fields: TrainingFields) -> UNetCard:
        """Write the network's card."""
        return describe_unet(config, self.spec, self.pixel_size_um, self.start, fields)


def train_unet(config: TrainUNetConfig, progress: Progress | None = None) -> Training:
    """Train a U-Net on labelled fields, and report how good it is on wells of its own.

    Parameters
    ----------
    config
        Plates, labels, network.
    progress
        Listener.

    Returns
    -------
    Training
        Where model and report are, and the figures.

    Raises
    ------
    ConfigError
        If there are no such labels, too few fields, or all of them of one well.
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
    from artifact_mask.nn.predict import Segmenter
    from artifact_mask.nn.training_folder import remove_folder

    progress, began = progress or Silent(), time.monotonic()
    sources = find_segmented_fields(
        config.places,
        labels=config.labels,
        masks=config.masks,
        channel=config.channel,
        pixel_size_um=config.pixel_size_um,
        ignore=config.ignore,
        progress=progress,
    )
    if config.known:
        sources = take_at_their_word(sources, config.known, progress)
    plan = _plan(config, sources)
    fields, has_artifact, checksum = read_training_fields(sources, plan.pixel_size_um, progress)
    is_held = _split(config, fields, has_artifact)
    train, held_out = fields.part(~is_held), fields.part(is_held)
    progress.note(
        f"{len(train)} fields of {len(set(train.groups))} wells to learn from, {len(held_out)} of "
        f"{len(set(held_out.groups))} held out; starting from {plan.start}."
    )
    folder = config.dest.with_name(f"{config.dest.name}.training")
    digest = _digest(config, plan, fields, is_held, checksum)
    with naming_storage_errors(config.dest):
        courses = _train_rounds(config, plan, train, held_out, folder, digest, progress)
        segmenter = Segmenter.of(plan.network, plan.describe(config, fields))
        segmenter = replace(segmenter, card=add_calibration(segmenter.card, _calibrate(config, segmenter, held_out)))
        judgement = judge_fields(segmenter, held_out)
        card = segmenter.card.model_copy(update={"metrics": judgement.metrics})
        report = config.dest.with_name(f"{config.dest.stem}.report")
        described = {
            "card": card.model_dump(mode="json"),
            "start": plan.start,
            "config": config.model_dump(mode="json"),
        }
        described |= {name: list_wells(part.groups) for name, part in (("train", train), ("held_out", held_out))}
        write_unet_report(report, courses, judgement, held_out, described)
        save_model(config.dest, plan.network, card)
        for number in range(1, config.rounds + 1):
            remove_folder(folder / f"round{number}")
        remove_folder(folder)
    return Training(
        model=config.dest,
        report=report,
        metrics=card.metrics,
        n_train=len(train),
        n_held_out=len(held_out),
        n_epochs=len(courses[-1].epochs),
        best_epoch=courses[-1].best_epoch,
        n_resumed=sum(course.n_resumed for course in courses),
        seconds=time.monotonic() - began,
    )


def _plan(config: TrainUNetConfig, sources: list[SegmentedField]) -> _Plan:
    """Decide on architecture, first weights and pixel size."""
    from artifact_mask.nn.start_weights import start_unet

    preset = PRESETS[config.preset]
    if config.start == "scratch":
        network, said = start_unet(preset.architecture, "scratch", config.encoder_start, config.seed)
        side = max(sources[0].shape)
        natural = sources[0].pixel_size_um * (side / preset.field_px if preset.field_px else 1.0)
        return _Plan(network, preset.architecture, said, config.model_pixel_size_um or natural)
    path = _start_file(config.start)
    card = read_card(path, UNetCard)
    if config.model_pixel_size_um not in (None, card.pixel_size_um):
        raise ConfigError(
            f"{path} works at {card.pixel_size_um:.3g} um a pixel; found model_pixel_size_um: "
            f"{config.model_pixel_size_um:.3g}. Leave it away, or start from scratch."
        )
    network, said = start_unet(card.architecture, str(path), config.encoder_start, config.seed)
    return _Plan(network, card.architecture, said, card.pixel_size_um)


def _start_file(start: str) -> Path:
    """File of the weights to start from, where they are in one."""
    return find_unet(start) if start in get_args(ShippedUNet) else Path(start).expanduser()  # type: ignore[arg-type]


def _split(config: TrainUNetConfig, fields: TrainingFields, has_artifact: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Choose the fields that are held out, in whole wells."""
    if len(fields) < FEWEST_FIELDS or not has_artifact.any():
        raise ConfigError(
            f"Found {len(fields)} fields that can be read, {np.count_nonzero(has_artifact)} of them with artifacts; "
            f"expected {FEWEST_FIELDS} or more, and artifacts to learn from. Label more fields."
        )
    if not config.validation:
        return np.zeros(len(fields), bool)
    if len(set(fields.groups)) == 1:
        raise ConfigError(
            f"All fields are of one well, {' '.join(fields.groups[0]).strip()}; expected two wells or more, because a "
            "network is judged on wells that it has not seen. Label fields of further wells, or set validation to 0."
        )
    is_held = split_groups(has_artifact.astype(np.intp), fields.groups, config.validation, config.seed)
    if not has_artifact[~is_held].any():
        raise ConfigError(
            "However the wells are parted, no artifact is left to learn from. Label fields of further wells, or set "
            "validation to 0."
        )
    return is_held


def _train_rounds(
    config: TrainUNetConfig,
    plan: _Plan,
    train: TrainingFields,
    held_out: TrainingFields,
    folder: Path,
    digest: str,
    progress: Progress,
) -> "list[Course]":
    """Train, leave out the labels that the network contradicts, and train on."""
    from artifact_mask.nn.fit_unet import fit_unet
    from artifact_mask.nn.predict import Segmenter
    from artifact_mask.nn.training_folder import prepare_folder

    simulated = simulate_fields(config.simulated, plan.pixel_size_um, config.seed)
    courses = []
    for number in range(1, config.rounds + 1):
        place = folder / f"round{number}"
        if prepare_folder(place, f"{digest} {number}"):
            progress.note(f"{place} is of another training, with other labels or settings; this one starts anew.")
        recipe = _recipe(config, is_fresh=number == 1 and config.start == "scratch", seed=config.seed + number - 1)
        samples = sample_crops(config, train, simulated)
        courses.append(fit_unet(plan.network, plan.spec, samples, held_out, recipe, folder=place, tell=progress.note))
        if number < config.rounds:
            card = plan.describe(config, train)
            train = _clean(Segmenter.of(plan.network, card), train, progress)
    return courses


def _recipe(config: TrainUNetConfig, *, is_fresh: bool, seed: int) -> "Recipe":
    from artifact_mask.nn.fit_unet import Recipe

    return Recipe(
        max_epochs=config.max_epochs,
        patience=config.patience,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate or (FROM_SCRATCH if is_fresh else FROM_WEIGHTS),
        precision=config.precision,
        seed=seed,
        devices=config.devices,
    )


def _clean(segmenter: "Segmenter", train: TrainingFields, progress: Progress) -> TrainingFields:
    """Leave out the labels that a network contradicts."""
    cleaned, n_denied, n_added = {}, 0, 0
    for number, source in enumerate(train.sources):
        if source.source not in MACHINE_MADE:
            continue
        contrast, truth = train[number].truth_field
        found, denied, added = clean_truth(truth, segmenter.predict(contrast[np.newaxis])[0])
        if denied + added:
            cleaned[number] = PackedTruth.pack(found)
        n_denied, n_added = n_denied + denied, n_added + added
    progress.note(
        f"The network contradicts {n_denied} labelled objects, and sees {n_added} that are not labelled, in "
        f"{len(cleaned)} of {len(train)} fields: the next round leaves them out."
    )
    return train.with_truths(cleaned)


def _calibrate(config: TrainUNetConfig, segmenter: "Segmenter", held_out: TrainingFields) -> Calibration | None:
    """Choose how to cut probabilities on some held-out fields; None if there is nothing to choose on."""
    rng = np.random.default_rng(config.seed)
    known = []
    for number in rng.permutation(len(held_out))[:MOST_CALIBRATED]:
        field = held_out[int(number)].truth_field
        known.append((field, segmenter.predict(field.contrast[np.newaxis])[0].astype(np.float16)))
    return calibrate(
        known,
        segmenter.card.cut().reach_px,
        thresholds=(config.threshold,) if config.threshold else THRESHOLDS,
        min_objects_px=(config.min_object_px,) if config.min_object_px else MIN_OBJECTS_PX,
    )


def _digest(
    config: TrainUNetConfig, plan: _Plan, fields: TrainingFields, is_held: NDArray[np.bool_], checksum: int
) -> str:
    """Digest of everything that decides the training; where the fields lie does not."""
    away = {"places", "dest", "masks", "known", "licence"} | _OF_THE_CUT
    decisive = config.model_dump(mode="json", exclude=away)
    for name in ("start", "encoder_start"):
        path = _start_file(decisive[name])
        if path.is_file():
            decisive[name] = model_digest(path)
    given = {
        "software": list_software(PACKAGES),
        "config": decisive,
        "architecture": plan.spec.model_dump(mode="json"),
        "pixel_size_um": plan.pixel_size_um,
        "fields": [(source.plate, source.well, source.field, source.file) for source in fields.sources],
        "held_out": is_held.tolist(),
        "pixels": checksum,
    }
    return digest_settings(given)
