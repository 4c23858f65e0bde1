"""`artmask evaluate`: how well predictions agree with a truth."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from artmask.choices import LABELS, one_of
from artmask.shared_options import AsJson, Channel, ConfigFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from artifact_mask.workflows.evaluate import Evaluation

MOST_NAMED = 20
COLUMNS = {
    "precision": "precision_artifact",
    "recall": "recall_artifact",
    "F1": "f1_artifact",
    "IoU\n(artifact\nclass)": "iou_artifact",
    "mean IoU\n(artifact and\nbackground)": "mean_iou",
}


def evaluate(
    prediction: Annotated[
        str, typer.Argument(help="Plates with labels, a folder of masks or probabilities, or a model.")
    ],
    truth: Annotated[
        list[str], typer.Argument(help="Plates with labels, folders with images/ and masks/, or a folder of masks.")
    ],
    dest: Annotated[Path | None, typer.Option(help="Folder to write into \\[default: evaluation].")] = None,
    prediction_label: Annotated[
        str | None, typer.Option(help="Predicted label image \\[default: artifacts].", autocompletion=one_of(LABELS))
    ] = None,
    truth_label: Annotated[
        str | None, typer.Option(help="True label image \\[default: corrected].", autocompletion=one_of(LABELS))
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of masks for fields of the true plates.")] = None,
    ignore: Annotated[int | None, typer.Option(help="Value of pixels of the truth to leave out, such as 255.")] = None,
    ring_px: Annotated[int | None, typer.Option(help="Ring that tolerant scores leave out \\[default: 10].")] = None,
    threshold: Annotated[float | None, typer.Option(help="Probability from which a pixel is an artifact.")] = None,
    min_object_px: Annotated[int | None, typer.Option(help="Predicted objects of fewer pixels are dropped.")] = None,
    pixel_size_um: Annotated[float | None, typer.Option(help="Pixel size of TIFFs.")] = None,
    channel: Channel = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare predicted artifacts with true ones: pixels, objects, fields; nothing is written into plates."""
    from artifact_mask.config import EvaluateConfig
    from artifact_mask.frozen import load_config
    from artifact_mask.workflows.evaluate import evaluate as work
    from artmask.console import ConsoleProgress

    given: dict[str, object] = {"prediction": prediction, "truth": truth, "dest": dest, "masks": masks}
    given |= {"prediction_label": prediction_label, "truth_label": truth_label, "channel": channel}
    given |= {"ignore": ignore, "ring_px": ring_px, "threshold": threshold, "min_object_px": min_object_px}
    settings = load_config(EvaluateConfig, config, given | {"pixel_size_um": pixel_size_um})
    with ConsoleProgress() as progress:
        evaluation = work(settings, progress)
    raise typer.Exit(print_evaluation(evaluation, as_json=as_json))


def print_evaluation(evaluation: "Evaluation", *, as_json: bool = False) -> int:
    """Say how good the predictions are, and what could not be compared; return the exit code."""
    from rich.markup import escape

    from artmask.results import open_console, print_json

    code = 0 if evaluation.is_whole else 3
    if as_json:
        # Of each field, a row is in the table that is among the outputs.
        document = {name: value for name, value in vars(evaluation).items() if name != "fields"}
        print_json({**document, "scores": evaluation.scores.to_dict("records"), "exit_code": code})
        return code
    console = open_console()
    console.print(_tabulate(evaluation))
    for line in _describe_objects(evaluation):
        console.print(line)
    for name, path in evaluation.outputs.items():
        console.print(f"  {name:8} {escape(str(path))}", soft_wrap=True)
    for line in _describe_left_out(evaluation):
        console.print(f"[red]{escape(line)}[/red]", soft_wrap=True)
    return code


def _tabulate(evaluation: "Evaluation") -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("pixels", no_wrap=True)
    for column in ("fields", *COLUMNS):
        table.add_column(column, justify="right")
    for row in evaluation.scores.to_dict("records"):
        values = (f"{row[key]:.3f}" for key in COLUMNS.values())
        table.add_row(f"{row['of']}, {row['pixels']}", str(row["fields"]), *values)
    return table


def _describe_objects(evaluation: "Evaluation") -> "Iterator[str]":
    pooled = [row for row in evaluation.scores.to_dict("records") if row["of"] == "pooled"]
    yield f"objects found: {pooled[0]['objects_found']:.0f} of {pooled[0]['objects']:.0f}"
    if len(pooled) > 1:
        yield f"tolerant: background within {pooled[1]['ring_px']} px of a true artifact is left out"
    alarms = (f"{row['false_objects_per_field']:.2f} ({row['pixels']})" for row in pooled)
    yield f"false objects a field: {', '.join(alarms)}"
    if not math.isnan(pooled[0]["average_precision"]):
        areas = (f"{row['average_precision']:.3f} ({row['pixels']})" for row in pooled)
        yield f"average precision: {', '.join(areas)}"


def _describe_left_out(evaluation: "Evaluation") -> "Iterator[str]":
    """Fields that no score speaks of."""
    missing, failures = evaluation.missing, evaluation.failures
    if missing:
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        yield f"{len(missing)} fields have no prediction and count nowhere: {', '.join(missing[:MOST_NAMED])}{more}"
    if failures:
        yield f"{len(failures)} fields could not be compared and count nowhere:"
        yield from (f"  {name}: {error}" for name, error in list(failures.items())[:MOST_NAMED])
    if len(failures) > MOST_NAMED:
        yield f"  ... and {len(failures) - MOST_NAMED} more; all are in fields.csv"
