"""`artmask stain`: the pixels that the tables count, as labels."""

import ngio
import numpy as np
import pytest

from artifact_mask.config import ClusterConfig, IlluminationConfig, IngestConfig, RunConfig, SimulateConfig, StainConfig
from artifact_mask.errors import PlateError
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.tables import read_table
from artifact_mask.metadata import well_path
from artifact_mask.workflows.illumination import estimate_illumination
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.run import run
from artifact_mask.workflows.simulate import simulate
from artifact_mask.workflows.stain import label_stain

pytestmark = pytest.mark.usefixtures("shared_cluster")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
BROKEN = "r02c03f02p01-ch1sk1fk1fl1.tiff"


@pytest.fixture(scope="module")
def plate(shared_cluster, tmp_path_factory):
    """Plate of two wells with two fields, one of them broken, with a flat field and masks."""
    folder = tmp_path_factory.mktemp("stain")
    (export,) = simulate(SimulateConfig(dest=folder / "export", wells=2, fields=2, size=256, shading="plate"))
    broken = export / "Images" / BROKEN
    broken.write_bytes(broken.read_bytes()[:900])
    ingest(IngestConfig(exports=export, dest=folder / "plate.zarr", cluster=CLUSTER))
    return folder / "plate.zarr"


def _stained_areas(plate):
    fields = read_table(plate, "fields")
    found = []
    for _, row in fields.iterrows():
        folder = plate / well_path(row["row"], row["column"]) / str(row["field"]) / "labels" / "stain"
        found.append(open_level(folder)[:].sum() * 0.3**2 if folder.exists() else np.nan)
    return fields, np.array(found)


def test_labels_are_the_pixels_that_the_tables_count(plate):
    with pytest.raises(PlateError, match=r"Run `artmask run plate\.zarr` first"):
        label_stain(StainConfig(plates=plate, cluster=CLUSTER))
    estimate_illumination(IlluminationConfig(plates=plate, fields=4, cluster=CLUSTER))
    run(RunConfig(plates=plate, cluster=CLUSTER))
    summary = label_stain(StainConfig(plates=plate, cluster=CLUSTER))
    fields, areas = _stained_areas(plate)
    assert np.nansum(areas) > 0
    np.testing.assert_allclose(areas, fields["stained_area_um2"])
    assert np.isnan(areas).tolist() == (fields["error"] != "").tolist() == [False, False, False, True]
    assert summary.n_fields == 3
    assert [failure.field_id for failure in summary.failures] == [2]
    folder = plate / "B" / "2" / "0"
    assert set(ngio.open_ome_zarr_container(folder).list_labels()) == {"artifacts", "stain"}


def test_another_threshold_rewrites_tables_and_labels_but_no_mask(plate):
    masks = {f: f.stat().st_mtime_ns for f in plate.rglob("labels/artifacts/**/*") if f.is_file()}
    again = run(RunConfig(plates=plate, stain_threshold=0.05, max_artifact_fraction=None, cluster=CLUSTER))
    assert again.n_resumed == 3
    assert masks == {f: f.stat().st_mtime_ns for f in plate.rglob("labels/artifacts/**/*") if f.is_file()}
    fields, areas = _stained_areas(plate)
    assert fields["stained_area_um2"].sum() > np.nansum(areas)
    label_stain(StainConfig(plates=plate, cluster=CLUSTER))
    fields, areas = _stained_areas(plate)
    np.testing.assert_allclose(areas, fields["stained_area_um2"])
    assert label_stain(StainConfig(plates=plate, cluster=CLUSTER)).n_resumed == 3


def test_flat_field_that_changed_since_the_run_is_an_error(plate):
    estimate_illumination(IlluminationConfig(plates=plate, remove=True, cluster=CLUSTER))
    with pytest.raises(PlateError, match="flat field"):
        label_stain(StainConfig(plates=plate, cluster=CLUSTER))
