"""The options of the commands that work on a Dask cluster, once for all of them."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from artmask.choices import CLUSTERS, one_of

ClusterOptions = dict[str, Any]
"""Values for :class:`artifact_mask.ClusterConfig`; None stands for "not given"."""

_PANEL = "Cluster"


def _options(
    cluster: Annotated[
        str | None,
        typer.Option(
            help="local, cuda, slurm, pbs, sge, lsf, ssh, kubernetes, or a scheduler's address \\[default: local].",
            rich_help_panel=_PANEL,
            autocompletion=one_of(CLUSTERS),
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes \\[default: what the machine carries].", rich_help_panel=_PANEL)
    ] = None,
    threads_per_worker: Annotated[
        int | None, typer.Option(help="Threads that each worker computes with.", rich_help_panel=_PANEL)
    ] = None,
    min_workers: Annotated[
        int | None,
        typer.Option(
            help="Let the cluster grow and shrink between so many workers and --workers.", rich_help_panel=_PANEL
        ),
    ] = None,
    cluster_option: Annotated[
        list[str] | None,
        typer.Option(help="For the back-end, such as queue=gpu. May be given several times.", rich_help_panel=_PANEL),
    ] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Allow another machine without TLS.", rich_help_panel=_PANEL)
    ] = None,
    dashboard: Annotated[
        bool | None, typer.Option(help="Serve Dask's dashboard on the loopback address.", rich_help_panel=_PANEL)
    ] = None,
    performance_report: Annotated[
        Path | None, typer.Option(help="Write Dask's performance report (HTML) here.", rich_help_panel=_PANEL)
    ] = None,
) -> ClusterOptions:
    return {
        "kind": cluster,
        "workers": workers,
        "threads_per_worker": threads_per_worker,
        "min_workers": min_workers,
        "options": parse_pairs(cluster_option, "--cluster-option", "queue=gpu"),
        "insecure": insecure,
        "dashboard": dashboard,
        "performance_report": performance_report,
    }


def takes_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a cluster; it takes them together, as the keyword ``cluster``."""
    options = inspect.signature(_options).parameters
    own = inspect.signature(command)
    kept = [parameter for name, parameter in own.parameters.items() if name != "cluster"]

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        of_cluster = {name: given.pop(name) for name in options}
        command(**given, cluster=_options(**of_cluster))

    wrapped.__signature__ = own.replace(parameters=[*kept, *options.values()])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in (*kept, *options.values())}
    return wrapped


def parse_pairs(given: list[str] | None, option: str, example: str) -> dict[str, str] | None:
    """Take ``key=value`` apart.

    Raises
    ------
    typer.BadParameter
        If a text does not look like that.
    """
    pairs = [item.partition("=") for item in given or ()]
    for key, separator, value in pairs:
        if not (key and separator and value):
            raise typer.BadParameter(f"{key + separator + value!r} should look like {example}", param_hint=option)
    return {key: value for key, _, value in pairs} or None
