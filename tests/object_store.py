"""An S3 server for tests, behind a proxy that counts the requests and spoils some of them."""

import http.client
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, cycle
from threading import Lock, Thread

import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from upath import UPath

from artifact_mask.location import to_location

BUCKET = "screens"
TIMEOUT_S = 30
SLOW_DOWN = b'<?xml version="1.0"?><Error><Code>ServiceUnavailable</Code><Message>later</Message></Error>'
Rule = Callable[[str, str], str]
"""How to spoil a request with this method and target: not at all (""), UNAVAILABLE, or one of CUTS."""
UNAVAILABLE = "503"
RECORD = re.compile(r"\.artmask/\w+/\w+/[A-Z]+\d+-[\d_]+\.")
CUTS = ("before it is done", "after it is done", "in the middle of the answer")


@dataclass
class ObjectStore:
    """Server with one bucket.

    Attributes
    ----------
    requests
        Method and target of each request, such as ``("PUT", "/screens/plate.zarr/zarr.json")``.
    """

    requests: list[tuple[str, str]] = field(default_factory=list)
    rule: Rule | None = None
    spoilt: list[str] = field(default_factory=list)

    def root(self, name: str) -> UPath:
        """Place in the bucket."""
        place = to_location(f"s3://{BUCKET}/{name}")
        assert isinstance(place, UPath)
        return place

    @contextmanager
    def spoiling(self, rule: Rule) -> Iterator[list[str]]:
        """Spoil requests by a rule; yields how each was spoilt."""
        self.rule, self.spoilt = rule, []
        try:
            yield self.spoilt
        finally:
            self.rule = None

    def asked(self, method: str, since: int = 0) -> list[str]:
        """Targets of the requests of one method, after some number of requests."""
        return [target for asked, target in self.requests[since:] if asked == method]


def every_tenth(hows: Sequence[str]) -> Rule:
    """Spoil every tenth request, in each of some ways in turn."""
    numbers, turns = count(1), cycle(hows)
    return lambda method, target: next(turns) if next(numbers) % 10 == 0 else ""


def down_for(seconds: float) -> Rule:
    """Refuse all requests for a time that begins with the first for an array."""
    begun: list[float] = []

    def rule(method: str, target: str) -> str:
        if not begun and target.endswith("/0/zarr.json"):
            begun.append(time.monotonic())
        return UNAVAILABLE if begun and time.monotonic() < begun[0] + seconds else ""

    return rule


def first_put(how: str) -> Rule:
    """Spoil the first request that writes."""
    hows = iter([how])
    return lambda method, target: next(hows, "") if method == "PUT" else ""


def second_record(act: Callable[[], object]) -> Rule:
    """Do something in place of writing the second unit's record."""
    numbers = count(1)

    def rule(method: str, target: str) -> str:
        if method == "PUT" and RECORD.search(target) and next(numbers) == 2:
            act()
            return CUTS[0]
        return ""

    return rule


@contextmanager
def serve_objects() -> Iterator[ObjectStore]:
    """Start a server on the loopback address, and point this process and those that it starts to it."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    _forget_everything(*moto.get_host_and_port())
    store = ObjectStore()
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(store, *moto.get_host_and_port()))
    thread = Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setattr(logging.getLogger("werkzeug"), "disabled", True)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
        # A connection that is remembered would be one to the server of an earlier module.
        S3FileSystem.clear_instance_cache()
        store.root("").fs.mkdir(BUCKET)
        try:
            yield store
        finally:
            proxy.shutdown()
            proxy.server_close()
            moto.stop()


def _forget_everything(host: str, port: int) -> None:
    """Empty the server: its objects are those of the process, and of earlier servers in it."""
    connection = http.client.HTTPConnection(host, port)
    connection.request("POST", "/moto-api/reset")
    assert connection.getresponse().status == 200
    connection.close()


def _handler(store: ObjectStore, host: str, port: int) -> type[BaseHTTPRequestHandler]:
    lock = Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                store.requests.append((self.command, self.path))
                spoil = store.rule(self.command, self.path) if store.rule else ""
                if spoil:
                    store.spoilt.append(spoil)
            if spoil == UNAVAILABLE:
                self.answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
            elif spoil == CUTS[0]:
                self.close_connection = True
            else:
                self.forward(body, spoil)

        def forward(self, body: bytes, cut: str) -> None:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            content = response.read()
            connection.close()
            if cut == CUTS[1]:
                self.close_connection = True
            else:
                self.answer(response.status, dict(response.getheaders()), content, cut=bool(cut))

        def answer(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" and status < 300 else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = self.close_connection or cut

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do

        def log_message(self, *_: object) -> None:
            pass

    return Handler
