"""Masking and measuring."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from artifact_mask.config.cluster import ClusterConfig
from artifact_mask.config.places import Names, Places
from artifact_mask.frozen import Frozen
from artifact_mask.location import LocalPath
from artifact_mask.metadata import OD_STEP, ArtifactFill

ShippedUNet = Literal["weak", "supervised"]
"""U-Nets that artmask ships: one that saw no mask of a real field, and one that did."""
StainMethod = Literal["otsu", "triangle", "controls"]
"""What chooses the optical density from which a pixel counts as stained."""
IlluminationUse = Literal["stored", "none"]
"""Whether images are divided by the flat field that `artmask illumination` has stored in their plate."""


def _in_steps(density: float) -> float:
    """Refuse a density between two steps, which could not be told from the step below it."""
    steps = density / OD_STEP
    if abs(steps - round(steps)) > 1e-6:
        low = int(steps) * OD_STEP
        raise ValueError(f"optical densities are measured in steps of {OD_STEP}; give {low:.3f} or {low + OD_STEP:.3f}")
    return density


Density = Annotated[float, Field(gt=0, le=2), AfterValidator(_in_steps)]
"""Optical density in the steps that it is measured in."""


class RunConfig(Frozen):
    """Find artifacts on a plate, mask them, and measure."""

    plates: Places = Field(min_length=1, description="Plates that `artmask ingest` wrote, or folders of such plates.")
    channel: str | None = Field(
        default=None, description="Name of the channel to segment; by default the brightfield one."
    )
    model: ShippedUNet | LocalPath | None = Field(
        default=None,
        description="Model file (safetensors), or `weak` or `supervised` for one that artmask ships; by default the "
        "better of these.",
    )
    threshold: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Probability from which a pixel is an artifact; by default the model's own.",
    )
    min_object_px: int | None = Field(
        default=None, ge=1, description="Objects of fewer pixels are dropped; by default the model's own."
    )
    reach_um: float | None = Field(
        default=None,
        ge=0,
        description="How far objects grow over dark pixels to their own edge, in um; by default the model's own.",
    )
    illumination: IlluminationUse = Field(
        default="stored",
        description="`stored` divides by the flat field of `artmask illumination`, where the plate has one; or `none`.",
    )
    fill: ArtifactFill = Field(
        default="median",
        description="What artifact pixels become: the field's `median`, the local `background`, `inpaint` from around, "
        "or `nan` (the image is float32 then).",
    )
    stain_threshold: StainMethod | Density = Field(
        default=0.08,
        description="Optical density from which a pixel is stained, in steps of 0.005; or `otsu`, `triangle`, or "
        "`controls`, a percentile of the negative controls.",
    )
    stain_scope: Literal["plate", "field"] = Field(
        default="plate", description="Whether a chosen threshold is one for the plate, or one for each field."
    )
    control_percentile: float = Field(
        default=99.5, gt=0, lt=100, description="Of the negative controls' pixels, for the threshold `controls`."
    )
    negative_controls: Names = Field(
        default=(), description="Wells such as A01, or what the layout says of them, such as Compound=DMSO."
    )
    positive_controls: Names = Field(default=(), description="The same for the positive controls, for Z'.")
    max_artifact_fraction: float | None = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Fields with a larger share of artifact are rejected: they stay in the table of fields, and out of "
        "the wells' figures.",
    )
    fields_per_unit: int | None = Field(
        default=None, ge=1, description="Fields of one well that make one task; by default up to 16."
    )
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")

    @model_validator(mode="after")
    def _has_controls(self) -> "RunConfig":
        if self.stain_threshold == "controls":
            if not self.negative_controls:
                raise ValueError("stain_threshold `controls` needs negative_controls, such as Compound=DMSO or A01,A02")
            if self.stain_scope == "field":
                raise ValueError("stain_threshold `controls` is one for the plate: leave stain_scope away")
        return self
