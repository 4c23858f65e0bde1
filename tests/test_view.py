"""`artmask view`: what the server gives away and what it keeps, and what a field shows."""

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from threading import Thread

import numpy as np
import pytest
from commands import artmask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from object_store import serve_objects
from viewed_plates import BRIGHT, DARK, FAILURE, LABELS, SIZE, stripes, write_viewed_plate

from artifact_mask.config import ViewConfig
from artifact_mask.errors import ConfigError, PlateError
from artifact_mask.io import plate_server
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.location import to_location
from artifact_mask.views import napari_layers
from artifact_mask.views.napari_layers import NapariLayer, field_layers, open_in_napari, show_layers
from artifact_mask.workflows.view import start_view
from artifact_mask.workflows.viewer_layers import list_layers

CHUNK = "/plate/B/3/0/0/c.0.0.0.0.0"
SECRET = b"not of the plate"


@contextmanager
def serving(place, **given):
    """Serve a plate in a thread; the server and the address of its page."""
    view = start_view(ViewConfig(plate=place, **given))
    thread = Thread(target=view.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield view
    finally:
        view.server.shutdown()
        thread.join()
        view.server.server_close()


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """Plate on disk, with a secret beside it."""
    root = tmp_path_factory.mktemp("viewed") / "plate.zarr"
    write_viewed_plate(root)
    (root.parent / "secret").write_bytes(SECRET)
    (root / "way-out").symlink_to(root.parent)
    (root / "secret-link").symlink_to(root.parent / "secret")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture(scope="module")
def server(plate):
    with serving(plate) as view:
        yield view.server


def ask(server, target, method="GET", **headers):
    """Send a request as it stands, without any tidying; the response and its content."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, target, skip_host="Host" in headers)
    for name, value in headers.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def describe(server, path):
    response, content = ask(server, f"/describe/{path}")
    assert response.status == 200
    return json.loads(content)


def test_files_of_the_plate_are_given_whole(server, plate):
    response, content = ask(server, CHUNK)
    assert (response.status, content) == (200, (plate / CHUNK.removeprefix("/plate/")).read_bytes())
    assert response.headers["Content-Type"] == "application/octet-stream"
    response, content = ask(server, "/plate/zarr.json?anything")
    assert (response.status, content) == (200, (plate / "zarr.json").read_bytes())
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("0-9", slice(0, 10)), ("5-", slice(5, None)), ("-16", slice(-16, None)), ("7-7", slice(7, 8))],
)
def test_part_of_a_file_is_given(server, plate, asked, expected):
    whole = (plate / CHUNK.removeprefix("/plate/")).read_bytes()
    response, content = ask(server, CHUNK, Range=f"bytes={asked}")
    start, stop, _ = expected.indices(len(whole))
    assert (response.status, content) == (206, whole[expected])
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(whole)}"


def test_range_beyond_the_end_is_cut_and_one_after_it_refused(server, plate):
    size = (plate / CHUNK.removeprefix("/plate/")).stat().st_size
    for asked, n_bytes in ((f"0-{size + 99}", size), (f"-{size + 99}", size)):
        response, content = ask(server, CHUNK, Range=f"bytes={asked}")
        assert (response.status, len(content)) == (206, n_bytes)
    for asked in (f"{size}-", f"{size + 5}-{size + 9}", "-0", "9-3"):
        response, content = ask(server, CHUNK, Range=f"bytes={asked}")
        assert (response.status, content) == (416, b"")
        assert response.headers["Content-Range"] == f"bytes */{size}"


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "bytes=", "lines=0-1", "bytes=a-b"])
def test_range_of_another_kind_gives_the_whole(server, plate, asked):
    response, content = ask(server, CHUNK, Range=asked)
    assert (response.status, len(content)) == (200, (plate / CHUNK.removeprefix("/plate/")).stat().st_size)


def test_head_tells_the_size_and_gives_nothing(server, plate):
    size = (plate / CHUNK.removeprefix("/plate/")).stat().st_size
    response, content = ask(server, CHUNK, "HEAD")
    assert (response.status, response.headers["Content-Length"], content) == (200, str(size), b"")
    response, content = ask(server, CHUNK + "0", "HEAD")
    assert (response.status, content) == (404, b"")


@pytest.mark.parametrize(
    "target",
    [
        "/plate/B/3/0/0/c.0.0.9.0.0",
        "/plate/B/3/0",
        "/plate/B/3/0/",
        "/plate/",
        "/plate",
        "/plate/pipe",
        "/plate/zarr.json/",
        "/page/",
        "/page/nothing.js",
        "/page/..",
        "/viewer/v/plate/nothing.js",
        "/describe/wells/Z99",
        "/describe/fields/B03/9",
        "/describe/fields/B03/-1",
        "/describe",
        "/nothing",
        "nothing",
        "http://127.0.0.1/plate/zarr.json",
    ],
)
def test_what_is_not_there_is_not_found(server, target):
    assert ask(server, target)[0].status == 404


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "%2e%2e/secret",
        "..%2fsecret",
        "B/../../secret",
        "B/%2e%2e/%2E%2E/secret",
        "..%5csecret",
        "B/..\\..\\secret",
        "way-out/secret",
        "secret-link",
        "./../secret",
        "%00",
        "secret%00",
        "/secret",
        "//secret",
        "%252e%252e/secret",
        "x" * 300,
        "%C3%A9" * 200,
        "%ff%fe/secret",
    ],
)
def test_no_path_leads_out_of_the_plate(server, plate, path):
    absolute = "/plate/" + str(plate.parent / "secret")
    for target in (f"/plate/{path}", absolute, absolute.replace("/", "%2f")):
        response, content = ask(server, target)
        assert response.status == 404
        assert SECRET not in content


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["..", "%2e%2e", ".", "", "B", "%2f", "secret", "way-out", "%5c", "0"]), max_size=6))
def test_no_mixture_of_steps_leads_out_of_the_plate(server, steps):
    response, content = ask(server, "/plate/" + "/".join([*steps, "secret"]))
    assert (response.status, SECRET in content) == (404, False)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", None, "localhost@x"])
def test_other_names_of_this_machine_are_refused(server, host):
    for target in ("/", "/plate/zarr.json", "/describe/plate", "/viewer/events/plate"):
        assert ask(server, target, Host=host)[0].status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1:99", "[::1]:8000"])
def test_own_names_of_this_machine_are_served_through_any_tunnel(server, host):
    assert ask(server, "/plate/zarr.json", Host=host)[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_written(server, plate, method):
    before = (plate / "zarr.json").read_bytes()
    assert ask(server, "/plate/zarr.json", method)[0].status == 501
    assert (plate / "zarr.json").read_bytes() == before


def test_server_listens_on_the_loopback_address_alone(server):
    assert server.server_address[0] == "127.0.0.1"


def test_browsers_are_told_not_to_run_what_is_in_a_plate(server, plate):
    (plate / "page.html").write_text("<script>alert(1)</script>")
    response, _ = ask(server, "/plate/page.html")
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response.headers["Content-Security-Policy"]
    assert response.headers["Access-Control-Allow-Origin"] is None


def test_page_and_viewer_are_there_and_load_nothing_from_elsewhere(server):
    for target in ("/", "/page/main.js", "/page/style.css", "/viewer/v/plate/"):
        response, content = ask(server, target)
        assert response.status == 200
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert b"https://" not in content


def test_viewers_python_package_is_not_imported(plate):
    code = f"""
import sys
from artifact_mask.config import ViewConfig
from artifact_mask.workflows.view import start_view
start_view(ViewConfig(plate={str(plate)!r})).server.server_close()
assert not {{"neuroglancer", "tornado", "napari", "dask", "torch"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_plate_map_has_wells_with_their_figure_layout_and_failures(server):
    described = describe(server, "plate")
    assert (described["name"], described["n_rows"], described["n_columns"]) == ("plate-1", 8, 12)
    assert described["figure"] == "artifact_fraction"
    wells = {well["name"]: well for well in described["wells"]}
    assert {name: well["value"] for name, well in wells.items()} == {"B03": 0.2, "B04": 0.0, "C11": 0.02}
    assert {name: well["n_failed"] for name, well in wells.items()} == {"B03": 0, "B04": 1, "C11": 0}
    assert wells["B03"]["layout"] == {"Compound": "plate-1", "Concentration": "1.5"}


def test_fields_say_why_they_failed_or_were_rejected(server):
    describe(server, "plate")
    failed = describe(server, "wells/B04")["fields"][1]
    assert failed == {"index": 1, "field_id": 7, "value": None, "error": FAILURE, "rejected": ""}
    assert describe(server, "wells/B03")["fields"][1]["rejected"] == "more than 25 % are artifacts"
    assert describe(server, "fields/B04/1")["missing"] == [f"Brightfield, t 0, z 0: {FAILURE}"]


def test_plate_without_tables_is_shown(tmp_path):
    write_viewed_plate(tmp_path / "plate.zarr")
    for file in (tmp_path / "plate.zarr" / "tables").rglob("*.json"):
        file.unlink()
    with serving(tmp_path / "plate.zarr") as view:
        described = describe(view.server, "plate")
        assert (described["figure"], {well["value"] for well in described["wells"]}) == (None, {None})
        assert describe(view.server, "wells/B03")["fields"][0] == {
            "index": 0,
            "field_id": 1,
            "value": None,
            "error": "",
            "rejected": "",
        }


def test_field_that_is_not_in_the_store_says_so(tmp_path):
    write_viewed_plate(tmp_path / "plate.zarr")
    (tmp_path / "plate.zarr" / "B" / "3" / "1" / "zarr.json").unlink()
    with serving(tmp_path / "plate.zarr") as view:
        response, content = ask(view.server, "/describe/fields/B03/1")
    assert response.status == 500
    assert content.decode() == "Well B03, field 1: the field is not in the store; run `artmask ingest` again."


def test_field_shows_channels_masked_image_and_labels(tmp_path, ngff):
    write_viewed_plate(tmp_path / "plate.zarr", ngff=ngff)
    with serving(tmp_path / "plate.zarr") as view:
        described = describe(view.server, "fields/B03/1")
    layers = {layer["name"]: layer for layer in described["view"]["layers"]}
    labels = [f"labels/{name}" for name in LABELS]
    assert list(layers) == ["Brightfield", "HOECHST 33342", "Brightfield, masked", *labels]
    assert [name for name, layer in layers.items() if layer["visible"]] == ["Brightfield", "labels/artifacts"]
    kind = {"0.5": "zarr3", "0.4": "zarr2"}[ngff]
    assert layers["Brightfield"]["source"] == f"plate/B/3/1/|{kind}:"
    assert layers["labels/weak"]["source"] == f"plate/B/3/1/labels/weak/|{kind}:"
    assert layers["Brightfield"]["shaderControls"]["contrast"]["range"] == [DARK, BRIGHT]
    assert layers["HOECHST 33342"]["shaderControls"]["contrast"]["range"] == [DARK // 2, BRIGHT // 2]
    assert layers["HOECHST 33342"]["shaderControls"]["colour"] == "#0000FF"
    assert layers["HOECHST 33342"]["blend"] == "additive"
    # x -20 um, y 5 um, half a micrometre a pixel.
    assert described["view"]["position"] == [-40 + (SIZE - 1) / 2, 10 + (SIZE - 1) / 2, 0, 0]
    assert described["view"]["dimensions"]["x"] == [5e-7, "m"]


def test_weak_labels_are_shown_where_there_are_no_others(tmp_path):
    write_viewed_plate(tmp_path / "plate.zarr")
    folder = tmp_path / "plate.zarr" / "B" / "3" / "0"
    document = json.loads((folder / "labels" / "zarr.json").read_text())
    document["attributes"]["ome"]["labels"] = ["stain", "weak"]
    (folder / "labels" / "zarr.json").write_text(json.dumps(document))
    assert [(layer.name, layer.is_visible) for layer in list_layers(folder)][3:] == [
        ("labels/stain", False),
        ("labels/weak", True),
    ]


def test_channels_of_one_name_are_told_apart(tmp_path):
    write_viewed_plate(tmp_path / "plate.zarr")
    folder = tmp_path / "plate.zarr" / "B" / "3" / "0"
    document = json.loads((folder / "zarr.json").read_text())
    for channel in document["attributes"]["ome"]["omero"]["channels"]:
        channel["label"] = "Brightfield, masked"
    (folder / "zarr.json").write_text(json.dumps(document))
    names = [layer.name for layer in list_layers(folder)][:3]
    assert names == ["Brightfield, masked", "Brightfield, masked (2)", "Brightfield, masked (3)"]


def test_names_of_any_kind_are_one_step_of_an_address(tmp_path):
    write_viewed_plate(tmp_path / "plate.zarr")
    labels = tmp_path / "plate.zarr" / "B" / "3" / "0" / "labels"
    name = "a b|c#d?e%f<g>"
    (labels / "weak").rename(labels / name)
    document = json.loads((labels / "zarr.json").read_text())
    document["attributes"]["ome"]["labels"] = [name]
    (labels / "zarr.json").write_text(json.dumps(document))
    with serving(tmp_path / "plate.zarr") as view:
        source = describe(view.server, "fields/B03/0")["view"]["layers"][-1]["source"]
        address, _, kind = source.partition("|")
        response, content = ask(view.server, f"/{address}zarr.json")
    assert (response.status, kind) == (200, "zarr3:")
    assert content == (labels / name / "zarr.json").read_bytes()


def test_plate_in_an_object_store_is_served(tmp_path):
    with serve_objects() as store:
        root = store.root("viewed.zarr")
        write_viewed_plate(root)
        with serving(root) as view:
            assert describe(view.server, "plate")["name"] == "plate-1"
            whole = ask(view.server, CHUNK)[1]
            response, part = ask(view.server, CHUNK, Range="bytes=-20")
            assert (response.status, part) == (206, whole[-20:])
            assert ask(view.server, CHUNK, Range="bytes=4-7")[1] == whole[4:8]
            assert ask(view.server, CHUNK + "0")[0].status == 404
            assert ask(view.server, "/plate/B/3/0")[0].status == 404
            assert ask(view.server, "/plate/../other")[0].status == 404


def test_store_that_does_not_answer_is_no_absent_chunk(monkeypatch):
    root = to_location("memory://viewed/plate.zarr")
    write_viewed_plate(root)

    def refuse(*_, **__):
        raise OSError("slow down")

    with serving(root) as view:
        assert ask(view.server, CHUNK)[0].status == 200
        monkeypatch.setattr(type(root.fs), "cat_file", refuse)
        response, content = ask(view.server, CHUNK)
        assert (response.status, content) == (502, b"The store cannot be read: slow down")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_no_absent_chunk(tmp_path):
    write_viewed_plate(tmp_path / "plate.zarr")
    (tmp_path / "plate.zarr" / "zarr.json").chmod(0)
    with serving(tmp_path / "plate.zarr") as view:
        assert ask(view.server, "/plate/zarr.json")[0].status == 502


def test_page_begins_at_the_field_that_is_asked_for(plate):
    for given_place, expected in (
        ({}, ""),
        ({"well": "b04"}, "#B04/0"),
        ({"well": "C11", "field": 1}, "#C11/1"),
        ({"field": 1}, "#B03/1"),
    ):
        view = start_view(ViewConfig(plate=plate, **given_place))
        view.server.server_close()
        assert view.url == view.server.url + expected


def test_well_or_field_that_is_not_there_is_named_with_those_that_are(plate):
    with pytest.raises(PlateError, match=r"has no well 'B4'. Its wells are B03, B04, C11. Did you mean 'B04'"):
        start_view(ViewConfig(plate=plate, well="B4"))
    with pytest.raises(PlateError, match=r"Well B03 of plate-1 has no field 7. Its fields are 0, 1."):
        start_view(ViewConfig(plate=plate, well="B03", field=7))


def test_port_in_use_is_said(plate, server):
    with pytest.raises(ConfigError, match="cannot be had"):
        start_view(ViewConfig(plate=plate, port=server.server_port))


def test_missing_viewer_is_said(plate, monkeypatch):
    monkeypatch.setattr(plate_server, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install neuroglancer"):
        start_view(ViewConfig(plate=plate))


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGINT, 0)])
def test_command_serves_until_it_is_stopped(plate, signal_number, code):
    command = [sys.executable, "-m", "artmask", "view", str(plate), "--well", "C11", "--field", "1", "--no-browser"]
    environment = os.environ | {"SSH_CONNECTION": "192.0.2.1 5 192.0.2.2 22", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        url = run.stdout.readline().strip()
        lines = [run.stdout.readline() for _ in range(2)]
        address, _, place = url.partition("#")
        with urllib.request.urlopen(address, timeout=20) as page:
            assert b"<iframe" in page.read()
        run.send_signal(signal_number)
        _, errors = run.communicate(timeout=20)
    assert (run.returncode, errors, place) == (code, "", "C11/1")
    port = address.rstrip("/").rpartition(":")[2]
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in lines[1]


def test_command_refuses_what_is_no_plate(tmp_path):
    done = artmask("view", tmp_path / "nothing.zarr")
    assert (done.returncode, "does not exist" in done.stderr) == (1, True)
    done = artmask("view", tmp_path, "--port", "70000")
    assert (done.returncode, "port" in done.stderr) == (2, True)


def test_layers_of_napari_have_the_pixels_of_all_levels_at_their_place(plate):
    described = read_plate(plate).plate
    well = described.wells[0]
    layers = {layer.name: layer for layer in field_layers(plate, described, well, well.fields[1])}
    first = layers["B03/1 Brightfield"]
    assert [level.shape for level in first.data] == [(1, 1, n, n) for n in (1000, 500, 250)]
    assert np.array_equal(first.data[0][0, 0].compute(), stripes(3, 1))
    assert (first.scale, first.translate) == ((1.0, 1.0, 0.5, 0.5), (0.0, 0.0, 5.0, -20.0))
    assert (first.contrast_limits, first.visible) == ((DARK, BRIGHT), True)
    assert np.array_equal(layers["B03/1 HOECHST 33342"].data[0][0, 0].compute(), stripes(3, 1) // 2)
    masked = layers["B03/1 Brightfield, masked"]
    assert (masked.visible, int(masked.data[-1].max().compute())) == (False, 2000)
    labels = layers["B03/1 labels/artifacts"]
    assert (labels.kind, labels.visible, int((labels.data[0] == 1).sum().compute())) == ("labels", True, 200 * 200)
    assert len(layers) == 3 + len(LABELS)


def test_napari_is_asked_for_where_it_is_not_installed(plate, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", None)
    with pytest.raises(ConfigError, match=r'pip install "napari\[all\]"'):
        show_layers([], "nothing")
    with pytest.raises(ConfigError, match="leave --napari away"):
        open_in_napari(ViewConfig(plate=plate))


def test_layers_come_to_napari_as_they_are_described():
    added = []

    class Viewer:
        def __init__(self):
            self.scale_bar = type("ScaleBar", (), {"visible": False})()

        def add_image(self, data, **shown):
            added.append(("image", data, shown))

        def add_labels(self, data, **shown):
            added.append(("labels", data, shown))

    pyramid, plane = [np.zeros((8, 8)), np.zeros((4, 4))], np.zeros((2, 8, 8), np.int32)
    napari_layers.add_layers(
        Viewer(),
        [
            NapariLayer("image", pyramid, "channel", (0.5, 0.5), (3.0, 4.0), (1.0, 9.0)),
            NapariLayer("labels", [plane], "cells", (2.0, 0.5, 0.5), visible=False),
        ],
    )
    common = {"name": "channel", "scale": (0.5, 0.5), "translate": (3.0, 4.0), "visible": True, "multiscale": True}
    assert added[0][2] == common | {"contrast_limits": (1.0, 9.0), "units": ("um", "um")}
    assert added[0][1] == pyramid
    kind, data, shown = added[1]
    assert (kind, data is plane, shown["multiscale"], shown["translate"]) == ("labels", True, False, None)
    assert shown["units"] == ("um", "um", "um")
    assert "contrast_limits" not in shown
