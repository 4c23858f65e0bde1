"""`artmask label`: label the artifacts of plates by what a classifier looked at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from artifact_mask.config import ExplanationConfig, Fill, LabelConfig, Refinement, SaliencyMethod, Weight
from artifact_mask.engine.journal import FieldRecord, Journal, Unit
from artifact_mask.engine.placement import worker_model
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.ome_zarr import write_labels
from artifact_mask.kernels.labels import object_areas
from artifact_mask.kernels.saliency import PUBLISHED_CUT
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, Field, FieldKey, NgffVersion
from artifact_mask.nn.model_card import ClassifierCard, default_classifier_path, read_card
from artifact_mask.workflows.campaign import Workload, process_campaign
from artifact_mask.workflows.ingest import read_ingest
from artifact_mask.workflows.plane_stage import (
    PlaneParameters,
    PlaneStage,
    PlaneWork,
    combine_planes,
    prepare_with_model,
)
from artifact_mask.workflows.planes import ChosenPlanes, Planes, choose_planes, stored_flat_fields
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.unit import Receipt, Row

if TYPE_CHECKING:
    from artifact_mask.workflows.weak_label import Explainer, Explanation

LABEL_NAME = "weak"


@dataclass(frozen=True)
class LabelParameters(PlaneParameters):
    """What determines a field's weak label, beside the pixels and the classifier."""

    threshold: float
    weight: Weight
    fill: Fill
    layer: str | None
    saliency: SaliencyMethod
    tolerance: float
    refinement: Refinement
    cut: float | None
    object_threshold: float
    reach_px: float
    min_object_px: int


def label(config: LabelConfig, progress: Progress | None = None) -> Summary:
    """Label every field of some plates on Dask.

    Writes ``labels/weak`` into each field, and the classifier's probability and the objects' areas into the tables of
    each plate. A field that is called clean gets an empty label. Run again, it does only what is missing.

    Raises
    ------
    PlateError
        If there is no such plate, or the only one is not complete or has no such channel; of several plates, such a one
        is left out and named in the summary.
    LeaseError
        If another run is at work on the only plate.
    ModelError
        If the classifier's file is not one.
    StorageError
        If the disk is full.
    ClusterError
        If the cluster cannot be started, or is lost.
    """
    progress = progress or Silent()
    return process_campaign(prepare_label(config, progress), progress)


def prepare_label(config: LabelConfig, progress: Progress) -> Workload:
    """Make ready what :func:`label` does; nothing is written."""
    classifier = config.classifier or default_classifier_path()
    card = read_card(classifier, ClassifierCard)

    def open_stage(root: Location, digest: str, model_name: str) -> LabelStage:
        return _open_stage(root, config, card, (digest, model_name), progress)

    load = partial(_load_explainer, config.classifier)
    return prepare_with_model(LabelStage.name, config, classifier, load, open_stage)


def resolve(
    config: ExplanationConfig, card: ClassifierCard, planes: ChosenPlanes, *, ngff: NgffVersion
) -> LabelParameters:
    """Fill in what a configuration leaves to the classifier and to the refinement."""
    of_refinement = PUBLISHED_CUT if config.refinement == "published" else None
    threshold = config.threshold or card.threshold
    return LabelParameters(
        channel=planes.channel,
        scale=planes.scale,
        flat_field=planes.flat_field,
        ngff=ngff,
        threshold=threshold,
        weight=config.weight,
        fill=config.fill,
        layer=config.layer,
        saliency=config.saliency,
        tolerance=config.tolerance,
        refinement=config.refinement,
        cut=of_refinement if config.cut == "otsu" else config.cut,
        object_threshold=threshold if config.object_threshold is None else config.object_threshold,
        reach_px=config.reach_um / planes.pixel_size_um,
        min_object_px=config.min_object_px,
    )


@dataclass(frozen=True)
class LabelStage(PlaneStage[LabelParameters]):
    """Label one plate."""

    name = "label"
    progress: Progress = field(default_factory=Silent)

    def work(self) -> Callable[[Journal, Acquisition, LabelParameters, str, Unit], Receipt]:
        """Explain and label a unit."""
        return _label_unit

    def owned(self, key: FieldKey) -> list[Location]:
        """Labels."""
        return _owned(self.plate, key)

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """Fields and wells; a saliency that says nothing is told."""
        n_tiles = sum(record.row.get("n_artifact_tiles", 0) for record in records.values())
        n_saturated = sum(record.row.get("n_saturated_tiles", 0) for record in records.values())
        if n_saturated > n_tiles / 10:
            self.progress.note(
                f"Warning: {self.plate.name}: in {n_saturated} of {n_tiles} tiles the classifier gives every map the "
                "same weight, so that the saliency is no more than the mean of the maps. Look at some fields with "
                "`artmask explain`; --weight softmax-logit, or a classifier that was trained longer, may tell more."
            )
        return super().tabulate(records)


def _open_stage(
    root: Location, config: LabelConfig, card: ClassifierCard, model: tuple[str, str], progress: Progress
) -> LabelStage:
    stored, ingested = read_ingest(root)
    illumination = stored_flat_fields(root, stored.ingest_digest, config.illumination)
    chosen = choose_planes(stored.plate, config.channel, card.pixel_size_um, progress, illumination=illumination)
    parameters = {number: resolve(config, card, planes, ngff=stored.ngff) for number, planes in chosen.items()}
    return LabelStage(
        root,
        stored.plate,
        stored.ngff,
        ingested,
        stored.ingest_digest,
        *model,
        parameters,
        config,
        progress,
    )


def _load_explainer(classifier: Path | None) -> "Explainer":
    # Imported here, so that only workers pay for torch. The default one is that of the worker's own installation.
    from artifact_mask.workflows.weak_label import Explainer

    return Explainer.load(classifier or default_classifier_path())


def _owned(root: Location, key: FieldKey) -> list[Location]:
    return [root / key[0] / str(key[1]) / "labels" / LABEL_NAME]


def _label_unit(
    journal: Journal, acquisition: Acquisition, parameters: LabelParameters, model: str, unit: Unit
) -> Receipt:
    explainer: Explainer = worker_model(model)
    work: PlaneWork[LabelParameters, list[Explanation]] = PlaneWork(
        journal, acquisition, parameters, unit, contrast_unit=explainer.classifier.card.normalisation.contrast_unit
    )

    def compute(batch: list[Planes]) -> "list[list[Explanation]]":
        contrasts = [contrast for planes in batch for contrast in planes.contrast]
        explanations = explainer.explain(contrasts, parameters)
        starts = range(0, len(explanations), work.planes_per_field)
        return [explanations[start : start + work.planes_per_field] for start in starts]

    return work.process(
        compute,
        partial(_write_labels, acquisition, parameters),
        partial(_owned, journal.plate),
        planes_per_batch=explainer.planes_per_batch,
    )


def _write_labels(
    acquisition: Acquisition,
    parameters: LabelParameters,
    files: StagedFiles,
    folder: Location,
    field: Field,
    planes: Planes,
    explanations: "list[Explanation]",
) -> Row:
    """Write the labels of a field; return its row for the tables."""
    labelled = zip(planes.tz, (explanation.labels for explanation in explanations), strict=True)
    write_labels(files, folder, acquisition, field, labelled, name=LABEL_NAME, ngff=parameters.ngff)
    measured = []
    for explanation in explanations:
        areas = object_areas(explanation.labels)
        measured.append(
            {
                "artifact_probability": explanation.probability,
                "n_artifact_tiles": explanation.n_artifact_tiles,
                "n_saturated_tiles": explanation.n_saturated,
                "saliency_error": explanation.error,
                "weak_fraction": float(areas.sum()) / explanation.labels.size,
                "n_weak_objects": int(areas.size),
                "weak_area_um2": float(areas.sum()) * acquisition.pixel_size_um**2,
            }
        )
    return combine_planes(
        measured,
        summed=("n_artifact_tiles", "n_saturated_tiles", "n_weak_objects", "weak_area_um2"),
        largest=("artifact_probability", "saliency_error"),
    )
