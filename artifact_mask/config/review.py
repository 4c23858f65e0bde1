"""Looking at results: corrected, judged, verified."""

from pathlib import Path

from pydantic import Field, model_validator

from artifact_mask.config.cluster import ClusterConfig
from artifact_mask.config.places import Names, Places
from artifact_mask.config.run import ShippedUNet
from artifact_mask.frozen import Frozen
from artifact_mask.location import LocalPath, StoreLocation
from artifact_mask.metadata import STAGE_LABELS


class CorrectConfig(Frozen):
    """Copy labels for a person to edit, or bring edited masks back."""

    plates: Places = Field(min_length=1, description="Plates that `artmask ingest` wrote, or folders of such plates.")
    source: str = Field(default="artifacts", min_length=1, description="Label image to copy.")
    to: str = Field(
        default="corrected", pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$", description="Label image to write, for editing."
    )
    wells: Names = Field(default=(), description="Names of wells, such as B02,B03; by default all.")
    fields: int | None = Field(
        default=None,
        ge=1,
        description="Fields to copy of each plate, those with most artifact, from all wells in turn; by default all.",
    )
    masks: LocalPath | None = Field(
        default=None, description="Folder with edited masks (TIFF, PNG, ImageJ ROIs, GeoJSON) to bring in instead."
    )
    ignore: int | None = Field(default=None, description="Value of pixels in masks to learn nothing from.")
    channel: str | None = Field(
        default=None, description="Name of the channel that masks were drawn on; by default the brightfield one."
    )
    overwrite: bool = Field(default=False, description="Whether to replace labels that have been edited.")

    @model_validator(mode="after")
    def _keeps_results(self) -> "CorrectConfig":
        if self.to in (*STAGE_LABELS, self.source):
            raise ValueError(
                f"`to` is {self.to!r}, a label image that stays as it is; give a name of your own, such as corrected"
            )
        return self


class EvaluateConfig(Frozen):
    """Compare predicted artifacts with true ones."""

    prediction: ShippedUNet | StoreLocation = Field(
        description="Plate or folder of plates with predicted labels, a folder of masks or probabilities (PNG, TIFF, "
        "NPY), or a U-Net (safetensors, or `weak` or `supervised`), which is applied to the images of the truth."
    )
    truth: Places = Field(
        min_length=1,
        description="Plates with true labels, folders of plates, folders with TIFFs in images/ and masks/, or a folder "
        "of masks.",
    )
    dest: LocalPath = Field(default=Path("evaluation"), validate_default=True, description="Folder to write into.")
    prediction_label: str = Field(default="artifacts", min_length=1, description="Predicted label image of plates.")
    truth_label: str = Field(default="corrected", min_length=1, description="True label image of plates.")
    masks: LocalPath | None = Field(
        default=None, description="Folder of masks or outlines for fields of the true plates, instead of label images."
    )
    ignore: int | None = Field(
        default=None, description="Value of pixels of the truth that are left out; -1 where none is."
    )
    ring_px: int = Field(
        default=10,
        ge=0,
        description="Tolerant scores leave out the background within this distance of a true artifact.",
    )
    threshold: float | None = Field(
        default=None, gt=0, lt=1, description="Probability from which a pixel is an artifact; by default the model's."
    )
    min_object_px: int | None = Field(
        default=None, ge=1, description="Predicted objects of fewer pixels are dropped; by default the model's."
    )
    channel: str | None = Field(default=None, description="Name of the channel; by default the brightfield one.")
    pixel_size_um: float | None = Field(default=None, gt=0, description="Pixel size of TIFFs, in micrometre.")


class VerifyConfig(Frozen):
    """Compare the files of plates with their records."""

    plates: Places = Field(min_length=1, description="Plates, or folders of plates.")
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")
