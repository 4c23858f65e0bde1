"""`artmask cells` on real stores and a real cluster: what it measures, whose labels it takes, what it leaves alone."""

import json
import math
import shutil

import ngio
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaozarrs
from commands import run_here
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listener import Listener
from stores import writing

from artifact_mask.columns import CELL
from artifact_mask.config import CellsConfig, ClusterConfig, IngestConfig, RunConfig, SimulateConfig
from artifact_mask.engine.journal import Unit, open_journal
from artifact_mask.errors import ConfigError, PlateError
from artifact_mask.io.cell_tables import read_cells
from artifact_mask.io.ngff_check import check_field
from artifact_mask.io.ome_zarr import open_level, write_labels
from artifact_mask.io.ome_zarr_plate import read_plate
from artifact_mask.io.tables import read_table
from artifact_mask.kernels.cell_measurements import measure_cells as measure_plane
from artifact_mask.kernels.illumination import estimate_background
from artifact_mask.kernels.nuclei import NucleusSearch, expand_to_cells, segment_nuclei
from artifact_mask.kernels.staining import DensityHistogram, optical_density
from artifact_mask.location import to_location
from artifact_mask.metadata import Acquisition, Channel, Field, Well
from artifact_mask.workflows.cell_figures import CELL_DENSITIES
from artifact_mask.workflows.cell_unit import CellParameters, CellTask, tabulate_cells
from artifact_mask.workflows.cell_unit import Channel as Source
from artifact_mask.workflows.cells import CellsStage, find_nuclear_channel, measure_cells
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate
from artifact_mask.workflows.status import read_status
from artifact_mask.workflows.verify import verify

pytestmark = pytest.mark.usefixtures("shared_cluster")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
BROKEN = "r02c03f02p01-ch1sk1fk1fl1.tiff"
PIXEL_UM = 0.6
SIZE = 400
FIELD = ("B/2", 0)


@pytest.fixture(scope="module")
def masked(ngff, shared_cluster, tmp_path_factory):
    """Plate after `run`, 3 wells x 3 fields x 2 channels; one field's brightfield is cut off. Not to be changed."""
    folder = tmp_path_factory.mktemp("masked")
    size = {"wells": 3, "fields": 3, "size": SIZE, "pixel_size_um": PIXEL_UM}
    (export,) = simulate(SimulateConfig(dest=folder / "export", channels=2, seed=4, **size))
    broken = export / "Images" / BROKEN
    broken.write_bytes(broken.read_bytes()[:5000])
    ingest(IngestConfig(exports=export, dest=folder / "plate.zarr", ngff=ngff, cluster=CLUSTER))
    run(RunConfig(plates=folder / "plate.zarr", negative_controls="Compound=DMSO", cluster=CLUSTER))
    return folder / "plate.zarr"


def _copy(plate, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in (plate.name, plate.name + ".artmask"):
        shutil.copytree(plate.with_name(name), folder / name)
    return folder / plate.name


@pytest.fixture
def plate(masked, tmp_path):
    return _copy(masked, tmp_path)


@pytest.fixture(scope="module")
def finished(masked, tmp_path_factory):
    """The plate after `cells`, and its summary. Not to be changed."""
    copy = _copy(masked, tmp_path_factory.mktemp("finished"))
    return copy, _measure(copy)


def _measure(plate, progress=None, **options):
    return measure_cells(CellsConfig(plates=plate, cluster=CLUSTER, **options), progress)


def _table(plate):
    return pd.read_parquet(plate / "tables" / "cells" / "table.parquet")


def _label(plate, name, key=FIELD, tz=(0, 0)):
    return open_level(plate / key[0] / str(key[1]) / "labels" / name)[tz]


def _bring(plate, name, pixels, keys=None, **options):
    """Write label images as another tool would."""
    stored = read_plate(plate)
    (acquisition,) = stored.plate.acquisitions
    with writing(plate) as files:
        for well in acquisition.wells:
            for field in well.fields:
                if keys is None or (well.path, field.index) in keys:
                    folder = plate / well.path / str(field.index)
                    planes = [((0, 0), pixels)]
                    write_labels(files, folder, acquisition, field, planes, name=name, ngff=stored.ngff, **options)


def _squares(step=40, side=20, numbers=1):
    """Squares of some pixels, numbered from ``numbers`` on."""
    labels = np.zeros((SIZE, SIZE), np.int32)
    for n, (y, x) in enumerate(np.ndindex(2, 3)):
        labels[10 + y * step : 10 + y * step + side, 10 + x * step : 10 + x * step + side] = numbers + n
    return labels


def test_every_column_of_two_cells_counted_by_hand():
    cells = np.array([[4, 4, 0, 9], [4, 4, 0, 9]], np.int32)
    nuclei = np.array([[1, 0, 0, 0], [1, 0, 0, 2]], np.int32)
    nuclear = np.array([[100, 1, 1, 1], [200, 1, 1, 50]], np.uint16)
    density = np.array([[0.1, 0.2, 9, 0.3], [0.4, 0.6, 9, 0.5]], np.float32)
    artifact = np.array([[0, 0, 0, 1], [1, 0, 0, 1]], bool)
    figures = measure_plane(cells, nuclei, nuclear=nuclear, density=density, is_artifact=artifact)
    field = Field(2, 3, y_um=-100.0, x_um=50.0)
    task = CellTask(
        acquisition=Acquisition("m", (2, 2, 5, 2, 4), 0.5, 1.0, (), (Well(2, 3, (field,)),)),
        parameters=CellParameters(Source(0, None), Source(1, None), 2, None, None, NucleusSearch(), 9.0, 0.5),
        place={"plate": "P", "well": "B03", "row": 2, "column": 3, "acquisition": 0},
        without_mask={},
        ngff="0.5",
    )
    nothing = measure_plane(np.zeros_like(cells), nuclei, nuclear=nuclear, density=density, is_artifact=artifact)
    found = tabulate_cells([nothing, figures], field, task)
    expected = {
        "plate": "P",
        "well": "B03",
        "row": 2,
        "column": 3,
        "acquisition": 0,
        "field": 2,
        "field_id": 3,
        "t": [1, 1],
        "z": 2,
        "label": [4, 9],
        "y_um": [-100 + 0.5 * 0.5, -100 + 0.5 * 0.5],
        "x_um": [50 + 0.5 * 0.5, 50 + 3 * 0.5],
        "nucleus_area_um2": [2 * 0.25, 1 * 0.25],
        "nucleus_mean_intensity": [150, 50],
        "cell_area_um2": [4 * 0.25, 2 * 0.25],
        "cell_mean_od": [(0.1 + 0.2 + 0.6) / 3, math.nan],
        "cell_integrated_od_um2": [0.9 * 0.25, 0],
        "artifact_fraction": [1 / 4, 1],
        "touches_border": [True, True],
        "excluded": [False, True],
    }
    assert set(expected) == {column.name for column in CELL} - {"senescent"}
    for name, value in expected.items():
        if isinstance(value, str):
            assert found[name] == value
        else:
            np.testing.assert_allclose(np.asarray(found[name], float), value, rtol=1e-6, err_msg=name)


def test_table_is_what_the_kernels_find(finished):
    plate = finished[0]
    image = open_level(plate / "B" / "2" / "0")
    stained, nuclear = np.asarray(image[0, 0, 0]), np.asarray(image[0, 1, 0])
    nuclei = segment_nuclei(nuclear, pixel_size_um=PIXEL_UM, search=NucleusSearch())
    cells = expand_to_cells(nuclei, pixel_size_um=PIXEL_UM, reach_um=9)
    np.testing.assert_array_equal(_label(plate, "nuclei"), nuclei)
    np.testing.assert_array_equal(_label(plate, "cells"), cells)
    density = optical_density(stained, estimate_background(stained))
    artifacts = np.asarray(_label(plate, "artifacts")) > 0
    figures = measure_plane(cells, nuclei, nuclear=nuclear, density=density, is_artifact=artifacts)
    table = _table(plate).query("well == 'B02' and field == 0")
    assert len(table) > 2
    np.testing.assert_array_equal(table["label"], figures.label)
    np.testing.assert_allclose(table["cell_mean_od"], figures.cell_mean_od, rtol=1e-6)
    np.testing.assert_allclose(table["artifact_fraction"], figures.artifact_fraction, rtol=1e-6)
    np.testing.assert_allclose(table["nucleus_mean_intensity"], figures.nucleus_mean_intensity, rtol=1e-6)


def test_table_has_the_columns_of_the_dictionary_then_the_layout_and_a_row_group_a_well(finished):
    file = pq.ParquetFile(finished[0] / "tables" / "cells" / "table.parquet")
    assert file.schema_arrow.names == [*(column.name for column in CELL), "Compound", "Concentration"]
    assert file.schema_arrow.field("cell_area_um2").metadata[b"unit"] == b"um2"
    wells = [set(table["well"].to_pylist()) for table in read_cells(finished[0])]
    assert wells == [{"B02"}, {"B03"}, {"B04"}]
    table = _table(finished[0])
    ordered = table.sort_values(["row", "column", "field", "t", "label"], kind="stable")
    pd.testing.assert_frame_equal(table, ordered)
    assert table.set_index("well")["Compound"].to_dict() == {"B02": "DMSO", "B03": "Compound A", "B04": "Compound A"}


def test_cells_that_are_called_senescent_are_those_that_the_other_tables_count(finished):
    plate = finished[0]
    cells, wells, fields = _table(plate), read_table(plate, "wells").set_index("well"), read_table(plate, "fields")
    counted = cells[~cells["excluded"]].groupby("well")["senescent"].agg(["count", "sum"])
    assert wells["n_cells"].to_dict() == counted["count"].to_dict()
    assert wells["n_senescent_cells"].to_dict() == counted["sum"].to_dict()
    assert cells.loc[cells["excluded"], "senescent"].isna().all()
    assert fields["n_cells"].sum() + fields["n_excluded_cells"].sum() == len(cells)
    # At most 5 % of the controls' cells reach the threshold.
    threshold = wells["senescence_threshold_od"].unique()
    controls = DensityHistogram.of(cells[~cells["excluded"]].query("well == 'B02'")["cell_mean_od"].to_numpy())
    assert threshold.tolist() == [controls.percentile(95)]
    assert 0 < wells.loc["B04", "n_senescent_cells"]


def test_field_without_a_mask_is_an_error_and_no_cell(finished):
    plate, summary = finished
    assert [(f.well, f.field_id) for f in summary.failures] == [("B03", 2)]
    assert not (plate / "B" / "3" / "1" / "labels" / "cells").exists()
    assert not (plate / "B" / "3" / "1" / "tables").exists()
    assert _table(plate).query("well == 'B03' and field == 1").empty
    (row,) = [r for k, r in open_journal(plate, "cells").read().items() if k == ("B/3", 1)]
    assert row.row["error"].startswith("no artifact mask: `artmask run` did not get there: ")
    fields = read_table(plate, "fields").set_index(["well", "field"])
    assert fields.loc[("B03", 1), "error"]
    assert math.isnan(fields.loc[("B03", 1), "n_cells"])


def test_record_is_small_and_has_counts(finished):
    record = open_journal(finished[0], "cells").read()[FIELD]
    assert set(record.row) == {"n_cells", "n_excluded_cells", CELL_DENSITIES}
    assert DensityHistogram.unpack(record.row[CELL_DENSITIES]).n == record.row["n_cells"]


def test_ngio_opens_labels_and_both_tables(finished):
    plate = ngio.open_ome_zarr_plate(finished[0])
    assert set(plate.list_tables()) == {"fields", "wells", "plate", "cells"}
    assert len(plate.get_table("cells").dataframe) == len(_table(finished[0]))
    field = ngio.open_ome_zarr_container(finished[0] / "B" / "2" / "0")
    assert set(field.list_labels()) == {"artifacts", "cells", "nuclei"}
    assert field.list_tables() == ["cells"]
    table = field.get_table("cells")
    assert (table.reference_label, table.dataframe.index.name) == ("cells", "label")
    assert set(table.dataframe.index) == set(np.unique(field.get_label("cells").get_as_numpy())) - {0}


def test_store_stays_valid(finished, ngff):
    yaozarrs.validate_zarr_store(str(finished[0]))
    problems = check_field(finished[0] / "B" / "2" / "0")
    assert not list(problems)
    assert {status.stage: status.n_done for status in read_status([finished[0]])}["cells"] == 8
    assert verify_finds_nothing(finished[0])


def verify_finds_nothing(plate):
    from artifact_mask.config import VerifyConfig

    summary = verify(VerifyConfig(plates=plate, cluster=CLUSTER))
    return not [failure for failure in summary.failures if "damaged" in failure.error]


def _files(plate):
    return {file.relative_to(plate): file.read_bytes() for file in sorted(plate.rglob("*")) if file.is_file()}


def test_second_run_does_only_what_is_missing_and_leaves_the_same_bytes(finished, tmp_path):
    copy = _copy(finished[0], tmp_path)
    before = _files(copy)
    (copy / "B" / "2" / "0" / "tables" / "cells" / "table.parquet").unlink()
    (copy / "B" / "4" / "2" / "labels" / "cells" / "zarr.json").unlink(missing_ok=True)
    summary = _measure(copy)
    assert summary.n_resumed >= 6
    assert _files(copy) == before


def test_another_threshold_rewrites_the_tables_alone(finished, tmp_path):
    copy = _copy(finished[0], tmp_path)
    before = _files(copy)
    summary = _measure(copy, senescence_threshold=0.005)
    assert summary.n_resumed == 8
    after = _files(copy)
    assert {str(name).split("/")[0] for name in after if after[name] != before[name]} == {"tables"}
    cells = _table(copy)
    kept = cells[~cells["excluded"]]
    assert (kept["senescent"] == (kept["cell_mean_od"] >= 0.005 - 1e-6)).all()
    assert read_table(copy, "wells")["n_senescent_cells"].sum() == kept["senescent"].sum()


def test_without_controls_no_cell_is_called(masked, tmp_path):
    copy = _copy(masked, tmp_path)
    run(RunConfig(plates=copy, cluster=CLUSTER))
    _measure(copy, listener := Listener())
    assert any("without negative controls" in note for note in listener.notes)
    assert _table(copy)["senescent"].isna().all()
    assert read_table(copy, "wells")["n_senescent_cells"].isna().all()
    assert read_table(copy, "wells")["n_cells"].sum() > 0


@pytest.mark.usefixtures("shared_cluster")
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations([(well, index) for well in ("B/2", "B/3", "B/4") for index in range(3)]), st.randoms())
def test_any_cut_into_units_makes_the_same_tables(finished, tmp_path_factory, order, rng):
    units = []
    for well, index in order:
        last = units[-1] if units else None
        if last and last.well == well and rng.random() < 0.7:
            units[-1] = Unit(well, (*last.fields, index))
        else:
            units.append(Unit(well, (index,)))
    copy = _copy(finished[0], tmp_path_factory.mktemp("cut"))
    shutil.rmtree(copy / "tables" / "cells")
    shutil.rmtree(copy.with_name(copy.name + ".artmask") / "cells")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CellsStage, "units", lambda _: units)
        assert _measure(copy).n_resumed == 0
    before, after = _files(finished[0]), _files(copy)
    assert [str(name) for name in before if before[name] != after.get(name)] == []
    assert set(before) == set(after)


def test_artifacts_leave_the_figures_and_too_many_exclude_the_cell(plate):
    cells = _squares()
    _bring(plate, "mine", cells)
    artifacts = np.zeros_like(cells)
    artifacts[10:30, 10:15] = 1  # a quarter of the first
    artifacts[10:30, 50:65] = 2  # three quarters of the second
    artifacts[10:30, 90:110] = 3  # all of the third
    folder = plate / "B" / "2" / "0" / "labels" / "artifacts"
    shutil.rmtree(folder)
    _bring(plate, "artifacts", artifacts, [FIELD])
    _measure(plate, cells="mine")
    table = _table(plate).query("well == 'B02' and field == 0")
    assert table["label"].tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(table["artifact_fraction"], [0.25, 0.75, 1, 0, 0, 0])
    assert table["excluded"].tolist() == [False, True, True, False, False, False]
    assert math.isnan(table["cell_mean_od"].iloc[2])
    image = np.asarray(open_level(plate / "B" / "2" / "0")[0, 0, 0])
    density = optical_density(image, estimate_background(image))
    assert table["cell_mean_od"].iloc[0] == pytest.approx(density[10:30, 15:30].mean(), rel=1e-5)
    assert table["cell_integrated_od_um2"].iloc[3] == pytest.approx(density[50:70, 10:30].sum() * 0.36, rel=1e-4)
    np.testing.assert_allclose(table["cell_area_um2"], [400 * 0.36] * 6, rtol=1e-6)
    wells = read_table(plate, "fields").set_index(["well", "field"])
    assert (wells.loc[("B02", 0), "n_cells"], wells.loc[("B02", 0), "n_excluded_cells"]) == (4, 2)


def test_nuclei_that_are_brought_make_the_cells(plate):
    nuclei = _squares(side=10, numbers=7)
    _bring(plate, "cellpose", nuclei)
    _measure(plate, nuclei="cellpose")
    assert not (plate / "B" / "2" / "0" / "labels" / "nuclei").exists()
    np.testing.assert_array_equal(_label(plate, "cellpose"), nuclei)
    cells = np.asarray(_label(plate, "cells"))
    np.testing.assert_array_equal(cells, expand_to_cells(nuclei, pixel_size_um=PIXEL_UM, reach_um=9))
    table = _table(plate).query("well == 'B02' and field == 0")
    assert table["label"].tolist() == [7, 8, 9, 10, 11, 12]
    np.testing.assert_allclose(table["nucleus_area_um2"], [100 * 0.36] * 6, rtol=1e-6)


def test_cells_that_are_brought_need_no_nuclear_channel(tmp_path):
    (export,) = simulate(SimulateConfig(dest=tmp_path / "export", wells=1, fields=1, size=SIZE, pixel_size_um=PIXEL_UM))
    plate = tmp_path / "plate.zarr"
    ingest(IngestConfig(exports=export, dest=plate, cluster=CLUSTER))
    with pytest.raises(PlateError, match=r"Run `artmask run plate\.zarr` first"):
        _measure(plate)
    run(RunConfig(plates=plate, cluster=CLUSTER))
    with pytest.raises(PlateError, match=r"has no nuclear channel .* 'Brightfield'"):
        _measure(plate)
    _bring(plate, "mine", _squares())
    _measure(plate, cells="mine", senescence_threshold=0.1)
    table = _table(plate)
    assert len(table) == 6
    assert table["nucleus_area_um2"].isna().all()
    assert not (plate / "B" / "2" / "0" / "labels" / "cells").exists()
    container = ngio.open_ome_zarr_container(plate / "B" / "2" / "0")
    assert container.get_table("cells").reference_label == "mine"


def test_labels_of_a_person_are_never_written_over(plate):
    nuclei = _squares(side=10)
    _bring(plate, "nuclei", nuclei)
    with pytest.raises(PlateError, match=r"labels/nuclei was not made by `artmask cells`.*--nuclei nuclei"):
        _measure(plate)
    _measure(plate, nuclei="nuclei")
    np.testing.assert_array_equal(_label(plate, "nuclei"), nuclei)
    assert _table(plate).query("well == 'B02' and field == 0")["label"].tolist() == [1, 2, 3, 4, 5, 6]


def test_one_field_with_labels_of_a_person_fails_alone(plate, monkeypatch):
    monkeypatch.setattr("artifact_mask.workflows.cells._N_CHECKED", 1)
    _bring(plate, "cells", _squares(), [("B/4", 1)])
    failed = {(f.well, f.field_id): f.error for f in _measure(plate).failures}
    assert "--cells cells" in failed.pop(("B04", 2))
    assert list(failed) == [("B03", 2)]
    np.testing.assert_array_equal(_label(plate, "cells", ("B/4", 1)), _squares())


def test_own_labels_of_an_earlier_run_can_be_named_and_are_not_removed(finished, tmp_path):
    copy = _copy(finished[0], tmp_path)
    before = np.asarray(_label(copy, "nuclei"))
    _measure(copy, nuclei="nuclei", cell_reach_um=3)
    np.testing.assert_array_equal(_label(copy, "nuclei"), before)
    np.testing.assert_array_equal(_label(copy, "cells"), expand_to_cells(before, pixel_size_um=PIXEL_UM, reach_um=3))


def test_new_masks_make_new_cells(finished, tmp_path):
    copy = _copy(finished[0], tmp_path)
    run(RunConfig(plates=copy, threshold=0.9, cluster=CLUSTER))
    assert not (copy / "tables" / "cells").exists()
    assert "n_cells" not in read_table(copy, "fields")
    assert ngio.open_ome_zarr_plate(copy).list_tables() == ["fields", "plate", "wells"]
    summary = _measure(copy, negative_controls="B02")
    assert summary.n_resumed == 0
    assert len(_table(copy)) == len(_table(finished[0]))


def test_ingest_keeps_what_was_brought_and_removes_what_cells_made(finished, tmp_path, ngff):
    copy = _copy(finished[0], tmp_path)
    _bring(copy, "mine", _squares(), [FIELD])
    export = finished[0].parent.parent / "export"
    folder = copy / "B" / "2" / "0"
    from artifact_mask.io.ome_zarr import find_own_labels, folders_of_field

    assert find_own_labels(folder, ngff=ngff) == ["mine"]
    removed = {place.relative_to(folder).as_posix() for place in folders_of_field(folder, ngff=ngff)}
    assert {"labels/artifacts", "labels/cells", "labels/nuclei", "tables", "masked"} <= removed
    assert "labels/mine" not in removed
    del export


def test_wrong_labels_fail_their_field(plate):
    _bring(plate, "mine", _squares())
    shutil.rmtree(plate / "B" / "2" / "1" / "labels" / "mine")
    failed = {(f.well, f.field_id): f.error for f in _measure(plate, nuclei="mine").failures}
    assert "there is no label image 'mine'" in failed["B02", 2]
    assert len(failed) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"nuclear_channel": "DAPI"}, "no nuclear channel"), ({"plane": 1}, "there is no plane 1")],
)
def test_what_is_not_there_is_an_error(plate, options, message):
    with pytest.raises(PlateError, match=message):
        _measure(plate, **options)


def test_wrong_controls_are_an_error_before_anything_is_done(plate):
    with pytest.raises(ConfigError, match="no well for the controls"):
        _measure(plate, negative_controls="Z99")


def test_stack_is_looked_at_in_its_middle_and_numbers_are_those_of_all_times(tmp_path):
    size = {"wells": 1, "fields": 1, "size": SIZE, "pixel_size_um": PIXEL_UM, "seed": 4}
    (export,) = simulate(SimulateConfig(dest=tmp_path / "export", channels=2, planes=3, timepoints=2, **size))
    plate = tmp_path / "plate.zarr"
    ingest(IngestConfig(exports=export, dest=plate, cluster=CLUSTER))
    run(RunConfig(plates=plate, cluster=CLUSTER))
    _measure(plate, senescence_threshold=0.1)
    table = _table(plate)
    assert set(table["t"]) == {0, 1}
    assert set(table["z"]) == {1}
    assert table["label"].is_unique
    nuclei = open_level(plate / "B" / "2" / "0" / "labels" / "nuclei")
    assert not np.asarray(nuclei[:, 0]).any()
    assert set(np.unique(nuclei[1, 1])) - {0} == set(table.query("t == 1")["label"])


def test_nuclear_channel_is_told_by_name_or_by_ultraviolet_light():
    def find(*channels, name=None):
        acquisition = Acquisition("m", (1, len(channels), 1, 8, 8), 0.5, 1.0, channels, ())
        return find_nuclear_channel(acquisition, name)

    brightfield = Channel(1, "Brightfield", "brightfield", 740.0)
    assert find(brightfield, Channel(2, "hoechst 33342", "fluorescence", 385.0)) == 1
    assert find(brightfield, Channel(2, "FITC", "fluorescence", 475.0), Channel(3, "Blue", "fluorescence", 365.0)) == 2
    assert find(brightfield, Channel(2, "FITC", "fluorescence", 475.0)) is None
    assert find(brightfield, Channel(2, "FITC", "fluorescence", 475.0), name="FITC") == 1
    with pytest.raises(PlateError, match="2 channels that may show nuclei: 'DAPI 1', 'DAPI 2'"):
        find(Channel(1, "DAPI 1", "fluorescence"), Channel(2, "DAPI 2", "fluorescence"))


def test_file_that_is_streamed_is_whole_or_not_there(tmp_path):
    for root in (tmp_path / "p.zarr", to_location("memory://streamed-cells/p.zarr")):
        path = root / "tables" / "x"
        with writing(root) as files, files.open(path) as file:
            file.write(b"all ")
            file.write(b"of it")
        assert path.read_bytes() == b"all of it"
        with pytest.raises(ZeroDivisionError):
            _write_and_fail(root)
        assert not (root / "torn").exists()


def _write_and_fail(root):
    with writing(root) as files, files.open(root / "torn") as file:
        file.write(b"part")
        raise ZeroDivisionError


def test_command_measures_and_writes_what_it_was_told(masked, tmp_path, monkeypatch):
    copy = _copy(masked, tmp_path)
    monkeypatch.setattr("artifact_mask.workflows.cells._READ_THREADS", 1)
    assert run_here(monkeypatch, "cells", copy, "--cell-reach-um", 4, "--senescence-threshold", 0.02) == 3
    document = json.loads((copy.with_name(copy.name + ".artmask") / "cells" / "state.json").read_text())
    assert (document["config"]["cell_reach_um"], document["config"]["senescence_threshold"]) == (4.0, 0.02)
