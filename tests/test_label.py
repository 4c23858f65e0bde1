import json

import matplotlib.image
import numpy as np
import pytest
from classifiers import SQUARE_PX, TILE_PX, write_classifier
from commands import run_here
from exports import make_plate, places, write_export

from artifact_mask.config import ClusterConfig, ExplainConfig, IngestConfig, LabelConfig, RunConfig, VerifyConfig
from artifact_mask.errors import ModelError, PlateError
from artifact_mask.io.ngff_check import check_field
from artifact_mask.io.ome_zarr import open_level
from artifact_mask.io.operetta_writer import write_plane
from artifact_mask.io.tables import read_table
from artifact_mask.kernels.saliency import PUBLISHED_CUT
from artifact_mask.nn.model_card import find_unet
from artifact_mask.workflows.explain import explain
from artifact_mask.workflows.ingest import ingest
from artifact_mask.workflows.label import label
from artifact_mask.workflows.run import run
from artifact_mask.workflows.status import read_status
from artifact_mask.workflows.verify import verify

pytestmark = pytest.mark.usefixtures("shared_cluster")

CLUSTER = ClusterConfig(workers=2, threads_per_worker=1, dashboard=False)
SIZE = 2 * TILE_PX
SQUARE = (slice(40, 40 + SQUARE_PX), slice(120, 120 + SQUARE_PX))
"""Of the first field of each well; the second is clean."""


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return write_classifier(tmp_path_factory.mktemp("classifier") / "squares.safetensors")


@pytest.fixture
def plate(tmp_path):
    described = make_plate(wells=[(2, 3), (3, 4)], size=SIZE)
    export = write_export(tmp_path / "export", described)
    for place in places(described):
        rng = np.random.default_rng(place.well.row)
        pixels = rng.normal(30_000, 600, (SIZE, SIZE))
        if place.field.index == 0:
            pixels[SQUARE] -= 24_000
        write_plane(export, place.file, pixels.astype(np.uint16), 0.5)
    ingest(IngestConfig(exports=export, dest=tmp_path / "plate.zarr", cluster=CLUSTER))
    return tmp_path / "plate.zarr"


def label_plate(plate, classifier, **options):
    return label(LabelConfig(plates=plate, classifier=classifier, cluster=CLUSTER, **options))


def weak(plate, path):
    return open_level(plate / path / "labels" / "weak")[0, 0]


def test_an_artifact_is_labelled_where_it_is(plate, classifier):
    assert label_plate(plate, classifier).is_whole
    labels = weak(plate, "B/3/0")
    truth = np.zeros(labels.shape, bool)
    truth[SQUARE] = True
    overlap = (labels > 0) & truth
    assert overlap.sum() > 0.9 * truth.sum()
    assert overlap.sum() / ((labels > 0) | truth).sum() > 0.5
    assert labels.max() == 1


def test_a_clean_field_gets_an_empty_label(plate, classifier):
    label_plate(plate, classifier)
    labels = weak(plate, "B/3/1")
    assert labels.shape == (SIZE, SIZE)
    assert not labels.any()


def test_the_classifiers_probability_is_in_the_tables(plate, classifier):
    label_plate(plate, classifier)
    fields = read_table(plate, "fields")
    is_artifact = fields["field"] == 0
    assert (fields["artifact_probability"] > 0.5).tolist() == is_artifact.tolist()
    assert (fields["n_weak_objects"] > 0).tolist() == is_artifact.tolist()
    assert (fields["error"] == "").all()
    wells = read_table(plate, "wells").set_index("well")
    assert wells.loc["B03", "weak_area_um2"] == pytest.approx(fields.loc[0, "weak_area_um2"])


def test_labels_are_whole_for_readers_of_ngff(plate, classifier):
    label_plate(plate, classifier)
    assert list(check_field(plate / "B" / "3" / "0")) == []
    listed = json.loads((plate / "B/3/0/labels/zarr.json").read_bytes())["attributes"]["ome"]["labels"]
    assert listed == ["weak"]


def test_nothing_is_labelled_twice(plate, classifier):
    label_plate(plate, classifier)
    again = label_plate(plate, classifier)
    assert (again.n_fields, again.n_resumed) == (4, 4)


def test_labels_do_not_depend_on_how_fields_are_batched(plate, classifier, tmp_path):
    label_plate(plate, classifier, fields_per_unit=1)
    first = [weak(plate, path) for path in ("B/3/0", "C/4/0")]
    label_plate(plate, classifier, fields_per_unit=2, min_object_px=13)
    for one, other in zip(first, [weak(plate, path) for path in ("B/3/0", "C/4/0")], strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_refinement_does_everything_again(plate, classifier):
    label_plate(plate, classifier)
    before = weak(plate, "B/3/0")
    assert label_plate(plate, classifier, refinement="published").n_resumed == 0
    assert (weak(plate, "B/3/0") > 0).sum() != (before > 0).sum()


def test_a_run_and_a_labelling_keep_each_others_columns(plate, classifier):
    run(RunConfig(plates=plate, cluster=CLUSTER))
    label_plate(plate, classifier)
    fields = read_table(plate, "fields")
    assert {"artifact_probability", "stained_fraction"} <= set(fields)
    run(RunConfig(plates=plate, threshold=0.4, cluster=CLUSTER))
    assert set(read_table(plate, "fields")) == set(fields)
    listed = json.loads((plate / "B/3/0/labels/zarr.json").read_bytes())["attributes"]["ome"]["labels"]
    assert listed == ["artifacts", "weak"]


def test_a_field_that_cannot_be_read_is_no_clean_one(plate, classifier):
    for file in (plate / "B" / "3" / "1" / "0").rglob("c*"):
        if file.is_file():
            file.write_bytes(b"torn")
    summary = label_plate(plate, classifier)
    assert not summary.is_whole
    fields = read_table(plate, "fields").set_index(["well", "field"])
    assert fields.loc[("B03", 1), "error"] != ""
    assert np.isnan(fields.loc[("B03", 1), "artifact_probability"])
    assert not (plate / "B" / "3" / "1" / "labels" / "weak").exists()


def test_a_classifier_of_another_magnification_sees_the_field_resampled(plate, tmp_path):
    coarse = write_classifier(tmp_path / "coarse.safetensors", pixel_size_um=1.0)
    assert label_plate(plate, coarse, object_threshold=0).is_whole
    labels = weak(plate, "B/3/0")
    assert labels.shape == (SIZE, SIZE)


def test_status_and_verify_know_of_labels(plate, classifier):
    assert [status.stage for status in read_status([plate])] == ["ingest", "run"]
    label_plate(plate, classifier)
    (of_label,) = [status for status in read_status([plate]) if status.stage == "label"]
    assert (of_label.n_done, of_label.n_failed) == (4, 0)
    assert verify(VerifyConfig(plates=plate, cluster=CLUSTER)).is_whole
    next(file for file in (plate / "B/3/0/labels/weak/0").rglob("c*") if file.is_file()).write_bytes(b"x")
    assert not verify(VerifyConfig(plates=plate, cluster=CLUSTER)).is_whole
    assert label_plate(plate, classifier).n_resumed == 3


def test_a_unet_is_no_classifier(plate):
    with pytest.raises(ModelError, match="is a U-Net; expected a classifier"):
        label_plate(plate, find_unet())


def test_an_unknown_layer_is_an_error_that_names_the_known_ones(plate, classifier):
    summary = label_plate(plate, classifier, layer="layer9")
    assert not summary.is_whole
    assert "layer2" in summary.failures[0].error


def test_an_explanation_is_a_picture(plate, classifier, tmp_path):
    explained = explain(
        ExplainConfig(plate=plate, well="b03", field=0, classifier=classifier, dest=tmp_path / "explained.png")
    )
    assert explained.n_objects == 1
    assert explained.n_artifact_tiles == 1
    assert explained.n_tiles == 4
    picture = matplotlib.image.imread(explained.picture)
    assert picture.shape[1] > 4 * picture.shape[0]
    assert picture.std() > 0.1


@pytest.mark.parametrize(
    ("place", "complaint"),
    [({"well": "H12"}, r"has no well 'H12'\. Its wells are B03, C04"), ({"field": 7}, r"no field 7\. Its fields are")],
)
def test_a_field_that_is_not_there_is_named(plate, classifier, place, complaint):
    with pytest.raises(PlateError, match=complaint):
        explain(ExplainConfig(**{"plate": plate, "well": "B03", "classifier": classifier} | place))


def test_the_commands_do_the_same(plate, classifier, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_here(monkeypatch, "label", plate, "--classifier", classifier, "--refinement", "edges") == 0
    assert (weak(plate, "B/3/0") > 0).any()
    arguments = ("--well", "B03", "--classifier", classifier, "--cut", "0.2")
    assert run_here(monkeypatch, "explain", plate, *arguments) == 0
    assert (tmp_path / "explanation.png").is_file()
    assert "1 of 4 tiles are called artifact" in capsys.readouterr().out


def test_the_published_refinement_has_the_published_cut(plate, classifier):
    label_plate(plate, classifier, refinement="published")
    state = json.loads((plate.with_name("plate.zarr.artmask") / "label" / "state.json").read_bytes())
    assert state["settings"]["cut"] == PUBLISHED_CUT
