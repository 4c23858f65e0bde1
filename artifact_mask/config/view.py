"""Looking at a plate."""

from pydantic import Field

from artifact_mask.frozen import Frozen
from artifact_mask.location import StoreLocation


class ViewConfig(Frozen):
    """Show a plate in a browser, or in napari."""

    plate: StoreLocation = Field(description="Plate that `artmask ingest` wrote.")
    well: str | None = Field(default=None, description="Name of the well to begin with, such as B03.")
    field: int | None = Field(
        default=None, ge=0, description="Index of the field to begin with, as in the tables; of napari, the only one."
    )
    port: int = Field(default=0, ge=0, le=65535, description="Of the loopback address; 0 for any that is free.")
