"""What else an ingest keeps and is asked for: flat field, assay layout, documents, strictness, versions of NGFF."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaozarrs
from commands import run_here
from exports import (
    CHANNELS,
    children,
    make_plate,
    parse_index,
    places,
    plane_pixels,
    set_text,
    small_screen,
    write_export,
)
from listener import Listener

from artifact_mask.config import ClusterConfig, IngestConfig, RunConfig, VerifyConfig
from artifact_mask.engine.journal import beside
from artifact_mask.errors import ExportError, PlateError
from artifact_mask.io.harmony_index_writer import write_index
from artifact_mask.io.ome_zarr import open_level, read_missing_planes
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.io.operetta_writer import Layer, write_assay_layout
from artifact_mask.io.tables import read_table
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.progress import Summary
from artifact_mask.workflows.run import run
from artifact_mask.workflows.verify import verify

pytestmark = pytest.mark.usefixtures("shared_cluster")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
SHADING = [[1.2], [0, 0], [-2.4, 0, 0]]
"""Brightest in the middle column: 1.2 - 2.4 u squared, with u from -0.5 to 0.5, whose mean is 1."""


def ingest_into(plate: Path, export: Path, progress: Any = None, **options: Any) -> Summary:
    return ingest(IngestConfig(exports=(export,), dest=plate, cluster=CLUSTER, **options), progress)


# Flat field


@pytest.fixture
def shaded(tmp_path: Path) -> Path:
    """Export whose second channel has a flat-field profile."""
    plate = make_plate(channels=CHANNELS[:2])
    export = write_export(tmp_path / "export", plate)
    write_index(export, plate, profiles={2: SHADING})
    return export


def test_harmonys_flat_field_divides_the_channels_that_have_one(shaded: Path, tmp_path: Path) -> None:
    assert ingest_into(tmp_path / "p.zarr", shaded, flatfield="harmony").is_whole
    u = (np.arange(64) - 31.5) / 64
    for place in places(make_plate(channels=CHANNELS[:2])):
        raw = plane_pixels(make_plate(channels=CHANNELS[:2]), place)
        found = np.asarray(open_level(tmp_path / "p.zarr" / place.well.path / str(place.field.index))[place.plane])
        if place.plane[1] == 0:
            np.testing.assert_array_equal(found, raw)
        else:
            np.testing.assert_allclose(found, raw / (1.2 - 2.4 * u**2), atol=0.51)


def test_profiles_are_kept_with_the_plate_and_the_pixels_as_they_are_unless_asked(shaded: Path, tmp_path: Path) -> None:
    ingest_into(tmp_path / "p.zarr", shaded)
    (acquisition,) = read_plate(tmp_path / "p.zarr").plate.acquisitions
    assert acquisition.flat_field == "none"
    assert acquisition.flat_field_profiles["1"]["Background"]["Profile"] == {"Type": "Identity"}
    assert acquisition.flat_field_profiles["2"]["Background"]["Profile"]["Coefficients"] == SHADING
    for place in places(make_plate(channels=CHANNELS[:2])):
        found = open_level(tmp_path / "p.zarr" / place.well.path / str(place.field.index))[place.plane]
        np.testing.assert_array_equal(np.asarray(found), plane_pixels(make_plate(channels=CHANNELS[:2]), place))


def test_asking_for_the_flat_field_afterwards_does_every_field_again(shaded: Path, tmp_path: Path) -> None:
    ingest_into(tmp_path / "p.zarr", shaded)
    listener = Listener()
    assert ingest_into(tmp_path / "p.zarr", shaded, listener, flatfield="harmony").n_resumed == 0
    assert any("flat field: none -> harmony" in note for note in listener.notes)
    assert read_plate(tmp_path / "p.zarr").plate.acquisitions[0].flat_field == "harmony"


def test_an_export_without_a_profile_is_warned_of(tmp_path: Path) -> None:
    listener = Listener()
    export = write_export(tmp_path / "export", make_plate())
    assert ingest_into(tmp_path / "p.zarr", export, listener, flatfield="harmony").is_whole
    assert any("no flat field in any channel" in note for note in listener.notes)


def test_a_profile_that_cannot_be_read_is_told_and_stops_nothing(shaded: Path, tmp_path: Path) -> None:
    index = shaded / "Images" / "Index.idx.xml"
    index.write_bytes(index.read_bytes().replace(b"Coefficients: [[1.2]", b"Coefficients: [[1.2"))
    summary = ingest_into(tmp_path / "p.zarr", shaded)
    assert summary.failures == ()
    (problem,) = summary.problems
    assert "flat-field profile of channel 2" in problem


def test_a_stand_alone_profile_is_taken_where_the_index_has_none(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", make_plate())
    index = export / "Images" / "Index.idx.xml"
    root = parse_index(index.read_bytes())
    (profile,) = children(root, "Maps", "Map", "Entry", "FlatfieldProfile")
    text = (profile.text or "").replace("Character: Null", "Character: NonFlat")
    profile.text = ""
    index.write_bytes(ElementTree.tostring(root))
    (export / "FFC_Profile").mkdir()
    entry = f'<Entry ChannelID="1"><FlatfieldProfile>{text}</FlatfieldProfile></Entry>'
    (export / "FFC_Profile" / "FFC_Profile_Measurement 1.xml").write_text(f"<Results><Map>{entry}</Map></Results>")
    ingest_into(tmp_path / "p.zarr", export)
    profiles = read_plate(tmp_path / "p.zarr").plate.acquisitions[0].flat_field_profiles
    assert profiles["1"]["Background"]["Character"] == "NonFlat"
    assert (beside(tmp_path / "p.zarr") / "export" / "0" / "FFC_Profile_Measurement 1.xml").exists()


def test_the_background_of_a_real_export_becomes_flatter(shared_data: Path, tmp_path: Path) -> None:
    export = shared_data / "operetta" / "phenix-v5"
    for name in ("none", "harmony"):
        ingest_into(tmp_path / f"{name}.zarr", export, flatfield=name)
    raw, flat = (np.asarray(open_level(tmp_path / f"{name}.zarr" / "A/1/0")[0, :, 0]) for name in ("none", "harmony"))
    np.testing.assert_array_equal(raw[5], flat[5])  # brightfield, whose profile is the identity
    assert all(_background_cv(flat[c]) < 0.6 * _background_cv(raw[c]) for c in range(5))


def _background_cv(image: "np.typing.NDArray[np.uint16]") -> float:
    tiles = image.reshape(8, 135, 8, 135).swapaxes(1, 2).reshape(64, -1)
    background = np.percentile(tiles, 5, axis=1)
    return float(background.std() / background.mean())


# Assay layout, and what else is kept


def test_layers_of_the_assay_layout_are_columns_of_the_well_table(tmp_path: Path) -> None:
    plate = make_plate(wells=[(2, 3), (2, 4), (3, 3)], field_ids=[1])
    export = write_export(tmp_path / "export", plate)
    layers = [
        Layer("Compound", "string", {(2, 3): "DMSO", (2, 4): "Dasatinib"}),
        Layer("Dose (uM)", "double", {(2, 3): "0", (2, 4): "2,5"}),
        Layer("Row", "string", {(2, 3): "edge"}),
    ]
    write_assay_layout(export, plate, layers)
    assert ingest_into(tmp_path / "p.zarr", export).is_whole
    wells = read_table(tmp_path / "p.zarr", "wells").set_index("well")
    assert wells["Compound"].fillna("-").tolist() == ["DMSO", "Dasatinib", "-"]
    assert wells["Dose (uM)"].fillna(-1).tolist() == [0.0, 2.5, -1.0]
    assert wells["layout_Row"].fillna("-").tolist() == ["edge", "-", "-"]
    assert wells["row"].tolist() == [2, 2, 3]


def test_another_layout_changes_the_well_table_and_no_pixel(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", make_plate())
    for compound in ("DMSO", "Dasatinib"):
        write_assay_layout(export, make_plate(), [Layer("Compound", "string", {(2, 3): compound})])
        summary = ingest_into(tmp_path / "p.zarr", export)
        assert read_table(tmp_path / "p.zarr", "wells")["Compound"].tolist() == [compound]
    assert summary.n_resumed == 2


def test_a_layout_that_cannot_be_read_is_told_and_stops_nothing(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", make_plate())
    (export / "Assaylayout").mkdir()
    (export / "Assaylayout" / "x.xml").write_text("<AssayLayout><Layer>")
    summary = ingest_into(tmp_path / "p.zarr", export)
    assert summary.failures == ()
    assert len(summary.problems) == 1
    assert not summary.is_whole


def test_the_xml_is_kept_byte_for_byte_beside_the_plate(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", small_screen())
    write_assay_layout(export, small_screen(), [Layer("Compound", "string", {(2, 3): "DMSO"})])
    ingest_into(tmp_path / "p.zarr", export)
    kept = beside(tmp_path / "p.zarr") / "export" / "0"
    assert (kept / "Index.idx.xml").read_bytes() == (export / "Images" / "Index.idx.xml").read_bytes()
    assert (kept / "screen.xml").read_bytes() == (export / "Assaylayout" / "screen.xml").read_bytes()


# Records that contradict each other, or make no sense


def spoiled(tmp_path: Path, change: Callable[[list[ElementTree.Element]], None]) -> Path:
    export = write_export(tmp_path / "export", make_plate(field_ids=[1, 2, 3]))
    index = export / "Images" / "Index.idx.xml"
    root = parse_index(index.read_bytes())
    (images,) = children(root, "Images")
    change(list(images))
    index.write_bytes(ElementTree.tostring(root))
    return export


def test_records_that_contradict_each_other_make_missing_planes_and_shift_nothing(tmp_path: Path) -> None:
    def same_file(images: list[ElementTree.Element]) -> None:
        (url,) = children(images[0], "URL")
        set_text(images[1], "URL", url.text or "")

    summary = ingest_into(tmp_path / "p.zarr", spoiled(tmp_path, same_file))
    assert [failure.field_id for failure in summary.failures] == [1, 2]
    assert all("for 2 planes" in failure.error for failure in summary.failures)
    third = list(places(make_plate(field_ids=[1, 2, 3])))[2]
    found = np.asarray(open_level(tmp_path / "p.zarr" / "B/3/2")[0, 0, 0])
    np.testing.assert_array_equal(found, plane_pixels(make_plate(field_ids=[1, 2, 3]), third))
    assert list(read_missing_planes(tmp_path / "p.zarr" / "B/3/0")) == [(0, 0, 0)]


def test_a_record_that_makes_no_sense_is_named_and_the_command_ends_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export = spoiled(tmp_path, lambda images: set_text(images[1], "Row", "99"))
    assert run_here(monkeypatch, "ingest", export, tmp_path / "p.zarr", "--no-dashboard") == 3
    said = capsys.readouterr().out
    assert "Row is 99" in said
    assert read_plate(tmp_path / "p.zarr").plate.n_fields == 2


@pytest.mark.parametrize("wrong", ["missing", "record"])
def test_strict_makes_an_error_of_what_is_not_whole_after_all_else_is_done(tmp_path: Path, wrong: str) -> None:
    def spoil(images: list[ElementTree.Element]) -> None:
        set_text(images[1], *(("URL", "") if wrong == "missing" else ("Row", "0")))

    export = spoiled(tmp_path, spoil)
    with pytest.raises(ExportError, match=r"strict allows nothing to be missing"):
        ingest_into(tmp_path / "p.zarr", export, strict=True)
    assert (tmp_path / "p.zarr" / "B" / "3" / "0" / "zarr.json").exists()
    # Of the field that lacks a plane nothing is written, which could be taken for a whole one.
    assert (tmp_path / "p.zarr" / "B" / "3" / "1" / "zarr.json").exists() == (wrong == "record")


def test_strict_is_content_with_a_whole_export(tmp_path: Path) -> None:
    assert ingest_into(tmp_path / "p.zarr", write_export(tmp_path / "e", make_plate()), strict=True).is_whole


# Versions of NGFF


def test_a_plate_of_ngff_0_4_is_ingested_run_and_verified(tmp_path: Path) -> None:
    plate = make_plate(channels=CHANNELS[:2], size=128)
    export = write_export(tmp_path / "export", plate)
    root = tmp_path / "p.zarr"
    assert ingest_into(root, export, ngff="0.4").is_whole
    assert run(RunConfig(plates=(root,), threshold=0.001, cluster=CLUSTER)).is_whole
    yaozarrs.validate_zarr_store(root)
    assert json.loads((root / ".zattrs").read_bytes())["plate"]["version"] == "0.4"
    assert json.loads((root / "B/3/0/labels/.zattrs").read_bytes()) == {"labels": ["artifacts"]}
    assert not list(root.rglob("zarr.json"))
    for place in places(plate):
        found = np.asarray(open_level(root / place.well.path / str(place.field.index))[place.plane])
        np.testing.assert_array_equal(found, plane_pixels(plate, place))
    assert read_table(root, "fields")["error"].tolist() == ["", ""]
    assert verify(VerifyConfig(plates=(root,), cluster=CLUSTER)).is_whole
    (root / "B/3/0/.zattrs").unlink()
    (failure,) = verify(VerifyConfig(plates=(root,), cluster=CLUSTER)).failures
    assert failure.field_id == 1


def test_a_plate_does_not_change_its_version(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", make_plate())
    ingest_into(tmp_path / "p.zarr", export)
    with pytest.raises(PlateError, match=r"cannot become NGFF 0\.4"):
        ingest_into(tmp_path / "p.zarr", export, ngff="0.4")


@pytest.mark.parametrize(("option", "value"), [("--ngff", "0.3"), ("--flatfield", "magic")])
def test_a_value_that_is_not_known_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    assert run_here(monkeypatch, "ingest", tmp_path, tmp_path / "p.zarr", option, value) == 2
    assert option[2:] in capsys.readouterr().err


def test_metadata_that_no_longer_fit_are_found_by_verify(tmp_path: Path) -> None:
    ingest_into(tmp_path / "p.zarr", write_export(tmp_path / "export", make_plate()))
    well = tmp_path / "p.zarr" / "B" / "3" / "zarr.json"
    well.write_bytes(well.read_bytes().replace(b'"path": "1"', b'"path": "1 b"'))
    summary = verify(VerifyConfig(plates=(tmp_path / "p.zarr",), cluster=CLUSTER))
    assert summary.problems
    assert "artmask ingest" in summary.problems[0]


# What `artmask info` shows


def test_info_shows_a_plate_in_a_screenful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plate = small_screen()
    export = write_export(tmp_path / "export", plate)
    write_assay_layout(export, plate, [Layer("Compound", "string", {(2, 3): "DMSO", (3, 11): "Dasatinib"})])
    ingest_into(tmp_path / "p.zarr", export)
    monkeypatch.setenv("COLUMNS", "100")
    assert run_here(monkeypatch, "info", tmp_path / "p.zarr") == 0
    said = capsys.readouterr().out
    for fact in (
        "screen: 96 wells (8 x 12), OME-Zarr 0.5",
        "300 x 260 pixels of 0.5 um, 2 planes, 2 um apart, 2 timepoints",
        "40x, NA 0.75",
        "HOECHST 33342",
        "405 nm",
        "Compound: DMSO, Dasatinib",
        "ingest: 5/5 fields done, 0 failed",
    ):
        assert fact in said
    assert len(said.splitlines()) < 35


def test_info_on_what_is_no_plate_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(monkeypatch, "info", tmp_path) == 1
    assert "not a plate that artmask wrote" in capsys.readouterr().err
