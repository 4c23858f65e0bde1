"""Examples at the end of each command's help; a test takes each of them apart as the command itself would."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "simulate": (
        "artmask simulate campaign",
        "artmask simulate campaign --plates 2 --wells 12 --fields 4 --channels 2",
    ),
    "ingest": (
        "artmask ingest export/Plate01 plate01.zarr",
        "artmask ingest campaign screen --dry-run",
        "artmask ingest tiffs plate02.zarr --pixel-size-um 0.3 --channel-name 1=BF",
        "artmask ingest s3://bucket/exports s3://bucket/screen --workers 8",
    ),
    "info": ("artmask info plate01.zarr", "artmask info plate01.zarr --json"),
    "label-sheet": ("artmask label-sheet plate01.zarr", "artmask label-sheet screen --tile-px 270 --fields 60"),
    "train classifier": (
        "artmask train classifier labels.csv plate01.zarr",
        "artmask train classifier sorted --pixel-size-um 0.3 --dest mine.safetensors",
    ),
    "label": (
        "artmask label plate01.zarr",
        "artmask label screen --classifier classifier.safetensors --dry-run",
    ),
    "explain": (
        "artmask explain plate01.zarr --well B03 --field 2",
        "artmask explain plate01.zarr --well B03 --classifier classifier.safetensors",
    ),
    "train unet": (
        "artmask train unet plate01.zarr --known labels.csv",
        "artmask train unet screen --labels corrected,weak --preset resnet18",
    ),
    "correct": (
        "artmask correct plate01.zarr --fields 10",
        "artmask correct plate01.zarr --import masks",
    ),
    "evaluate": (
        "artmask evaluate plate01.zarr plate01.zarr --truth-label corrected",
        "artmask evaluate unet.safetensors truth --json",
    ),
    "illumination": (
        "artmask illumination plate01.zarr",
        "artmask illumination screen --channel Brightfield --fields 200",
        "artmask illumination plate01.zarr --remove",
    ),
    "run": (
        "artmask run plate01.zarr",
        "artmask run screen --dry-run",
        "artmask run screen --negative-controls Compound=DMSO --stain-threshold otsu",
        "artmask run screen --cluster slurm --workers 40 --cluster-option queue=gpu",
        "artmask run screen --config run.yaml --json",
    ),
    "stain": ("artmask stain plate01.zarr", "artmask stain screen --dry-run"),
    "cells": (
        "artmask cells plate01.zarr",
        "artmask cells screen --nuclear-channel DAPI --negative-controls A01,A02",
        "artmask cells plate01.zarr --cells cellpose",
    ),
    "export": (
        "artmask export plate01.zarr out",
        "artmask export screen out --as tables --anndata",
        "artmask export plate01.zarr out --as ome-tiff --wells B02,B03 --fill nan",
    ),
    "report": ("artmask report plate01.zarr", "artmask report screen --column senescent_fraction"),
    "view": ("artmask view plate01.zarr", "artmask view plate01.zarr --well B03 --field 2 --no-browser"),
    "status": ("artmask status screen", "artmask status plate01.zarr --json"),
    "verify": ("artmask verify screen", "artmask verify plate01.zarr plate02.zarr --json"),
    "demo": ("artmask demo", "artmask demo here"),
}
"""By the name of the command."""


def show_examples(command: str) -> str:
    """Text below a command's help: a line an example."""
    # Indented as far as makes them code on the page that is made of it.
    return "\n".join(["Examples:", "", *(f"    {example}" for example in EXAMPLES[command])])
