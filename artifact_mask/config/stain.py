"""Labels of stained pixels."""

from pydantic import Field

from artifact_mask.config.cluster import ClusterConfig
from artifact_mask.config.places import Places
from artifact_mask.frozen import Frozen


class StainConfig(Frozen):
    """Write the stained pixels that the tables count as label images."""

    plates: Places = Field(min_length=1, description="Plates that `artmask run` was run on, or folders of such plates.")
    fields_per_unit: int | None = Field(
        default=None, ge=1, description="Fields of one well that make one task; by default up to 16."
    )
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")
