"""The command that shows a plate."""

import os
import sys
from contextlib import suppress
from typing import Annotated

import typer


def view(
    plate: Annotated[str, typer.Argument(help="Plate that `artmask ingest` wrote.")],
    well: Annotated[str | None, typer.Option(help="Well to begin with, such as B03 \\[default: the first].")] = None,
    field: Annotated[
        int | None, typer.Option(help="Index of the field to begin with, as in the tables; in napari the only one.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to serve at \\[default: any that is free].")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser, or print the URL.")] = True,
    napari: Annotated[bool, typer.Option("--napari", help="Show one well in napari, where it is installed.")] = False,
) -> None:
    """Show a plate with its labels in a browser, or in napari; Ctrl-C ends it."""
    from artifact_mask.config import ViewConfig
    from artifact_mask.frozen import load_config

    settings = load_config(ViewConfig, None, {"plate": plate, "well": well, "field": field, "port": port})
    if napari:
        from artifact_mask.views.napari_layers import open_in_napari

        open_in_napari(settings)
        return
    from artifact_mask.workflows.view import start_view

    server, url = start_view(settings)
    _invite(url, server.server_port, browser=browser)
    # To be stopped is how it ends.
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()


def _invite(url: str, port: int, *, browser: bool) -> None:
    """Open a browser, or say how to open one where this machine has no screen."""
    import getpass
    import platform
    import webbrowser

    typer.echo(f"{url}\nOnly this machine can see it. Ctrl-C ends it.")
    if "SSH_CONNECTION" in os.environ:
        tunnel = f"ssh -N -L {port}:127.0.0.1:{port} {getpass.getuser()}@{platform.node()}"
        typer.echo(f"From your own machine: `{tunnel}`, then open the address above there.")
    elif browser and _has_screen():
        webbrowser.open(url)


def _has_screen() -> bool:
    """Whether a browser can open a window; without one, a text browser would take over the terminal."""
    return sys.platform in ("win32", "darwin") or any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY"))
