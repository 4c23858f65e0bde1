"""From exports to plates."""

from pydantic import Field

from artifact_mask.config.cluster import ClusterConfig
from artifact_mask.config.places import Places
from artifact_mask.frozen import Frozen
from artifact_mask.location import StoreLocation
from artifact_mask.metadata import FlatField, NgffVersion


class IngestConfig(Frozen):
    """From exports of Harmony to OME-Zarr plates."""

    exports: Places = Field(
        min_length=1, description="Folders to search for measurements, Images folders, or index files."
    )
    dest: StoreLocation = Field(
        description="Plate to write, such as plate1.zarr or s3://bucket/plate1.zarr, or a folder for one store a plate."
    )
    pixel_size_um: float | None = Field(
        default=None, gt=0, description="Pixel size in micrometre; needed where there is no index."
    )
    channel_names: dict[int, str] = Field(
        default_factory=dict,
        description="Names by Harmony's channel number, where the export has none, or none that says enough.",
    )
    flatfield: FlatField = Field(
        default="none", description="Divide by the background's flat field: `harmony` takes the profiles of the export."
    )
    ngff: NgffVersion = Field(default="0.5", description="Version of OME-Zarr; 0.4 for readers that know no other.")
    strict: bool = Field(default=False, description="Whether a missing or damaged image is an error.")
    fields_per_unit: int | None = Field(
        default=None, ge=1, description="Fields of one well that make one task; by default up to 16."
    )
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")
