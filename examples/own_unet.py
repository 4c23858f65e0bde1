"""Teach a U-Net from labels that nobody drew, and judge it: `python examples/own_unet.py [FOLDER]`."""

import sys
from pathlib import Path

from artifact_mask import (
    EvaluateConfig,
    IngestConfig,
    LabelConfig,
    RunConfig,
    SimulateConfig,
    TrainUNetConfig,
    evaluate,
    ingest,
    label,
    run,
    simulate,
    train_unet,
)


def main() -> None:
    """Simulate and ingest a plate, label it, train on the labels for a moment, run, and compare with the truth."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "artmask-own-unet")
    (measurement,) = simulate(SimulateConfig(dest=folder / "own-unet", wells=3, fields=1, size=540))
    plate = folder / "own-unet.zarr"
    ingest(IngestConfig(exports=measurement, dest=plate))

    label(LabelConfig(plates=plate, saliency="mean"))  # a fifth of Score-CAM's time
    trained = train_unet(TrainUNetConfig(places=plate, dest=folder / "unet.safetensors", max_epochs=1))
    print(f"{trained.n_train} fields learnt from, {trained.n_held_out} held out: {trained.metrics}")

    run(RunConfig(plates=plate, model=trained.model))
    truth = measurement / "Truth"
    evaluation = evaluate(EvaluateConfig(prediction=plate, truth=truth, dest=folder / "evaluation"))
    print(evaluation.scores.to_string())
    print(f"look at {evaluation.outputs['picture']}")


# Dask starts processes that import this file: without the guard each would run it again.
if __name__ == "__main__":
    main()
