"""`artmask export`: every form opened by another reader, and fields without a mask never taken for clean."""

import json
import shutil

import anndata
import ngio
import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from artifact_mask.config import ClusterConfig, ExportConfig, IngestConfig, RunConfig, SimulateConfig
from artifact_mask.errors import ConfigError, PlateError
from artifact_mask.io.mask_files import read_mask
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.tables import read_table
from artifact_mask.kernels.outlines import fill_outline, trace_outlines
from artifact_mask.workflows.export import export
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate

pytestmark = pytest.mark.usefixtures("shared_cluster")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
BROKEN = "r02c03f02p01-ch1sk1fk1fl1.tiff"
STEM = "r02c02f01"


@pytest.fixture(scope="module")
def plate(shared_cluster, tmp_path_factory):
    """Plate of two wells with two fields of two channels, masked; one field is broken. Not to be changed."""
    folder = tmp_path_factory.mktemp("exported")
    (measured,) = simulate(SimulateConfig(dest=folder / "export", wells=2, fields=2, size=256, channels=2, seed=3))
    broken = measured / "Images" / BROKEN
    broken.write_bytes(broken.read_bytes()[:900])
    ingest(IngestConfig(exports=measured, dest=folder / "plate.zarr", cluster=CLUSTER))
    run(RunConfig(plates=folder / "plate.zarr", cluster=CLUSTER))
    return folder / "plate.zarr"


def _export(plate, dest, **options):
    return export(ExportConfig(plates=plate, dest=dest, cluster=CLUSTER, **options))


@pytest.fixture(scope="module")
def tiffs(plate, tmp_path_factory):
    """Export for CellProfiler, and its summary."""
    dest = tmp_path_factory.mktemp("tiffs")
    return dest / "plate", _export(plate, dest)


def test_tiffs_are_the_masked_images_and_the_labels(plate, tiffs):
    images = tiffs[0] / "Images"
    field = plate / "B" / "2" / "0"
    masked = tifffile.imread(images / f"{STEM}p01-ch1sk1fk1fl1.tiff")
    np.testing.assert_array_equal(masked, open_level(field / "masked")[0, 0, 0])
    labels = open_level(field / "labels" / "artifacts")[0, 0]
    np.testing.assert_array_equal(tifffile.imread(images / f"{STEM}p01-sk1fk1fl1-artifacts.tiff"), labels)
    # The same pixels of the other channel become its own median.
    nuclei, raw = tifffile.imread(images / f"{STEM}p01-ch2sk1fk1fl1.tiff"), open_level(field)[0, 1, 0]
    np.testing.assert_array_equal(nuclei[labels == 0], raw[labels == 0])
    assert (nuclei[labels > 0] == int(np.median(raw))).all()


def test_load_data_lists_what_is_there(tiffs):
    listed = pd.read_csv(tiffs[0] / "load_data.csv")
    assert listed["Metadata_Well"].tolist() == ["B02", "B02", "B03"]
    assert listed["Metadata_Site"].tolist() == [1, 2, 1]
    assert listed["Metadata_Compound"].tolist()[0] == "DMSO"
    for kind, name in (("", "Brightfield"), ("", "HOECHST_33342"), ("Objects", "Artifacts")):
        for folder, file in zip(
            listed[f"Image_{kind}PathName_{name}"], listed[f"Image_{kind}FileName_{name}"], strict=True
        ):
            assert (tiffs[0] / folder / file).is_file()


def test_field_without_a_mask_is_left_out_and_named(tiffs):
    folder, summary = tiffs
    assert [(failure.well, failure.field_id) for failure in summary.failures] == [("B03", 2)]
    assert "without one nothing is exported" in summary.failures[0].error
    assert not list((folder / "Images").glob("r02c03f02*"))


def test_second_export_does_nothing_and_another_choice_everything(plate, tiffs, tmp_path):
    shutil.copytree(tiffs[0].parent, tmp_path / "again")
    again = _export(plate, tmp_path / "again")
    assert again.n_resumed == 3
    (tmp_path / "again" / "plate" / "Images" / f"{STEM}p01-ch2sk1fk1fl1.tiff").unlink()
    assert _export(plate, tmp_path / "again").n_resumed == 2
    assert _export(plate, tmp_path / "again", fill="background").n_resumed == 0


def test_images_as_they_are(plate, tmp_path):
    summary = _export(plate, tmp_path, unmasked=True, channels="HOECHST 33342", wells="B03")
    found = sorted(path.name for path in (tmp_path / "plate" / "Images").iterdir())
    # The field without a mask has its image, and no mask.
    assert found == [
        "r02c03f01p01-ch2sk1fk1fl1.tiff",
        "r02c03f01p01-sk1fk1fl1-artifacts.tiff",
        "r02c03f02p01-ch2sk1fk1fl1.tiff",
    ]
    assert not summary.failures
    image = tifffile.imread(tmp_path / "plate" / "Images" / found[0])
    np.testing.assert_array_equal(image, open_level(plate / "B" / "3" / "0")[0, 1, 0])
    listed = pd.read_csv(tmp_path / "plate" / "load_data.csv")
    assert listed["Image_ObjectsFileName_Artifacts"].notna().tolist() == [True, False]


@pytest.mark.parametrize("fill", [None, "nan"])
def test_ome_tiffs_have_channels_sizes_and_a_pyramid(plate, tmp_path, fill):
    _export(plate, tmp_path, format="ome-tiff", wells="B02", fill=fill)
    with tifffile.TiffFile(tmp_path / "plate" / "Images" / f"{STEM}.ome.tiff") as file:
        assert file.is_ome
        series = file.series[0]
        assert series.dtype == ("float32" if fill else "uint16")
        pixels = series.asarray().reshape(2, 256, 256)
        assert 'Name="HOECHST 33342"' in file.ome_metadata
        assert 'PhysicalSizeX="0.3"' in file.ome_metadata
    labels = open_level(plate / "B" / "2" / "0" / "labels" / "artifacts")[0, 0]
    assert np.isnan(pixels[0]).any() == (fill == "nan" and (labels > 0).any())
    found = tifffile.imread(tmp_path / "plate" / "Images" / f"{STEM}-artifacts.ome.tiff")
    np.testing.assert_array_equal(np.squeeze(found), labels)


def test_masked_plate_is_a_plate_of_its_own(plate, tmp_path):
    _export(plate, tmp_path, format="zarr")
    opened = ngio.open_ome_zarr_plate(tmp_path / "plate.zarr")
    assert sorted(opened.wells_paths()) == ["B/2", "B/3"]
    field = ngio.open_ome_zarr_container(tmp_path / "plate.zarr" / "B" / "2" / "0")
    assert field.list_labels() == ["artifacts"]
    pixels = field.get_image().get_as_numpy(channel_selection="Brightfield")
    np.testing.assert_array_equal(np.squeeze(pixels), open_level(plate / "B" / "2" / "0" / "masked")[0, 0, 0])
    assert not (tmp_path / "plate.zarr" / "B" / "3" / "1" / "zarr.json").exists()
    with pytest.raises(PlateError, match="is there already, and no export"):
        _export(plate, plate.parent, format="zarr")


def test_regions_give_the_mask_back(plate, tmp_path):
    _export(plate, tmp_path, format="geojson")
    checked = 0
    for field in (0, 1):
        labels = open_level(plate / "B" / "2" / str(field) / "labels" / "artifacts")[0, 0]
        path = tmp_path / "plate" / "Images" / f"r02c02f0{field + 1}p01-sk1fk1fl1-artifacts.geojson"
        features = json.loads(path.read_text())["features"]
        assert len(features) == labels.max()
        if features:
            np.testing.assert_array_equal(read_mask(path, labels.shape, ignore=None), labels > 0)
            area = features[0]["properties"]["measurements"]["area_um2"]
            assert area == pytest.approx((labels == 1).sum() * 0.09, abs=1e-3)
            checked += 1
    assert checked


@given(mask=arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_outlines_of_any_object_give_it_back(mask):
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    back = np.zeros(mask.shape, int)
    for number, polygons in trace_outlines(labels.astype(np.int32)).items():
        assert len(polygons) == 1
        back += number * fill_outline([ring for polygon in polygons for ring in polygon], mask.shape)
    np.testing.assert_array_equal(back, labels)


def test_tables_of_plates_agree_in_every_form(plate, tmp_path):
    other = tmp_path / "other.zarr"
    shutil.copytree(plate, other)
    summary = export(
        ExportConfig(plates=(plate, other), dest=tmp_path / "out", format="tables", anndata=True, cluster=CLUSTER)
    )
    assert len(summary.outputs) == 9
    for name in ("fields", "wells", "plate"):
        original = read_table(plate, name)
        twice = pd.concat([original, original], ignore_index=True)
        parquet = pd.read_parquet(tmp_path / "out" / f"{name}.parquet")
        pd.testing.assert_frame_equal(parquet, twice)
        csv = pd.read_csv(
            tmp_path / "out" / f"{name}.csv", keep_default_na=False, na_values={c: [""] for c in original}
        )
        data = anndata.read_h5ad(tmp_path / "out" / f"{name}.h5ad")
        for column in original:
            values = twice[column]
            if not pd.api.types.is_numeric_dtype(values):
                assert data.obs[column].astype(str).tolist() == values.tolist()
                assert csv[column].fillna("").tolist() == values.tolist()
                continue
            np.testing.assert_allclose(csv[column].to_numpy(float), values.to_numpy(float), rtol=1e-12)
            found = data[:, column].X.ravel() if column in data.var_names else data.obs[column].to_numpy(float)
            np.testing.assert_array_equal(found, values.to_numpy(float))


def test_tables_of_plates_with_different_layouts_are_joined(plate, tmp_path):
    other, bare = tmp_path / "other.zarr", tmp_path / "bare.zarr"
    shutil.copytree(plate, other)
    shutil.copytree(plate, bare, ignore=shutil.ignore_patterns("tables"))
    path = other / "tables" / "wells" / "table.parquet"
    # Of one plate a number, of another a text; and a slash, which means a folder in HDF5.
    pd.read_parquet(path).assign(**{"Concentration": "high", "Dose (uM/l)": "1/2"}).to_parquet(path)
    summary = export(
        ExportConfig(plates=(plate, other, bare), dest=tmp_path / "out", format="tables", anndata=True, cluster=CLUSTER)
    )
    assert list(summary.refused) == [str(bare)]
    wells = pd.read_parquet(tmp_path / "out" / "wells.parquet")
    assert [float(text) for text in wells["Concentration"][:2]] == read_table(plate, "wells")["Concentration"].tolist()
    assert wells["Concentration"][2:].tolist() == ["high", "high"]
    assert wells["Dose (uM/l)"].isna().tolist() == [True, True, False, False]
    data = anndata.read_h5ad(tmp_path / "out" / "wells.h5ad")
    assert data.obs["Dose (uM_l)"].astype(str).tolist() == ["", "", "1/2", "1/2"]
    with pytest.raises(PlateError, match="has no tables"):
        _export(bare, tmp_path / "none", format="tables")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wells": "H12"}, "has no well 'H12'"),
        ({"channels": "DAPI"}, "has no channel 'DAPI'"),
        ({"fields": "1,9"}, "has no field '9'; it has 1, 2"),
        ({"label": "weak"}, "has no masks of the images that are there now. Run `artmask label"),
        ({"label": "corrected", "wells": "B02"}, None),
    ],
)
def test_what_is_not_there_is_named(plate, tmp_path, options, message):
    if message:
        with pytest.raises(PlateError, match=message):
            _export(plate, tmp_path, **options)
    else:
        assert all("corrected" in failure.error for failure in _export(plate, tmp_path, **options).failures)


def test_without_anndata_it_is_said_what_to_install(plate, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install"):
        export(ExportConfig(plates=plate, dest=tmp_path, format="tables", anndata=True))


@pytest.mark.parametrize(
    "wrong",
    [
        {"anndata": True},
        {"format": "zarr", "fill": "nan"},
        {"format": "pdf"},
        {"label": "../artifacts"},
        {"fields": "x"},
    ],
)
def test_wrong_choices_are_refused(wrong):
    with pytest.raises(ValueError, match="validation error"):
        ExportConfig(plates="p.zarr", dest="out", **wrong)
