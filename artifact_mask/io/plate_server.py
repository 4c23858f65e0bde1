"""A plate, the page that shows it and the viewer, served to browsers on this machine."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from urllib.parse import unquote

from artifact_mask.errors import ArtmaskError, ConfigError
from artifact_mask.io.served_files import Resource, find_file
from artifact_mask.location import Location

LOOPBACK = "127.0.0.1"
_BEAT_S = 5.0
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")
_PAGE = files("artifact_mask.io") / "viewer_page"
# A list of our own: Windows' registry may call JavaScript plain text, which browsers then refuse to run.
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
}
_POLICIES = {
    "page": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    # Its decoders are compiled when they are needed.
    "viewer": "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    # Whatever is in a plate, a browser does not run it.
    "plate": "default-src 'none'; sandbox",
}
"""What browsers may load from where: nothing from anywhere else."""

Describe = Callable[[list[str]], Mapping[str, Any] | None]
"""Gives the document of a path below ``/describe/``; None where there is none."""

_log = logging.getLogger(__name__)


class _Answer(NamedTuple):
    """What a path leads to, and the rules for browsers that show it."""

    resource: Resource
    policy: str


class PlateServer(ThreadingHTTPServer):
    """Serves, for reading and on the loopback address only, what a browser needs to show a plate.

    ======================  ======================================================================
    ``/``, ``/page/``       the page
    ``/viewer/v/plate/``    Neuroglancer, as its Python package brings it
    ``/viewer/events/``     a stream without events, by which it sees that the server is there
    ``/plate/``             the files of the plate; no listings, and 404 for chunks that are absent
    ``/describe/``          JSON documents made when they are asked for
    ======================  ======================================================================

    Parameters
    ----------
    plate
        Store of the plate.
    describe
        Makes the documents. An :class:`ArtmaskError` that it raises is shown to the person who looks.
    port
        To listen on; 0 for any that is free.

    Raises
    ------
    ConfigError
        If the viewer is not installed, or the port cannot be had.

    Notes
    -----
    Requests under another name than this machine's own are refused: a web page elsewhere can make its own name lead
    here, and would be allowed to read what is answered.
    """

    daemon_threads = True

    def __init__(self, plate: Location, describe: Describe, *, port: int = 0) -> None:
        self._plate = plate.resolve() if isinstance(plate, Path) else plate
        self._describe = describe
        self._viewer = _find_viewer()
        self.is_closing = Event()
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"Port {port} of {LOOPBACK} cannot be had: {error.strerror}. Give another --port, or none."
            ) from error

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def server_close(self) -> None:
        """Stop listening, and end connections that stay open."""
        self.is_closing.set()
        super().server_close()

    def find(self, target: str) -> _Answer | None:
        """Find what a request asks for; None where there is no such thing."""
        parts = [unquote(part) for part in re.split("[?#]", target)[0].split("/")]
        if parts[0] or len(parts) < 2:
            return None
        match parts[1:]:
            case [""]:
                return _part_of_page("page.html")
            case ["page", name]:
                return _part_of_page(name)
            case ["viewer", "v", "plate", name]:
                file = self._viewer.get(name or "index.html")
                return _Answer(_known(file.read_bytes(), file.suffix), "viewer") if file else None
            case ["plate", *path]:
                found = find_file(self._plate, path)
                return _Answer(found, "plate") if found else None
            case ["describe", *path]:
                document = self._describe(path)
                return None if document is None else _Answer(_json(document), "plate")
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of browsers that did not wait for an answer."""
        _log.debug("A connection ended early.", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "artmask", ""
    server: PlateServer

    def do_GET(self) -> None:
        if self.server.is_closing.is_set():
            self.close_connection = True  # a browser has kept it open
            return None
        if not _HOST.fullmatch(self.headers.get("Host", "")):
            return self._refuse(HTTPStatus.FORBIDDEN, "This server is for browsers on its own machine.")
        try:
            if self.path.startswith("/viewer/events/"):
                return self._stay()
            answer = self.server.find(self.path)
            if answer is None:
                return self._refuse(HTTPStatus.NOT_FOUND, "There is no such file.")
            return self._send_resource(answer)
        except ArtmaskError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except ConnectionError:
            raise
        except Exception as error:  # each kind of store has errors of its own
            _log.warning("%s cannot be read: %s", self.path, error)
            self._refuse(HTTPStatus.BAD_GATEWAY, f"The store cannot be read: {error}")

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)

    def _send_resource(self, answer: _Answer) -> None:
        resource, policy = answer
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        start, stop = _resolve(asked, resource.size) if asked else (0, resource.size)
        headers = {
            "Content-Type": resource.kind,
            "Content-Security-Policy": _POLICIES[policy],
            "Accept-Ranges": "bytes",
        }
        if asked and start >= stop:
            headers["Content-Range"] = f"bytes */{resource.size}"
            return self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers, 0, b"")
        if asked:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{resource.size}"
        content = b"" if self.command == "HEAD" else resource.read(start, stop)
        if self.command != "HEAD" and len(content) != stop - start:
            raise OSError("the file was replaced while it was read")
        return self._send(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK, headers, stop - start, content)

    def _stay(self) -> None:
        """Keep a connection open until the server or the browser ends it."""
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        while self.command != "HEAD" and not self.server.is_closing.wait(_BEAT_S):
            self.wfile.write(b":\n\n")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        content = message.encode()
        headers = {"Content-Type": "text/plain; charset=utf-8", "Content-Security-Policy": _POLICIES["plate"]}
        self._send(status, headers, len(content), b"" if self.command == "HEAD" else content)

    def _send(self, status: HTTPStatus, headers: Mapping[str, str], size: int, content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        # A plate may be written to while it is looked at.
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(content)


def _resolve(asked: "re.Match[str]", size: int) -> tuple[int, int]:
    """First byte and the one after the last of a range; they are equal, or the wrong way round, if it has none."""
    first, last, suffix = asked.groups()
    if suffix is not None:
        return max(0, size - int(suffix)), size
    return int(first), min(int(last) + 1, size) if last else size


def _part_of_page(name: str) -> _Answer | None:
    part = next((part for part in _PAGE.iterdir() if part.name == name), None)
    return _Answer(_known(part.read_bytes(), Path(name).suffix), "page") if part else None


def _known(content: bytes, suffix: str) -> Resource:
    return Resource(len(content), _KINDS[suffix], lambda start, stop: content[start:stop])


def _json(document: Mapping[str, Any]) -> Resource:
    content = json.dumps(document, allow_nan=False).encode()
    return Resource(len(content), "application/json", lambda start, stop: content[start:stop])


def _find_viewer() -> dict[str, Path]:
    """Files of Neuroglancer's page by name; its package is not imported, which would start a server of its own."""
    package = find_spec("neuroglancer")
    folders = [Path(place) / "static" / "client" for place in (package and package.submodule_search_locations) or ()]
    found = {file.name: file for folder in folders if folder.is_dir() for file in folder.iterdir()}
    if "index.html" not in found:
        raise ConfigError(
            "The viewer is not installed. Run `pip install neuroglancer`, or look at the plate with --napari."
        )
    return {name: file for name, file in found.items() if file.suffix in _KINDS}
