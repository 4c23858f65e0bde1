"""Measuring single cells."""

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from artifact_mask.config.cluster import ClusterConfig
from artifact_mask.config.places import Names, Places
from artifact_mask.config.run import Density
from artifact_mask.frozen import Frozen

LabelName = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""Name of a label image."""


class CellsConfig(Frozen):
    """Find nuclei and cells, and measure the stain of each."""

    plates: Places = Field(min_length=1, description="Plates that `artmask run` was run on, or folders of such plates.")
    nuclear_channel: str | None = Field(
        default=None, description="Name of the channel that shows nuclei; by default the one called DAPI or Hoechst."
    )
    nuclei: LabelName | None = Field(
        default=None, description="Label image of nuclei that each field has, such as Cellpose's, to take instead."
    )
    cells: LabelName | None = Field(
        default=None, description="Label image of whole cells that each field has, to take instead of grown nuclei."
    )
    plane: int | None = Field(
        default=None, ge=0, description="Plane of a stack to look at, from 0; by default the middle one."
    )
    min_nucleus_um2: float = Field(default=25, gt=0, description="Smaller objects are no nuclei.")
    max_nucleus_um2: float = Field(default=2000, gt=0, description="Larger objects are no nuclei.")
    cell_reach_um: float = Field(default=9, ge=0, description="How far a cell reaches from its nucleus, at most.")
    max_artifact_fraction: float = Field(
        default=0.5, ge=0, le=1, description="Cells with a larger share of artifact are excluded."
    )
    negative_controls: Names = Field(
        default=(), description="Wells such as A01, or such as Compound=DMSO; by default those that `run` was given."
    )
    senescence_threshold: Density | None = Field(
        default=None, description="Mean optical density from which a cell is senescent; by default from the controls."
    )
    senescence_percentile: float = Field(
        default=95, gt=0, lt=100, description="Of the negative controls' cells, from which on a cell is senescent."
    )
    fields_per_unit: int | None = Field(
        default=None, ge=1, description="Fields of one well that make one task; by default up to 16."
    )
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")

    @model_validator(mode="after")
    def _has_nuclei_of_some_size(self) -> "CellsConfig":
        if self.min_nucleus_um2 >= self.max_nucleus_um2:
            raise ValueError("min_nucleus_um2 must be less than max_nucleus_um2")
        return self
