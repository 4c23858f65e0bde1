"""What the command line says at the end: tables and sentences for people, or one JSON document for scripts."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from artifact_mask.workflows.progress import Progress, Summary
from artmask.console import ConsoleProgress, describe_seconds

if TYPE_CHECKING:
    import pandas as pd

    from artifact_mask.workflows.plan import Plan
    from artifact_mask.workflows.status import StageStatus
    from artifact_mask.workflows.training import Training

MAX_FAILURES_SHOWN = 20
PIPED_COLUMNS = 500
"""Width of what goes into a file or another program, which nobody wants cut."""

Config = TypeVar("Config")


def open_console() -> Console:
    """Open the output, as wide as the terminal; without one, wide enough for any table."""
    piped = not sys.stdout.isatty()
    return Console(highlight=False, width=PIPED_COLUMNS if piped else None)


def carry_out(
    work: Callable[[Config, Progress], Summary], settings: Config, *, as_json: bool, dry_run: bool = False
) -> NoReturn:
    """Do the work with a progress bar, or only say what would be done; end with the exit code."""
    if dry_run:
        from artifact_mask.workflows.plan import plan

        raise typer.Exit(print_plan(plan(settings, ConsoleProgress()), as_json=as_json))  # type: ignore[arg-type]
    with ConsoleProgress() as progress:
        summary = work(settings, progress)
    raise typer.Exit(print_summary(summary, as_json=as_json))


def print_json(document: object) -> None:
    """Print one JSON document; what is no number is null, places and the like are text."""
    print(json.dumps(_plain(document), indent=1))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def print_summary(summary: Summary, *, as_json: bool = False) -> int:
    """Say what was written and what failed; return the exit code."""
    code = 0 if summary.is_whole else 3
    if as_json:
        print_json({**asdict(summary), "exit_code": code})
        return code
    console = open_console()
    n_new = summary.n_fields - summary.n_resumed
    several = len({failure.plate for failure in summary.failures}) > 1
    rate = f" ({n_new / summary.seconds:.1f} fields/s)" if n_new else ""
    console.print(f"{summary.n_fields} fields, {n_new} of them now, in {summary.seconds:.1f} s{rate}")
    width = max((len(name) for name in summary.outputs), default=0)
    for name, path in summary.outputs.items():
        console.print(f"  {name:{width}}  {escape(str(path))}", soft_wrap=True)
    for plate, error in summary.refused.items():
        console.print(f"[red]Left out {escape(plate)}:[/red] {escape(error)}", soft_wrap=True)
    for problem in summary.problems[:MAX_FAILURES_SHOWN]:
        console.print(f"[red]Left out[/red] {escape(problem)}", soft_wrap=True)
    if len(summary.problems) > MAX_FAILURES_SHOWN:
        console.print(f"  ... and {len(summary.problems) - MAX_FAILURES_SHOWN} more")
    if not summary.failures:
        return code
    noun = "field" if len(summary.failures) == 1 else "fields"
    console.print(f"[red]{len(summary.failures)} {noun} failed:[/red]")
    for failure in summary.failures[:MAX_FAILURES_SHOWN]:
        place = f"{failure.plate} {failure.well}" if several else failure.well
        console.print(f"  {escape(place)} field {failure.field_id}: {escape(failure.error)}", soft_wrap=True)
    if len(summary.failures) > MAX_FAILURES_SHOWN:
        console.print(f"  ... and {len(summary.failures) - MAX_FAILURES_SHOWN} more; all are in the fields table")
    console.print("Mend what is wrong with them and run the same command again: only these are redone.")
    return code


def print_plan(plan: "Plan", *, as_json: bool) -> int:
    """Say what would be done; return the exit code."""
    code = 3 if plan.refused else 0
    if as_json:
        plates = [{**asdict(plate), "n_left": plate.n_left} for plate in plan.plates]
        cluster = plan.cluster.model_dump(mode="json")
        counted = {"n_left": plan.n_left, "fits": plan.fits, "exit_code": code}
        print_json({**vars(plan), "plates": plates, "cluster": cluster, **counted})
        return code
    console = open_console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(f"{plan.stage} into", overflow="fold")
    for column in ("wells", "fields", "done", "to do"):
        table.add_column(column, justify="right")
    for plate in plan.plates:
        numbers = (plate.n_wells, plate.n_fields, plate.n_done, plate.n_left)
        table.add_row(escape(str(plate.plate)), *map(str, numbers))
    console.print(table)
    for line in _describe_plan(plan):
        console.print(escape(line), soft_wrap=True)
    for name, error in plan.refused.items():
        console.print(f"[red]Would be left out: {escape(name)}:[/red] {escape(error)}", soft_wrap=True)
    if not plan.fits:
        console.print("[red]There may not be enough room.[/red] What is finished is kept if a disk is full.")
    console.print("Nothing was written.")
    return code


def _describe_plan(plan: "Plan") -> Iterator[str]:
    for about, plates in _by_highlights(plan).items():
        said = ", ".join(f"{name}: {value}" for name, value in about)
        if said:
            yield said if len(plates) == len(plan.plates) else f"{', '.join(plates)}: {said}"
    for plate in plan.plates:
        if plate.n_failed or plate.n_damaged:
            yield f"{plate.plate.name}: {plate.n_failed} failed before, the files of {plate.n_damaged} are gone"
        yield from (f"{plate.plate.name}: everything is done again, for {change}" for change in plate.changes)
    if plan.model:
        yield f"model: {plan.model}"
    workers = "" if plan.cluster.workers is None else f", {plan.cluster.workers} workers"
    yield f"cluster: {plan.cluster.kind}{workers}"
    yield f"time: {'unknown' if plan.seconds is None else f'about {describe_seconds(plan.seconds)}'} ({plan.rate_from})"
    free = "" if plan.free_bytes is None else f", {_gigabytes(plan.free_bytes)} are free"
    yield f"disk: about {_gigabytes(plan.bytes_to_write)} ({plan.size_from}){free}"


def _by_highlights(plan: "Plan") -> dict[tuple[tuple[str, str], ...], list[str]]:
    """Names of the plates of which the same is to be said."""
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for plate in plan.plates:
        found.setdefault(tuple(plate.about.items()), []).append(plate.plate.name)
    return found


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.3g} MB"


def print_status(statuses: Sequence["StageStatus"], *, as_json: bool) -> None:
    """Print how far plates are: a table for people, or JSON for scripts."""
    if as_json:
        print_json([{**asdict(s), "n_left": s.n_left, "seconds_left": s.seconds_left} for s in statuses])
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("plate", overflow="fold")
    table.add_column("stage")
    for column in ("done", "failed", "left", "fields/s"):
        table.add_column(column, justify="right")
    table.add_column("now", overflow="fold")
    for s in statuses:
        numbers = (f"{s.n_done}/{s.n_fields}", str(s.n_failed), str(s.n_left), f"{s.fields_per_s:.1f}")
        table.add_row(escape(Path(s.plate).name), s.stage, *numbers, escape(_say_now(s)))
    open_console().print(table)


def _say_now(status: "StageStatus") -> str:
    if status.running:
        left = f", {describe_seconds(status.seconds_left)} left" if status.seconds_left else ""
        return f"running: {status.running}{left}"
    if not status.n_fields:
        return "not ingested"
    if not status.n_left:
        return "finished"
    return "stopped" if status.n_done else ""


def print_table(frame: "pd.DataFrame") -> None:
    """Print a table of a plate; spaces in the headers let them break into lines."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in frame.columns:
        table.add_column(str(column).replace("_", " "), justify="right")
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else escape(str(value)) for value in row))
    open_console().print(table)


def print_classifier_training(training: "Training", *, as_json: bool) -> None:
    """Say how good a classifier is on wells that it has not seen, and where it is."""
    if as_json:
        print_json({**vars(training), "exit_code": 0})
        return
    console = _begin_training(training)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(f"{training.n_held_out} held-out tiles")
    for column in ("precision", "recall", "F1"):
        table.add_column(column, justify="right")
    for name in ("clean", "artifact"):
        table.add_row(name, *(f"{training.metrics[f'{kind}_{name}']:.3f}" for kind in ("precision", "recall", "f1")))
    console.print(table)
    print_file("Classifier", training.model)
    print_file("Report", training.report)


def print_unet_training(training: "Training", *, as_json: bool) -> None:
    """Say how good a U-Net is on wells that it has not seen, and where it is."""
    if as_json:
        print_json({**vars(training), "exit_code": 0})
        return
    console = _begin_training(training)
    if training.metrics:
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column(f"{training.n_held_out} held-out fields")
        names = ("precision", "recall", "f1", "iou")
        for column in ("precision", "recall", "F1", "IoU of artifact"):
            table.add_column(column, justify="right")
        for kind, said in (("strict", "all pixels"), ("ring10", "but for 10 px around artifacts")):
            table.add_row(said, *(f"{training.metrics[f'{kind}_{name}']:.3f}" for name in names))
        console.print(table)
        console.print(
            f"{100 * training.metrics['objects_found']:.0f} % of the objects found, "
            f"{training.metrics['false_objects_per_field']:.1f} false ones a field"
        )
    else:
        console.print("No field with artifacts was held out: how good it is, `artmask evaluate` can tell.")
    print_file("U-Net", training.model)
    print_file("Report", training.report)


def _begin_training(training: "Training") -> Console:
    console = open_console()
    resumed = f", {training.n_resumed} of them before" if training.n_resumed else ""
    console.print(
        f"{training.n_epochs} epochs{resumed}, the best was {training.best_epoch}, "
        f"in {describe_seconds(training.seconds)}"
    )
    return console


def print_file(label: str, path: Path) -> None:
    """Name a file that was written."""
    open_console().print(f"{label}: {escape(str(path))}", soft_wrap=True)


def print_files(label: str, paths: Sequence[Path], *, as_json: bool) -> None:
    """Name all that was written."""
    if as_json:
        print_json({"outputs": paths, "exit_code": 0})
        return
    for path in paths:
        print_file(label, path)


def print_error(message: str, kind: str, code: int, *, as_json: bool) -> None:
    """Print an error to the error stream; as JSON to the output, where a script expects its document."""
    if as_json:
        print_json({"error": message, "kind": kind, "exit_code": code})
        return
    Console(stderr=True, highlight=False).print(f"[bold red]Error:[/bold red] {escape(message)}", soft_wrap=True)
