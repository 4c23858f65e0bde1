"""`artmask run`: find the artifacts of a plate, mask them, measure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from artifact_mask import __version__
from artifact_mask.config import RunConfig, ShippedUNet
from artifact_mask.engine.journal import FieldRecord, Journal, Unit
from artifact_mask.engine.placement import worker_model
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.illumination_profiles import StoredFlatField
from artifact_mask.io.ome_zarr import write_labels, write_masked
from artifact_mask.kernels.familiarity import describe_field
from artifact_mask.kernels.field_measurements import measure_plane
from artifact_mask.kernels.labels import Cut, label_artifacts
from artifact_mask.kernels.masking import fill_artifacts
from artifact_mask.location import Location
from artifact_mask.metadata import Acquisition, ArtifactFill, Field, FieldKey, Masking
from artifact_mask.nn.model_card import UNetCard, find_unet, read_card
from artifact_mask.workflows.campaign import Workload, process_campaign
from artifact_mask.workflows.controls import find_controls
from artifact_mask.workflows.ingest import read_ingest
from artifact_mask.workflows.measurements import pack_counts
from artifact_mask.workflows.plane_stage import (
    PlaneParameters,
    PlaneStage,
    PlaneWork,
    combine_planes,
    prepare_with_model,
)
from artifact_mask.workflows.planes import Planes, choose_planes, predict_planes, stored_flat_fields
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.unfamiliar import describe_unfamiliar
from artifact_mask.workflows.unit import Receipt, Row

if TYPE_CHECKING:
    from artifact_mask.nn.predict import Segmenter

LABEL_NAME = "artifacts"


@dataclass(frozen=True)
class _Parameters(PlaneParameters):
    """What determines a field's labels and measurements, beside the pixels and the model."""

    threshold: float
    min_object_px: int
    reach_px: float
    large_threshold: float | None
    large_object_px: int
    masking: Masking

    @property
    def cut(self) -> Cut:
        """How probabilities become objects."""
        return Cut(self.threshold, self.min_object_px, self.reach_px, self.large_threshold, self.large_object_px)


def run(config: RunConfig, progress: Progress | None = None) -> Summary:
    """Segment, mask and measure every field of some plates on Dask.

    Writes ``labels/artifacts`` and ``masked`` into each field, ``tables/fields``, ``tables/wells`` and ``tables/plate``
    into each plate. Run again, it does only what is missing. The threshold of stain, the controls and the limit of
    quality are applied to what was counted, so that another choice of these rewrites the tables alone.

    Raises
    ------
    PlateError
        If there is no such plate, or the only one is not complete or has no such channel; of several plates, such a one
        is left out and named in the summary.
    LeaseError
        If another run is at work on the only plate.
    ModelError
        If the model file is not one.
    StorageError
        If the disk is full.
    ClusterError
        If the cluster cannot be started, or is lost.
    """
    progress = progress or Silent()
    return process_campaign(prepare_run(config, progress), progress)


def prepare_run(config: RunConfig, progress: Progress) -> Workload:
    """Make ready what :func:`run` does; nothing is written."""
    model = find_unet(config.model)
    card = read_card(model, UNetCard)

    def open_stage(root: Location, digest: str, model_name: str) -> RunStage:
        return _open_stage(root, config, card, (digest, model_name), progress)

    return prepare_with_model(RunStage.name, config, model, partial(_load_segmenter, config.model), open_stage)


@dataclass(frozen=True)
class RunStage(PlaneStage[_Parameters]):
    """Run on one plate.

    Attributes
    ----------
    seen
        Of the model's card.
    progress
        Is told what is unfamiliar.
    """

    name = "run"
    seen: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    progress: Progress = field(default_factory=Silent)

    @property
    def settings(self) -> dict[str, object]:
        """What determines the result; of the masking, what the others do not say."""
        return {name: value.fill if isinstance(value, Masking) else value for name, value in super().settings.items()}

    def work(self) -> "partial[Receipt]":
        """Segment, mask and measure a unit."""
        return partial(_run_unit)

    def owned(self, key: FieldKey) -> list[Location]:
        """Labels and masked image."""
        return _owned(self.plate, key)

    def tabulate(self, records: Mapping[FieldKey, FieldRecord]) -> dict[str, pd.DataFrame]:
        """Fields and wells; a plate unlike the model's training fields is told."""
        resampled = any(parameters.scale != 1 for parameters in self.parameters.values())
        for warning in describe_unfamiliar(self.content, records, self.seen, resampled=resampled):
            self.progress.note(warning)
        return super().tabulate(records)


def _open_stage(
    root: Location, config: RunConfig, card: UNetCard, model: tuple[str, str], progress: Progress
) -> RunStage:
    stored, ingested = read_ingest(root)
    # Now, and not when the plate is finished.
    find_controls(stored.plate, (*config.negative_controls, *config.positive_controls))
    illumination = stored_flat_fields(root, stored.ingest_digest, config.illumination)
    chosen = choose_planes(stored.plate, config.channel, card.pixel_size_um, progress, illumination=illumination)
    parameters = {
        number: _Parameters(
            channel=planes.channel,
            scale=planes.scale,
            flat_field=planes.flat_field,
            masking=_describe_masking(config.fill, model[0], planes.flat_field),
            **vars(
                card.cut(
                    planes.scale,
                    threshold=config.threshold,
                    min_object_px=config.min_object_px,
                    reach_um=config.reach_um,
                )
            ),
            ngff=stored.ngff,
        )
        for number, planes in chosen.items()
    }
    return RunStage(
        root,
        stored.plate,
        stored.ngff,
        ingested,
        stored.ingest_digest,
        *model,
        parameters,
        config,
        card.seen,
        progress,
    )


def _load_segmenter(model: Path | ShippedUNet | None) -> "Segmenter":
    # Imported here, so that only workers pay for torch. The default model is that of the worker's own installation.
    from artifact_mask.nn.predict import Segmenter

    return Segmenter.load(find_unet(model))


def _owned(root: Location, key: FieldKey) -> list[Location]:
    folder = root / key[0] / str(key[1])
    return [folder / "labels" / LABEL_NAME, folder / "masked"]


def _run_unit(journal: Journal, acquisition: Acquisition, parameters: _Parameters, model: str, unit: Unit) -> Receipt:
    segmenter: Segmenter = worker_model(model)
    work: PlaneWork[_Parameters, list[NDArray[np.float32]]] = PlaneWork(
        journal, acquisition, parameters, unit, contrast_unit=segmenter.card.normalisation.contrast_unit
    )

    def compute(batch: list[Planes]) -> list[list[NDArray[np.float32]]]:
        contrasts = [contrast for planes in batch for contrast in planes.contrast]
        probabilities = predict_planes(contrasts, parameters.scale, segmenter)
        starts = range(0, len(probabilities), work.planes_per_field)
        return [probabilities[start : start + work.planes_per_field] for start in starts]

    return work.process(
        compute,
        partial(_write_results, acquisition, parameters),
        partial(_owned, journal.plate),
        planes_per_batch=segmenter.planes_per_batch(acquisition.shape[-2:]),
    )


def _write_results(
    acquisition: Acquisition,
    parameters: _Parameters,
    files: StagedFiles,
    folder: Location,
    field: Field,
    planes: Planes,
    probabilities: list[NDArray[np.float32]],
) -> Row:
    """Label, mask and measure the planes of a field, and write the images; return its row for the tables."""
    labelled, masked, counted, described = [], [], [], []
    for (t, z), pixels, background, contrast, probability in zip(*planes, probabilities, strict=True):
        labels = label_artifacts(probability, contrast, parameters.cut)
        mask = labels > 0
        counts = measure_plane(pixels, background, labels)
        counted.append(counts)
        described.append(
            {
                "background": counts.background,
                "clipped_fraction": counts.clipped_fraction,
                **describe_field(contrast, mask),
            }
        )
        labelled.append(((t, z), labels))
        filled = fill_artifacts(parameters.masking.fill, pixels, mask, background)
        masked.append(((t, 0, z), filled))
    write_labels(files, folder, acquisition, field, labelled, name=LABEL_NAME, ngff=parameters.ngff)
    place = (files, folder, acquisition, field, parameters.channel)
    write_masked(*place, masked, masking=parameters.masking, ngff=parameters.ngff)
    return {**combine_planes(described), **pack_counts(counted)}


def _describe_masking(fill: ArtifactFill, model_digest: str, flat_field: StoredFlatField | None) -> Masking:
    return Masking(fill, LABEL_NAME, model_digest, flat_field.digest if flat_field else "", __version__)
