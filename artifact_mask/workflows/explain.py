"""`artmask explain`: draw how the label of one field comes about."""

from dataclasses import dataclass
from pathlib import Path

from artifact_mask.config import ExplainConfig
from artifact_mask.errors import PlateError
from artifact_mask.io.illumination_profiles import load_flat_field
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.io.picture import ExplainedField, save_explanation_picture
from artifact_mask.kernels.labels import object_areas
from artifact_mask.nn.model_card import ClassifierCard, default_classifier_path, read_card
from artifact_mask.workflows.label import resolve
from artifact_mask.workflows.planes import choose_planes, read_planes, stored_flat_fields
from artifact_mask.workflows.plate_fields import find_fields
from artifact_mask.workflows.progress import Progress, Silent


@dataclass(frozen=True)
class Explained:
    """What was drawn.

    Attributes
    ----------
    picture
        The PNG.
    probability
        Of the tile that shows an artifact most clearly.
    n_tiles, n_artifact_tiles, n_objects
        Tiles of the field, those called artifact, and objects of the label.
    n_forwards
        Masked forward passes that the saliency took.
    error
        Largest estimated error of a tile's saliency.
    """

    picture: Path
    probability: float
    n_tiles: int
    n_artifact_tiles: int
    n_objects: int
    n_forwards: int
    error: float


def explain(config: ExplainConfig, progress: Progress | None = None) -> Explained:
    """Explain one field, in this process, and draw original, saliency, detail, refined map and label.

    Of several planes the first timepoint's middle one is drawn.

    Raises
    ------
    PlateError
        If there is no such plate, well or field, or it has no such channel.
    ImageError
        If the channel's image is missing.
    ModelError
        If the classifier's file is not one.
    """
    # Here, because `artmask --help` and the workers of other stages need no torch.
    from artifact_mask.workflows.weak_label import Explainer

    stored = read_plate(config.plate)
    well, (index,) = find_fields(stored.plate, config.well, config.field)
    key = (well.path, index)
    path = config.classifier or default_classifier_path()
    card = read_card(path, ClassifierCard)
    number = stored.plate.acquisition_of[key]
    acquisition = stored.plate.acquisitions[number]
    illumination = stored_flat_fields(config.plate, stored.ingest_digest, config.illumination)
    chosen = choose_planes(
        stored.plate, config.channel, card.pixel_size_um, progress or Silent(), illumination=illumination
    )
    if number not in chosen:
        raise PlateError(f"The acquisition of field {config.field} of {config.well} has no such channel. Name another.")
    folder = config.plate / key[0] / str(key[1])
    stored_flat_field = chosen[number].flat_field
    planes = read_planes(
        folder,
        acquisition,
        chosen[number].channel,
        contrast_unit=card.normalisation.contrast_unit,
        flat_field=load_flat_field(config.plate, stored_flat_field) if stored_flat_field else None,
    )
    contrast = planes.contrast[acquisition.shape[2] // 2]
    parameters = resolve(config, card, chosen[number], ngff=stored.ngff)
    (explanation,) = Explainer.load(path).explain([contrast], parameters)
    save_explanation_picture(
        config.dest,
        ExplainedField(
            title=f"{stored.plate.name} {config.well} field {config.field}, p(artifact) {explanation.probability:.2f}",
            contrast=contrast,
            saliency=explanation.saliency,
            detail=explanation.detail,
            detail_name=config.refinement,
            refined=explanation.refined,
            labels=explanation.labels,
        ),
    )
    return Explained(
        picture=config.dest,
        probability=explanation.probability,
        n_tiles=explanation.n_tiles,
        n_artifact_tiles=explanation.n_artifact_tiles,
        n_objects=int(object_areas(explanation.labels).size),
        n_forwards=explanation.n_forwards,
        error=explanation.error,
    )
