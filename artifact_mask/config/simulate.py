"""Synthetic campaigns."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from artifact_mask.frozen import Frozen
from artifact_mask.metadata import Harmony


class SimulateConfig(Frozen):
    """Draw a synthetic campaign, exported as by Harmony, with the truth about every field."""

    dest: Path = Field(description="Folder to write the plates into, one folder a measurement.")
    plates: int = Field(default=1, ge=1, le=999, description="Number of plates.")
    wells: int = Field(default=6, ge=1, le=384, description="Wells of each plate: controls and a dilution series.")
    fields: int = Field(default=4, ge=1, le=999, description="Fields of view of each well.")
    size: int = Field(default=1080, ge=64, le=2160, description="Side of a field, in pixels.")
    channels: int = Field(default=1, ge=1, le=5, description="Brightfield, then nuclei, then further fluorescence.")
    planes: int = Field(default=1, ge=1, le=99, description="Planes of a stack; the middle one is in focus.")
    timepoints: int = Field(default=1, ge=1, le=99, description="Times that each field is taken.")
    measurements: int = Field(
        default=1, ge=1, le=99, description="Measurements of each plate; several get folders named as Harmony does."
    )
    harmony: Harmony = Field(
        default="v5", description="Generation of the software whose export is imitated: v4, v5, v6, v7 or columbus."
    )
    shading: Literal["field", "plate"] = Field(
        default="field", description="Whether each field has a shading of its own, or all of a plate the same."
    )
    seed: int = Field(default=0, ge=0, description="Seed; the same seed writes the same bytes.")
    pixel_size_um: float = Field(default=0.3, ge=0.1, le=2.0, description="Side of a pixel, in micrometre.")
