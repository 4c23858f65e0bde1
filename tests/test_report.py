"""The report as a file: what it says is what the tables and records say, and names stay text."""

import base64
import html
import json
import re
import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from commands import artmask
from listener import Listener
from object_store import BUCKET, serve_objects

from artifact_mask.config import ClusterConfig, IngestConfig, ReportConfig, RunConfig, SimulateConfig
from artifact_mask.engine.journal import beside, open_journal
from artifact_mask.errors import ConfigError, PlateError
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.io.report_fields import Picture, encode_pictures
from artifact_mask.io.tables import read_table
from artifact_mask.kernels.outline_paths import draw_path
from artifact_mask.kernels.outlines import trace_outlines
from artifact_mask.workflows import report as report_module
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.report import write_report
from artifact_mask.workflows.report_pictures import choose_size, draw_pictures
from artifact_mask.workflows.report_plate import find_pictures
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
BROKEN = "r02c03f02p01-ch1sk1fk1fl1.tiff"
SIZE = 270


@pytest.fixture(scope="module")
def ingested_only(shared_cluster, tmp_path_factory):
    """Plate of 3 wells x 2 fields, one of which is broken, that was not run on. Not to be changed."""
    folder = tmp_path_factory.mktemp("report")
    (export,) = simulate(SimulateConfig(dest=folder / "export", wells=3, fields=2, size=SIZE, seed=5))
    broken = export / "Images" / BROKEN
    broken.write_bytes(broken.read_bytes()[:900])
    ingest(IngestConfig(exports=export, dest=folder / "plate.zarr", cluster=CLUSTER))
    return folder / "plate.zarr"


@pytest.fixture(scope="module")
def plate(ingested_only, tmp_path_factory):
    """The same, run on with controls; of the field with most artifact it is said that it is rejected."""
    root = copy(ingested_only, tmp_path_factory.mktemp("report") / "plate.zarr")
    settings = {"negative_controls": ("Compound=DMSO",), "cluster": CLUSTER}
    run(RunConfig(plates=root, **settings))
    most = read_table(root, "fields")["artifact_fraction"].nlargest(2).mean()
    run(RunConfig(plates=root, max_artifact_fraction=most, **settings))
    return root


@pytest.fixture(scope="module")
def page(plate, tmp_path_factory):
    """Report of the plate, as text."""
    dest = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(ReportConfig(plates=plate, dest=dest)).page.read_text()


def copy(root, to):
    shutil.copytree(root, to)
    shutil.copytree(beside(root), beside(to))
    return to


def element(text, name):
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)[1])


def rows_of(text, heading):
    """Cells of the first table after a heading, by column, as text."""
    table = text[text.index(heading) :]
    table = table[: table.index("</table>")]
    plain = [
        [html.unescape(re.sub(r"<small>.*?</small>|<[^>]+>", "", cell)).strip() for cell in cells]
        for cells in (re.findall(r"<t[hd].*?</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL))
    ]
    return [dict(zip(plain[0], cells, strict=False)) for cells in plain[1:]]


def same(shown, value):
    if value is None or value != value:
        return shown in (None, "\u2014", "")
    return float(shown) == pytest.approx(value, rel=1e-3) if isinstance(value, float) else str(shown) == str(value)


def test_wells_are_those_of_the_table(plate, page):
    table = read_table(plate, "wells")
    shown = rows_of(page, "<h3>Wells</h3>")
    assert {"Compound", "artifact_fraction", "stained_od_per_area"} <= shown[0].keys()
    assert len(shown) == len(table)
    for cells, row in zip(shown, table.to_dict("records"), strict=True):
        assert all(same(text, row[name]) for name, text in cells.items())


def test_fields_are_those_of_the_table_with_failed_and_rejected_ones_apart(plate, page):
    table = read_table(plate, "fields")
    shown = rows_of(page, "<summary>Fields</summary>")
    for cells, row in zip(shown, table.to_dict("records"), strict=True):
        assert all(same(text, row[name]) for name, text in cells.items())
    bad = rows_of(page, "<h3>Failed and rejected fields</h3>")
    assert [(row["well"], row["field"], bool(row["error"]), bool(row["rejected"])) for row in bad] == [
        (row["well"], str(row["field"]), bool(row["error"]), bool(row["rejected"]))
        for row in table.to_dict("records")
        if row["error"] or row["rejected"]
    ]
    assert {bool(row["error"]) for row in bad} == {True, False}


def test_scripts_have_every_figure_of_the_tables(plate, page):
    document = element(page, "report")["plates"][0]
    for name in ("wells", "fields"):
        table = read_table(plate, name)
        assert document["first"] == "stained_fraction"
        for column in document["figures"][name]:
            values = np.array(document[name][column], float)
            assert np.allclose(values, table[column].to_numpy(float), rtol=1e-5, equal_nan=True)
    assert set(document["figures"]["fields"]) >= {"sharpness", "artifact_fraction", "stained_integrated_od_um2"}
    assert document["layers"] == {"numbers": ["Concentration"], "texts": ["Compound"]}


def test_page_says_where_figures_come_from(plate, page):
    text = html.unescape(page)
    for said in (open_journal(plate, "run").digest, "negative_controls", "Compound=DMSO", "OME-Zarr 0.5", "0.3 um"):
        assert said in text
    assert "artmask run: model" in text
    assert "metrics." in text
    assert "stained_fraction_z_prime" in text
    assert "excitation 740 nm" in text
    assert '"cluster' not in text
    assert "performance_report" not in text


def test_pictures_are_the_fields_with_the_outlines_of_their_labels(plate, page):
    fields = element(page, "pictures-0-B02")
    shown = imagecodecs.jpeg8_decode(base64.b64decode(fields[0]["jpeg"])).astype(float)
    stored = open_level(plate / "B" / "2" / "0")[0, 0, 0].astype(float)
    assert fields[0]["size"] == [shown.shape[1], shown.shape[0]] == [SIZE, SIZE]
    # What is shown is relative to the background.
    assert np.corrcoef(shown.ravel(), stored.ravel())[0, 1] > 0.8
    labels = open_level(plate / "B" / "2" / "0" / "labels" / "artifacts")[0, 0]
    assert sum(path.count("M") for path, _ in fields[0]["outlines"]) >= len(np.unique(labels)) - 1
    masked = open_level(plate / "B" / "2" / "0" / "masked")[0, 0, 0]
    assert np.ptp(masked[labels > 0]) == 0
    assert all(100 < grey < 220 for _, grey in fields[0]["outlines"])


def test_field_that_failed_has_its_reason_and_no_picture(plate, page):
    failed = element(page, "pictures-0-B03")[1]
    assert list(failed) == ["error"]
    assert "Brightfield is missing" in failed["error"]


def test_field_that_cannot_be_drawn_stops_no_other_and_is_named(plate, tmp_path):
    root = copy(plate, tmp_path / "plate.zarr")
    for file in (root / "B" / "2" / "1").glob("[0-9]/c.*"):
        file.write_bytes(b"torn")
    listener = Listener()
    written = write_report(ReportConfig(plates=root, dest=tmp_path / "report.html"), listener)
    assert [(failure.well, failure.field_id) for failure in written.not_drawn] == [("B02", 2)]
    assert not written.is_whole
    assert any("B02 field 2" in said for said in listener.notes)
    assert sum(fields for fields, _, _ in listener.advanced) == 6
    fields = element(written.page.read_text(), "pictures-0-B02")
    assert ["error" in field for field in fields] == [False, True]


def test_plate_that_was_not_run_on_says_so(ingested_only, tmp_path):
    text = write_report(ReportConfig(plates=ingested_only, dest=tmp_path / "report.html")).page.read_text()
    assert "<b>not run yet</b>" in text
    assert "has not been done on this plate" in text
    assert len(rows_of(text, "<h3>Wells</h3>")) == 3
    fields = element(text, "pictures-0-B02")
    assert all(field["jpeg"] and not field["labelled"] for field in fields)
    assert element(text, "report")["plates"][0]["label"] == ""


def test_plate_whose_tables_were_never_written_is_told_from_the_records(ingested_only, tmp_path):
    root = copy(ingested_only, tmp_path / "plate.zarr")
    shutil.rmtree(root / "tables")
    text = write_report(ReportConfig(plates=root, dest=tmp_path / "report.html", thumbnails=False)).page.read_text()
    assert len(rows_of(text, "<h3>Wells</h3>")) == 3
    assert len(rows_of(text, "<h3>Failed and rejected fields</h3>")) == 1


def test_run_that_is_not_finished_says_how_much_is_left(plate, tmp_path):
    root = copy(plate, tmp_path / "plate.zarr")
    journal = open_journal(root, "run")
    (record,) = journal.folder.glob("B2-0.*")
    record.unlink()
    text = write_report(ReportConfig(plates=root, dest=tmp_path / "report.html", thumbnails=False)).page.read_text()
    assert "<b>run is not finished</b>" in text
    assert "1 of 6 fields are left" in text


def test_campaign_has_a_row_a_plate_and_names_those_that_cannot_be_read(plate, ingested_only, tmp_path):
    folder = tmp_path / "screen"
    folder.mkdir()
    copy(plate, folder / "a.zarr")
    copy(ingested_only, folder / "b.zarr")
    copy(plate, folder / "c.zarr")
    shutil.rmtree(folder / "c.zarr" / "B" / "2")
    written = write_report(ReportConfig(plates=folder, dest=tmp_path / "report.html"), listener := Listener())
    text = written.page.read_text()
    assert written.pages == (tmp_path / "report.html",)
    rows = rows_of(text, 'id="overview"')
    assert [(row["plate"], row["state"].split(".")[0]) for row in rows[:2]] == [
        ("Plate01", "finished"),
        ("Plate01", "not run yet"),
    ]
    assert rows[0]["fields"] == "6"
    assert same(rows[0]["artifact_fraction"], read_table(plate, "plate")["artifact_fraction"][0])
    assert list(written.refused) == [str(folder / "c.zarr")]
    assert "is not complete" in text
    assert any("left out" in said for said in listener.notes)
    assert len(element(text, "report")["plates"]) == 2


def test_large_campaign_has_an_index_and_a_page_a_plate(plate, ingested_only, tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "MOST_FIELDS_ON_A_PAGE", 10)
    places = [copy(plate, tmp_path / "1" / "p.zarr"), copy(ingested_only, tmp_path / "2" / "p.zarr")]
    written = write_report(ReportConfig(plates=tuple(places), dest=tmp_path / "all.html"))
    assert [str(page.relative_to(tmp_path)) for page in written.pages] == [
        "all.html",
        "all-plates/p.html",
        "all-plates/p-2.html",
    ]
    index = written.page.read_text()
    assert re.findall(r'<a href="(.*?)">(.*?)</a>', index) == [
        ("all-plates/p.html", "Plate01"),
        ("all-plates/p-2.html", "Plate01"),
    ]
    assert len(index) < 100_000
    assert all("pictures-0-B02" in page.read_text() for page in written.pages[1:])


@pytest.mark.parametrize("characters", [600, 2000, 20_000])
def test_pictures_keep_to_their_share_of_the_page(plate, characters):
    stored = read_plate(plate)
    source = find_pictures(plate, stored, "artifacts")
    keys = [key for key in stored.plate.acquisition_of if key != ("B/3", 1)]
    for picture in draw_pictures(source, keys, choose_size(characters)):
        assert not picture.error
        assert len(encode_pictures([picture])) <= characters + 100


def test_larger_pictures_can_be_asked_for_and_none(plate, tmp_path):
    config = ReportConfig(plates=plate, dest=tmp_path / "report.html", thumbnail_px=64)
    assert element(write_report(config).page.read_text(), "pictures-0-B02")[0]["size"] == [64, 64]
    bare = write_report(config.model_copy(update={"thumbnails": False})).page.read_text()
    assert "pictures-0-" not in bare
    assert element(bare, "report")["plates"][0]["pictured"] is False


def test_outlines_without_room_are_counted():
    from artifact_mask.workflows.report_pictures import _outline

    labels = np.zeros((60, 60), np.int32)
    for number, (y, x) in enumerate(np.ndindex(6, 6), start=1):
        labels[10 * y : 10 * y + 3, 10 * x : 10 * x + 3 + number % 3] = number
    outlines, n_left_out = _outline(labels, None, 1.0, 200)
    assert 0 < sum(outline.path.count("M") for outline in outlines) == 36 - n_left_out < 36
    assert sum(len(outline.path) for outline in outlines) <= 200
    assert _outline(labels, None, 1.0, None)[1] == 0


def test_path_goes_round_the_pixels():
    labels = np.zeros((5, 6), np.int32)
    labels[1:3, 2:5] = 1
    path = draw_path(trace_outlines(labels)[1], scale=2.0, tolerance_px=0.1)
    numbers = np.array(re.findall(r"-?\d+", path), int).reshape(-1, 2)
    corners = np.cumsum(numbers, axis=0) / 4 / 2
    assert corners.min(axis=0).tolist() == pytest.approx([2.0, 1.0], abs=0.3)
    assert corners.max(axis=0).tolist() == pytest.approx([5.0, 3.0], abs=0.3)


def test_picture_without_labels_is_not_a_clean_one():
    picture = Picture(b"jpeg", (10, 20))
    assert json.loads(encode_pictures([picture]))[0]["labelled"] is False


def test_column_that_no_table_has_is_refused_and_the_nearest_named(plate, tmp_path):
    config = ReportConfig(plates=plate, dest=tmp_path / "report.html", column="stained_fracton")
    with pytest.raises(ConfigError, match="Did you mean 'stained_fraction'"):
        write_report(config)
    assert not config.dest.exists()
    chosen = write_report(config.model_copy(update={"column": "n_fields", "thumbnails": False}))
    assert element(chosen.page.read_text(), "report")["plates"][0]["first"] == "n_fields"


def test_single_plate_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(PlateError, match="does not exist"):
        write_report(ReportConfig(plates=tmp_path / "none.zarr"))


def test_page_names_nothing_of_the_network(page):
    text = page[: page.index("<script>")]
    assert not re.search(r"https?:|src=|@import|url\((?!#)", text)
    assert "default-src 'none'" in text
    assert "unsafe-eval" not in text
    assert "{{" not in text


def test_command_writes_the_page_into_the_current_folder(plate, tmp_path):
    result = artmask("report", plate, "--no-thumbnails", "--column", "artifact_fraction", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "plate-report.html" in result.stdout
    assert [path.name for path in Path(tmp_path).iterdir()] == ["plate-report.html"]
    assert artmask("report", plate, "--column", "nonsense", cwd=tmp_path).returncode == 2


def test_plate_and_page_may_be_in_an_object_store(plate, page, tmp_path):
    with serve_objects() as store:
        root = store.root("plate.zarr")
        for folder in (plate, beside(plate)):
            root.fs.put(f"{folder}/", f"{BUCKET}/{folder.name}/", recursive=True)
        written = write_report(ReportConfig(plates=root, dest=store.root("report.html")))
        there = written.page.read_text()
    assert written.is_whole
    assert rows_of(there, "<h3>Wells</h3>") == rows_of(page, "<h3>Wells</h3>")
    assert element(there, "pictures-0-B02") == element(page, "pictures-0-B02")
