"""Ingest of many measurements at once: which plates they make, and what a campaign's file says of them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
from commands import run_here
from exports import CHANNELS, make_plate, places, plane_pixels, write_export
from listener import Listener

from artifact_mask.config import ClusterConfig, IngestConfig
from artifact_mask.errors import ExportError, PlateError
from artifact_mask.io.campaign_file import CAMPAIGN_FILE, add_plates, list_plates
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.ome_zarr_plate import find_plates, read_plate
from artifact_mask.io.tables import read_table
from artifact_mask.metadata import Plate
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.progress import Summary

pytestmark = pytest.mark.usefixtures("shared_cluster")

LATER = "2027-02-01T10:00:00+01:00"
CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)


def ingest_into(dest: Path, *exports: Path, progress: Any = None, **options: Any) -> Summary:
    return ingest(IngestConfig(exports=exports, dest=dest, cluster=CLUSTER, **options), progress)


def measured(plate: Plate, **changes: Any) -> Plate:
    """Return the same plate measured in another way."""
    return replace(plate, acquisitions=(replace(plate.acquisitions[0], **changes),))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary, Listener]:
    """Folder with three plates ingested at once; one of them was measured twice."""
    folder = tmp_path_factory.mktemp("campaign")
    write_export(folder / "exports" / "monday" / "one", make_plate(name="BR 1", channels=CHANNELS[:2]))
    write_export(folder / "exports" / "tuesday" / "two", make_plate(name="BR2"))
    first = measured(make_plate(name="BR3", channels=CHANNELS[:2], size=64), measurement_id="first")
    again = measured(
        make_plate(name="BR3", wells=[(2, 3), (4, 5)], size=96, n_z=2), measurement_id="again", started=LATER
    )
    write_export(folder / "exports" / "BR3__2026-01-05-Measurement 2", first)
    write_export(folder / "exports" / "BR3__2026-01-05-Measurement 1", again)
    listener = Listener()
    return folder, ingest_into(folder / "screen", folder / "exports", progress=listener, fields_per_unit=1), listener


def test_every_measurement_below_a_folder_is_found_and_each_plate_has_a_store(
    campaign: tuple[Path, Summary, Listener],
) -> None:
    folder, summary, listener = campaign
    assert summary.is_whole
    assert summary.n_fields == 2 + 2 + 2 + 4
    assert sorted(path.name for path in (folder / "screen").glob("*.zarr")) == ["BR2.zarr", "BR3.zarr", "BR_1.zarr"]
    assert [left for _, left in listener.expected] == [2, 1, 0]
    assert sum(fields for fields, _ in listener.expected) == summary.n_fields


def test_two_measurements_of_a_plate_are_two_acquisitions_of_its_store(
    campaign: tuple[Path, Summary, Listener],
) -> None:
    folder, _, listener = campaign
    root = folder / "screen" / "BR3.zarr"
    yaozarrs.validate_zarr_store(root)
    plate = read_plate(root).plate
    first, again = plate.acquisitions
    assert [a.measurement_id for a in plate.acquisitions] == ["first", "again"]
    assert (first.shape, again.shape) == ((1, 2, 1, 64, 64), (1, 1, 2, 96, 96))
    assert first.field_keys == [("B/3", 0), ("B/3", 1)]
    assert again.field_keys == [("B/3", 2), ("B/3", 3), ("D/5", 2), ("D/5", 3)]
    well = json.loads((root / "B" / "3" / "zarr.json").read_bytes())["attributes"]["ome"]["well"]
    assert [(i["path"], i["acquisition"]) for i in well["images"]] == [("0", 0), ("1", 0), ("2", 1), ("3", 1)]
    assert any("2 measurements of BR3 become acquisitions" in note for note in listener.notes)


def test_pixels_of_each_acquisition_are_those_of_its_own_files(campaign: tuple[Path, Summary, Listener]) -> None:
    root = campaign[0] / "screen" / "BR3.zarr"
    again = make_plate(name="BR3", wells=[(2, 3), (4, 5)], size=96, n_z=2)
    for place in places(again):
        found = np.asarray(open_level(root / place.well.path / str(place.field.index + 2))[place.plane])
        np.testing.assert_array_equal(found, plane_pixels(again, place))


def test_tables_tell_the_acquisition(campaign: tuple[Path, Summary, Listener]) -> None:
    root = campaign[0] / "screen" / "BR3.zarr"
    assert read_table(root, "fields")["acquisition"].tolist() == [0, 0, 1, 1, 1, 1]
    wells = read_table(root, "wells")
    assert list(zip(wells["well"], wells["acquisition"], wells["n_fields"], strict=True)) == [
        ("B03", 0, 2),
        ("B03", 1, 2),
        ("D05", 1, 2),
    ]


def test_the_campaign_file_lists_the_plates_for_later_commands(campaign: tuple[Path, Summary, Listener]) -> None:
    screen = campaign[0] / "screen"
    listed = json.loads((screen / CAMPAIGN_FILE).read_bytes())["plates"]
    assert [plate["store"] for plate in listed] == ["BR2.zarr", "BR3.zarr", "BR_1.zarr"]
    assert [m["measurement_id"] for m in listed[1]["measurements"]] == ["first", "again"]
    names = ["BR2.zarr", "BR3.zarr", "BR_1.zarr"]
    assert [path.name for path in find_plates([screen])] == names
    assert [path.name for path in find_plates([screen / CAMPAIGN_FILE])] == names


def test_a_plate_that_a_campaign_lists_and_has_not_is_not_forgotten(tmp_path: Path) -> None:
    add_plates(tmp_path, [{"store": "lost.zarr"}])
    assert find_plates([tmp_path]) == {tmp_path / "lost.zarr": 0}


def test_a_plate_that_is_not_there_is_left_out_by_later_commands_and_told(
    campaign: tuple[Path, Summary, Listener], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    shutil.copytree(campaign[0] / "screen", tmp_path / "screen")
    add_plates(tmp_path / "screen", [{"store": "lost.zarr"}])
    for command in ("run", "verify"):
        arguments = ["--channel", "Brightfield"] if command == "run" else []
        assert run_here(monkeypatch, command, tmp_path / "screen", *arguments, "--no-dashboard") == 3
        assert "lost.zarr" in capsys.readouterr().out
    assert run_here(monkeypatch, "status", tmp_path / "screen") == 0
    assert "not ingested" in capsys.readouterr().out
    assert not list(tmp_path.glob("screen/lost*"))


def test_an_export_whose_images_are_a_link_is_found_once(tmp_path: Path) -> None:
    export = write_export(tmp_path / "e" / "P", make_plate(name="P"))
    (export / "Images").rename(tmp_path / "far")
    (export / "Images").symlink_to(tmp_path / "far")
    (tmp_path / "e" / "loop").symlink_to(tmp_path / "e")
    summary = ingest_into(tmp_path / "screen", tmp_path / "e")
    assert (summary.n_fields, summary.refused, summary.failures) == (2, {}, ())


def test_a_second_ingest_adds_its_plates_to_the_campaign(tmp_path: Path) -> None:
    for name in ("b", "a"):
        ingest_into(tmp_path / "screen", write_export(tmp_path / name, make_plate(name=name)))
    assert list_plates(tmp_path / "screen") == ["a.zarr", "b.zarr"]


def test_a_campaign_file_that_names_a_place_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / CAMPAIGN_FILE).write_text('{"plates": [{"store": "../../etc/x.zarr"}]}')
    with pytest.raises(PlateError, match="not in its folder"):
        list_plates(tmp_path)


def test_a_campaign_that_is_finished_is_not_done_again(campaign: tuple[Path, Summary, Listener]) -> None:
    folder, before, _ = campaign
    summary = ingest_into(folder / "screen", folder / "exports", fields_per_unit=1)
    assert (summary.n_fields, summary.n_resumed) == (before.n_fields, before.n_fields)


# What is told, and never overwritten


def test_plates_of_one_store_name_are_told_and_the_others_are_done(tmp_path: Path) -> None:
    write_export(tmp_path / "e" / "1", make_plate(name="Plate 1"))
    write_export(tmp_path / "e" / "2", make_plate(name="plate_1"))
    write_export(tmp_path / "e" / "3", make_plate(name="other"))
    listener = Listener()
    summary = ingest_into(tmp_path / "screen", tmp_path / "e", progress=listener)
    assert [path.name for path in (tmp_path / "screen").glob("*.zarr")] == ["other.zarr"]
    assert set(summary.refused) == {str(tmp_path / "e" / "1"), str(tmp_path / "e" / "2")}
    assert all("would all be called" in reason for reason in summary.refused.values())
    assert sum("would all be called" in note for note in listener.notes) == 2


def test_a_copy_of_a_measurement_is_told_and_not_ingested_twice(tmp_path: Path) -> None:
    for copy in ("a", "b"):
        write_export(tmp_path / "e" / copy, make_plate(name="P"))
    summary = ingest_into(tmp_path / "screen", tmp_path / "e")
    assert summary.n_fields == 2
    assert list(summary.refused) == [str(tmp_path / "e" / "b")]
    assert "second copy" in summary.refused[str(tmp_path / "e" / "b")]


def test_a_folder_that_is_given_twice_is_taken_once(tmp_path: Path) -> None:
    export = write_export(tmp_path / "e" / "1", make_plate(name="P"))
    summary = ingest_into(tmp_path / "screen", tmp_path / "e", export)
    assert (summary.n_fields, summary.refused) == (2, {})


def test_a_store_of_another_measurement_is_left_alone_and_told(tmp_path: Path) -> None:
    ingest_into(tmp_path / "screen", write_export(tmp_path / "old", measured(make_plate(name="P"), measurement_id="x")))
    write_export(tmp_path / "e" / "1", measured(make_plate(name="P"), measurement_id="y"))
    write_export(tmp_path / "e" / "2", make_plate(name="Q"))
    summary = ingest_into(tmp_path / "screen", tmp_path / "e")
    assert list(summary.refused) == [str(tmp_path / "screen" / "P.zarr")]
    assert "already holds" in summary.refused[str(tmp_path / "screen" / "P.zarr")]
    assert read_plate(tmp_path / "screen" / "P.zarr").plate.acquisitions[0].measurement_id == "x"
    assert read_plate(tmp_path / "screen" / "Q.zarr").plate.n_fields == 2


def test_measurements_are_in_the_order_of_time_whatever_their_zones(tmp_path: Path) -> None:
    plate = make_plate(name="P")
    for name, started in (("a", "2026-03-29T09:30:00+02:00"), ("b", "2026-03-29T09:00:00+01:00")):
        write_export(tmp_path / "e" / name, measured(plate, measurement_id=name, started=started))
    assert ingest_into(tmp_path / "screen", tmp_path / "e").is_whole
    found = read_plate(tmp_path / "screen" / "P.zarr").plate
    assert [a.measurement_id for a in found.acquisitions] == ["a", "b"]


def test_a_time_that_was_never_set_does_no_harm(tmp_path: Path) -> None:
    export = write_export(tmp_path / "e", make_plate(name="P"))
    index = export / "Images" / "Index.idx.xml"
    index.write_bytes(index.read_bytes().replace(b"2026-01-05T09:00:00+00:00", b"0001-01-01T00:00:00"))
    assert ingest_into(tmp_path / "p.zarr", export).is_whole
    (acquisition,) = read_plate(tmp_path / "p.zarr").plate.acquisitions
    assert acquisition.wells[0].fields[0].times_s == ()


def test_a_measurement_that_was_added_becomes_another_acquisition(tmp_path: Path) -> None:
    first = measured(make_plate(name="P"), measurement_id="x")
    write_export(tmp_path / "e" / "1", first)
    ingest_into(tmp_path / "screen", tmp_path / "e")
    write_export(tmp_path / "e" / "2", measured(first, measurement_id="y", started=LATER))
    ingest_into(tmp_path / "screen", tmp_path / "e")
    plate = read_plate(tmp_path / "screen" / "P.zarr").plate
    assert [a.measurement_id for a in plate.acquisitions] == ["x", "y"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda index: index.write_bytes(index.read_bytes()[:-300]), "not complete XML"),
        (lambda index: index.write_bytes(index.read_bytes()[:200]), "not complete XML"),
        (lambda index: [tiff.unlink() for tiff in index.parent.glob("*.tiff")], "None of the 2 images"),
    ],
    ids=["tail", "head", "no images"],
)
def test_an_export_that_cannot_be_read_stops_no_other(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    write_export(tmp_path / "e" / "good", make_plate(name="good"))
    damage(write_export(tmp_path / "e" / "bad", make_plate(name="bad")) / "Images" / "Index.idx.xml")
    summary = ingest_into(tmp_path / "screen", tmp_path / "e")
    assert summary.n_fields == 2
    ((_, reason),) = summary.refused.items()
    assert said in reason


def test_several_plates_do_not_fit_into_one_store(tmp_path: Path) -> None:
    for name in ("P", "Q"):
        write_export(tmp_path / "e" / name, make_plate(name=name))
    with pytest.raises(ExportError, match=r"2 plates were found \(P, Q\).*Give a folder"):
        ingest_into(tmp_path / "plate.zarr", tmp_path / "e")
    assert not (tmp_path / "plate.zarr").exists()


def test_tiffs_without_an_index_make_a_plate_for_each_folder(tmp_path: Path) -> None:
    for name in ("left", "right"):
        write_export(tmp_path / "e" / name, make_plate(name=name), index=False)
    summary = ingest_into(tmp_path / "screen", tmp_path / "e", pixel_size_um=0.5)
    assert summary.n_fields == 4
    assert list_plates(tmp_path / "screen") == ["left.zarr", "right.zarr"]


def test_stores_of_an_earlier_ingest_are_not_taken_for_exports(tmp_path: Path) -> None:
    write_export(tmp_path / "export", make_plate(name="P"))
    for _ in range(2):
        assert ingest_into(tmp_path, tmp_path).n_fields == 2


def test_the_command_takes_many_exports_and_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exports = [write_export(tmp_path / name, make_plate(name=name)) for name in ("P", "Q")]
    assert run_here(monkeypatch, "ingest", *exports, tmp_path / "screen", "--no-dashboard") == 0
    said = capsys.readouterr()
    assert "4 fields" in said.out
    assert "ingest: 4 fields" in said.err
    (tmp_path / "Q" / "Images" / "Index.idx.xml").write_bytes(b"<EvaluationInputData>")
    assert run_here(monkeypatch, "ingest", *exports, tmp_path / "screen", "--no-dashboard") == 3
    assert "not complete XML" in capsys.readouterr().out
