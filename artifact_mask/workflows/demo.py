"""`artmask demo`: the whole way on a simulated plate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from artifact_mask.config import IngestConfig, RunConfig, SimulateConfig
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.picture import MaskedField, save_masking_picture
from artifact_mask.io.tables import read_table
from artifact_mask.metadata import well_path
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.progress import Progress, Silent, Summary
from artifact_mask.workflows.run import LABEL_NAME, run
from artifact_mask.workflows.simulate import simulate

N_SHOWN_OF_EACH = 2


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes
    ----------
    summary
        Of the run.
    wells
        The well table.
    picture
        PNG of some fields before and after masking.
    """

    summary: Summary
    wells: pd.DataFrame
    picture: Path


def demo(folder: Path, progress: Progress | None = None) -> DemoResult:
    """Simulate a plate of 24 fields with two channels, ingest it, run on it, and draw a picture.

    Parameters
    ----------
    folder
        Where everything is put. An earlier demo in it is taken up where it stopped.
    progress
        Listener.
    """
    progress = progress or Silent()
    measurement = folder / "export" / "Plate01"
    if not (measurement / "Images" / "Index.idx.xml").exists():
        simulate(SimulateConfig(dest=folder / "export", channels=2, seed=1), progress)
    plate = folder / "plate01.zarr"
    ingest(IngestConfig(exports=(measurement,), dest=plate), progress)
    summary = run(RunConfig(plates=(plate,)), progress)
    picture = folder / "masking.png"
    fields = read_table(plate, "fields")
    good = fields[fields["error"] == ""]
    # The largest artifacts, which are edges and blobs, and the most, which are crystals and specks.
    shown = pd.concat([good.nlargest(N_SHOWN_OF_EACH, by) for by in ("artifact_fraction", "n_artifacts")])
    save_masking_picture(picture, [_read_field(plate, row) for _, row in shown.drop_duplicates().iterrows()])
    return DemoResult(summary, read_table(plate, "wells"), picture)


def _read_field(plate: Path, row: "pd.Series[Any]") -> MaskedField:
    folder = plate / well_path(row["row"], row["column"]) / str(row["field"])
    return MaskedField(
        title=f"{row['well']}, field {row['field_id']}",
        image=np.asarray(open_level(folder)[0, 0, 0]),
        masked=np.asarray(open_level(folder / "masked")[0, 0, 0]),
        labels=np.asarray(open_level(folder / "labels" / LABEL_NAME)[0, 0]),
    )
