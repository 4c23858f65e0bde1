"""`artmask correct` on real plates: copies that tools edit, masks brought back, and nothing of a person's work lost."""

import json
import shutil

import ngio
import numpy as np
import pytest
import roifile
import tifffile
import yaozarrs
import zarr
from listener import Listener
from typer.testing import CliRunner

from artifact_mask.config import ClusterConfig, CorrectConfig, IngestConfig, RunConfig, SimulateConfig, VerifyConfig
from artifact_mask.engine.journal import hold_plate
from artifact_mask.errors import ConfigError, LeaseError, PlateError
from artifact_mask.io.label_images import list_labels
from artifact_mask.io.ngff_check import check_field
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.workflows.correct import correct
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate
from artifact_mask.workflows.verify import verify
from artmask.app import app

pytestmark = pytest.mark.usefixtures("shared_cluster")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)


@pytest.fixture(scope="module", params=["0.5", "0.4"])
def campaign(request, shared_cluster, tmp_path_factory):
    """Export and plate of 2 wells x 2 fields after a run. Not to be changed."""
    folder = tmp_path_factory.mktemp("campaign")
    (export,) = simulate(SimulateConfig(dest=folder / "export", wells=2, fields=2, size=320, seed=3))
    ingest(IngestConfig(exports=export, dest=folder / "plate.zarr", ngff=request.param, cluster=CLUSTER))
    run(RunConfig(plates=folder / "plate.zarr", cluster=CLUSTER))
    return export, folder / "plate.zarr"


@pytest.fixture
def plate(campaign, tmp_path):
    """A copy of the plate, to be changed."""
    source = campaign[1]
    for name in (source.name, source.name + ".artmask"):
        shutil.copytree(source.with_name(name), tmp_path / name)
    return tmp_path / source.name


def _correct(plate, progress=None, **options):
    return correct(CorrectConfig(plates=plate, **options), progress)


def _field(plate, well="B/2", index=0):
    return plate / well / str(index)


def _pixels(plate, name="corrected", level=0, **place):
    return np.asarray(open_level(_field(plate, **place) / "labels" / name, level)[...])


def _paint(plate, value=77, **place):
    """Paint as a Labels layer of napari over `zarr.open` does: pixels of the full resolution, by arrays of indices."""
    array = zarr.open(str(_field(plate, **place) / "labels" / "corrected" / "0"), mode="r+")
    y, x = (indices.ravel() for indices in np.mgrid[100:140, 60:90])
    array[np.zeros_like(y), np.zeros_like(y), y, x] = value


def _files(folder):
    return {file.relative_to(folder): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_the_copy_has_the_same_pixels_on_every_level(plate):
    summary = _correct(plate)
    assert (summary.n_fields, summary.n_resumed, summary.failures) == (4, 0, ())
    for well in ("B/2", "B/3"):
        for index in (0, 1):
            for level in (0, 1):
                copied = _pixels(plate, level=level, well=well, index=index)
                np.testing.assert_array_equal(copied, _pixels(plate, "artifacts", level, well=well, index=index))


def test_the_copy_can_be_written_a_plane_at_a_time_and_is_listed(plate):
    _correct(plate)
    array = zarr.open(str(_field(plate) / "labels" / "corrected" / "0"), mode="r")
    assert array.shards is None
    assert array.chunks == (1, 1, 320, 320)
    assert list_labels(_field(plate)) == ["artifacts", "corrected"]


def test_a_plate_with_copies_is_valid(plate):
    _correct(plate)
    yaozarrs.validate_zarr_store(str(plate))
    assert check_field(_field(plate)) == []
    assert verify(VerifyConfig(plates=plate, cluster=CLUSTER)).is_whole


def test_wells_and_the_worst_fields_are_chosen(plate):
    assert _correct(plate, wells="B03").n_fields == 2
    assert list_labels(_field(plate)) == ["artifacts"]
    worst = {
        well: max(
            (0, 1), key=lambda index, well=well: (_pixels(plate, "artifacts", 1, well=well, index=index) > 0).mean()
        )
        for well in ("B/2", "B/3")
    }
    assert _correct(plate, to="second", fields=2).n_fields == 2
    for well, index in worst.items():
        assert "second" in list_labels(_field(plate, well, index))


def test_an_edited_copy_is_kept_and_its_levels_follow(plate):
    _correct(plate)
    _paint(plate)
    edited = _pixels(plate)
    assert not (_pixels(plate, level=1) == 77).any()
    listener = Listener()
    assert _correct(plate, listener).n_resumed == 1
    np.testing.assert_array_equal(_pixels(plate), edited)
    np.testing.assert_array_equal(_pixels(plate, level=1), edited[..., ::2, ::2])
    (note,) = [note for note in listener.notes if "edited" in note]
    assert "B02 field 0: labels/corrected has been edited and is kept; its coarser levels" in note
    # Whatever is told, it stays edited.
    assert _correct(plate).n_resumed == 1


def test_an_edited_copy_is_replaced_on_demand_alone(plate):
    _correct(plate)
    _paint(plate)
    assert _correct(plate, overwrite=True).n_resumed == 0
    np.testing.assert_array_equal(_pixels(plate), _pixels(plate, "artifacts"))


def test_an_untouched_copy_follows_its_source(plate):
    _correct(plate)
    run(RunConfig(plates=plate, threshold=0.9, min_object_px=200, cluster=CLUSTER))
    assert _correct(plate).n_resumed == 0
    np.testing.assert_array_equal(_pixels(plate), _pixels(plate, "artifacts"))


def test_a_label_of_other_make_counts_as_edited(plate):
    _correct(plate)
    for name in ("zarr.json", ".zattrs"):
        file = _field(plate) / "labels" / "corrected" / name
        if file.exists():
            document = json.loads(file.read_text())
            (document["attributes"] if "attributes" in document else document).pop("artmask")
            file.write_text(json.dumps(document))
    assert _correct(plate).n_resumed == 1


@pytest.mark.filterwarnings("ignore")  # ngio's own
def test_ngio_edits_a_copy(plate):
    _correct(plate)
    label = ngio.open_ome_zarr_container(_field(plate)).get_label("corrected")
    pixels = label.get_as_numpy()
    pixels[..., 10:30, 10:30] = 99
    label.set_array(pixels)
    label.consolidate()
    assert (_pixels(plate)[0, 0, 10:30, 10:30] == 99).all()
    assert (_pixels(plate, level=1)[0, 0, 5:15, 5:15] == 99).all()
    assert _correct(plate).n_resumed == 1


@pytest.mark.parametrize("change", [{}, {"threshold": 0.9}])
def test_another_run_keeps_what_was_corrected(plate, change):
    _correct(plate)
    _paint(plate)
    before = _files(_field(plate) / "labels" / "corrected")
    assert run(RunConfig(plates=plate, cluster=CLUSTER, **change)).is_whole
    assert _files(_field(plate) / "labels" / "corrected") == before
    assert list_labels(_field(plate)) == ["artifacts", "corrected"]
    assert verify(VerifyConfig(plates=plate, cluster=CLUSTER)).is_whole


def test_another_ingest_keeps_what_was_corrected(campaign, plate):
    _correct(plate)
    _paint(plate)
    before = _files(_field(plate) / "labels" / "corrected")
    # A damaged image is written again, with all else in its field.
    damaged = max((file for file in (_field(plate) / "0").rglob("*") if file.is_file()), key=lambda f: f.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    ngff = "0.4" if (plate / ".zattrs").exists() else "0.5"
    ingest(IngestConfig(exports=campaign[0], dest=plate, ngff=ngff, cluster=CLUSTER))
    assert _files(_field(plate) / "labels" / "corrected") == before
    assert not (_field(plate) / "labels" / "artifacts").exists()
    assert list_labels(_field(plate)) == ["corrected"]
    assert check_field(_field(plate)) == []
    assert run(RunConfig(plates=plate, cluster=CLUSTER)).is_whole
    assert list_labels(_field(plate)) == ["artifacts", "corrected"]
    assert verify(VerifyConfig(plates=plate, cluster=CLUSTER)).is_whole


def test_masks_come_back_as_labels(plate, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    # As napari saves a layer (t, z, y, x): here two objects, and pixels to leave out.
    drawn = np.zeros((1, 1, 320, 320), np.int32)
    drawn[..., 10:20, 10:20] = drawn[..., 200:230, 100:150] = 3
    drawn[..., 300:310, :] = 9
    tifffile.imwrite(masks / "B02_1.tif", drawn)
    roi = roifile.ImagejRoi.frompoints([(30, 40), (60, 40), (60, 90), (30, 90)])
    roi.roitype = roifile.ROI_TYPE.POLYGON
    roifile.roiwrite(masks / "B03_0.zip", [roi])
    summary = _correct(plate, masks=masks, ignore=9)
    assert (summary.n_fields, summary.n_resumed) == (2, 0)
    labels = _pixels(plate, index=1)[0, 0]
    assert labels[15, 15] == 1
    assert labels[210, 120] == 2
    assert (labels[300:310] == 255).all()
    assert np.count_nonzero(labels) == 100 + 1500 + 3200
    from_roi = _pixels(plate, well="B/3")[0, 0]
    assert from_roi[60, 45] == 1
    assert 1400 < np.count_nonzero(from_roi) < 1600
    assert list_labels(_field(plate, "B/3", 0)) == ["artifacts", "corrected"]
    assert list_labels(_field(plate, "B/3", 1)) == ["artifacts"]
    yaozarrs.validate_zarr_store(str(plate))


def test_masks_replace_a_copy_but_nothing_that_was_painted(plate, tmp_path):
    tifffile.imwrite(tmp_path / "B02_0.tif", np.ones((320, 320), np.uint8))
    _correct(plate)
    _paint(plate)
    assert _correct(plate, masks=tmp_path).n_resumed == 1
    assert not (_pixels(plate) == 1).all()
    assert _correct(plate, masks=tmp_path, overwrite=True).n_resumed == 0
    assert (_pixels(plate) == 1).all()


def test_a_mask_that_cannot_be_read_fails_its_field_alone(plate, tmp_path):
    tifffile.imwrite(tmp_path / "B02_0.tif", np.ones((320, 320), np.uint8))
    tifffile.imwrite(tmp_path / "B02_1.tif", np.ones((100, 100), np.uint8))
    (failure,) = _correct(plate, masks=tmp_path).failures
    assert "100 x 100" in failure.error
    assert (_pixels(plate) == 1).all()
    assert list_labels(_field(plate, index=1)) == ["artifacts"]


def test_holes_that_were_drawn_stay(plate, tmp_path):
    ring = np.zeros((320, 320), np.uint8)
    ring[50:100, 50:100] = 1
    ring[60:90, 60:90] = 0
    tifffile.imwrite(tmp_path / "B02_0.tif", ring)
    _correct(plate, masks=tmp_path)
    np.testing.assert_array_equal(_pixels(plate)[0, 0], ring)


def test_nothing_is_written_while_a_run_is_at_work(plate):
    with hold_plate(plate, "run"), pytest.raises(LeaseError):
        _correct(plate)
    assert list_labels(_field(plate)) == ["artifacts"]


def test_a_field_without_the_label_fails_and_the_others_are_copied(plate):
    shutil.rmtree(_field(plate) / "labels" / "artifacts")
    (failure,) = _correct(plate).failures
    assert (failure.well, failure.field_id) == ("B02", 1)
    assert "has no labels/artifacts" in failure.error
    assert "corrected" in list_labels(_field(plate, index=1))
    assert _correct(plate, to="worst", fields=9).n_fields == 3


def test_a_damaged_copy_fails_its_field_until_it_is_overwritten(plate):
    _correct(plate)
    level = _field(plate) / "labels" / "corrected" / "0"
    chunk = max((file for file in level.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:20])
    (failure,) = _correct(plate).failures
    assert "labels/corrected is damaged" in failure.error
    assert _correct(plate, overwrite=True).failures == ()
    np.testing.assert_array_equal(_pixels(plate), _pixels(plate, "artifacts"))


def test_what_does_not_exist_is_named(plate, tmp_path):
    with pytest.raises(PlateError, match=r"has no well H12; its wells are B02, B03"):
        _correct(plate, wells="H12")
    with pytest.raises(PlateError, match="none of 4 fields has labels/weak"):
        _correct(plate, source="weak")
    tifffile.imwrite(tmp_path / "stranger.tif", np.ones((320, 320), np.uint8))
    with pytest.raises(ConfigError, match="No mask"):
        _correct(plate, masks=tmp_path)


@pytest.mark.parametrize("to", ["artifacts", "weak", "a/b", ""])
def test_results_of_a_stage_are_no_place_to_write_to(to):
    with pytest.raises(ValueError, match="to"):
        CorrectConfig(plates="plate.zarr", to=to)


def test_the_command_says_what_it_did(plate):
    result = CliRunner().invoke(app, ["correct", str(plate), "--from", "artifacts", "--to", "mine", "--wells", "B03"])
    assert result.exit_code == 0
    assert "2 fields, 2 of them now" in result.output
    assert list_labels(_field(plate, "B/3")) == ["artifacts", "mine"]
