"""Measuring single cells."""

from pydantic import Field

from artifact_mask.config.cluster import ClusterConfig
from artifact_mask.config.places import Names, Places
from artifact_mask.config.run import Density
from artifact_mask.frozen import Frozen


class CellsConfig(Frozen):
    """Find nuclei and cells, and measure the stain of each."""

    plates: Places = Field(min_length=1, description="Plates that `artmask run` was run on, or folders of such plates.")
    negative_controls: Names = Field(
        default=(), description="Wells such as A01, or such as Compound=DMSO; by default those that `run` was given."
    )
    senescence_threshold: Density | None = Field(
        default=None, description="Optical density from which a cell is senescent; by default from the controls."
    )
    senescence_percentile: float = Field(
        default=95, gt=0, lt=100, description="Of the negative controls' cells, from which on a cell is senescent."
    )
    fields_per_unit: int | None = Field(
        default=None, ge=1, description="Fields of one well that make one task; by default up to 16."
    )
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")
