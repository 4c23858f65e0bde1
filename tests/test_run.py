"""`artmask run` on real stores and a real cluster: what it writes, what it repeats, and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import ngio
import numpy as np
import pandas as pd
import pytest
import yaozarrs
import zarr
from exports import CHANNELS, make_plate, write_export
from listener import Listener
from safetensors.numpy import load_file, save_file

from artifact_mask.config import ClusterConfig, IngestConfig, RunConfig, SimulateConfig
from artifact_mask.engine.cluster import start_cluster
from artifact_mask.engine.journal import digest_of
from artifact_mask.errors import ModelError, PlateError
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.labels import label_artifacts
from artifact_mask.nn.model_card import UNetCard, find_unet, read_card
from artifact_mask.nn.predict import Segmenter
from artifact_mask.workflows import campaign
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.planes import find_channel
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate

pytestmark = pytest.mark.usefixtures("shared_cluster")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
BROKEN = "r02c03f02p01-ch1sk1fk1fl1.tiff"


@pytest.fixture(scope="module")
def plate(shared_cluster, tmp_path_factory):
    """Ingested plate of 2 wells x 3 fields x 2 channels; the brightfield of one field is cut off. Not to be changed."""
    folder = tmp_path_factory.mktemp("campaign")
    (export,) = simulate(SimulateConfig(dest=folder / "export", wells=2, fields=3, size=300, channels=2, seed=3))
    broken = export / "Images" / BROKEN
    broken.write_bytes(broken.read_bytes()[:5000])
    ingest(IngestConfig(exports=export, dest=folder / "plate.zarr", cluster=CLUSTER))
    return folder / "plate.zarr"


def _copy(plate, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in (plate.name, plate.name + ".artmask"):
        shutil.copytree(plate.with_name(name), folder / name)
    return folder / plate.name


def _config(plate, **changes):
    return RunConfig(plates=(plate,), fields_per_unit=2, cluster=CLUSTER, **changes)


@pytest.fixture(scope="module")
def finished(plate, tmp_path_factory):
    """The plate after a run, and the run's summary. Not to be changed."""
    copy = _copy(plate, tmp_path_factory.mktemp("finished"))
    return copy, run(_config(copy))


def _files(plate):
    return {file.relative_to(plate): file.read_bytes() for file in sorted(plate.rglob("*")) if file.is_file()}


def test_labels_are_what_the_model_finds(finished):
    folder = finished[0] / "B" / "2" / "0"
    card = read_card(find_unet(), UNetCard)
    image = open_level(folder)[0, 0, 0]
    contrast = normalise_by_background(image, estimate_background(image))
    probability = Segmenter.load(device="cpu").predict(contrast[np.newaxis])[0]
    expected = label_artifacts(probability, contrast, card.cut())
    labels = open_level(folder / "labels" / "artifacts")
    assert labels.dtype == np.int32
    assert labels.metadata.dimension_names == ("t", "z", "y", "x")
    np.testing.assert_array_equal(labels[0, 0], expected)


def test_some_artifact_is_found_on_the_plate(finished):
    fields = pd.read_parquet(finished[0] / "tables" / "fields" / "table.parquet")
    assert fields["n_artifacts"].sum() > 0
    assert 0 < fields["artifact_fraction"].max() < 1


def test_labels_have_as_many_levels_as_the_image(finished):
    for folder in (finished[0] / "B" / "2").glob("[0-9]"):
        levels = sorted(path.name for path in folder.iterdir() if path.name.isdigit())
        labels = folder / "labels" / "artifacts"
        assert sorted(path.name for path in labels.iterdir() if path.name.isdigit()) == levels
        np.testing.assert_array_equal(open_level(labels, 1)[0, 0], open_level(labels)[0, 0, ::2, ::2])


def test_masked_image_is_the_median_inside_and_unchanged_outside(finished):
    checked = 0
    for folder in finished[0].glob("B/*/[0-9]"):
        if not (folder / "masked").exists():
            continue
        image = open_level(folder)[0, 0, 0]
        masked = open_level(folder / "masked")[0, 0, 0]
        mask = open_level(folder / "labels" / "artifacts")[0, 0] > 0
        np.testing.assert_array_equal(masked[~mask], image[~mask])
        assert np.all(masked[mask] == np.median(image).astype(np.uint16))
        checked += np.count_nonzero(mask)
    assert checked > 0


def test_store_with_results_is_valid_for_yaozarrs(finished):
    yaozarrs.validate_zarr_store(str(finished[0]))
    yaozarrs.validate_zarr_store(str(finished[0] / "B" / "2" / "0" / "masked"))


def test_ngio_opens_labels_masked_image_and_tables(finished):
    plate = ngio.open_ome_zarr_plate(finished[0])
    assert set(plate.list_tables()) == {"fields", "wells", "plate"}
    fields = plate.get_table("fields").dataframe
    assert len(fields) == 6
    field = ngio.open_ome_zarr_container(finished[0] / "B" / "2" / "0")
    assert field.list_labels() == ["artifacts"]
    assert field.get_label("artifacts").get_as_numpy().shape[-2:] == (300, 300)
    masked = ngio.open_ome_zarr_container(finished[0] / "B" / "2" / "0" / "masked")
    assert masked.get_image().channel_labels == ["Brightfield"]


def test_csv_and_parquet_say_the_same(finished):
    for name in ("fields", "wells", "plate"):
        folder = finished[0] / "tables" / name
        csv = pd.read_csv(folder / "table.csv", keep_default_na=False, na_values={"artifact_fraction": [""]})
        parquet = pd.read_parquet(folder / "table.parquet")
        assert list(csv.columns) == list(parquet.columns)
        np.testing.assert_allclose(csv["artifact_fraction"], parquet["artifact_fraction"], rtol=1e-12)


def test_failed_field_has_a_row_with_its_error_and_no_label(finished):
    plate, summary = finished
    (failure,) = summary.failures
    assert (failure.well, failure.field_id) == ("B03", 2)
    fields = pd.read_parquet(plate / "tables" / "fields" / "table.parquet").set_index(["well", "field_id"])
    row = fields.loc[("B03", 2)]
    assert BROKEN in row["error"]
    assert np.isnan(row["artifact_fraction"])
    assert not (plate / "B" / "3" / "1" / "labels" / "artifacts").exists()
    assert not (plate / "B" / "3" / "1" / "masked").exists()


def test_wells_table_counts_fields_and_averages_the_measured_ones(finished):
    fields = pd.read_parquet(finished[0] / "tables" / "fields" / "table.parquet")
    wells = pd.read_parquet(finished[0] / "tables" / "wells" / "table.parquet").set_index("well")
    assert wells["n_fields"].to_dict() == {"B02": 3, "B03": 3}
    assert wells["n_failed_fields"].to_dict() == {"B02": 0, "B03": 1}
    measured = fields[(fields["well"] == "B03") & (fields["error"] == "")]
    assert len(measured) == 2
    assert wells.loc["B03", "artifact_fraction"] == pytest.approx(measured["artifact_fraction"].mean())
    assert wells.loc["B03", "n_artifacts"] == measured["n_artifacts"].sum()


def test_areas_are_in_square_micrometre(finished):
    fields = pd.read_parquet(finished[0] / "tables" / "fields" / "table.parquet")
    good = fields[fields["error"] == ""]
    np.testing.assert_allclose(good["artifact_area_um2"], good["artifact_fraction"] * 300 * 300 * 0.3**2)
    assert (good["largest_artifact_um2"] <= good["artifact_area_um2"] + 1e-9).all()


def test_second_run_tries_the_failed_field_and_touches_no_other(finished):
    plate, _ = finished
    before = {file: file.stat().st_mtime_ns for file in plate.glob("B/**/*") if file.is_file()}
    summary = run(_config(plate))
    assert summary.n_resumed == 5
    assert {file: file.stat().st_mtime_ns for file in plate.glob("B/**/*") if file.is_file()} == before


def test_run_of_a_finished_clean_plate_starts_no_cluster(tmp_path, monkeypatch):
    (export,) = simulate(SimulateConfig(dest=tmp_path / "export", wells=1, fields=1, size=128))
    ingest(IngestConfig(exports=export, dest=tmp_path / "p.zarr", cluster=CLUSTER))
    run(_config(tmp_path / "p.zarr"))
    listener = Listener()
    monkeypatch.setattr(campaign, "start_cluster", None)
    summary = run(_config(tmp_path / "p.zarr"), listener)
    assert summary.n_resumed == 1
    assert listener.notes == []


def test_changed_threshold_redoes_every_field_and_says_so(finished, tmp_path):
    plate = _copy(finished[0], tmp_path)
    listener = Listener()
    summary = run(_config(plate, threshold=0.05), listener)
    assert summary.n_resumed == 0
    assert any("changed" in note for note in listener.notes)
    before, after = (pd.read_parquet(p / "tables" / "fields" / "table.parquet") for p in (finished[0], plate))
    assert after["artifact_fraction"].sum() > before["artifact_fraction"].sum()


def test_going_back_to_an_earlier_configuration_does_not_trust_its_old_records(finished, tmp_path):
    plate = _copy(finished[0], tmp_path)
    run(_config(plate, threshold=0.05))
    run(_config(plate))
    assert _files(plate) == _files(finished[0])


@pytest.mark.slow
def test_run_killed_in_the_middle_goes_on_to_the_same_bytes(plate, finished, tmp_path):
    copy = _copy(plate, tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "artmask", "run", str(copy), "--workers", "1", "--no-dashboard"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    records = copy.with_name(copy.name + ".artmask") / "run"
    deadline = time.monotonic() + 60
    while not list(records.glob("*/*-*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(_config(copy))
    assert _files(copy) == _files(finished[0])


def test_label_that_lost_a_file_is_done_again(finished, tmp_path):
    plate = _copy(finished[0], tmp_path)
    shutil.rmtree(plate / "B" / "2" / "0" / "masked" / "1")
    run(_config(plate))
    assert _files(plate) == _files(finished[0])


def test_ingest_that_finds_nothing_new_leaves_the_tables_of_a_run(tmp_path):
    (export,) = simulate(SimulateConfig(dest=tmp_path / "export", wells=1, fields=2, size=128))
    next((export / "Images").glob("*f02*")).unlink()
    plate = tmp_path / "plate.zarr"
    ingest(IngestConfig(exports=export, dest=plate, cluster=CLUSTER))
    run(_config(plate))
    before = _files(plate / "tables")
    summary = ingest(IngestConfig(exports=export, dest=plate, cluster=CLUSTER))
    assert (summary.n_resumed, len(summary.failures)) == (1, 1)
    assert _files(plate / "tables") == before


def test_plate_without_brightfield_names_its_channels(plate):
    (stored,) = read_plate(plate).plate.acquisitions
    blind = replace(stored, channels=tuple(replace(c, kind="fluorescence") for c in stored.channels))
    with pytest.raises(PlateError, match=r"0 brightfield channels.*'HOECHST 33342'.*--channel"):
        find_channel(blind, None)
    assert find_channel(blind, "HOECHST 33342") == 1
    with pytest.raises(PlateError, match="named 'GFP'"):
        find_channel(blind, "GFP")


def test_an_acquisition_without_the_channel_is_skipped_and_its_fields_are_no_failures(tmp_path):
    first = make_plate(name="P", size=128)
    second = make_plate(name="P", channels=CHANNELS[1:2], size=96, field_ids=[1])
    later = replace(second.acquisitions[0], measurement_id="later", started="2027-01-01T00:00:00+00:00")
    write_export(tmp_path / "e" / "1", first)
    write_export(tmp_path / "e" / "2", replace(second, acquisitions=(later,)))
    plate = tmp_path / "P.zarr"
    ingest(IngestConfig(exports=(tmp_path / "e",), dest=plate, cluster=CLUSTER))
    listener = Listener()
    summary = run(_config(plate, threshold=0.001), listener)
    assert summary.is_whole
    assert any("An acquisition is skipped: P has 0 brightfield channels" in note for note in listener.notes)
    fields = pd.read_csv(plate / "tables" / "fields" / "table.csv", keep_default_na=True)
    assert fields["acquisition"].tolist() == [0, 0, 1]
    assert fields["artifact_fraction"].notna().tolist() == [True, True, False]
    wells = pd.read_csv(plate / "tables" / "wells" / "table.csv")
    assert wells["n_failed_fields"].tolist() == [0, 0]
    assert (plate / "B" / "3" / "0" / "labels").exists()
    assert not (plate / "B" / "3" / "2" / "labels").exists()


def test_file_that_is_no_model_is_refused_before_anything_is_written(plate, tmp_path):
    copy = _copy(plate, tmp_path)
    bad = tmp_path / "model.safetensors"
    bad.write_bytes(b"not a model at all")
    before = _files(copy)
    with pytest.raises(ModelError):
        run(_config(copy, model=bad))
    assert _files(copy) == before


def test_model_with_foreign_weights_ends_the_run_with_its_own_error(plate, tmp_path, monkeypatch):
    # On a cluster of its own: what cannot be loaded would stop every worker that comes later.
    monkeypatch.setattr(campaign, "start_cluster", start_cluster)
    copy = _copy(plate, tmp_path)
    bad = tmp_path / "model.safetensors"
    with find_unet().open("rb") as file:
        metadata = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
    weights = load_file(find_unet())
    weights.pop(next(iter(weights)))
    save_file(weights, bad, metadata=metadata)
    with pytest.raises(ModelError):
        run(_config(copy, model=bad))


def test_incomplete_plate_is_refused(plate, tmp_path):
    copy = _copy(plate, tmp_path)
    next(copy.with_name(copy.name + ".artmask").glob("ingest/*/*-*.json")).unlink()
    with pytest.raises(PlateError, match="is not complete"):
        run(_config(copy))


def test_folder_that_is_no_plate_is_refused(tmp_path):
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(PlateError, match="is neither a plate that artmask wrote nor a folder of such plates"):
        run(_config(tmp_path / "other.zarr"))
    with pytest.raises(PlateError, match="does not exist"):
        run(_config(tmp_path / "nothing.zarr"))


def test_other_pixel_size_is_warned_about(plate, tmp_path):
    copy = _copy(plate, tmp_path)
    document = json.loads((copy / "zarr.json").read_text())
    document["attributes"]["artmask"]["acquisitions"][0]["pixel_size_um"] = 1.2
    (copy / "zarr.json").write_text(json.dumps(document))
    listener = Listener()
    run(_config(copy), listener)
    assert any(note.startswith("Warning") and "1.2" in note for note in listener.notes)


def test_digest_changes_with_every_part():
    assert len({digest_of("a", 1), digest_of("a", 2), digest_of("b", 1), digest_of(["a", 1])}) == 4


@pytest.mark.slow
def test_demo_ends_with_a_table_and_a_picture(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "artmask", "demo", str(tmp_path / "demo")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "B02" in result.stdout
    assert (tmp_path / "demo" / "masking.png").stat().st_size > 100_000
