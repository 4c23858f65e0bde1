"""The label sheet as a file: which fields it shows, and that a name stays text."""

import base64
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from commands import artmask
from exports import CHANNELS, make_plate, places, write_export
from listener import Listener

from artifact_mask.config import ClusterConfig, IngestConfig, LabelSheetConfig
from artifact_mask.errors import PlateError
from artifact_mask.io.label_list import Box
from artifact_mask.io.label_sheet import SheetField, save_label_sheet
from artifact_mask.io.page import encode_jpeg
from artifact_mask.kernels.display import display, shrink, to_grey
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.label_sheet import write_label_sheet

HOSTILE = '</script><img src=x onerror="document.title=1">{{script}}<!--'
CLUSTER = ClusterConfig(workers=1, threads_per_worker=2, dashboard=False)


def content_of(page: Path) -> tuple[list[dict], dict[str, np.ndarray]]:
    text = page.read_text()
    (sheet,) = re.findall(r'<script type="application/json" id="sheet">(.*?)</script>', text)
    pictures = re.findall(r'<script type="text/plain" id="([a-z]+-\d+)">(.*?)</script>', text)
    fields = json.loads(sheet)["fields"]
    return fields, {name: imagecodecs.jpeg8_decode(base64.b64decode(data)) for name, data in pictures}


@pytest.fixture(scope="module")
def two_plates(tmp_path_factory):
    """Folder with a plate of two wells of unlike size, and one of a single well, of which one field is missing."""
    folder = tmp_path_factory.mktemp("two")
    uneven = make_plate(
        wells=[(1, 1), (2, 2)], field_ids=range(1, 7), without=[(1, 1, f) for f in (3, 4, 5, 6)], name="uneven"
    )
    gappy = make_plate(wells=[(3, 3)], field_ids=range(1, 4), name="gappy")
    absent = next(place.file for place in places(gappy) if place.field.index == 1)
    for plate, skip in ((uneven, ()), (gappy, (absent,))):
        export = write_export(folder / plate.name, plate, skip=skip)
        ingest(IngestConfig(exports=export, dest=folder / f"{plate.name}.zarr", cluster=CLUSTER))
    return folder


def test_plates_and_wells_take_turns(two_plates, tmp_path):
    page = write_label_sheet(LabelSheetConfig(plates=two_plates, dest=tmp_path / "sheet.html", fields=4))
    fields, _ = content_of(page)
    assert Counter(field["plate"] for field in fields) == {"uneven": 2, "gappy": 2}
    assert all(one["plate"] != other["plate"] for one, other in pairwise(fields))
    assert {field["well"] for field in fields if field["plate"] == "uneven"} == {"A01", "B02"}


def test_same_seed_gives_the_same_page_and_another_one_other_fields(two_plates, tmp_path):
    pages = {}
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        (tmp_path / name).mkdir()
        config = LabelSheetConfig(plates=two_plates, dest=tmp_path / name / "sheet.html", fields=5, seed=seed)
        pages[name] = write_label_sheet(config).read_bytes()
    assert pages["one"] == pages["two"] != pages["three"]


def test_missing_plane_is_left_out_and_said(two_plates, tmp_path):
    listener = Listener()
    page = write_label_sheet(LabelSheetConfig(plates=two_plates, dest=tmp_path / "sheet.html"), listener)
    shown = {(field["plate"], field["well"], field["field"]) for field in content_of(page)[0]}
    assert len(shown) == 10 == sum(fields for fields, _, _ in listener.advanced)
    assert ("gappy", "C03", 1) not in shown
    assert any(
        said.startswith("1 field is left out: gappy C03 field 1: Brightfield is missing") for said in listener.notes
    )
    assert any("10 fields to show, fewer than the 100" in said for said in listener.notes)


def test_picture_is_the_middle_plane_against_its_background(ingested, tmp_path):
    from artifact_mask.io.ome_zarr import open_level

    fields, pictures = content_of(write_label_sheet(LabelSheetConfig(plates=ingested, dest=tmp_path / "sheet.html")))
    field = fields[0]
    assert field["shape"] == [300, 260]
    assert field["boxes"] == []
    path = f"{field['well'][0]}/{int(field['well'][1:])}/{field['field']}"
    plane = open_level(ingested / path)[0, 0, 1]
    shown = to_grey(display(plane, dark=False)).astype(float)
    assert np.corrcoef(shown.ravel(), pictures["picture-0"].astype(float).ravel())[0, 1] > 0.9
    assert pictures["thumbnail-0"].shape == (160, 139)


def test_fluorescence_is_stretched_between_its_own_extremes(ingested, tmp_path):
    config = LabelSheetConfig(plates=ingested, dest=tmp_path / "sheet.html", channel=CHANNELS[1].name, fields=1)
    _, pictures = content_of(write_label_sheet(config))
    assert pictures["picture-0"].min() < 20
    assert pictures["picture-0"].max() > 235


def test_tiles_cover_the_field_evenly(ingested, tmp_path):
    config = LabelSheetConfig(plates=ingested, dest=tmp_path / "sheet.html", fields=2, tile_px=100)
    for field in content_of(write_label_sheet(config))[0]:
        boxes = [Box(*box) for box in field["boxes"]]
        covered = np.zeros(field["shape"], int)
        for y0, x0, height, width in boxes:
            covered[y0 : y0 + height, x0 : x0 + width] += 1
        assert len(boxes) == 9
        assert np.all(covered == 1)


def test_large_fields_are_averaged_and_small_ones_stay():
    image = np.random.default_rng(0).random((200, 100), np.float32)
    assert shrink(image, 300) is image
    halved = shrink(image, 100)
    assert halved.shape == (100, 50)
    assert np.allclose(halved[0, 0], image[:2, :2].mean(), atol=1e-5)


def test_black_and_white_are_shares_of_the_background():
    plane = np.full((120, 120), 1000, np.uint16)
    plane[:5, :5], plane[-5:, -5:] = 550, 1250
    grey = to_grey(display(plane, dark=False))
    assert grey[0, 0] < 8
    assert grey[-1, -1] > 247
    assert abs(int(grey[60, 60]) - 164) <= 2


def test_no_field_with_the_channel_is_an_error(ingested, tmp_path):
    with pytest.raises(PlateError, match="'Cy5'"):
        write_label_sheet(LabelSheetConfig(plates=ingested, dest=tmp_path / "sheet.html", channel="Cy5"))
    assert not (tmp_path / "sheet.html").exists()


def test_plates_of_one_name_are_refused(ingested, tmp_path):
    (tmp_path / "copy.zarr").symlink_to(ingested)
    config = LabelSheetConfig(plates=(ingested, tmp_path / "copy.zarr"), dest=tmp_path / "sheet.html")
    with pytest.raises(PlateError, match="both named screen"):
        write_label_sheet(config)


def test_name_of_a_plate_cannot_leave_its_place(tmp_path):
    grey = encode_jpeg(np.full((8, 8), 128, np.uint8))
    save_label_sheet(tmp_path / "<b>sheet.html", [SheetField(HOSTILE, "B03", 0, (8, 8), grey, grey)])
    text = (tmp_path / "<b>sheet.html").read_text()
    assert "<img" not in text
    assert "<b>" not in text.replace("<b>\n", "").replace('<b id="', "")
    assert content_of(tmp_path / "<b>sheet.html")[0][0]["plate"] == HOSTILE


def test_page_names_nothing_of_the_network(tmp_path):
    grey = encode_jpeg(np.full((8, 8), 128, np.uint8))
    save_label_sheet(tmp_path / "sheet.html", [SheetField("P", "B03", 0, (8, 8), grey, grey)])
    text = (tmp_path / "sheet.html").read_text()
    assert not re.search(r"https?:|src=|href=|@import|url\(", text)
    assert "default-src 'none'" in text
    assert "{{" not in text


def test_command_writes_the_page(ingested, tmp_path):
    result = artmask("label-sheet", ingested, "--dest", tmp_path / "sheet.html", "--fields", 2)
    assert result.returncode == 0, result.stderr
    assert "sheet.html" in result.stdout
    assert len(content_of(tmp_path / "sheet.html")[0]) == 2
