"""What the card of a trained U-Net says."""

from collections import Counter

from artifact_mask.config import TrainUNetConfig
from artifact_mask.kernels.calibration import FALSE_OBJECT_COST, RING_PX, Calibration
from artifact_mask.kernels.familiarity import describe_field, summarise
from artifact_mask.kernels.truth import ARTIFACT
from artifact_mask.nn.model_card import UNetCard, UNetSpec
from artifact_mask.workflows.crop_samples import SIMULATED_SHARE
from artifact_mask.workflows.training import list_software
from artifact_mask.workflows.training_fields import TrainingFields

PACKAGES = ("torch", "monai", "lightning", "numpy")
"""That decide what a training gives."""
THRESHOLD, MIN_OBJECT_PX = 0.5, 25
"""Where there is nothing to choose them on."""
_UNCALIBRATED = "By hand, or 0.5 and 25 px: no field with artifacts was held out to choose them on."


def describe_unet(
    config: TrainUNetConfig, spec: UNetSpec, pixel_size_um: float, start: str, fields: TrainingFields
) -> UNetCard:
    """Write the card, but for what the held-out fields decide.

    Parameters
    ----------
    config
        Of the training.
    spec, pixel_size_um
        Of the network.
    start
        What it started from, in words for people.
    fields
        All that are learnt from or held out.
    """
    seen = []
    for number in range(len(fields)):
        contrast, truth = fields[number].truth_field
        seen.append(describe_field(contrast, truth == ARTIFACT))
    kinds = Counter((field.plate, field.source) for field in fields.sources)
    wells = Counter(plate for plate, _ in set(fields.groups))
    described = [
        f"{plate or 'TIFFs'}: {n} fields of {wells[plate]} wells, truth from {source}"
        for (plate, source), n in kinds.items()
    ]
    if config.drawn:
        described.append(f"for {config.drawn:.0%} of the crops, with shadows, well edges, debris and stain drawn in")
    if config.simulated:
        described.append(f"for {SIMULATED_SHARE:.0%} of the other crops, {config.simulated} simulated fields")
    if start != "random weights":
        described.append(f"before that, what {start} had seen")
    return UNetCard(
        name=config.dest.stem,
        version="1",
        architecture=spec,
        pixel_size_um=pixel_size_um,
        threshold=config.threshold or THRESHOLD,
        min_object_px=config.min_object_px or MIN_OBJECT_PX,
        reach_um=config.reach_um,
        large_threshold=config.large_threshold,
        training_data=tuple(described),
        seen=summarise(seen),
        software=list_software(PACKAGES),
        licence=config.licence,
    )


def add_calibration(card: UNetCard, calibration: Calibration | None) -> UNetCard:
    """Put on the card which threshold and smallest object were chosen."""
    if calibration is None:
        return card.model_copy(update={"threshold_choice": _UNCALIBRATED})
    said = (
        f"Best on {calibration.n_fields} held-out fields: F1 of the pixels, averaged over all and all but a ring of "
        f"{RING_PX} px, plus the share of objects found, less {FALSE_OBJECT_COST} for each false object a field. These "
        "fields also decided when training stopped, so that their figures are slightly better than those of further "
        "plates."
    )
    return card.model_copy(
        update={
            "threshold": calibration.cut.threshold,
            "min_object_px": calibration.cut.min_object_px,
            "large_threshold": calibration.cut.large_threshold,
            "threshold_choice": said,
        }
    )
