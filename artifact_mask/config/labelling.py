"""Labels by what a classifier looks at."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from artifact_mask.config.cluster import ClusterConfig
from artifact_mask.config.places import Places
from artifact_mask.config.run import IlluminationUse
from artifact_mask.frozen import Frozen
from artifact_mask.location import LocalPath, StoreLocation

Weight = Literal["probability", "softmax-logit"]
"""What weighs a map of Score-CAM."""
Fill = Literal["background", "zero"]
"""What becomes of the pixels that a map hides."""
SaliencyMethod = Literal["score-cam", "mean", "cam"]
"""What finds where a classifier looks."""
Refinement = Literal["edges", "darkness", "edges-and-darkness", "none", "published"]
"""What sharpens a saliency map."""


class ExplanationConfig(Frozen):
    """How fields are explained: which tiles show an artifact, and where."""

    classifier: LocalPath | None = Field(
        default=None, description="Classifier (safetensors) of `artmask train classifier`; by default the shipped one."
    )
    channel: str | None = Field(default=None, description="Name of the channel; by default the brightfield one.")
    illumination: IlluminationUse = Field(
        default="stored",
        description="`stored` divides by the flat field of `artmask illumination`, where the plate has one; or `none`.",
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="Probability from which a tile has an artifact; by default the model's."
    )
    weight: Weight = Field(
        default="probability",
        description="What weighs a map: `probability` (reference code) or `softmax-logit` (paper).",
    )
    fill: Fill = Field(default="background", description="What masked pixels become: `background` or `zero`.")
    layer: str | None = Field(default=None, description="Stage whose maps are weighed; by default the last one.")
    saliency: SaliencyMethod = Field(
        default="score-cam", description="What finds where the classifier looks: score-cam, or mean or cam of its maps."
    )
    tolerance: float = Field(
        default=0.04,
        ge=0,
        lt=1,
        description="Expected error of Score-CAM's map (1 - IoU) at which no more maps are scored; 0 scores them all.",
    )
    refinement: Refinement = Field(
        default="edges",
        description="What sharpens the saliency: edges, darkness, edges-and-darkness, none, or published.",
    )
    cut: Literal["otsu"] | Annotated[float, Field(gt=0, lt=1)] = Field(
        default="otsu", description="Where the refined map is cut: `otsu`, or a fixed share of its range."
    )
    object_threshold: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Probability that an object must reach when the classifier sees it alone; by default that of "
        "tiles, and 0 for no such check.",
    )
    reach_um: float = Field(
        default=9.0, ge=0, description="How far objects grow to their own edge, over dark pixels; 0 for not at all."
    )
    min_object_px: int = Field(default=12, ge=1, description="Objects of fewer pixels are dropped.")


class LabelConfig(ExplanationConfig):
    """Label the artifacts of plates by what a classifier looked at."""

    plates: Places = Field(min_length=1, description="Plates that `artmask ingest` wrote, or folders of such plates.")
    fields_per_unit: int | None = Field(
        default=None, ge=1, description="Fields of one well that make one task; by default up to 16."
    )
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")


class ExplainConfig(ExplanationConfig):
    """Draw how the label of one field comes about."""

    plate: StoreLocation = Field(description="Plate that `artmask ingest` wrote.")
    well: str = Field(description="Name of the well, such as B03.")
    field: int = Field(default=0, ge=0, description="Index of the field, as in the tables.")
    dest: LocalPath = Field(default=Path("explanation.png"), description="Picture to write.")
