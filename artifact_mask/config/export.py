"""Results for other programs."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from artifact_mask.config.cells import LabelName
from artifact_mask.config.cluster import ClusterConfig
from artifact_mask.config.places import Names, Places
from artifact_mask.config.run import IlluminationUse
from artifact_mask.frozen import Frozen
from artifact_mask.location import StoreLocation
from artifact_mask.metadata import ArtifactFill

ExportFormat = Literal["cellprofiler", "ome-tiff", "zarr", "geojson", "tables"]


def _split_numbers(given: Any) -> Any:
    """Numbers in one text, with commas between them."""
    return tuple(part for part in given.split(",") if part.strip()) if isinstance(given, str) else given


FieldIds = Annotated[tuple[PositiveInt, ...], BeforeValidator(_split_numbers)]
"""The microscope's numbers of fields, also in one text with commas between them."""


class ExportConfig(Frozen):
    """Write masked images, masks, regions or tables for other programs."""

    plates: Places = Field(min_length=1, description="Plates that `artmask run` was run on, or folders of such plates.")
    dest: StoreLocation = Field(description="Folder to write into; each plate gets one in it.")
    format: ExportFormat = Field(
        default="cellprofiler",
        description="`cellprofiler` (TIFFs and LoadData), `ome-tiff`, `zarr` (a masked plate), `geojson` (regions for "
        "QuPath), or `tables` (CSV and Parquet of all plates together).",
    )
    label: LabelName = Field(default="artifacts", description="Label image that says what is masked.")
    fill: ArtifactFill | None = Field(
        default=None, description="What artifact pixels become; by default what `run` made of them."
    )
    unmasked: bool = Field(default=False, description="Whether to leave the images as they are, beside the masks.")
    channels: Names = Field(default=(), description="Names of the channels; by default all.")
    wells: Names = Field(default=(), description="Names of wells, such as B02,B03; by default all.")
    fields: FieldIds = Field(
        default=(), description="The microscope's numbers of fields (FieldID), such as 1,2; by default all."
    )
    illumination: IlluminationUse | None = Field(
        default=None,
        description="`stored` divides by the flat field of `artmask illumination`, where the plate has one; or `none`; "
        "by default as `run` did.",
    )
    image_base: str = Field(
        default="",
        description="For `cellprofiler`: `dest` as the machine calls it that CellProfiler runs on, written before the "
        "folders in load_data.csv; by default they are relative to the folder of that file.",
    )
    anndata: bool = Field(default=False, description="Whether `tables` are written as AnnData (.h5ad), too.")
    fields_per_unit: int | None = Field(
        default=None, ge=1, description="Fields of one well that make one task; by default up to 16."
    )
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="Where the work is done.")

    @model_validator(mode="after")
    def _fits_the_format(self) -> "ExportConfig":
        if self.anndata and self.format != "tables":
            raise ValueError("anndata is for the format `tables`")
        if self.format == "zarr" and self.fill == "nan":
            raise ValueError("a plate has whole numbers: choose another fill than nan, or the format ome-tiff")
        return self
