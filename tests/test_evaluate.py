"""Predictions are compared with truths from wherever both come; what could not be compared is never silent."""

import csv
import json

import imagecodecs
import numpy as np
import pytest
import tifffile
from exports import make_plate
from listener import Listener
from stores import writing
from typer.testing import CliRunner

from artifact_mask import EvaluateConfig, evaluate
from artifact_mask.errors import ConfigError, ImageError, PlateError
from artifact_mask.io.ome_zarr import write_field, write_labels
from artifact_mask.io.ome_zarr_plate import create_plate
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.labels import label_artifacts
from artifact_mask.nn.predict import Segmenter
from artifact_mask.workflows.planes import predict_planes, scale_between

SIZE = 80


def box(y, x, height, width, value=1):
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[y : y + height, x : x + width] = value
    return mask


TRUTH = {
    "a": box(10, 10, 10, 10) + box(60, 60, 4, 5),
    "b": box(30, 30, 10, 20, 3) + box(0, 0, 8, 8, 255),
    "c": box(0, 0, 0, 0),
}
PREDICTION = {
    # Half of the large object, a pixel beyond its rim, nothing of the small one.
    "a": box(10, 10, 5, 10) + box(9, 10, 1, 10),
    # All of it, what is left out, and a false object of 3 x 3.
    "b": box(30, 30, 10, 20) + box(0, 0, 6, 6) + box(70, 5, 3, 3),
    "c": box(0, 0, 0, 0),
}


def write_masks(folder, masks):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, mask in masks.items():
        (folder / f"{stem}.png").write_bytes(imagecodecs.png_encode(mask))
    return folder


@pytest.fixture
def folders(tmp_path):
    return write_masks(tmp_path / "predicted", PREDICTION), write_masks(tmp_path / "true", TRUTH)


def configure(prediction, truth, **given):
    folder = truth if not isinstance(truth, tuple) else truth[0]
    return EvaluateConfig(
        **{"prediction": prediction, "truth": truth, "dest": folder.parent / "evaluation", "ignore": 255} | given
    )


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def scores_of(evaluation):
    return {(row["of"], row["pixels"]): row for row in evaluation.scores.to_dict("records")}


def test_scores_are_those_by_hand(folders):
    evaluation = evaluate(configure(*folders))
    assert evaluation.is_whole
    scores = scores_of(evaluation)
    strict, tolerant = scores["pooled", "strict"], scores["pooled", "tolerant"]
    # 50 + 200 pixels are right, 10 + 9 wrong, 50 + 20 missed.
    assert strict["precision_artifact"] == pytest.approx(250 / 269)
    assert strict["recall_artifact"] == pytest.approx(250 / 320)
    assert strict["f1_artifact"] == pytest.approx(500 / 589)
    assert strict["iou_artifact"] == pytest.approx(250 / 339)
    n_background = 3 * SIZE**2 - 320 - 64 - 19
    assert strict["iou_background"] == pytest.approx(n_background / (n_background + 70 + 19))
    assert strict["mean_iou"] == pytest.approx((strict["iou_artifact"] + strict["iou_background"]) / 2)
    assert strict["accuracy"] == pytest.approx((n_background + 250) / (n_background + 250 + 89))
    # The pixels at the rim are forgiven.
    assert tolerant["precision_artifact"] == pytest.approx(250 / 259)
    assert (strict["objects"], strict["objects_found"]) == (3, 2)
    assert strict["false_objects_per_field"] == pytest.approx(1 / 3)


def test_the_median_is_that_of_the_fields_with_artifacts(folders):
    scores = scores_of(evaluate(configure(*folders)))["median field", "strict"]
    of_a, of_b = 50 / (50 + 10 + 70), 200 / 209
    assert scores["fields"] == 2
    assert scores["iou_artifact"] == pytest.approx((of_a + of_b) / 2)


def test_files_say_what_is_returned(folders):
    evaluation = evaluate(configure(*folders))
    assert [float(row["f1_artifact"]) for row in rows_of(evaluation.outputs["scores"])] == pytest.approx(
        evaluation.scores["f1_artifact"].to_list(), rel=1e-5
    )
    rows = rows_of(evaluation.outputs["fields"])
    assert [(row["file"], row["objects"], row["false_objects_tolerant"]) for row in rows] == [
        ("a.png", "2", "0"),
        ("b.png", "1", "1"),
        ("c.png", "0", "0"),
    ]
    assert imagecodecs.png_decode(evaluation.outputs["picture"].read_bytes()).ndim == 3


def test_without_a_ring_there_are_strict_scores_alone(folders):
    assert set(evaluate(configure(*folders, ring_px=0)).scores["pixels"]) == {"strict"}


def test_missing_and_damaged_predictions_are_named_and_never_clean(folders):
    predicted, true = folders
    (predicted / "a.png").unlink()
    (predicted / "b.png").write_bytes(b"torn")
    evaluation = evaluate(configure(predicted, true))
    assert evaluation.missing == ("a.png",)
    assert list(evaluation.failures) == ["b.png"]
    assert not evaluation.is_whole
    assert {row["file"]: bool(row["error"]) for row in rows_of(evaluation.outputs["fields"])} == {
        "a.png": True,
        "b.png": True,
        "c.png": False,
    }
    assert scores_of(evaluation)["pooled", "strict"]["fields"] == 1


def test_a_prediction_of_another_size_names_both(folders):
    predicted, true = folders
    write_masks(predicted, {"a": np.zeros((40, 40), np.uint8)})
    assert "40 x 40 pixels, the truth 80 x 80" in evaluate(configure(predicted, true)).failures["a.png"]


def test_nothing_to_compare_is_an_error(folders, tmp_path):
    predicted, true = folders
    other = write_masks(tmp_path / "other", {"z": PREDICTION["a"]})
    with pytest.raises(ConfigError, match=r"found z, expected names such as a, b"):
        evaluate(configure(other, true))
    for stem in PREDICTION:
        (predicted / f"{stem}.png").write_bytes(b"torn")
    with pytest.raises(ImageError, match=r"None of 3 fields.*a\.png"):
        evaluate(configure(predicted, true))


def test_255_in_the_truth_must_be_explained(folders):
    with pytest.raises(ConfigError, match="--ignore 255"):
        evaluate(configure(*folders, ignore=None))


def test_probabilities_are_cut_and_give_a_curve(folders, tmp_path):
    for stem, mask in PREDICTION.items():
        np.save(folders[0] / f"{stem}.npy", (0.2 + 0.7 * mask).astype(np.float32))
        (folders[0] / f"{stem}.png").unlink()
    evaluation = evaluate(configure(*folders, threshold=0.5, min_object_px=10))
    pooled = scores_of(evaluation)["pooled", "strict"]
    assert pooled["precision_artifact"] == pytest.approx(250 / 260)  # the small object was dropped
    precision, share = 250 / 269, 320 / (3 * SIZE**2 - 64)
    expected = precision * 250 / 320 + share * 70 / 320
    assert pooled["average_precision"] == pytest.approx(expected)


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.1])
def test_numbers_that_are_no_probabilities_are_refused(folders, value):
    probability = np.full((SIZE, SIZE), 0.3, np.float32)
    probability[3, 4] = value
    np.save(folders[0] / "a.npy", probability)
    (folders[0] / "a.png").unlink()
    assert "expected probabilities" in evaluate(configure(*folders)).failures["a.png"]


def test_outlines_may_be_the_truth(folders):
    predicted, true = folders
    for stem in "ab":
        (true / f"{stem}.png").unlink()
    ring = [[10, 10], [20, 10], [20, 20], [10, 20], [10, 10]]
    one = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    (true / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [one]}))
    (row,) = (row for row in rows_of(evaluate(configure(predicted, true)).outputs["fields"]) if row["objects"] == "1")
    assert (row["file"], row["true_px_strict"], row["missed_px_strict"]) == ("a.geojson", "50", "50")


def image():
    rng = np.random.default_rng(5)
    pixels = rng.normal(20000, 400, (SIZE, SIZE))
    pixels[30:45, 30:50] *= 0.3
    return pixels.astype(np.uint16)


def write_plate(root, labels, *, name="plate-1"):
    """Write a plate with the label images ``{(well, index): {name: mask}}``."""
    plate = make_plate(wells=[(2, 3), (2, 4)], field_ids=[3, 5], size=SIZE, name=name)
    (acquisition,) = plate.acquisitions
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="of-a-test")
        for well in plate.wells:
            for field in well.fields:
                folder = root / well.path / str(field.index)
                write_field(files, folder, acquisition, field, [((0, 0, 0), image())], {})
    for well in plate.wells:
        for field in well.fields:
            for label, mask in labels.get((well.name, field.index), {}).items():
                with writing(root) as files:
                    planes = [((0, 0), mask.astype(np.int32))]
                    write_labels(files, root / well.path / str(field.index), acquisition, field, planes, name=label)
    return root


def test_labels_of_one_plate_are_compared(tmp_path):
    both = {"artifacts": PREDICTION["a"], "corrected": TRUTH["a"]}
    labels = {("B03", 0): both, ("B03", 1): {"corrected": TRUTH["a"]}, ("B04", 0): {"artifacts": PREDICTION["a"]}}
    plate = write_plate(tmp_path / "p.zarr", labels)
    evaluation = evaluate(configure(plate, plate))
    assert evaluation.missing == ("plate-1 B03 field 1",)
    assert scores_of(evaluation)["pooled", "strict"]["iou_artifact"] == pytest.approx(50 / 130)
    assert len(rows_of(evaluation.outputs["fields"])) == 2


def test_plates_are_compared_by_name(tmp_path):
    (tmp_path / "runs").mkdir()
    predicted = write_plate(tmp_path / "runs" / "p.zarr", {("B04", 1): {"mine": PREDICTION["a"]}})
    true = write_plate(tmp_path / "truth.zarr", {("B04", 1): {"gold": TRUTH["a"]}})
    given = {"prediction_label": "mine", "truth_label": "gold"}
    assert evaluate(configure(predicted.parent, true, **given)).is_whole
    other = write_plate(tmp_path / "other.zarr", {("B04", 1): {"gold": TRUTH["a"]}}, name="plate-2")
    with pytest.raises(ConfigError, match="has the plates plate-1, the truth speaks of plate-2"):
        evaluate(configure(predicted, other, **given))


@pytest.mark.parametrize("beside_images", [False, True])
def test_a_folder_of_masks_can_be_the_truth_of_a_plate(tmp_path, beside_images):
    plate = write_plate(tmp_path / "p.zarr", {("B03", 1): {"artifacts": PREDICTION["b"]}})
    truth = write_masks(tmp_path / "true" / "masks", {"r02c03f05p01-ch1": TRUTH["b"], "r02c04f05": TRUTH["b"]})
    if beside_images:
        truth = truth.parent
        (truth / "images").mkdir()
    evaluation = evaluate(configure(plate, truth))
    assert evaluation.missing == ("plate-1 B04 field 1",)
    assert scores_of(evaluation)["pooled", "strict"]["iou_artifact"] == pytest.approx(200 / 209)


def test_files_can_predict_the_fields_of_a_plate(tmp_path):
    plate = write_plate(tmp_path / "p.zarr", {("B03", 1): {"corrected": TRUTH["a"]}})
    predicted = write_masks(tmp_path / "predicted", {"B03_1": PREDICTION["a"], "r02c04f03": PREDICTION["a"]})
    evaluation = evaluate(configure(predicted, plate))
    assert evaluation.is_whole
    assert scores_of(evaluation)["pooled", "strict"]["iou_artifact"] == pytest.approx(50 / 130)


@pytest.fixture
def pictures(tmp_path):
    """A folder with images and masks."""
    write_masks(tmp_path / "data" / "masks", {stem: box(30, 30, 15, 20) for stem in ("a", "b")})
    (tmp_path / "data" / "images").mkdir()
    for stem in ("a", "b"):
        tifffile.imwrite(tmp_path / "data" / "images" / f"{stem}.tif", image())
    return tmp_path / "data"


def test_a_model_is_applied_as_run_does(pictures):
    evaluation = evaluate(configure("supervised", pictures, pixel_size_um=0.6, threshold=0.4))
    segmenter = Segmenter.load()
    scale = scale_between(0.6, segmenter.card.pixel_size_um)
    contrast = normalise_by_background(image(), estimate_background(image()))
    (probability,) = predict_planes([contrast], scale, segmenter)
    mask = label_artifacts(probability, contrast, segmenter.card.cut(scale, threshold=0.4)) > 0
    truth = box(30, 30, 15, 20) > 0
    assert scores_of(evaluation)["pooled", "strict"]["iou_artifact"] == pytest.approx(
        (mask & truth).sum() / (mask | truth).sum()
    )
    assert 0 < scores_of(evaluation)["pooled", "strict"]["average_precision"] <= 1


def test_damaged_images_are_failures(pictures):
    (pictures / "images" / "a.tif").write_bytes(b"torn")
    evaluation = evaluate(configure("supervised", pictures, pixel_size_um=0.3))
    assert evaluation.failures == {"a.tif": "the image cannot be read"}
    assert len(rows_of(evaluation.outputs["fields"])) == 2


def test_a_model_needs_images_and_their_pixel_size(folders, pictures):
    with pytest.raises(ConfigError, match="a model needs images"):
        evaluate(configure("weak", folders[1]))
    with pytest.raises(ConfigError, match="--pixel-size-um"):
        evaluate(configure("supervised", pictures))


def test_masks_beside_images_need_no_pixel_size(pictures, tmp_path):
    predicted = write_masks(tmp_path / "predicted", {"a": box(30, 30, 15, 20), "b": box(30, 30, 15, 20)})
    assert scores_of(evaluate(configure(predicted, pictures)))["pooled", "strict"]["iou_artifact"] == 1


def test_places_that_do_not_exist_are_told(folders, tmp_path):
    with pytest.raises(PlateError, match="does not exist"):
        evaluate(configure(tmp_path / "nowhere", folders[1]))


def test_a_truth_that_is_a_copy_is_doubted(folders):
    listener = Listener()
    evaluate(configure(folders[1], folders[1]), listener)
    assert any(note.startswith("In 2 fields") for note in listener.notes)


def test_the_command_says_which_iou_and_what_is_missing(folders, tmp_path):
    from artmask.app import app

    predicted, true = folders
    (predicted / "a.png").unlink()
    (tmp_path / "e.yaml").write_text(f"dest: {tmp_path / 'out'}\nignore: 255\n")
    command = ["evaluate", str(predicted), str(true), "--config", str(tmp_path / "e.yaml"), "--ring-px", "3"]
    result = CliRunner().invoke(app, command)
    said = " ".join(result.stdout.split())
    assert result.exit_code == 3
    assert all(words in said for words in ("mean IoU", "(artifact and", "class)", "background)"))
    assert "1 fields have no prediction and count nowhere: a.png" in said
    assert "within 3 px" in said
    assert (tmp_path / "out" / "evaluation.png").exists()
