"""Stained fraction of wells against the truth of a simulated dose series: `python -m benchmarks.dose_response WORK`.

`artmask simulate`, `ingest` and `run` as a user calls them. For each column of the table of wells: its correlation with
the drawn stain over the wells, and the EC50 of a logistic curve (four parameters, least squares over the wells,
logarithm of the concentration) beside that of the same curve through the truth; and the dose of half of the response to
the highest dose, on both curves, because the drawn response does not level off.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from artifact_mask.config import IngestConfig, RunConfig, SimulateConfig
from artifact_mask.io.tables import read_table
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import TOP_CONCENTRATION_UM, simulate

COLUMNS = (
    "stained_fraction_raw",
    "stained_fraction_masked",
    "stained_fraction",
    "stained_od_per_area_raw",
    "stained_od_per_area",
)


def main() -> None:
    """Simulate, run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--wells", type=int, default=60)
    parser.add_argument("--fields", type=int, default=4)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--model", default="supervised")
    parser.add_argument("--thresholds", nargs="+", default=["0.08", "otsu", "triangle", "controls"])
    arguments = parser.parse_args()
    export = arguments.work / "export" / "Plate01"
    if not export.exists():
        simulate(
            SimulateConfig(
                dest=arguments.work / "export", wells=arguments.wells, fields=arguments.fields, seed=arguments.seed
            )
        )
    plate = arguments.work / "plate.zarr"
    ingest(IngestConfig(exports=export, dest=plate))
    truth = (
        pd.read_csv(export / "Truth" / "fields.csv")
        .groupby(["row", "column"], sort=False)[["dose", "stained_fraction"]]
        .mean()
    )
    dose, drawn = truth["dose"].to_numpy(), truth["stained_fraction"].to_numpy()
    centre, middle = fit_curve(dose, drawn)
    print(
        f"{len(truth)} wells of {arguments.fields} fields; EC50 of the truth {centre * TOP_CONCENTRATION_UM:.3g} uM, "
        f"half of the response to the highest dose at {middle * TOP_CONCENTRATION_UM:.3g} uM"
    )
    print("\n| threshold | OD | column | correlation | EC50 (uM) | off by | half (uM) | off by |")
    print("|---|---|---|---|---|---|---|---|")
    for threshold in arguments.thresholds:
        run(
            RunConfig(plates=plate, model=arguments.model, stain_threshold=threshold, negative_controls="Compound=DMSO")
        )
        wells = read_table(plate, "wells").set_index(["row", "column"]).loc[truth.index]
        for column in COLUMNS:
            found = wells[column].to_numpy()
            ec50, half = fit_curve(dose, found)
            correlation = np.corrcoef(found, drawn)[0, 1]
            print(
                f"| {threshold} | {wells['stain_threshold_od'].iloc[0]:.3f} | {column} | {correlation:.4f} | "
                f"{ec50 * TOP_CONCENTRATION_UM:.3g} | {ec50 / centre - 1:+.1%} | "
                f"{half * TOP_CONCENTRATION_UM:.3g} | {half / middle - 1:+.1%} |"
            )
    print("\n| uM | truth | before | after |\n|---|---|---|---|")
    run(RunConfig(plates=plate, model=arguments.model, negative_controls="Compound=DMSO"))
    wells = read_table(plate, "wells").set_index(["row", "column"]).loc[truth.index]
    for value in sorted(set(dose)):
        of_dose = dose == value
        row = [drawn[of_dose], *(wells[column].to_numpy()[of_dose] for column in COLUMNS[::2][:2])]
        print(f"| {value * TOP_CONCENTRATION_UM:.3g} | " + " | ".join(f"{np.mean(v):.3%}" for v in row) + " |")


def fit_curve(dose: NDArray[np.float64], response: NDArray[np.float64]) -> tuple[float, float]:
    """Fit a logistic curve; give its EC50, and the dose of half of what it gives at dose 1."""
    positive = dose > 0
    log_dose = np.log2(np.where(positive, dose, dose[positive].min() / 64))

    def curve(x: Any, low: float, rise: float, centre: float, slope: float) -> Any:
        return low + rise / (1 + np.exp(-slope * (x - centre)))

    scale = np.ptp(response)
    start = (response[~positive].mean(), scale, -1.0, 1.0)
    bounds = ([0, 0, log_dose[positive].min(), 0.1], [response.max(), 10 * scale, 4, 10])
    found, _ = curve_fit(curve, log_dose, response, p0=start, bounds=bounds, maxfev=20000)
    fine = np.linspace(log_dose.min(), 0, 4000)
    foot, top = found[0], curve(0.0, *found)
    half = fine[np.argmin(np.abs(curve(fine, *found) - (foot + top) / 2))]
    return float(2 ** found[2]), float(2**half)


if __name__ == "__main__":
    main()
