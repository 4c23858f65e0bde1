import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaozarrs
from commands import artmask, run_here
from exports import CHANNELS, Place, make_plate, places, plane_pixels, small_screen, write_export
from listener import Listener
from stores import writing

from artifact_mask.config import ClusterConfig, IngestConfig
from artifact_mask.engine import journal
from artifact_mask.engine.journal import Journal, Unit, hold_plate
from artifact_mask.errors import ExportError, PlateError, StorageError
from artifact_mask.io import ome_zarr_plate
from artifact_mask.io.files import StagedFiles
from artifact_mask.io.ome_zarr import open_level, read_missing_planes
from artifact_mask.io.tables import read_table, write_tables
from artifact_mask.metadata import Plate
from artifact_mask.workflows import campaign
from artifact_mask.workflows.ingest import ingest, read_ingest
from artifact_mask.workflows.progress import Summary
from artifact_mask.workflows.unit import process_unit

pytestmark = pytest.mark.usefixtures("shared_cluster")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-700]),
    "32 x 64": lambda file: tifffile.imwrite(file, np.ones((32, 64), np.uint16)),
    "uint8": lambda file: tifffile.imwrite(file, np.ones((64, 64), np.uint8)),
    "not a readable TIFF": lambda file: file.write_bytes(b"<html>404</html>" * 99),
}


def ingest_into(plate: Path, export: Path, **options: Any) -> Summary:
    config: dict[str, Any] = {"exports": export, "dest": plate, "fields_per_unit": 2, "cluster": CLUSTER, **options}
    return ingest(IngestConfig(**config))


def contents(root: Path) -> dict[str, bytes]:
    return {f.relative_to(root).as_posix(): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}


def states(*roots: Path) -> dict[Path, tuple[int, int]]:
    files = [file for root in roots for file in root.rglob("*") if file.is_file()]
    return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def beside(plate: Path) -> Path:
    return plate.with_name(plate.name + ".artmask")


def records_of(plate: Path) -> list[Path]:
    """All that is beside a plate but its lease, which each command takes anew."""
    return [folder for folder in beside(plate).iterdir() if folder.name != "lease"]


def assert_whole(root: Path, plate: Plate, *, without: tuple[str, ...] = ()) -> None:
    """Every pixel of the plate equals that of its file, and planes of the files in ``without`` have no pixel."""
    for place in places(plate):
        found = np.asarray(open_level(root / place.well.path / str(place.field.index))[place.plane])
        expected = 0 if place.file in without else plane_pixels(plate, place)
        np.testing.assert_array_equal(found, np.broadcast_to(np.uint16(expected), plate.acquisitions[0].shape[-2:]))


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts a cluster fails."""

    def start(config: ClusterConfig, **_: Any) -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr(campaign, "start_cluster", start)


# From files to pixels


def test_every_pixel_equals_that_of_its_tiff(ingested: Path) -> None:
    for place in places(small_screen()):
        tiff = tifffile.imread(ingested.parent / "export" / "Images" / place.file)
        image = open_level(ingested / place.well.path / str(place.field.index))
        np.testing.assert_array_equal(np.asarray(image[place.plane]), tiff)


def test_a_finished_ingest_tells_what_it_holds(ingested: Path) -> None:
    stored, records = read_ingest(ingested)
    plate = stored.plate
    assert plate.n_fields == len(records) == 5
    assert not any(record.failed for record in records.values())
    assert read_table(ingested, "fields")["error"].tolist() == [""] * 5
    assert read_table(ingested, "fields")["n_missing_planes"].tolist() == [0] * 5


def test_an_ingest_that_is_finished_is_not_done_again(ingested: Path, no_cluster: None) -> None:
    before = states(ingested, *records_of(ingested))
    summary = ingest_into(ingested, ingested.parent / "export", fields_per_unit=1)
    assert (summary.n_fields, summary.n_resumed, summary.failures) == (5, 5, ())
    after = states(ingested, *records_of(ingested))
    assert [str(f.relative_to(ingested.parent)) for f in before if before[f] != after.get(f)] == []
    assert set(after) == set(before)


def test_an_ingest_with_nothing_to_do_leaves_what_a_run_measured(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", make_plate())
    ingest_into(tmp_path / "plate.zarr", export)
    tables = {name: read_table(tmp_path / "plate.zarr", name) for name in ("fields", "wells")}
    tables["fields"]["n_artifacts"] = 7  # as `artmask run` would
    with writing(tmp_path / "plate.zarr") as files:
        write_tables(files, tmp_path / "plate.zarr", tables)
    Journal(tmp_path / "plate.zarr", "run", "digest").begin({}, {})
    ingest_into(tmp_path / "plate.zarr", export)
    assert read_table(tmp_path / "plate.zarr", "fields")["n_artifacts"].tolist() == [7, 7]


# Files that are missing or damaged


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary, Plate, dict[str, Place]]:
    """Folder of an export with one file damaged in each way, and of the plate ingested from it."""
    folder = tmp_path_factory.mktemp("damaged")
    plate = make_plate(wells=[(2, 3), (3, 4)], field_ids=[1, 2, 5, 9], channels=CHANNELS[:2])
    export = write_export(folder / "export", plate)
    # One file in each of six fields; two fields stay whole.
    seconds = [place for place in places(plate) if place.plane[1] == 1]
    places_of = dict(zip(DAMAGE, seconds, strict=False))
    for kind, place in places_of.items():
        DAMAGE[kind](export / "Images" / place.file)
    return folder, ingest_into(folder / "plate.zarr", export), plate, places_of


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_marks_its_plane_and_no_other(
    damaged: tuple[Path, Summary, Plate, dict[str, Place]], kind: str
) -> None:
    folder, summary, _, places_of = damaged
    place = places_of[kind]
    field = folder / "plate.zarr" / place.well.path / str(place.field.index)
    ((plane, reason),) = read_missing_planes(field).items()
    assert plane == place.plane
    assert kind in reason
    assert place.file in reason
    assert not (field / "0" / "c.0.1.0.0.0").exists()
    assert (field / "0" / "c.0.0.0.0.0").exists()
    fields = read_table(folder / "plate.zarr", "fields").set_index(["well", "field_id"])
    row = fields.loc[(place.well.name, place.field.field_id)]
    assert row["n_missing_planes"] == 1
    assert reason in row["error"]
    assert "HOECHST 33342" in row["error"]
    (failure,) = [f for f in summary.failures if (f.well, f.field_id) == (place.well.name, place.field.field_id)]
    assert failure.error == row["error"]


def test_fields_beside_a_damaged_one_are_whole(damaged: tuple[Path, Summary, Plate, dict[str, Place]]) -> None:
    folder, summary, plate, places_of = damaged
    assert_whole(folder / "plate.zarr", plate, without=tuple(place.file for place in places_of.values()))
    assert len(summary.failures) == len(DAMAGE)
    wells = read_table(folder / "plate.zarr", "wells")
    assert wells["n_fields"].tolist() == [4, 4]
    assert wells["n_failed_fields"].sum() == len(DAMAGE)
    with (folder / "plate.zarr" / "tables" / "fields" / "table.csv").open() as file:
        assert sum(bool(row["error"]) for row in csv.DictReader(file)) == len(DAMAGE)
    yaozarrs.validate_zarr_store(folder / "plate.zarr")


def test_a_mended_field_is_read_again_and_no_other(
    damaged: tuple[Path, Summary, Plate, dict[str, Place]], tmp_path: Path
) -> None:
    folder, _, plate, places_of = damaged
    root = tmp_path / "plate.zarr"
    shutil.copytree(folder / "plate.zarr", root)
    shutil.copytree(beside(folder / "plate.zarr"), beside(root))
    shutil.copytree(folder / "export", tmp_path / "export")
    write_export(tmp_path / "good", plate)
    mended = places_of["cut off"]
    shutil.copy(tmp_path / "good" / "Images" / mended.file, tmp_path / "export" / "Images" / mended.file)
    before = states(root)
    summary = ingest_into(root, tmp_path / "export")
    assert summary.n_resumed == plate.n_fields - len(DAMAGE)
    assert len(summary.failures) == len(DAMAGE) - 1
    failing = {root / p.well.path / str(p.field.index) for p in places_of.values()}
    after = states(root)
    untouched = {f for f in before if f.name.startswith("c.") and f.parent.name == "0" and not failing & set(f.parents)}
    assert len(untouched) == 2 * 2
    assert all(before[file] == after[file] for file in untouched)
    assert_whole(root, plate, without=tuple(p.file for kind, p in places_of.items() if kind != "cut off"))
    fields = read_table(root, "fields").set_index(["well", "field_id"])
    assert fields.loc[(mended.well.name, mended.field.field_id), "error"] == ""
    # With all files mended nothing is left of the damage.
    shutil.rmtree(tmp_path / "export")
    shutil.copytree(tmp_path / "good", tmp_path / "export")
    assert ingest_into(root, tmp_path / "export").failures == ()
    ingest_into(tmp_path / "fresh.zarr", tmp_path / "good")
    assert contents(root) == contents(tmp_path / "fresh.zarr")


def test_a_field_lost_from_the_store_and_from_the_export_is_reported(tmp_path: Path) -> None:
    plate = make_plate(field_ids=[1, 2, 3])
    export = write_export(tmp_path / "export", plate)
    root = tmp_path / "plate.zarr"
    ingest_into(root, export, fields_per_unit=3)
    shutil.rmtree(root / "B" / "3" / "1")
    (export / "Images" / [p.file for p in places(plate)][1]).unlink()
    for _ in range(2):
        summary = ingest_into(root, export, fields_per_unit=3)
        assert [f.field_id for f in summary.failures] == [2]
        assert read_table(root, "fields")["error"].astype(bool).tolist() == [False, True, False]


def test_a_plane_that_the_index_does_not_list_is_missing(tmp_path: Path) -> None:
    plate = make_plate(channels=CHANNELS[:2])
    export = write_export(tmp_path / "export", plate)
    index = export / "Images" / "Index.idx.xml"
    name = [place.file for place in places(plate)][-1]
    text = index.read_text("utf-8-sig")
    start = text.rindex("<Image ", 0, text.index(f"<URL>{name}"))
    stop = text.index("</Image>", start) + len("</Image>")
    index.write_text(text[:start] + text[stop:])
    (failure,) = ingest_into(tmp_path / "plate.zarr", export).failures
    assert "lists no image" in failure.error


def test_a_url_out_of_the_export_is_never_read(tmp_path: Path) -> None:
    plate = make_plate()
    export = write_export(tmp_path / "export", plate)
    first, second = (place.file for place in places(plate))
    shutil.move(export / "Images" / second, tmp_path / "secret.tiff")
    index = export / "Images" / "Index.idx.xml"
    index.write_text(index.read_text("utf-8-sig").replace(second, "../../secret.tiff"))
    (failure,) = ingest_into(tmp_path / "plate.zarr", export).failures
    assert "never opened" in failure.error
    assert not np.asarray(open_level(tmp_path / "plate.zarr" / "B" / "3" / "1")).any()
    assert first != second


# What the destination may be


def test_another_export_into_the_same_plate_is_refused(ingested: Path, tmp_path: Path, no_cluster: None) -> None:
    export = write_export(tmp_path / "export", make_plate(name="another"))
    before = states(ingested, beside(ingested))
    with pytest.raises(PlateError, match=r"already holds screen .* the export is another"):
        ingest_into(ingested, export)
    assert states(ingested, beside(ingested)) == before


@pytest.mark.parametrize("kind", ["file", "folder", "zarr", "damaged plate"])
def test_a_destination_that_is_something_else_is_refused_and_untouched(
    tmp_path: Path, no_cluster: None, kind: str
) -> None:
    export = write_export(tmp_path / "export", make_plate())
    root = tmp_path / "out" / "plate.zarr"
    root.parent.mkdir()
    if kind == "file":
        root.write_text("thesis")
    else:
        root.mkdir()
        name, text = {
            "folder": ("thesis.docx", "thesis"),
            "zarr": ("zarr.json", '{"zarr_format": 3, "node_type": "group", "attributes": {}}'),
            "damaged plate": ("zarr.json", '{"zarr_format": 3, "node_ty'),
        }[kind]
        (root / name).write_text(text)
    before = states(root.parent)
    with pytest.raises(PlateError) as caught:
        ingest_into(root, export)
    assert states(root.parent) == before
    # Neither "does not exist" nor "run `artmask ingest`" would help who just did.
    assert "does not exist" not in str(caught.value)
    assert "artmask ingest EXPORT" not in str(caught.value)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    plate = make_plate()
    (tmp_path / "plate.zarr").mkdir()
    assert ingest_into(tmp_path / "plate.zarr", write_export(tmp_path / "export", plate)).failures == ()
    assert_whole(tmp_path / "plate.zarr", plate)


def test_an_export_without_any_of_its_images_is_refused_before_anything_is_written(
    tmp_path: Path, no_cluster: None
) -> None:
    plate = make_plate()
    export = write_export(tmp_path / "export", plate, skip=[place.file for place in places(plate)])
    with pytest.raises(ExportError, match="None of the 2 images"):
        ingest_into(tmp_path / "plate.zarr", export)
    assert sorted(tmp_path.iterdir()) == [export]


def test_a_channel_that_the_export_lacks_cannot_be_named(tmp_path: Path, no_cluster: None) -> None:
    export = write_export(tmp_path / "export", make_plate())
    with pytest.raises(ExportError, match=r"no channel 7; its channels are \[1\]"):
        ingest_into(tmp_path / "plate.zarr", export, channel_names={7: "Brightfield"})
    assert not (tmp_path / "plate.zarr").exists()


def test_bare_tiffs_with_a_named_channel_have_a_brightfield_channel(tmp_path: Path) -> None:
    plate = make_plate()
    export = write_export(tmp_path / "export", plate, index=False)
    ingest_into(tmp_path / "plate.zarr", export, pixel_size_um=0.3, channel_names={1: "Brightfield"})
    assert_whole(tmp_path / "plate.zarr", plate)
    (stored,) = read_ingest(tmp_path / "plate.zarr")[0].plate.acquisitions
    assert [(channel.name, channel.kind) for channel in stored.channels] == [("Brightfield", "brightfield")]
    assert stored.pixel_size_um == 0.3


def test_what_changes_the_result_makes_every_field_be_read_again(tmp_path: Path) -> None:
    plate = make_plate()
    export = write_export(tmp_path / "export", plate)
    ingest_into(tmp_path / "plate.zarr", export)
    listener = Listener()
    config = IngestConfig(
        exports=export, dest=tmp_path / "plate.zarr", channel_names={1: "Phase"}, pixel_size_um=0.7, cluster=CLUSTER
    )
    assert ingest(config, listener).n_resumed == 0
    assert any("has changed" in note for note in listener.notes)
    found, records = read_ingest(tmp_path / "plate.zarr")
    (stored,) = found.plate.acquisitions
    assert (stored.channels[0].name, stored.pixel_size_um, len(records)) == ("Phase", 0.7, 2)
    scale = json.loads((tmp_path / "plate.zarr" / "B" / "3" / "0" / "zarr.json").read_bytes())
    (dataset,) = scale["attributes"]["ome"]["multiscales"][0]["datasets"]
    assert dataset["coordinateTransformations"][0]["scale"][-1] == 0.7


# Interruptions


def test_an_ingest_that_is_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    plate = make_plate(wells=[(2, 4), (3, 5)], field_ids=range(1, 13), size=256)
    export = write_export(tmp_path / "export", plate)
    root = tmp_path / "plate.zarr"
    (tmp_path / "ingest.yaml").write_text("fields_per_unit: 1\n")
    options = ["--workers", 2, "--no-dashboard", "--config", tmp_path / "ingest.yaml"]
    command = [sys.executable, "-m", "artmask", "ingest", export, root, *options]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(beside(root).glob("ingest/*/*-*.json"))) < 5:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(PlateError, match="not complete"):
        read_ingest(root)
    summary = ingest_into(root, export, fields_per_unit=3)
    assert 5 <= summary.n_resumed < summary.n_fields == 24
    ingest_into(tmp_path / "undisturbed.zarr", export, fields_per_unit=8)
    assert contents(root) == contents(tmp_path / "undisturbed.zarr")


@pytest.mark.parametrize("n_written", [0, 1, 2, 3, 4])
def test_an_ingest_that_is_killed_while_it_lays_out_the_plate_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_written: int
) -> None:
    plate = make_plate(wells=[(2, 3), (3, 3)], field_ids=[1])
    export = write_export(tmp_path / "export", plate)
    write_group, calls = ome_zarr_plate.write_group, iter(range(99))

    def killed(*arguments: Any, **options: Any) -> None:
        if next(calls) == n_written:
            raise KeyboardInterrupt
        write_group(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ome_zarr_plate, "write_group", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest_into(tmp_path / "plate.zarr", export)
    assert next(calls) == n_written + 1
    assert not (tmp_path / "plate.zarr").exists()
    assert ingest_into(tmp_path / "plate.zarr", export).failures == ()
    assert_whole(tmp_path / "plate.zarr", plate)


def test_a_torn_shard_is_replaced(tmp_path: Path) -> None:
    plate = make_plate()
    export = write_export(tmp_path / "export", plate)
    root = tmp_path / "plate.zarr"
    ingest_into(root, export)
    whole = contents(root)
    shard = root / "B" / "3" / "1" / "0" / "c.0.0.0.0.0"
    shard.write_bytes(shard.read_bytes()[:100])
    assert ingest_into(root, export).n_resumed == 1
    assert contents(root) == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mounted disk of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=2M", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path, *, leave: int) -> None:
    with (disk / "filler").open("wb") as file:
        free = shutil.disk_usage(disk).free
        file.write(bytes(max(0, free - leave)))


def test_a_disk_that_is_full_from_the_start_is_a_storage_error(small_disk: Path, tmp_path: Path) -> None:
    plate = make_plate()
    export = write_export(tmp_path / "export", plate)
    fill(small_disk, leave=0)
    with pytest.raises(StorageError, match="No space left"):
        ingest_into(small_disk / "plate.zarr", export)
    # A lease that could not be written would keep the next run waiting.
    assert [file for file in small_disk.rglob("*") if file.is_file()] == [small_disk / "filler"]
    (small_disk / "filler").unlink()
    assert ingest_into(small_disk / "plate.zarr", export).failures == ()
    assert_whole(small_disk / "plate.zarr", plate)


def test_a_disk_that_fills_up_ends_in_one_message_and_the_work_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    plate = make_plate(field_ids=range(1, 11), size=256)  # 1.3 MB
    export = write_export(tmp_path / "export", plate)
    fill(small_disk, leave=400_000)
    result = artmask("ingest", export, small_disk / "plate.zarr", "--workers", 2, "--no-dashboard")
    assert_one_message(result, 1, "No space left on device")
    assert result.stderr.count("Error:") == 1
    assert "run the same command again" in result.stderr
    with pytest.raises(PlateError, match="not complete"):
        read_ingest(small_disk / "plate.zarr")
    (small_disk / "filler").unlink()
    assert ingest_into(small_disk / "plate.zarr", export).failures == ()
    assert_whole(small_disk / "plate.zarr", plate)


@pytest.mark.parametrize("step", ["write", "outcome", "record"])
def test_a_disk_that_is_full_for_a_field_or_its_record_leaves_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    root = tmp_path / "plate.zarr"
    folder = root / "B" / "3" / "0"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def process(staged: Mapping[int, StagedFiles]) -> Iterator[tuple[int, Any]]:
        for index, files in staged.items():
            files.write(folder / "half", b"?")
            if step == "write":
                full()
            yield index, OSError(errno.ENOSPC, "no room") if step == "outcome" else {"value": index}

    with hold_plate(root, "ingest") as lease:
        log = Journal(root, "ingest", "digest", lease.epoch)
        if step == "record":
            monkeypatch.setattr(journal, "publish", full)
        with pytest.raises(StorageError, match="make room and run the same command again"):
            process_unit(log, Unit("B/3", (0,)), process, lambda key: [folder], field_bytes=1)
        assert log.read() == {}
        # What is in its place is whole, and nothing half done is kept anywhere.
        assert folder.exists() == (step == "record")
        assert [file for file in beside(root).glob("staging/**/*") if file.is_file()] == []


# The command


def assert_one_message(result: "subprocess.CompletedProcess[str]", code: int, text: str) -> None:
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert text in result.stderr


def test_the_command_ends_with_0_and_takes_relative_paths(tmp_path: Path) -> None:
    plate = make_plate()
    write_export(tmp_path / "export", plate)
    result = artmask("ingest", "export", "plate.zarr", "--workers", 1, cwd=tmp_path)
    assert_one_message(result, 0, "2/2 fields")
    assert "plate.zarr" in result.stdout
    assert "http://127.0.0.1:" in result.stderr
    assert_whole(tmp_path / "plate.zarr", plate)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "plate.zarr", "plate.zarr.artmask"]


def test_the_command_ends_with_1_on_an_error(tmp_path: Path) -> None:
    (tmp_path / "Index.idx.xml").write_bytes(b"<EvaluationInputData><Images>")
    result = artmask("ingest", tmp_path, tmp_path / "p.zarr")
    assert_one_message(result, 1, "not complete XML")
    assert result.stderr.count("Error:") == 1
    assert not (tmp_path / "p.zarr").exists()


def test_the_command_ends_with_2_on_wrong_usage(tmp_path: Path) -> None:
    assert_one_message(artmask("ingest", tmp_path, tmp_path / "p.zarr", "--misspelt"), 2, "--misspelt")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pixel-size-um", "-1"], "pixel_size_um"),
        (["--workers", "0"], "cluster.workers"),
        (["--channel-name", "Brightfield"], "1=Brightfield"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_value_that_cannot_be_is_wrong_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    assert run_here(monkeypatch, "ingest", tmp_path, tmp_path / "p.zarr", *options) == 2
    assert said in capsys.readouterr().err


def test_a_misspelt_key_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ingest.yaml").write_text("pixel_size: 0.3\ncluster:\n  wrokers: 2\n")
    code = run_here(monkeypatch, "ingest", tmp_path, tmp_path / "p.zarr", "--config", tmp_path / "ingest.yaml")
    said = capsys.readouterr().err
    assert code == 2
    assert "pixel_size" in said
    assert "wrokers" in said


@pytest.mark.parametrize("kind", ["no export", "no path", "a file as plate"])
def test_what_cannot_be_ingested_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    export, root = tmp_path / "export", tmp_path / "p.zarr"
    if kind == "no export":
        export.mkdir()
    if kind == "a file as plate":
        write_export(export, make_plate())
        root.write_text("thesis")
    assert run_here(monkeypatch, "ingest", export, root) == 1
    said = capsys.readouterr().err
    assert said.count("Error:") == 1
    assert "Traceback" not in said


def test_the_command_ends_with_3_when_fields_failed(tmp_path: Path) -> None:
    plate = make_plate()
    files = [place.file for place in places(plate)]
    write_export(tmp_path / "export", plate, skip=files[1:])
    result = artmask("ingest", tmp_path / "export", tmp_path / "p.zarr", "--workers", 1, "--no-dashboard")
    assert result.returncode == 3, result.stderr
    assert "Traceback" not in result.stderr
    assert f"{files[1]} is missing" in result.stdout


# Real exports


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("operetta/phenix-v5", {}),
        ("operetta/operetta-cls-v5", {}),
        ("sabgal/images", {"pixel_size_um": 0.3, "channel_names": {1: "Brightfield"}}),
    ],
    ids=["phenix", "operetta", "bare-tiffs"],
)
def test_a_real_export_is_ingested(shared_data: Path, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    export = shared_data / name
    summary = ingest_into(tmp_path / "plate.zarr", export, fields_per_unit=8, **options)
    assert summary.failures == ()
    yaozarrs.validate_zarr_store(tmp_path / "plate.zarr")
    plate = read_ingest(tmp_path / "plate.zarr")[0].plate
    images = export / "Images" if (export / "Images").is_dir() else export
    for place in list(places(plate))[:6]:
        image = open_level(tmp_path / "plate.zarr" / place.well.path / str(place.field.index))
        np.testing.assert_array_equal(np.asarray(image[place.plane]), tifffile.imread(images / place.file))


def test_an_index_without_its_images_is_refused_though_it_is_real(
    shared_data: Path, tmp_path: Path, no_cluster: None
) -> None:
    with pytest.raises(ExportError, match="None of the 7 images"):
        ingest_into(tmp_path / "plate.zarr", shared_data / "operetta" / "phenix-v7")
    assert Journal(tmp_path / "plate.zarr", "ingest", "x").read() == {}
