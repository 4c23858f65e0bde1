"""Flat fields of plates."""

from typing import Literal

from pydantic import Field, model_validator

from artifact_mask.config.cluster import ClusterConfig
from artifact_mask.config.places import Names, Places
from artifact_mask.frozen import Frozen
from artifact_mask.location import LocalPath


class IlluminationConfig(Frozen):
    """Find the flat field of each channel, and store it in the plate; no image is changed."""

    plates: Places = Field(min_length=1, description="Plates that `artmask ingest` wrote, or folders of such plates.")
    method: Literal["retrospective", "harmony", "reference"] = Field(
        default="retrospective",
        description="From the fields themselves, from the profiles of the export, or from images of an empty well.",
    )
    channels: Names = Field(default=(), description="Names of the channels; by default all.")
    fields: int = Field(default=96, ge=3, description="Fields of each acquisition to look at, at random.")
    reference: tuple[LocalPath, ...] = Field(
        default=(), description="TIFFs of an empty well, for `reference`; they are averaged and smoothed."
    )
    remove: bool = Field(default=False, description="Whether to remove the stored flat fields instead.")
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")

    @model_validator(mode="after")
    def _fits_the_method(self) -> "IlluminationConfig":
        if (self.method == "reference") != bool(self.reference):
            raise ValueError("the method `reference`, and it alone, needs reference images")
        if self.method == "reference" and len(self.channels) != 1:
            raise ValueError("reference images are those of one channel: name it in `channels`")
        return self
