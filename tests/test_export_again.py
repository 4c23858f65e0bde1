"""`artmask export` of unusual plates, and into folders that hold another export: nothing stale is left."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from exports import CHANNELS, make_plate, write_export
from object_store import serve_objects
from stores import writing

from artifact_mask.config import ClusterConfig, ExportConfig, IngestConfig
from artifact_mask.engine.cluster import start_cluster
from artifact_mask.engine.journal import FieldRecord, Journal, Unit, hold_plate, open_journal
from artifact_mask.io.load_data import column_names
from artifact_mask.io.ome_zarr import open_level, write_labels
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.io.operetta_writer import Layer, write_assay_layout
from artifact_mask.workflows import campaign
from artifact_mask.workflows.export import export
from artifact_mask.workflows.ingest import ingest

pytestmark = pytest.mark.usefixtures("shared_cluster")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)


def _export(plate, dest, **options):
    return export(ExportConfig(plates=plate, dest=dest, cluster=CLUSTER, **options))


def _label(root, *, name, without=()):
    """Write a square as label image into every field; says by field what was written."""
    stored = read_plate(root)
    for acquisition in stored.plate.acquisitions:
        t, _, z, y, x = acquisition.shape
        labels = np.zeros((y, x), np.int32)
        labels[8:40, 8:24] = 1
        for well in acquisition.wells:
            for field in well.fields:
                if (well.path, field.index) in without:
                    continue
                folder, planes = root / well.path / str(field.index), [((i, j), labels) for i, j in np.ndindex(t, z)]
                with writing(root) as files:
                    write_labels(files, folder, acquisition, field, planes, name=name, ngff=stored.ngff)
    return stored


def _record_run(root, stored, fields, *, digest="digest"):
    """Record a run of these fields, which wrote ``labels/artifacts``."""
    with hold_plate(root, "run") as lease:
        journal = Journal(root, "run", digest, lease.epoch)
        settings = {"ingest": stored.ingest_digest, "model": "abc"}
        journal.begin(settings, {"plates": [str(root)]})
        for well, index in fields:
            journal.commit(Unit(well, (index,)), {index: FieldRecord({}, {})})


@pytest.fixture
def plate(ingested, tmp_path):
    """Copy of a plate with everything that can vary, every field of which has a square as mask."""
    root = tmp_path / "plate.zarr"
    shutil.copytree(ingested, root)
    shutil.copytree(ingested.with_name(f"{ingested.name}.artmask"), tmp_path / "plate.zarr.artmask")
    stored = _label(root, name="artifacts")
    _record_run(root, stored, stored.plate.acquisition_of)
    return root


def test_each_plane_and_time_has_its_file_and_its_row(plate, tmp_path):
    summary = _export(plate, tmp_path / "out")
    assert not summary.failures
    folder = tmp_path / "out" / "plate"
    for t, c, z in np.ndindex(2, 2, 2):
        pixels = tifffile.imread(folder / "Images" / f"r02c03f07p0{z + 1}-ch{c + 1}sk{t + 1}fk1fl1.tiff")
        raw = open_level(plate / "B" / "3" / "2")[t, c, z]
        np.testing.assert_array_equal(pixels[50:], raw[50:])
        assert (pixels[8:40, 8:24] == int(np.floor(np.median(raw)))).all()
    listed = pd.read_csv(folder / "load_data.csv")
    assert len(listed) == 5 * 4
    assert listed.duplicated(["Metadata_Well", "Metadata_Site", "Metadata_Timepoint", "Metadata_Plane"]).sum() == 0


def test_an_ome_tiff_has_all_planes_times_and_says_where_it_is_from(plate, tmp_path):
    _export(plate, tmp_path / "out", format="ome-tiff", wells="B03", fields="7")
    images = tmp_path / "out" / "plate" / "Images"
    assert sorted(file.name for file in images.iterdir()) == ["r02c03f07-artifacts.ome.tiff", "r02c03f07.ome.tiff"]
    with tifffile.TiffFile(images / "r02c03f07.ome.tiff") as file:
        series = file.series[0]
        assert (series.axes, series.shape) == ("TCZYX", (2, 2, 2, 300, 260))
        raw = open_level(plate / "B" / "3" / "2")[:]
        np.testing.assert_array_equal(series.asarray()[..., 50:, :], raw[..., 50:, :])
        said = {**tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Plane"][3]}
        assert (said["PositionX"], said["PositionY"]) == (-40.0, 15.0)
        for text in ('K="well">B03', 'K="fill">median', 'K="model">abc'):
            assert text in file.ome_metadata
    first = (images / "r02c03f07.ome.tiff").read_bytes()
    _export(plate, tmp_path / "again", format="ome-tiff", wells="B03", fields="7")
    assert (tmp_path / "again" / "plate" / "Images" / "r02c03f07.ome.tiff").read_bytes() == first


def test_what_was_written_before_is_gone_where_it_would_look_like_a_result(plate, tmp_path):
    stored = read_plate(plate)
    fields = list(stored.plate.acquisition_of)
    images = tmp_path / "out" / "plate" / "Images"
    _export(plate, tmp_path / "out", unmasked=True)
    (images / "mine.tiff").write_bytes(b"")
    _record_run(plate, stored, fields[:-1], digest="another")
    summary = _export(plate, tmp_path / "out")
    assert [failure.error for failure in summary.failures] == [
        "there is no mask, and without one nothing is exported: `artmask run` has not reached it"
    ]
    row, column = fields[-1][0].split("/")
    assert list(images.glob("r02c03f07p*")) != []
    assert (row, column) == ("C", "11")
    assert list(images.glob("r03c11f07p*")) == []
    _export(plate, tmp_path / "out", format="geojson")
    assert {file.suffix for file in images.iterdir()} == {".tiff", ".geojson"}
    assert [file.name for file in images.glob("*.tiff")] == ["mine.tiff"]
    assert not (images.parent / "load_data.csv").exists()


def test_new_masks_are_exported_anew_and_a_run_that_went_on_completes_the_export(plate, tmp_path):
    stored = read_plate(plate)
    fields = list(stored.plate.acquisition_of)
    _record_run(plate, stored, fields[:2], digest="another")
    assert len(_export(plate, tmp_path / "out").failures) == len(fields) - 2
    _record_run(plate, stored, fields, digest="another")
    summary = _export(plate, tmp_path / "out")
    assert (summary.n_resumed, summary.failures) == (2, ())
    _record_run(plate, stored, fields, digest="a third")
    assert _export(plate, tmp_path / "out").n_resumed == 0
    said = json.loads((tmp_path / "out" / "plate" / "export.json").read_text())
    assert (said["masks"], said["fill"]) == ("a third", "median")


def test_a_smaller_masked_plate_leaves_nothing_of_the_larger_one_but_a_persons_labels(plate, tmp_path):
    _export(plate, tmp_path / "out", format="zarr")
    exported = tmp_path / "out" / "plate.zarr"
    _label(exported, name="mine", without=list(read_plate(exported).plate.acquisition_of)[1:])
    _export(plate, tmp_path / "out", format="zarr", wells="C11", channels="HOECHST 33342")
    (acquisition,) = read_plate(exported).plate.acquisitions
    assert [(well.name, len(well.fields)) for well in acquisition.wells] == [("C11", 3)]
    assert open_level(exported / "C" / "11" / "0").shape == (2, 1, 2, 300, 260)
    assert not (exported / "B" / "3" / "2").exists()
    assert (open_level(exported / "B" / "3" / "0" / "labels" / "mine")[0, 0] == 1).sum() == 32 * 16
    document = "zarr.json" if read_plate(exported).ngff == "0.5" else ".zattrs"
    said = json.loads((exported / "C" / "11" / "0" / document).read_text())["attributes"]["artmask"]["masking"]
    assert (said["fill"], said["label"], said["model"]) == ("median", "artifacts", "abc")


@pytest.fixture(scope="module")
def odd(shared_cluster, tmp_path_factory):
    """Plate that was measured twice, with names that are alike to CellProfiler, and masks of a person's."""
    folder = tmp_path_factory.mktemp("odd")
    names = ("Brightfield", "DAPI (1)", "DAPI [1]", "405ex")
    channels = [replace(channel, name=name) for channel, name in zip(CHANNELS, names, strict=True)]
    for number in (1, 2):
        made = make_plate(channels=channels)
        (only,) = made.acquisitions
        only = replace(only, measurement_id=f"measurement {number}", started=f"2026-01-0{number}T00:00:00+00:00")
        made = replace(made, acquisitions=(only,))
        write_export(folder / f"export{number}", made)
        layers = [Layer("Well", "string", {(2, 3): "inner"}), Layer("µM/L", "double", {(2, 3): 2.5})]
        write_assay_layout(folder / f"export{number}", made, layers)
    ingest(IngestConfig(exports=(folder / "export1", folder / "export2"), dest=folder / "out", cluster=CLUSTER))
    (root,) = (folder / "out").glob("*.zarr")
    _label(root, name="corrected")
    return root


def test_files_of_two_measurements_of_a_plate_do_not_replace_each_other(odd, tmp_path):
    summary = _export(odd, tmp_path, label="corrected")
    assert (summary.n_fields, summary.failures) == (4, ())
    folder = tmp_path / odd.name.removesuffix(".zarr")
    assert len(list(folder.rglob("*-ch*.tiff"))) == 4 * 4
    listed = pd.read_csv(folder / "load_data.csv")
    assert listed["Metadata_Acquisition"].tolist() == [0, 0, 1, 1]
    for name in ("Brightfield", "DAPI_1", "DAPI_1_2", "C405ex"):
        paths = listed[f"Image_PathName_{name}"] + "/" + listed[f"Image_FileName_{name}"]
        assert paths.is_unique
        assert all((folder / path).is_file() for path in paths)
    raw = open_level(odd / "B" / "3" / str(listed["Metadata_Field"][3]))[0, 2, 0]
    path = folder / listed["Image_PathName_DAPI_1_2"][3] / listed["Image_FileName_DAPI_1_2"][3]
    np.testing.assert_array_equal(tifffile.imread(path)[40:], raw[40:])


def test_layers_of_the_layout_never_replace_what_cellprofiler_needs(odd, tmp_path):
    _export(odd, tmp_path, label="corrected", image_base="/mnt/share/")
    listed = pd.read_csv(tmp_path / odd.name.removesuffix(".zarr") / "load_data.csv")
    assert set(listed["Metadata_Well"]) == {"B03"}
    assert set(listed["Metadata_layout_Well"]) == {"inner"}
    assert set(listed["Metadata_M_L"]) == {2.5}
    assert listed["Image_PathName_Brightfield"][0] == f"/mnt/share/{odd.name.removesuffix('.zarr')}/Images/acquisition0"


def test_names_of_columns_are_never_alike_whatever_their_case():
    assert column_names(["DAPI", "dapi", "-", "Site"], taken=["Site"]) == {
        "DAPI": "DAPI",
        "dapi": "dapi_2",
        "-": "C",
        "Site": "Site_2",
    }


def test_an_object_store_gets_the_same_files(plate, tmp_path, monkeypatch):
    options = {"wells": "B03", "fields": "7", "format": "cellprofiler"}
    _export(plate, tmp_path / "local", **options)
    with serve_objects() as store, start_cluster(CLUSTER) as client:
        from contextlib import nullcontext

        monkeypatch.setattr(campaign, "start_cluster", lambda *_, **__: nullcontext(client))
        there = store.root("exports")
        _export(plate, there, **options, unmasked=True)
        assert _export(plate, there, **options, unmasked=True).n_resumed == 1
        _export(plate, there, **options)
        for file in (tmp_path / "local").rglob("*"):
            if file.is_file() and ".artmask" not in str(file):
                assert (there / file.relative_to(tmp_path / "local")).read_bytes() == file.read_bytes()
        _export(plate, there, **(options | {"format": "geojson"}))
        found = [path.name for path in (there / "plate" / "Images").iterdir()]
        assert len(found) == 4
        assert all(name.endswith(".geojson") for name in found)
        assert open_journal(there / "plate", "export") is not None
