"""A plate with all that a viewer can show, of pixels that are known, written without a run."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from exports import CHANNELS, make_plate
from numpy.typing import NDArray
from stores import writing

from artifact_mask.io.ome_zarr import write_field, write_labels, write_masked
from artifact_mask.io.ome_zarr_plate import create_plate
from artifact_mask.io.tables import write_tables
from artifact_mask.location import Location
from artifact_mask.metadata import Masking, NgffVersion, Plate

SIZE = 1000
DARK, BRIGHT = 1000, 3000
FAILURE = "planes missing: <b>r02c04f07</b>"
FRACTIONS = {("B03", 0): 0.1, ("B03", 1): 0.3, ("B04", 0): 0.0, ("B04", 1): None, ("C11", 0): 0.02, ("C11", 1): 0.02}
LABELS = ("artifacts", "cells", "corrected", "nuclei", "stain", "weak")


def stripes(well: int, field: int) -> NDArray[np.uint16]:
    """Plane ``(y, x)``, bright on the left in even fields and on top in odd ones, the more the higher the column."""
    plane = np.full((SIZE, SIZE), DARK, np.uint16)
    part = SIZE * well // 12
    plane[(slice(None), slice(part)) if field % 2 == 0 else (slice(part), slice(None))] = BRIGHT
    return plane


def describe_plate(name: str = "plate-1") -> Plate:
    """Three wells of two fields with two channels; the wells' compounds have the plate's name."""
    plate = make_plate(wells=[(2, 3), (2, 4), (3, 11)], field_ids=[1, 7], channels=CHANNELS[:2], size=SIZE, name=name)
    (acquisition,) = plate.acquisitions
    wells = tuple(replace(well, layout={"Compound": name, "Concentration": 1.5}) for well in acquisition.wells)
    return replace(plate, acquisitions=(replace(acquisition, wells=wells),))


def write_viewed_plate(root: Location, *, name: str = "plate-1", ngff: NgffVersion = "0.5") -> Plate:
    """Write the plate, with images, labels, masked images and tables; the last field of B04 has failed."""
    plate = describe_plate(name)
    (acquisition,) = plate.acquisitions
    square = np.zeros((SIZE, SIZE), np.int32)
    square[400:600, 400:600] = 1
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="of-a-test", ngff=ngff)
        for well in acquisition.wells:
            for field in well.fields:
                folder = root / well.path / str(field.index)
                shown = stripes(well.column, field.index)
                planes, missing = [((0, 0, 0), shown), ((0, 1, 0), shown // 2)], {}
                if FRACTIONS[well.name, field.index] is None:
                    missing[planes.pop(0)[0]] = FAILURE
                write_field(files, folder, acquisition, field, planes, missing, ngff=ngff)
                if missing:
                    continue
                masking = Masking("median")
                masked = [((0, 0, 0), np.full_like(shown, 2000))]
                write_masked(files, folder, acquisition, field, 0, masked, masking=masking, ngff=ngff)
                for label in LABELS:
                    write_labels(
                        files, folder, acquisition, field, [((0, 0), square)], name=label, ngff=ngff, beside=LABELS
                    )
        write_tables(files, root, {"fields": pd.DataFrame(_rows(plate)), "wells": _well_table(plate)}, ngff=ngff)
    return plate


def _rows(plate: Plate) -> Iterator[dict[str, object]]:
    for (name, index), fraction in FRACTIONS.items():
        error = FAILURE if fraction is None else ""
        rejected = "more than 25 % are artifacts" if fraction == 0.3 else ""
        place = {"plate": plate.name, "well": name, "acquisition": 0, "field": index}
        yield place | {"artifact_fraction": fraction, "error": error, "rejected": rejected}


def _well_table(plate: Plate) -> pd.DataFrame:
    rows = pd.DataFrame(_rows(plate))
    return rows.groupby(["plate", "well", "acquisition"], as_index=False)["artifact_fraction"].mean()
