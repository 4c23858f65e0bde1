"""`artmask illumination` on real stores and a real cluster: what it stores, who uses it, and what it refuses."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaozarrs
import zarr
from commands import artmask
from exports import small_screen, write_export
from listener import Listener

from artifact_mask.config import (
    ClusterConfig,
    IlluminationConfig,
    IngestConfig,
    LabelSheetConfig,
    RunConfig,
    SimulateConfig,
    VerifyConfig,
)
from artifact_mask.engine.journal import read_settings
from artifact_mask.errors import ImageError, PlateError
from artifact_mask.io.illumination_profiles import load_flat_field, read_description, read_illumination
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.kernels.flat_field import correct_flat_field
from artifact_mask.kernels.retrospective import Estimate
from artifact_mask.workflows import label_sheet
from artifact_mask.workflows.illumination import estimate_illumination
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.label_sheet import write_label_sheet
from artifact_mask.workflows.planes import stored_flat_fields
from artifact_mask.workflows.plate_fields import open_field
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate
from artifact_mask.workflows.verify import verify

pytestmark = pytest.mark.usefixtures("shared_cluster")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
BROKEN = "r02c03f02p01-ch1sk1fk1fl1.tiff"


@pytest.fixture(scope="module")
def campaign(shared_cluster, tmp_path_factory, ngff):
    """Simulated export with one shading, and an ingested plate without a flat field. Not to be changed."""
    folder = tmp_path_factory.mktemp("illumination")
    (export,) = simulate(
        SimulateConfig(dest=folder / "export", wells=3, fields=2, size=300, channels=2, shading="plate", harmony="v7")
    )
    broken = export / "Images" / BROKEN
    broken.write_bytes(broken.read_bytes()[:900])
    ingest(IngestConfig(exports=export, dest=folder / "plate.zarr", ngff=ngff, cluster=CLUSTER))
    return export, folder / "plate.zarr"


@pytest.fixture
def plate(campaign, tmp_path):
    for name in ("plate.zarr", "plate.zarr.artmask"):
        shutil.copytree(campaign[1].with_name(name), tmp_path / name)
    return tmp_path / "plate.zarr"


def _estimate(plate, progress=None, **options):
    return estimate_illumination(IlluminationConfig(plates=plate, cluster=CLUSTER, **options), progress)


def _load(plate, channel=0):
    stored = read_illumination(plate, read_plate(plate).ingest_digest)[0, channel]
    return load_flat_field(plate, stored)


def test_flat_field_is_found_stored_and_divides_what_is_read(campaign, plate):
    before = {file: file.stat().st_mtime_ns for file in plate.rglob("*") if file.is_file()}
    listener = Listener()
    summary = _estimate(plate, listener)
    truth = tifffile.imread(sorted(campaign[0].glob("Truth/*illumination*"))[0])
    places = np.arange(truth.shape[0]) * 8
    found = _load(plate)
    rest = truth / found[np.ix_(places, places)]
    assert rest.std() / rest.mean() <= truth.std() / truth.mean() / 5
    assert found.mean() == pytest.approx(1, abs=1e-5)
    # One of six fields is broken in brightfield.
    described = read_description(plate, read_plate(plate).ingest_digest)["channels"]
    assert [(entry["name"], entry["n_fields"]) for entry in described] == [("Brightfield", 5), ("HOECHST 33342", 6)]
    assert any("Brightfield: background varies" in note for note in listener.notes)
    assert summary.outputs["picture of plate.zarr"].read_bytes()[:4] == b"\x89PNG"
    # No image was touched.
    assert all(file.stat().st_mtime_ns == time for file, time in before.items())
    stored = read_plate(plate)
    illumination = stored_flat_fields(plate, stored.ingest_digest)
    field = open_field(plate, stored.plate, ("B/2", 0), None, illumination=illumination)
    raw = open_level(plate / "B" / "2" / "0")[0, 0, 0]
    np.testing.assert_array_equal(field.read(), correct_flat_field(raw, found))


def test_other_tools_read_it_and_the_plate_stays_valid(plate):
    _estimate(plate)
    group = zarr.open_group(plate / "illumination", mode="r")
    assert group["0/flatfield"].shape == (2, 300, 300)
    np.testing.assert_array_equal(group["0/flatfield"][0], _load(plate))
    yaozarrs.validate_zarr_store(str(plate))
    assert not verify(VerifyConfig(plates=plate, cluster=CLUSTER)).problems


def test_run_divides_by_it_and_is_done_again_with_another(plate):
    run(RunConfig(plates=plate, cluster=CLUSTER))
    without = open_level(plate / "B" / "2" / "0" / "masked")[0, 0, 0]
    _estimate(plate)
    listener = Listener()
    again = run(RunConfig(plates=plate, cluster=CLUSTER), listener)
    assert again.n_resumed == 0
    assert any("flat_field" in note for note in listener.notes)
    mask = open_level(plate / "B" / "2" / "0" / "labels" / "artifacts")[0, 0] > 0
    masked = open_level(plate / "B" / "2" / "0" / "masked")[0, 0, 0]
    corrected = correct_flat_field(open_level(plate / "B" / "2" / "0")[0, 0, 0], _load(plate))
    np.testing.assert_array_equal(masked[~mask], corrected[~mask])
    assert (masked != without).mean() > 0.5
    attributes = zarr.open_group(plate / "B" / "2" / "0" / "masked", mode="r").attrs["artmask"]
    assert attributes["flat_field"] == read_settings(plate, "run")["flat_field"][2]
    assert run(RunConfig(plates=plate, illumination="none", cluster=CLUSTER)).n_resumed == 0
    np.testing.assert_array_equal(open_level(plate / "B" / "2" / "0" / "masked")[0, 0, 0], without)


def test_info_names_the_stored_flat_fields(plate):
    _estimate(plate, method="harmony")
    shown = artmask("info", plate).stdout
    assert "divided when read, by stored flat fields: HOECHST 33342 (harmony)" in shown


def test_one_channel_leaves_the_others_and_removing_takes_all(plate):
    _estimate(plate)
    nuclei = _load(plate, 1)
    _estimate(plate, channels="Brightfield", fields=5)
    np.testing.assert_array_equal(_load(plate, 1), nuclei)
    described = read_description(plate, read_plate(plate).ingest_digest)["channels"]
    n_bright, n_nuclei = (entry["n_fields"] for entry in described)
    assert (n_bright in (4, 5), n_nuclei) == (True, 6)
    for _ in range(2):
        _estimate(plate, remove=True)
        assert read_illumination(plate, read_plate(plate).ingest_digest) == {}
        assert not (plate / "illumination").exists()


def test_that_of_harmony_is_its_polynomial(plate):
    listener = Listener()
    _estimate(plate, listener, method="harmony")
    assert set(read_illumination(plate, read_plate(plate).ingest_digest)) == {(0, 1)}
    flat = _load(plate, 1)
    assert flat[150, 150] > 1.05 > 0.95 > flat[0, 0]
    with pytest.raises(PlateError, match="Harmony found no flat field"):
        _estimate(plate, method="harmony", channels="Brightfield")
    # What is asked for by name is found, or is an error.
    with pytest.raises(PlateError, match="Brightfield: Harmony found no flat field"):
        _estimate(plate, method="harmony", channels=("Brightfield", "HOECHST 33342"))


def test_that_of_an_empty_well_is_its_mean(plate, tmp_path):
    y, x = np.mgrid[:300, :300] / 299 - 0.5
    shading = 1 - 0.3 * (x**2 + y**2)
    files = [tmp_path / f"empty{i}.tiff" for i in range(2)]
    rng = np.random.default_rng(0)
    for file in files:
        tifffile.imwrite(file, (20000 * shading + rng.normal(0, 200, shading.shape)).astype(np.uint16))
    _estimate(plate, method="reference", channels="Brightfield", reference=files)
    np.testing.assert_allclose(_load(plate), shading / shading.mean(), atol=0.01)


@pytest.mark.parametrize(("value", "said"), [(0, "100% of the pixels are black"), (16383, "100% clipped")])
def test_reference_image_that_is_black_or_clipped_is_refused(plate, tmp_path, value, said):
    tifffile.imwrite(tmp_path / "bad.tiff", np.full((300, 300), value, np.uint16))
    with pytest.raises(ImageError, match=said):
        _estimate(plate, method="reference", channels="Brightfield", reference=[tmp_path / "bad.tiff"])
    assert read_illumination(plate, read_plate(plate).ingest_digest) == {}


def test_shading_that_could_be_chance_is_warned_of(plate, monkeypatch):
    monkeypatch.setattr(Estimate, "is_sure", False)
    listener = Listener()
    _estimate(plate, listener, channels="Brightfield")
    assert any("Warning: Plate01 Brightfield: the 5 fields do not agree" in note for note in listener.notes)


def test_each_acquisition_has_its_own_and_is_named(tmp_path):
    simulate(SimulateConfig(dest=tmp_path / "export", wells=2, fields=2, size=128, measurements=2, shading="plate"))
    ingest(IngestConfig(exports=tmp_path / "export", dest=tmp_path / "p.zarr", cluster=CLUSTER))
    listener = Listener()
    _estimate(tmp_path / "p.zarr", listener)
    assert set(read_illumination(tmp_path / "p.zarr", read_plate(tmp_path / "p.zarr").ingest_digest)) == {
        (0, 0),
        (1, 0),
    }
    for number in (0, 1):
        assert any(f"Brightfield (acquisition {number}): " in note for note in listener.notes)


def test_label_sheet_shows_what_networks_see(plate, tmp_path, monkeypatch):
    _estimate(plate)
    shown = []
    monkeypatch.setattr(label_sheet, "display", lambda pixels, dark: shown.append(pixels) or np.zeros(pixels.shape))
    write_label_sheet(LabelSheetConfig(plates=plate, dest=tmp_path / "sheet.html", channel="Brightfield"))
    flat = _load(plate)
    expected = [
        correct_flat_field(open_level(plate / well / str(field))[0, 0, 0], flat)
        for well, field in read_plate(plate).plate.acquisitions[0].field_keys
    ]
    assert len(shown) == 5
    assert all(any(np.array_equal(pixels, other) for other in expected) for pixels in shown)


def test_the_same_ingest_again_keeps_it(campaign, plate):
    _estimate(plate, channels="Brightfield")
    before = _load(plate)
    ingest(IngestConfig(exports=campaign[0], dest=plate, ngff=read_plate(plate).ngff, cluster=CLUSTER))
    np.testing.assert_array_equal(_load(plate), before)


def test_another_ingest_makes_it_void(campaign, plate):
    _estimate(plate)
    ingest(
        IngestConfig(
            exports=campaign[0], dest=plate, channel_names={2: "DAPI"}, ngff=read_plate(plate).ngff, cluster=CLUSTER
        )
    )
    assert read_illumination(plate, read_plate(plate).ingest_digest) == {}


def test_the_result_does_not_depend_on_how_the_work_is_cut(plate, monkeypatch):
    _estimate(plate)
    first = _load(plate)
    monkeypatch.setattr("artifact_mask.workflows.illumination._FIELDS_PER_UNIT", 1)
    _estimate(plate)
    np.testing.assert_array_equal(_load(plate), first)


def test_flat_field_that_is_damaged_is_an_error(plate):
    _estimate(plate)
    stored = read_illumination(plate, read_plate(plate).ingest_digest)[0, 0]
    for file in (plate / "illumination" / "0" / "flatfield").rglob("*"):
        if file.is_file() and file.suffix != ".json" and not file.name.startswith("."):
            file.unlink()
    load_flat_field.cache_clear()
    with pytest.raises(PlateError, match="missing or damaged"):
        load_flat_field(plate, stored)


def test_too_few_fields_unknown_channels_and_corrected_images_are_refused(tmp_path):
    export = write_export(tmp_path / "export", small_screen())
    ingest(IngestConfig(exports=export, dest=tmp_path / "p.zarr", cluster=CLUSTER))
    with pytest.raises(PlateError, match="has no channel 'Red'"):
        _estimate(tmp_path / "p.zarr", channels="Red")
    wells = [path for path in (tmp_path / "p.zarr").glob("*/*/[0-9]*") if path.is_dir()]
    for folder in wells[2:]:
        shutil.rmtree(folder)
    with pytest.raises(PlateError, match="fields could be read, expected at least 3"):
        _estimate(tmp_path / "p.zarr")


def test_one_plate_that_cannot_be_done_does_not_stop_another(plate, tmp_path):
    export = write_export(tmp_path / "export", replace(small_screen(), name="Other"))
    ingest(IngestConfig(exports=export, dest=tmp_path / "other.zarr", cluster=CLUSTER))
    summary = _estimate((plate, tmp_path / "other.zarr"), method="harmony")
    assert list(summary.outputs) == ["plate.zarr"]
    assert "Harmony found no flat field" in next(iter(summary.refused.values()))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "reference"}, "needs reference images"),
        ({"reference": ["a.tiff"]}, "needs reference images"),
        ({"method": "reference", "reference": ["a.tiff"]}, "name it in `channels`"),
        ({"fields": 2}, "greater than or equal to 3"),
        ({"method": "basic"}, "'retrospective', 'harmony' or 'reference'"),
    ],
)
def test_wrong_choices_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        IlluminationConfig(plates="p.zarr", **wrong)


def test_simulated_plate_has_one_shading_and_the_same_cells(tmp_path):
    shadings = {}
    for shading in ("field", "plate"):
        (folder,) = simulate(SimulateConfig(dest=tmp_path / shading, wells=1, fields=2, size=128, shading=shading))
        shadings[shading] = [tifffile.imread(file) for file in sorted(folder.glob("Truth/*illumination*"))]
        truth = pd.read_csv(folder / "Truth" / "fields.csv")
        shadings[f"{shading} stain"] = json.dumps(truth["stained_fraction"].tolist())
    assert (shadings["field"][0] != shadings["field"][1]).any()
    np.testing.assert_array_equal(*shadings["plate"])
    assert shadings["field stain"] == shadings["plate stain"]
