"""`artmask view`: show a plate in a browser."""

from typing import NamedTuple

from artifact_mask.config import ViewConfig
from artifact_mask.io.plate_server import PlateServer
from artifact_mask.workflows.plate_fields import find_fields
from artifact_mask.workflows.viewer_plate import ViewedPlate


class View(NamedTuple):
    """A server that shows a plate, and the address that a browser is to open.

    The server listens, and answers once ``server.serve_forever()`` is called.
    """

    server: PlateServer
    url: str


def start_view(config: ViewConfig) -> View:
    """Prepare a plate for browsers on this machine.

    Parameters
    ----------
    config
        Which plate, and where on it to begin.

    Raises
    ------
    PlateError
        If it is no plate that artmask wrote, or has no such well or field.
    ConfigError
        If the viewer is not installed, or the port cannot be had.
    StorageError
        If the store cannot be reached.
    """
    viewed = ViewedPlate(config.plate)
    start = ""
    if config.well is not None or config.field is not None:
        well, indices = find_fields(viewed.plate, config.well, config.field)
        start = f"#{well.name}/{indices[0]}"
    server = PlateServer(config.plate, viewed.describe, port=config.port)
    return View(server, server.url + start)
