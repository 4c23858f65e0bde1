"""The commands around the classifier: what it is taught, what it looked at, and the labels that follow from that."""

from pathlib import Path
from typing import Annotated

import typer

from artmask.choices import CUTS, ENCODER_STARTS, REFINEMENTS, RESNET_STAGES, RESNETS, UNET_PRESETS, WEIGHTS, one_of
from artmask.cluster_options import ClusterOptions, takes_cluster
from artmask.examples import show_examples
from artmask.shared_options import AsJson, Channel, ConfigFile, DryRun, Plates, UseIllumination

train = typer.Typer(no_args_is_help=True, help="Train a model of your own.")

Classifier = Annotated[
    Path | None, typer.Option(help="Classifier (safetensors); by default the one that artmask ships.")
]
Threshold = Annotated[float | None, typer.Option(help="Probability from which a tile has an artifact.")]
Weight = Annotated[
    str | None,
    typer.Option(help="`probability` or `softmax-logit` \\[default: probability].", autocompletion=one_of(WEIGHTS)),
]
Tolerance = Annotated[
    float | None, typer.Option(help="Expected error at which no more maps are scored; 0 scores all \\[default: 0.04].")
]
Refinement = Annotated[
    str | None,
    typer.Option(
        help="edges, darkness, edges-and-darkness, none or published \\[default: edges].",
        autocompletion=one_of(REFINEMENTS),
    ),
]
Cut = Annotated[
    str | None,
    typer.Option(help="`otsu`, or a share of the map's range \\[default: otsu].", autocompletion=one_of(CUTS)),
]


def label_sheet(
    plates: Plates,
    dest: Annotated[Path, typer.Option(help="Page to write.")] = Path("sheet.html"),
    fields: Annotated[int | None, typer.Option(help="Fields to show, over all wells \\[default: 100].")] = None,
    tile_px: Annotated[int | None, typer.Option(help="Judge tiles of this side instead of whole fields.")] = None,
    channel: Channel = None,
    seed: Annotated[int | None, typer.Option(help="Of the choice of fields \\[default: 0].")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a page on which a person says, by keys, which fields are clean; it saves the table for training."""
    from artifact_mask.config import LabelSheetConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.label_sheet import write_label_sheet
    from artmask.console import ConsoleProgress
    from artmask.results import print_files

    given = {"plates": plates, "dest": dest, "fields": fields, "tile_px": tile_px, "channel": channel, "seed": seed}
    settings = load_config(LabelSheetConfig, config, given)
    with ConsoleProgress() as progress:
        page = write_label_sheet(settings, progress)
    print_files("Open in a browser", [page], as_json=as_json)


@train.command(epilog=show_examples("train classifier"))
def classifier(
    labels: Annotated[Path, typer.Argument(help="Table of labels (CSV), or a folder with clean/ and artifact/.")],
    plates: Annotated[list[str] | None, typer.Argument(help="Plates that the table speaks of.")] = None,
    dest: Annotated[Path, typer.Option(help="Model to write.")] = Path("classifier.safetensors"),
    start: Annotated[
        str | None, typer.Option(help="default, scratch, imagenet, or a file of weights \\[default: default].")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="resnet18, 34, 50 or 101 \\[default: resnet50].", autocompletion=one_of(RESNETS))
    ] = None,
    last_stage: Annotated[
        str | None,
        typer.Option(help="layer2, layer3 or layer4 \\[default: layer2].", autocompletion=one_of(RESNET_STAGES)),
    ] = None,
    max_epochs: Annotated[int | None, typer.Option(help="Passes over the tiles, at most \\[default: 150].")] = None,
    pixel_size_um: Annotated[float | None, typer.Option(help="Pixel size of TIFFs.")] = None,
    channel: Channel = None,
    seed: Annotated[int | None, typer.Option(help="Of the split and the augmentation \\[default: 0].")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Teach a classifier which fields, or tiles, have artifacts; an interrupted training goes on."""
    from artifact_mask.config import TrainClassifierConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.train_classifier import train_classifier
    from artmask.console import ConsoleProgress
    from artmask.results import print_classifier_training

    given = {
        "labels": labels,
        "plates": plates,
        "dest": dest,
        "start": start,
        "network": network,
        "last_stage": last_stage,
        "max_epochs": max_epochs,
        "pixel_size_um": pixel_size_um,
        "channel": channel,
        "seed": seed,
    }
    settings = load_config(TrainClassifierConfig, config, given)
    with ConsoleProgress() as progress:
        trained = train_classifier(settings, progress)
    print_classifier_training(trained, as_json=as_json)


@train.command(epilog=show_examples("train unet"))
def unet(
    places: Annotated[list[str], typer.Argument(help="Plates, folders of plates, or folders with images/ and masks/.")],
    dest: Annotated[Path, typer.Option(help="Model to write.")] = Path("unet.safetensors"),
    labels: Annotated[
        str | None,
        typer.Option(
            help="Label images; of each field the first that it has \\[default: weak].",
            rich_help_panel="What it learns from",
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of masks or outlines instead of label images.", rich_help_panel="What it learns from"
        ),
    ] = None,
    ignore: Annotated[
        int | None, typer.Option(help="Value of pixels to learn nothing from.", rich_help_panel="What it learns from")
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(help="Table of label-sheet, which overrules labels.", rich_help_panel="What it learns from"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="light, wide, published, resnet18, 34 or 50 \\[default: light].",
            autocompletion=one_of(UNET_PRESETS),
            rich_help_panel="Network and training",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="scratch, weak, supervised, or a U-Net's file \\[default: scratch].",
            rich_help_panel="Network and training",
        ),
    ] = None,
    encoder_start: Annotated[
        str | None,
        typer.Option(
            help="Weights of a ResNet encoder: scratch, imagenet or a file.",
            autocompletion=one_of(ENCODER_STARTS),
            rich_help_panel="Network and training",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            help="Trainings, labels cleaned in between \\[default: 1].", rich_help_panel="Network and training"
        ),
    ] = None,
    simulated: Annotated[
        int | None,
        typer.Option(help="Simulated fields beside the others \\[default: 0].", rich_help_panel="What it learns from"),
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(help="Of a round, at most \\[default: 60].", rich_help_panel="Network and training")
    ] = None,
    pixel_size_um: Annotated[float | None, typer.Option(help="Pixel size of TIFFs.")] = None,
    channel: Channel = None,
    seed: Annotated[int | None, typer.Option(help="Of the split and the augmentation \\[default: 0].")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Teach a U-Net which pixels are artifacts; an interrupted training goes on."""
    from artifact_mask.config import TrainUNetConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.train_unet import train_unet
    from artmask.console import ConsoleProgress
    from artmask.results import print_unet_training

    given = {
        "places": places,
        "dest": dest,
        "labels": labels,
        "masks": masks,
        "ignore": ignore,
        "known": known,
        "preset": preset,
        "start": start,
        "encoder_start": encoder_start,
        "rounds": rounds,
        "simulated": simulated,
        "max_epochs": max_epochs,
        "pixel_size_um": pixel_size_um,
        "channel": channel,
        "seed": seed,
    }
    settings = load_config(TrainUNetConfig, config, given)
    with ConsoleProgress() as progress:
        trained = train_unet(settings, progress)
    print_unet_training(trained, as_json=as_json)


@takes_cluster
def label(
    plates: Plates,
    classifier: Classifier = None,
    threshold: Threshold = None,
    weight: Weight = None,
    tolerance: Tolerance = None,
    refinement: Refinement = None,
    cut: Cut = None,
    channel: Channel = None,
    illumination: UseIllumination = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    cluster: ClusterOptions,
) -> None:
    """Label the artifacts of plates by what a classifier looked at, without any pixel drawn."""
    from artifact_mask.config import LabelConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.label import label as work
    from artmask.results import carry_out

    given = {
        "plates": plates,
        "classifier": classifier,
        "threshold": threshold,
        "weight": weight,
        "tolerance": tolerance,
        "refinement": refinement,
        "cut": cut,
        "channel": channel,
        "illumination": illumination,
        "cluster": cluster,
    }
    carry_out(work, load_config(LabelConfig, config, given), as_json=as_json, dry_run=dry_run)


def explain(
    plate: Annotated[str, typer.Argument(help="Plate that `artmask ingest` wrote.")],
    well: Annotated[str, typer.Option(help="Name of the well, such as B03.")],
    field: Annotated[int, typer.Option(help="Index of the field, as in the tables.")] = 0,
    dest: Annotated[Path | None, typer.Option(help="Picture to write \\[default: explanation.png].")] = None,
    classifier: Classifier = None,
    threshold: Threshold = None,
    weight: Weight = None,
    tolerance: Tolerance = None,
    refinement: Refinement = None,
    cut: Cut = None,
    channel: Channel = None,
    illumination: UseIllumination = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Draw how the label of one field comes about: original, saliency, edges, refined map, label."""
    from artifact_mask.config import ExplainConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.explain import explain as work
    from artmask.results import print_file, print_json

    given = {
        "plate": plate,
        "well": well,
        "field": field,
        "dest": dest,
        "classifier": classifier,
        "threshold": threshold,
        "weight": weight,
        "tolerance": tolerance,
        "refinement": refinement,
        "cut": cut,
        "channel": channel,
        "illumination": illumination,
    }
    explained = work(load_config(ExplainConfig, config, given))
    if as_json:
        print_json({**vars(explained), "exit_code": 0})
        return
    typer.echo(
        f"{explained.n_artifact_tiles} of {explained.n_tiles} tiles are called artifact, at most with "
        f"p = {explained.probability:.3f}; {explained.n_objects} objects; {explained.n_forwards} masked forward passes"
    )
    print_file("Look at", explained.picture)
