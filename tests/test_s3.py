"""Plates in an object store, on a server of this machine: as on a disk, and in spite of a bad connection."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from exports import make_plate, places, plane_pixels, write_export
from object_store import (
    BUCKET,
    CUTS,
    UNAVAILABLE,
    ObjectStore,
    down_for,
    every_tenth,
    first_put,
    second_record,
    serve_objects,
)
from upath import UPath

from artifact_mask import location
from artifact_mask.config import ClusterConfig, CorrectConfig, IngestConfig, RunConfig, VerifyConfig
from artifact_mask.engine.cluster import start_cluster
from artifact_mask.engine.journal import beside, hold_plate
from artifact_mask.errors import ConfigError, LeaseError, PlateError, StorageError
from artifact_mask.frozen import load_config
from artifact_mask.io.label_images import list_labels
from artifact_mask.io.ngff_check import check_field
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.ome_zarr_plate import find_plates
from artifact_mask.io.tables import read_table
from artifact_mask.location import Location, to_location
from artifact_mask.workflows import campaign
from artifact_mask.workflows.correct import correct
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.progress import Summary
from artifact_mask.workflows.run import run
from artifact_mask.workflows.status import read_status
from artifact_mask.workflows.verify import verify

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
THRESHOLD = 0.001
"""Low enough to find something in noise."""
PLATE = make_plate(wells=[(2, 3), (3, 11)], size=(300, 260))


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with serve_objects() as store:
        yield store


@pytest.fixture(scope="module", autouse=True)
def _one_cluster_for_all(store: ObjectStore) -> Iterator[None]:
    """Start one cluster, whose workers know the server."""
    with start_cluster(CLUSTER) as client, pytest.MonkeyPatch.context() as patch:

        @contextmanager
        def start(*_: Any, **__: Any) -> Iterator[Client]:
            yield client

        patch.setattr(campaign, "start_cluster", start)
        yield


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("export") / "export", PLATE)


@pytest.fixture(scope="module")
def on_disk(export: Path) -> Path:
    """Plate on disk that ingest and run wrote; not to be changed."""
    plate = export.parent / "plate.zarr"
    ingest_into(plate, export)
    run_on(plate)
    return plate


@pytest.fixture(scope="module")
def in_store(store: ObjectStore, export: Path) -> Location:
    """Plate in the store that ingest and run wrote; not to be changed."""
    plate = store.root("finished/plate.zarr")
    assert ingest_into(plate, export).failures == ()
    assert run_on(plate).failures == ()
    return plate


def ingest_into(plate: Location, export: Location) -> Summary:
    return ingest(IngestConfig(exports=(export,), dest=plate, fields_per_unit=1, cluster=CLUSTER))


def run_on(*plates: Location) -> Summary:
    return run(RunConfig(plates=plates, threshold=THRESHOLD, reach_um=0, fields_per_unit=1, cluster=CLUSTER))


def verify_on(plate: Location) -> Summary:
    return verify(VerifyConfig(plates=(plate,), cluster=CLUSTER))


def contents(root: Location) -> dict[str, bytes]:
    if isinstance(root, Path):
        return {f.relative_to(root).as_posix(): f.read_bytes() for f in root.rglob("*") if f.is_file()}
    return {path[len(root.path) + 1 :]: root.fs.cat_file(path) for path in root.fs.find(root.path)}


def test_every_file_equals_that_of_a_plate_on_disk(in_store: Location, on_disk: Path) -> None:
    assert contents(in_store) == contents(on_disk)
    assert all(
        (on_disk / "B" / "3" / "0" / name).is_file()
        for name in ("labels/artifacts/0/c.0.0.0.0", "masked/0/c.0.0.0.0.0")
    )


@pytest.fixture(scope="module")
def export_in_store(store: ObjectStore, export: Path) -> Location:
    """The same export, in the store."""
    place = store.root("exports/one")
    place.fs.put(f"{export}/", place.path, recursive=True)
    return place


def test_an_export_in_the_store_makes_the_same_plate(
    store: ObjectStore, export_in_store: Location, on_disk: Path, tmp_path: Path
) -> None:
    assert ingest_into(tmp_path / "plate.zarr", export_in_store).is_whole
    found = contents(tmp_path / "plate.zarr")
    expected = {name: content for name, content in contents(on_disk).items() if name in found}
    pixels = [name for name in expected if "/c." in name and not name.startswith("tables")]
    assert len(pixels) >= PLATE.n_fields * 2
    assert {name: found[name] for name in pixels} == {name: expected[name] for name in pixels}


def test_every_measurement_below_a_prefix_is_found(
    store: ObjectStore, export_in_store: Location, tmp_path: Path
) -> None:
    summary = ingest(IngestConfig(exports=(store.root("exports"),), dest=store.root("screen"), cluster=CLUSTER))
    assert summary.is_whole
    assert list(summary.outputs) == ["plate", "fields table", "wells table", "plate table"]
    assert [path.name for path in find_plates([store.root("screen")])] == ["plate-1.zarr"]


def test_an_export_is_read_over_a_bad_connection(store: ObjectStore, export_in_store: Location, tmp_path: Path) -> None:
    with store.spoiling(every_tenth([UNAVAILABLE, *CUTS])) as spoilt:
        summary = ingest_into(tmp_path / "plate.zarr", export_in_store)
    assert summary.failures == ()
    assert spoilt
    for place in places(PLATE):
        image = open_level(tmp_path / "plate.zarr" / place.well.path / str(place.field.index))
        np.testing.assert_array_equal(np.asarray(image[place.plane]), plane_pixels(PLATE, place))


def test_an_image_that_the_store_lacks_is_a_missing_plane(store: ObjectStore, export: Path, tmp_path: Path) -> None:
    place = store.root("exports-damaged/one")
    place.fs.put(f"{export}/", place.path, recursive=True)
    lost = next(places(PLATE)).file
    place.fs.rm((place / "Images" / lost).path)
    summary = ingest_into(tmp_path / "plate.zarr", place)
    (failure,) = summary.failures
    assert f"{lost} is missing" in failure.error


def test_pixels_and_tables_are_read_back(in_store: Location, on_disk: Path) -> None:
    for place in places(PLATE):
        image = open_level(in_store / place.well.path / str(place.field.index))
        np.testing.assert_array_equal(np.asarray(image[place.plane]), plane_pixels(PLATE, place))
    for name in ("fields", "wells"):
        assert read_table(in_store, name).equals(read_table(on_disk, name))


def test_a_finished_plate_is_known_by_one_listing(in_store: Location, store: ObjectStore) -> None:
    before = len(store.requests)
    assert run_on(in_store).n_resumed == PLATE.n_fields
    listings = [target for target in store.asked("GET", before) if target.endswith("delimiter=&encoding-type=url")]
    assert len([target for target in listings if "plate.zarr%2F&" in target]) == 1


def test_a_plate_is_found_in_its_folder(in_store: Location, store: ObjectStore) -> None:
    statuses = read_status([store.root("finished")])
    assert [(s.plate, s.stage, s.n_done, s.n_left, s.running) for s in statuses] == [
        (str(in_store), "ingest", PLATE.n_fields, 0, None),
        (str(in_store), "run", PLATE.n_fields, 0, None),
    ]


def test_a_plate_that_is_not_there_is_named(store: ObjectStore) -> None:
    with pytest.raises(PlateError, match=f"s3://{BUCKET}/nowhere.zarr does not exist"):
        run_on(store.root("nowhere.zarr"))


def test_a_store_that_cannot_be_reached_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    # Options of its own, and so a connection of its own, made with what the environment now holds.
    place = UPath(f"s3://{BUCKET}/plate.zarr", config_kwargs={"retries": {"total_max_attempts": 1}})
    with pytest.raises(StorageError, match="cannot be reached: Could not connect"):
        run_on(place)


def test_a_location_keeps_what_it_was_given(store: ObjectStore) -> None:
    place = UPath(f"s3://{BUCKET}/plate.zarr", key="mine", secret="mine")
    (kept,) = VerifyConfig(plates=(place,)).plates
    assert isinstance(kept, UPath)
    assert kept.storage_options["key"] == "mine"
    assert "mine" not in VerifyConfig(plates=(place,)).model_dump_json()


def test_without_s3fs_the_user_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(location, "get_filesystem_class", missing)
    with pytest.raises(ConfigError, match=r'pip install "artmask\[s3\]"'):
        load_config(VerifyConfig, None, {"plates": ["s3://screens/plate.zarr"]})


@pytest.mark.parametrize(
    ("url", "complaint"), [("s4://screens/p.zarr", "no kind of store 's4'"), ("memory://p[1].zarr", "have a meaning")]
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        to_location(url)


# Exactly once


def test_a_run_that_died_is_resumed_and_only_what_is_missing_is_done(
    store: ObjectStore, in_store: Location, tmp_path: Path, export: Path, on_disk: Path
) -> None:
    plate = store.root("resumed/plate.zarr")
    ingest_into(plate, export)
    (record,) = (path for path in plate.fs.find(beside(plate).path) if "B3-0." in path)
    plate.fs.rm_file(record)
    plate.fs.rm_file((plate / "C" / "11" / "1" / "0" / "zarr.json").path)
    before = len(store.requests)
    assert ingest_into(plate, export).n_resumed == PLATE.n_fields - 2
    levels = sorted(
        target for target in store.asked("PUT", before) if target.endswith(("0/0/zarr.json", "1/0/zarr.json"))
    )
    assert levels == [f"/{plate.path}/{field}/0/zarr.json" for field in ("B/3/0", "C/11/1")]
    run_on(plate)
    assert contents(plate) == contents(on_disk)


@pytest.mark.slow
def test_an_ingest_that_is_killed_is_resumed(store: ObjectStore, export: Path, on_disk: Path, tmp_path: Path) -> None:
    plate = store.root("killed/plate.zarr")
    config = tmp_path / "config.yaml"
    config.write_text(f"exports: [{export}]\ndest: {plate}\nfields_per_unit: 1\ncluster: {{workers: 1}}\n")
    command = [
        sys.executable,
        "-c",
        "from artmask.app import main; main()",
        "ingest",
        export,
        plate,
        "--config",
        config,
    ]
    process = subprocess.Popen([str(part) for part in command], start_new_session=True)
    with store.spoiling(second_record(lambda: os.killpg(process.pid, signal.SIGKILL))):
        assert process.wait(60) == -signal.SIGKILL
    assert ingest_into(plate, export).n_resumed == 1
    run_on(plate)
    assert contents(plate) == contents(on_disk)


def test_a_plate_that_is_held_is_refused(in_store: Location, export: Path) -> None:
    with hold_plate(in_store, "run"):
        with pytest.raises(LeaseError, match="in use by another run: run, process"):
            run_on(in_store)
        with pytest.raises(LeaseError, match="in use by another run"):
            ingest_into(in_store, export)
        running = [status.running for status in read_status([in_store])]
        assert running[0] is None
        assert running[1] is not None


def test_damage_is_found_and_mended(store: ObjectStore, export: Path, on_disk: Path) -> None:
    plate = store.root("damaged/plate.zarr")
    ingest_into(plate, export)
    run_on(plate)
    assert verify_on(plate).failures == ()
    shard = plate / "B" / "3" / "0" / "masked" / "0" / "c.0.0.0.0.0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(bytes(content))
    (failure,) = verify_on(plate).failures
    assert "content changed since it was written" in failure.error
    assert run_on(plate).n_resumed == PLATE.n_fields - 1
    assert contents(plate) == contents(on_disk)


# A bad connection


@pytest.mark.slow
@pytest.mark.parametrize("hows", [(UNAVAILABLE,), CUTS], ids=["refused", "cut off"])
def test_every_tenth_request_fails_and_nothing_is_lost(
    store: ObjectStore, export: Path, on_disk: Path, hows: tuple[str, ...]
) -> None:
    plate = store.root(f"tenth-{len(hows)}/plate.zarr")
    before = len(store.requests)
    with store.spoiling(every_tenth(hows)) as spoilt:
        for summary in (ingest_into(plate, export), run_on(plate), verify_on(plate), ingest_into(plate, export)):
            assert summary.failures == ()
            assert summary.refused == {}
        assert [status.n_done for status in read_status([plate])] == [PLATE.n_fields] * 2
        assert len(read_table(plate, "fields")) == PLATE.n_fields
    n_requests = len(store.requests) - before
    assert len(spoilt) >= n_requests // 10 >= 20
    assert set(spoilt) == set(hows)
    assert contents(plate) == contents(on_disk)


@pytest.mark.slow
def test_a_server_that_is_down_for_seconds_is_waited_for(store: ObjectStore, export: Path, on_disk: Path) -> None:
    plate = store.root("down/plate.zarr")
    ingest_into(plate, export)
    with store.spoiling(down_for(3.0)) as spoilt:
        assert run_on(plate).failures == ()
    assert len(spoilt) >= 10
    assert contents(plate) == contents(on_disk)


def test_a_lease_whose_answer_was_lost_is_ours(store: ObjectStore) -> None:
    plate = store.root("lease/plate.zarr")
    with store.spoiling(first_put("after it is done")) as spoilt, hold_plate(plate, "run") as lease:
        assert lease.epoch == 1
        assert lease.is_held
    assert len(spoilt) == 1


def test_labels_are_copied_for_a_person_to_edit(store: ObjectStore, on_disk: Path) -> None:
    root = store.root("corrected/plate.zarr")
    for name in (on_disk.name, on_disk.name + ".artmask"):
        root.fs.put(f"{on_disk.with_name(name)}/", f"{root.with_name(name).path}/", recursive=True)
    for n_written in (4, 4):  # what nobody has edited is copied again
        summary = correct(CorrectConfig(plates=(root,)))
        assert (summary.n_fields - summary.n_resumed, summary.failures) == (n_written, ())
    field, same = root / "B/3/0", on_disk / "B/3/0"
    copied = open_level(field / "labels" / "corrected")[...]
    np.testing.assert_array_equal(copied, open_level(same / "labels" / "artifacts")[...])
    assert list_labels(field) == ["artifacts", "corrected"]
    assert check_field(field) == []
