"""A report to send around."""

from pydantic import Field

from artifact_mask.config.places import Places
from artifact_mask.frozen import Frozen
from artifact_mask.location import StoreLocation


class ReportConfig(Frozen):
    """Show what was found on plates on one page, which needs no network."""

    plates: Places = Field(min_length=1, description="Plates that `artmask ingest` wrote, or folders of such plates.")
    dest: StoreLocation | None = Field(
        default=None,
        description="Page to write, such as report.html; by default `<plate>-report.html` in the current folder.",
    )
    column: str | None = Field(
        default=None,
        description="Column of the table of wells that plates are coloured by at first; by default stained_fraction, "
        "or the first there is.",
    )
    thumbnails: bool = Field(default=True, description="Whether fields are shown as pictures.")
    thumbnail_px: int | None = Field(
        default=None,
        ge=32,
        le=1080,
        description="Longest side of these pictures; by default as large as leaves the page below 15 MB.",
    )
