"""Plates opened as xarray: what is in them is what is stored, nothing is read before it is asked for."""

import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import matplotlib
import numpy as np
import pandas as pd
import pytest
import zarr
from exports import CHANNELS, make_plate, write_export

from artifact_mask import open_campaign, open_plate
from artifact_mask.config import ClusterConfig, IlluminationConfig, IngestConfig, RunConfig, SimulateConfig
from artifact_mask.errors import ConfigError, PlateError
from artifact_mask.kernels.edges import edge_map
from artifact_mask.kernels.pyramid import pyramid_shapes
from artifact_mask.views import napari_layers
from artifact_mask.views.stored_planes import UNKNOWN
from artifact_mask.workflows.illumination import estimate_illumination
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate

pytestmark = pytest.mark.usefixtures("shared_cluster")
matplotlib.use("Agg")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
SIZE = 300
BROKEN = "r02c03f02p01-ch1sk1fk1fl1.tiff"


@pytest.fixture(scope="module")
def root(shared_cluster, tmp_path_factory):
    """Plate of 3 wells x 2 fields x 2 channels that was run on; one brightfield image is damaged. Not to be changed."""
    folder = tmp_path_factory.mktemp("views")
    simulated = SimulateConfig(
        dest=folder / "export", wells=3, fields=2, size=SIZE, channels=2, seed=5, shading="plate"
    )
    (export,) = simulate(simulated)
    broken = export / "Images" / BROKEN
    broken.write_bytes(broken.read_bytes()[:5000])
    ingest(IngestConfig(exports=export, dest=folder / "plate.zarr", cluster=CLUSTER))
    estimate_illumination(IlluminationConfig(plates=folder / "plate.zarr"))
    run(RunConfig(plates=folder / "plate.zarr", cluster=CLUSTER))
    return folder / "plate.zarr"


@pytest.fixture(scope="module")
def plate(root):
    return open_plate(root)


def stored(root, path):
    return zarr.open_array(root / path, mode="r")[:]


def ingested(folder, plate, **options):
    export = write_export(folder / "export", plate)
    ingest(IngestConfig(exports=export, dest=folder / "plate.zarr", cluster=CLUSTER, **options))
    return folder / "plate.zarr"


def test_pixels_labels_and_masked_images_are_those_that_are_stored(root, plate):
    for name, path in (("B02", "B/2"), ("B04", "B/4")):
        for field in (0, 1):
            chosen = plate.sel(well=name, field=field)
            assert np.array_equal(chosen["image"], stored(root, f"{path}/{field}/0"))
            assert np.array_equal(chosen["artifacts"], stored(root, f"{path}/{field}/labels/artifacts/0"))
            assert np.array_equal(chosen["masked"], stored(root, f"{path}/{field}/masked/0")[:, 0])


def test_dimensions_have_names_units_and_places(plate):
    assert plate["image"].dims == ("well", "field", "t", "c", "z", "y", "x")
    assert plate["artifacts"].dims == plate["masked"].dims == ("well", "field", "t", "z", "y", "x")
    assert plate["well"].values.tolist() == ["B02", "B03", "B04"]
    assert plate["row"].values.tolist() == [2, 2, 2]
    assert plate["field_id"].values.tolist() == [1, 2]
    assert plate["c"].values.tolist() == ["Brightfield", "HOECHST 33342"]
    assert plate["y"].values[:2].tolist() == [0.0, 0.3]
    assert plate["y"].attrs["units"] == "um"
    assert set(plate["Compound"].values) <= {"DMSO", "Compound A"}
    assert plate["Concentration"].dtype.kind == "f"


def test_the_table_of_fields_lies_on_wells_and_fields(root, plate):
    table = pd.read_parquet(root / "tables" / "fields" / "table.parquet")
    for row in table.to_dict("records"):
        chosen = plate.sel(well=row["well"], field=row["field"])
        for column in ("artifact_fraction", "n_artifacts", "stained_fraction", "error", "rejected", "y_um", "x_um"):
            assert chosen[column].item() == row[column] or (row[column] != row[column] and chosen[column].isnull())
    assert plate["stained_fraction"].attrs["long_name"]
    assert plate["artifact_area_um2"].attrs["units"] == "um2"


def test_a_field_that_failed_is_not_clean(plate):
    failed = plate.sel(well="B03", field=1)
    assert failed["error"].item()
    assert failed["present"].item()
    assert (failed["artifacts"] == UNKNOWN).all()
    assert not failed["masked"].any()


def test_a_field_that_was_never_imaged_is_marked(tmp_path):
    described = make_plate(wells=[(2, 3), (4, 11)], field_ids=(1, 2, 4), without=[(4, 11, 2)], name="ragged")
    plate = open_plate(ingested(tmp_path, described))
    assert plate["present"].values.tolist() == [[True, True, True], [True, False, True]]
    assert plate["field_id"].values.tolist() == [1, 2, 4]
    assert not plate["image"].sel(well="D11", field=1).any()
    assert plate["image"].sel(well="D11", field=2).any()
    assert plate["y_um"].sel(well="D11").isnull().values.tolist() == [False, True, False]
    assert plate["error"].sel(well="D11", field=1).item() == ""


def test_a_plate_without_a_run_has_images_only(tmp_path):
    plate = open_plate(ingested(tmp_path, make_plate()))
    assert "artifacts" not in plate
    assert "masked" not in plate
    assert "labels: none" in repr(plate.artmask)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_stacks_times_and_channels_are_those_that_are_stored(tmp_path, version):
    described = make_plate(channels=CHANNELS[:2], n_t=2, n_z=3)
    place = ingested(tmp_path, described, ngff=version)
    plate = open_plate(place)
    path = "B/3/1/0"
    assert np.array_equal(plate["image"].isel(well=0, field=1), stored(place, path))
    part = plate["image"].isel(well=0, field=1, t=1, z=slice(1, None), y=slice(3, 9), x=slice(60, 5, -7))
    assert np.array_equal(part, stored(place, path)[1, :, 1:, 3:9, 60:5:-7])
    assert plate["z"].values.tolist() == [0.0, 2.0, 4.0]


def test_levels_are_those_of_the_pyramid(root, plate):
    coarse = open_plate(root, level=1)
    assert coarse["image"].shape[-2:] == pyramid_shapes((SIZE, SIZE))[1]
    for name, path in (("image", "0"), ("artifacts", "labels/artifacts")):
        level = path.replace("0", "1") if name == "image" else f"{path}/1"
        assert np.array_equal(coarse[name].sel(well="B02", field=0), stored(root, f"B/2/0/{level}"))
    assert coarse["y"].values[1] == pytest.approx(0.6)
    with pytest.raises(ConfigError, match="no level 7; expected one from 0"):
        open_plate(root, level=7)


def test_masked_images_that_are_not_stored_are_made_of_image_and_label(root, plate, tmp_path):
    copy = shutil.copytree(root, tmp_path / "plate.zarr")
    shutil.copytree(root.with_name("plate.zarr.artmask"), tmp_path / "plate.zarr.artmask")
    for folder in copy.glob("*/*/*/masked"):
        shutil.rmtree(folder)
    made = open_plate(copy)
    assert made["masked"].attrs == plate["masked"].attrs
    assert np.array_equal(made["masked"], plate["masked"])


def test_labels_of_a_person_are_there_beside_those_of_artmask(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "plate.zarr")
    labels = copy / "B" / "2" / "0" / "labels"
    group = zarr.open_group(labels, mode="r+")
    drawn = np.zeros((1, 1, SIZE, SIZE), np.uint8)
    drawn[..., 5:9, 7:20] = 3
    mine = group.create_group("mine", attributes=group["artifacts"].attrs.asdict())
    for level in range(2):
        step = 2**level
        mine.create_array(str(level), data=drawn[..., ::step, ::step])
    group.attrs["ome"] = {**group.attrs["ome"], "labels": ["artifacts", "mine"]}
    plate = open_plate(copy)
    assert np.array_equal(plate["mine"].sel(well="B02", field=0), drawn)
    assert (plate["mine"].sel(well="B02", field=1) == UNKNOWN).all()
    assert np.array_equal(open_plate(copy, level=1)["mine"].sel(well="B02", field=0), drawn[..., ::2, ::2])


def test_several_measurements_have_to_be_told_apart(tmp_path):
    simulate(SimulateConfig(dest=tmp_path / "export", wells=1, fields=1, size=64, measurements=2))
    ingest(IngestConfig(exports=tmp_path / "export", dest=tmp_path / "plate.zarr", cluster=CLUSTER))
    with pytest.raises(ConfigError, match=r"several measurements. Choose one with `acquisition=`: 0: 2026"):
        open_plate(tmp_path / "plate.zarr")
    second = open_plate(tmp_path / "plate.zarr", acquisition=1)
    assert second["field"].values.tolist() == [1]
    assert np.array_equal(second["image"][0, 0], stored(tmp_path / "plate.zarr", "B/2/1/0"))
    tree = open_campaign(tmp_path)
    assert sorted(tree["plate"].children) == ["acquisition0", "acquisition1"]


def test_a_campaign_is_a_tree_of_its_plates(root, tmp_path):
    for name in ("Plate01.zarr", "Plate02.zarr"):
        shutil.copytree(root, tmp_path / name)
    tree = open_campaign(tmp_path)
    assert sorted(tree.children) == ["Plate01", "Plate02"]
    assert tree["Plate02/artifact_fraction"].dims == ("well", "field")
    with pytest.raises(PlateError, match="neither a plate"):
        open_campaign(tmp_path / "Plate01.zarr" / "B")


class _Counting(SimpleHTTPRequestHandler):
    paths: list[str]

    def __init__(self, *args, paths, **options):
        self.paths = paths
        super().__init__(*args, **options)

    def log_message(self, *args):
        self.paths.append(self.path)


@contextmanager
def served(folder):
    """Serve a folder over HTTP; gives its URL and what was asked for."""
    paths: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Counting, directory=folder, paths=paths))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", paths
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_opening_over_http_reads_metadata_only_and_a_field_its_own_files(root, plate):
    with served(root.parent) as (url, paths):
        remote = open_plate(f"{url}/plate.zarr")
        asked = [path for path in paths if path.endswith("c.0.0.0.0.0") or "/0/0/zarr.json" in path]
        assert not asked
        assert len([path for path in paths if path.startswith("/plate.zarr/B/2/")]) <= 8
        paths.clear()
        field = remote["image"].sel(well="B02", field=0, c="Brightfield")
        assert np.array_equal(field, plate["image"].sel(well="B02", field=0, c="Brightfield"))
        assert {path.split("/")[2:5][1] for path in paths} == {"2"}
        assert np.array_equal(remote["masked"].sel(well="B02", field=0), plate["masked"].sel(well="B02", field=0))


def test_heat_maps_show_each_well_at_its_place(plate):
    axes = plate["artifact_fraction"].mean("field").artmask.heatmap(cmap="magma")
    (mesh,) = axes.collections
    shown = np.ma.asarray(mesh.get_array())
    assert shown.shape == (8, 12)
    assert shown.count() == 3
    assert shown[1, 3] == plate["artifact_fraction"].sel(well="B04").mean("field").item()
    assert [label.get_text() for label in axes.get_yticklabels()] == list("ABCDEFGH")
    matplotlib.pyplot.close("all")


def test_a_heat_map_needs_one_number_for_each_well(plate):
    with pytest.raises(ConfigError, match=r"found float64 with the dimensions \('well', 'field'\)"):
        plate["artifact_fraction"].artmask.heatmap()
    with pytest.raises(ConfigError, match=r"no 'artifact_fractoin'. Did you mean 'artifact_fraction'?"):
        plate.artmask.heatmap("artifact_fractoin")


def test_an_overlay_has_the_outlines_of_the_labels(plate):
    chosen = plate.sel(well="B02").isel(field=0)
    axes = chosen.artmask.overlay()
    assert axes.get_title() == "B02 field 0 Brightfield"
    assert np.array_equal(axes.images[0].get_array(), chosen["image"].sel(c="Brightfield")[0, 0])
    assert len(axes.collections) == bool((chosen["artifacts"] > 0).any())
    bare = chosen["image"].sel(c="HOECHST 33342").artmask.overlay()
    assert not bare.collections
    failed = plate.sel(well="B03", field=1).artmask.overlay()
    assert "no labels" in [text.get_text() for text in failed.texts]
    with pytest.raises(ConfigError, match="One field is drawn at a time"):
        plate.artmask.overlay()
    with pytest.raises(ConfigError, match=r"no channel 'Brightfeld'. Did you mean 'Brightfield'?"):
        chosen.artmask.overlay("Brightfeld")
    matplotlib.pyplot.close("all")


def test_a_montage_has_a_row_a_well(tmp_path):
    described = make_plate(wells=[(2, 3), (4, 11)], field_ids=(1, 2), without=[(4, 11, 2)])
    plate = open_plate(ingested(tmp_path, described))
    grid = plate.artmask.montage(labels=None)
    assert grid.shape == (2, 2)
    assert [bool(axes.images) for axes in grid.ravel()] == [True, True, True, False]
    one = plate.sel(well="B03").artmask.montage(labels=None)
    assert one.shape == (1, 2)
    matplotlib.pyplot.close("all")


def test_segmenting_lazily_gives_what_run_has_written_whatever_the_chunks_are(plate):
    measured = plate["error"] == ""
    lazy = plate.chunk({"y": 77, "x": 130}).artmask.segment()
    assert lazy.chunks is not None
    assert np.array_equal(lazy.where(measured, UNKNOWN), plate["artifacts"])
    assert (plate["artifacts"] > 0).any()


def test_a_field_that_is_not_there_is_not_segmented(tmp_path):
    described = make_plate(wells=[(2, 3), (4, 11)], field_ids=(1, 2), without=[(4, 11, 2)])
    plate = open_plate(ingested(tmp_path, described))
    labels = plate.artmask.segment().compute()
    assert (labels.sel(well="D11", field=1) == UNKNOWN).all()
    assert (labels.sel(well="D11", field=0) >= 0).all()


def test_correcting_illumination_lazily_gives_what_run_has_looked_at(plate):
    assert "flat_field" in plate
    corrected = plate.artmask.correct_illumination().sel(c="Brightfield")
    outside = (plate["artifacts"] == 0).compute()
    assert outside.any()
    assert np.array_equal(corrected.where(outside, 0), plate["masked"].where(outside, 0))


def test_edge_maps_do_not_depend_on_chunks(plate):
    image = plate["image"].sel(well="B02", field=0, c="Brightfield", t=0, z=0)
    lazy = image.chunk({"y": 50, "x": 70}).artmask.edge_map(dilation_px=7)
    assert np.array_equal(lazy, edge_map(image.to_numpy(), dilation_px=7))
    assert "row" in lazy.coords


def test_napari_gets_the_selected_field_with_all_levels(plate, monkeypatch):
    shown = []
    monkeypatch.setattr(napari_layers, "show_layers", lambda layers, title: shown.append((title, layers)))
    plate.sel(well="B04").isel(field=1).artmask.to_napari()
    ((title, layers),) = shown
    assert title == "Plate01 B04 field 1"
    names = {layer.name for layer in layers}
    assert {"B04/1 Brightfield", "B04/1 HOECHST 33342", "B04/1 labels/artifacts"} <= names
    assert {len(layer.data) for layer in layers} == {len(pyramid_shapes((SIZE, SIZE)))}
    with pytest.raises(ConfigError, match="napari shows one field"):
        plate.sel(well="B04").artmask.to_napari()


def test_the_summary_says_what_is_there(plate):
    said = repr(plate.artmask)
    assert "3 wells, 6 fields of view (0 missing), level 0 of 2" in said
    assert "labels: artifacts" in said
    assert "failed: 1 fields" in said


def test_a_place_without_a_plate_is_refused(tmp_path):
    with pytest.raises(PlateError, match="does not exist"):
        open_plate(tmp_path / "nothing.zarr")
