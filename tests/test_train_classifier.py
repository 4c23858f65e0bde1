"""A classifier learns from labels of tiles, fields or TIFFs, is judged on other wells, and goes on after a kill."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
import torchvision
from exports import make_plate
from listener import Listener
from pydantic import ValidationError
from stores import writing
from typer.testing import CliRunner

from artifact_mask.config import TrainClassifierConfig
from artifact_mask.errors import ConfigError, ModelError, PlateError
from artifact_mask.io.label_list import Box, LabelledPlace, write_label_list
from artifact_mask.io.ome_zarr import write_field
from artifact_mask.io.ome_zarr_plate import create_plate
from artifact_mask.io.tiff_folders import list_labelled_tiffs
from artifact_mask.kernels.illumination import estimate_background, normalise_by_background
from artifact_mask.kernels.split import fold_groups
from artifact_mask.nn import fitting, start_weights
from artifact_mask.nn.checkpoint import load_model, save_model
from artifact_mask.nn.classifier import Classifier
from artifact_mask.nn.classifier_training import ClassifierTraining
from artifact_mask.nn.fit_classifier import Recipe, Samples, fit_classifier, predict_samples
from artifact_mask.nn.model_card import ClassifierCard, ResNetSpec
from artifact_mask.nn.start_weights import start_network
from artifact_mask.nn.training_folder import prepare_folder
from artifact_mask.workflows.labelled_fields import find_labelled_fields
from artifact_mask.workflows.labelled_tiles import choose_format, fit_to_side, read_labelled_tiles
from artifact_mask.workflows.progress import Silent
from artifact_mask.workflows.train_classifier import train_classifier

TILE = 64
WELLS = ((2, 3), (2, 4), (2, 5), (3, 3), (3, 4), (3, 5))
SPEC = ResNetSpec(name="resnet18")


def draw(rng, dirty, size=2 * TILE):
    """Draw a field of four tiles; dark squares in those that are dirty."""
    image = rng.normal(20000, 500, (size, size))
    for i, is_dirty in enumerate(dirty):
        if is_dirty:
            y, x = rng.integers(4, size // 2 - 14, 2) + np.array(divmod(i, 2)) * (size // 2)
            image[y : y + 10, x : x + 10] *= 0.4
    return image.clip(0, 65535).astype(np.uint16)


def write_plate(root, *, name="plate-1", wells=WELLS, fields=2, seed=0, missing=()):
    """Write a plate; return the labels of its tiles. Planes of ``missing`` wells are not there."""
    rng = np.random.default_rng(seed)
    plate = make_plate(wells=wells, field_ids=range(1, fields + 1), size=2 * TILE, name=name)
    (acquisition,) = plate.acquisitions
    places = []
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="of-a-test")
        for well in plate.wells:
            for field in well.fields:
                dirty = rng.permutation([0, 0, 1, 1])
                gaps = {(0, 0, 0): "was not exported"} if well.name in missing and field.index == 0 else {}
                planes = [] if gaps else [((0, 0, 0), draw(rng, dirty))]
                write_field(files, root / well.path / str(field.index), acquisition, field, planes, gaps)
                for i, is_dirty in enumerate(dirty):
                    y, x = divmod(i, 2)
                    box = Box(y * TILE, x * TILE, TILE, TILE)
                    places.append(LabelledPlace(name, well.name, field.index, "artifact" if is_dirty else "clean", box))
    return places


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Plate and table of labels; not to be changed."""
    folder = tmp_path_factory.mktemp("labelled")
    places = write_plate(folder / "plate.zarr")
    write_label_list(folder / "labels.csv", places)
    return folder / "plate.zarr", folder / "labels.csv", places


def configure(labelled, dest, **given):
    plate, table, _ = labelled
    quick = {"network": "resnet18", "start": "scratch", "max_epochs": 12, "batch_size": 8, "validation": 0.3}
    return TrainClassifierConfig(**{"labels": table, "plates": (plate,), "dest": dest} | quick | given)


@pytest.fixture(scope="module")
def trained(labelled, tmp_path_factory):
    dest = tmp_path_factory.mktemp("trained") / "mine.safetensors"
    listener = Listener()
    return train_classifier(configure(labelled, dest), listener), listener.notes


def predictions_of(training):
    with (training.report / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_easy_problem_is_learnt(trained):
    training, _ = trained
    assert min(training.metrics["f1_clean"], training.metrics["f1_artifact"]) > 0.9
    assert training.metrics["auc"] > 0.95
    assert (training.n_train + training.n_held_out, training.n_resumed) == (48, 0)
    assert training.best_epoch <= training.n_epochs <= 12


def test_no_well_is_on_both_sides(trained):
    report = json.loads((trained[0].report / "report.json").read_text())
    train, held_out = (set(report[part]["wells"]) for part in ("train", "held_out"))
    assert not train & held_out
    assert len(train | held_out) == len(WELLS)
    assert {f"plate-1 {row['well']}" for row in predictions_of(trained[0])} == held_out


def test_report_agrees_with_the_predictions(trained):
    training, _ = trained
    rows = predictions_of(training)
    report = json.loads((training.report / "report.json").read_text())
    truth = np.array([row["label"] == "artifact" for row in rows])
    found = np.array([float(row["probability"]) >= report["threshold"] for row in rows])
    assert len(rows) == training.n_held_out
    assert report["confusion"]["artifact"]["artifact"] == (truth & found).sum()
    assert report["confusion"]["clean"]["artifact"] == (~truth & found).sum()
    assert report["metrics"]["precision_clean"] == pytest.approx((~truth & ~found).sum() / (~found).sum())
    assert report["metrics"]["recall_artifact"] == pytest.approx((truth & found).sum() / truth.sum())
    assert report["metrics"] == training.metrics
    assert [figures["epoch"] for figures in report["epochs"]] == list(range(1, training.n_epochs + 1))
    for name in ("misclassified.png", "curves.png"):
        assert imagecodecs.png_decode((training.report / name).read_bytes()).ndim == 3


def test_the_model_predicts_what_the_report_says(trained, labelled):
    training, _ = trained
    classifier = Classifier.load(training.model)
    row = predictions_of(training)[0]
    assert row["plate"] == "plate-1"
    config = configure(labelled, training.model)
    (field,) = (
        field
        for field in find_labelled_fields(config, Silent())
        if (field.well, field.field) == (row["well"], int(row["field"]))
    )
    pixels = field.read()
    contrast = normalise_by_background(pixels, estimate_background(pixels))
    y, x = int(row["y0"]), int(row["x0"])
    (probability,) = classifier.predict(contrast[np.newaxis, y : y + TILE, x : x + TILE])
    assert probability == pytest.approx(float(row["probability"]), abs=0.03)  # one is in half precision


def test_card_says_what_was_trained_on_what(trained):
    _, card = load_model(trained[0].model, ClassifierCard)
    assert card.architecture == SPEC
    assert (card.tile_px, card.pixel_size_um, card.threshold) == (TILE, 0.5, 0.5)
    assert card.metrics == trained[0].metrics
    assert card.training_data == ("plate-1: 48 tiles of 6 wells",)
    assert card.licence == "NOASSERTION"
    assert {"artmask", "torch", "lightning"} <= card.software.keys()


def test_what_was_learnt_before_is_changed_more_slowly(labelled, trained, tmp_path):
    training = train_classifier(
        configure(labelled, tmp_path / "more.safetensors", start=str(trained[0].model), max_epochs=1)
    )
    reports = [json.loads((one.report / "report.json").read_text()) for one in (trained[0], training)]
    assert [report["recipe"]["learning_rate"] for report in reports] == [1e-3, 3e-4]
    assert reports[1]["start"] == "the weights of mine.safetensors"


def test_checkpoints_are_gone_and_nothing_else_is_written(trained):
    assert sorted(path.name for path in trained[0].model.parent.iterdir()) == ["mine.report", "mine.safetensors"]


def test_progress_tells_of_parts_and_epochs(trained):
    notes = "\n".join(trained[1])
    assert "clean and" in notes
    assert "starting from random weights" in notes
    assert "epoch 1: loss" in notes


KILLED = """
import sys
from artifact_mask.config import TrainClassifierConfig
from artifact_mask.workflows.train_classifier import train_classifier
train_classifier(TrainClassifierConfig.model_validate_json(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_last_epoch(labelled, tmp_path):
    config = configure(labelled, tmp_path / "mine.safetensors", max_epochs=25, precision="float32")
    child = subprocess.Popen([sys.executable, "-W", "error::UserWarning", "-c", KILLED, config.model_dump_json()])
    folder = tmp_path / "mine.safetensors.training"
    deadline = time.monotonic() + 120
    while not (folder / "last.ckpt").exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not config.dest.exists()

    listener = Listener()
    training = train_classifier(config, listener)
    assert training.n_resumed >= 1
    assert f"goes on after epoch {training.n_resumed}." in "\n".join(listener.notes)
    epochs = json.loads((training.report / "report.json").read_text())["epochs"]
    assert [figures["epoch"] for figures in epochs] == list(range(1, training.n_epochs + 1))
    assert training.metrics["accuracy"] > 0.9
    assert not folder.exists()


def test_other_settings_start_anew_and_say_so(labelled, tmp_path):
    config = configure(labelled, tmp_path / "mine.safetensors", max_epochs=1)
    folder = tmp_path / "mine.safetensors.training"
    assert not prepare_folder(folder, "of another training")
    (folder / "last.ckpt").write_bytes(b"of another training")
    (folder / "mine.txt").write_text("of a person")
    listener = Listener()
    assert train_classifier(config, listener).n_resumed == 0
    assert any("starts anew" in note for note in listener.notes)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def samples(n=24, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    tiles = rng.normal(0, 0.2, (n, 48, 48)).astype(np.float16)
    for tile, label in zip(tiles, labels, strict=True):
        if label:
            y, x = rng.integers(2, 36, 2)
            tile[y : y + 8, x : x + 8] -= 3
    return Samples(list(tiles), labels)


QUICK = Recipe(max_epochs=2, batch_size=8, precision="float32")


def weights_after(recipe, folder=None):
    fitted = fit_classifier(start_network(SPEC, "scratch", 0)[0], samples(), samples(8, 1), recipe, folder=folder)
    return fitted, torch.cat([tensor.flatten() for tensor in fitted.network.state_dict().values()])


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_same_seed_gives_the_same_weights(one_thread):
    first, second = (weights_after(QUICK)[1] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, weights_after(Recipe(**vars(QUICK) | {"seed": 1}))[1])


def test_interrupted_and_resumed_is_as_good_as_at_one_go(one_thread, tmp_path):
    whole, expected = weights_after(Recipe(**vars(QUICK) | {"max_epochs": 3}))
    weights_after(QUICK, tmp_path)
    (tmp_path / "finished").unlink()
    resumed, found = weights_after(Recipe(**vars(QUICK) | {"max_epochs": 3}), tmp_path)
    assert (resumed.course.n_resumed, len(resumed.course.epochs)) == (2, 3)
    assert resumed.course.epochs[-1]["loss"] == pytest.approx(whole.course.epochs[-1]["loss"], rel=1e-4)
    torch.testing.assert_close(found, expected)


def test_a_finished_training_is_not_done_again(tmp_path, monkeypatch):
    first, weights = weights_after(QUICK, tmp_path)
    monkeypatch.setattr(fitting, "_make_trainer", lambda *_, **__: pytest.fail("trained again"))
    second, again = weights_after(QUICK, tmp_path)
    assert torch.equal(weights, again)
    assert (first.course.n_resumed, second.course.n_resumed) == (0, 2)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_damaged_checkpoint_is_not_trusted(tmp_path, name):
    weights_after(QUICK, tmp_path)
    (tmp_path / name).write_bytes(b"PK\x03\x04 cut off")
    notes = []
    network = start_network(SPEC, "scratch", 0)[0]
    fitted = fit_classifier(network, samples(), samples(8, 1), QUICK, folder=tmp_path, tell=notes.append)
    assert (fitted.course.n_resumed, len(fitted.course.epochs)) == (0, 2)
    assert "cannot be read" in notes[0]


def test_an_interrupt_comes_through(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ClassifierTraining, "training_step", interrupt)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        weights_after(QUICK)
    assert signal.getsignal(signal.SIGINT) is before


def test_early_stopping_keeps_the_best_epoch():
    fitted, _ = weights_after(Recipe(max_epochs=40, patience=1, batch_size=8, learning_rate=1e-5, precision="float32"))
    assert len(fitted.course.epochs) < 40
    losses = [figures["loss_held_out"] for figures in fitted.course.epochs]
    assert fitted.course.best_epoch == 1 + int(np.argmin(losses))


def test_turned_predictions_are_averaged():
    network = start_network(SPEC, "scratch", 0)[0]
    given = samples()
    turned = Samples([np.rot90(tile) for tile in given.tiles], given.labels)
    plain, other = (predict_samples(network, one, precision="float32", turns=4) for one in (given, turned))
    np.testing.assert_allclose(plain, other, atol=1e-5)


def test_half_precision_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="float16 needs a GPU"):
        weights_after(Recipe(precision="float16"))


def test_diverging_is_an_error():
    broken = Samples([np.full((48, 48), np.nan, np.float32)] * 8, np.arange(8) % 2)
    with pytest.raises(ModelError, match="not finite from the first epoch"):
        fit_classifier(start_network(SPEC, "scratch", 0)[0], broken, broken, QUICK)


@pytest.mark.slow
def test_two_processes_train_one_network():
    fitted, _ = weights_after(Recipe(**vars(QUICK) | {"devices": 2, "batch_size": 4}))
    assert [figures["epoch"] for figures in fitted.course.epochs] == [1, 2]
    assert np.isfinite(fitted.probabilities).all()


def test_a_cross_validation_needs_nothing_but_the_pieces(labelled):
    fields = find_labelled_fields(configure(labelled, Path("unused")), Silent())
    tiles, _ = read_labelled_tiles(fields, choose_format(fields, 576), Silent())
    folds = fold_groups(tiles.labels, tiles.groups, 3, seed=0)
    parts = [tiles.part(folds != 0), tiles.part(folds == 0)]
    network, _ = start_network(SPEC, "scratch", 0)
    fitted = fit_classifier(network, *(Samples(part, part.labels) for part in parts), Recipe(max_epochs=1))
    assert len(fitted.probabilities) == len(parts[1])


def test_pixels_beyond_the_memory_are_read_again(labelled):
    fields = find_labelled_fields(configure(labelled, Path("unused")), Silent())
    form = choose_format(fields, 576)
    listener = Listener()
    kept, first = read_labelled_tiles(fields, form, Silent())
    read, second = read_labelled_tiles(fields, form, listener, memory_bytes=5 * TILE * TILE * 2)
    assert first == second
    assert "The tiles of 11 fields do not fit" in listener.notes[0]
    for i in range(len(kept)):
        np.testing.assert_array_equal(kept[i], read[i])


def test_a_field_that_cannot_be_read_is_left_out(tmp_path):
    places = write_plate(tmp_path / "plate.zarr", missing=("B04",))
    write_label_list(tmp_path / "labels.csv", places)
    listener = Listener()
    config = configure((tmp_path / "plate.zarr", tmp_path / "labels.csv", places), tmp_path / "m.safetensors")
    fields = find_labelled_fields(config, listener)
    tiles, _ = read_labelled_tiles(fields, choose_format(fields, 576), listener)
    assert len(tiles) == 44
    assert listener.notes == ["plate-1 B04 field 0 is left out: Brightfield is missing: was not exported"]


def test_whole_fields_are_averaged_and_the_card_knows_the_pixel_size(labelled, tmp_path):
    plate, _, places = labelled
    fields = {(p.well, p.field): p for p in places}
    whole = [LabelledPlace(p.plate, p.well, p.field, p.label) for p in fields.values()]
    write_label_list(tmp_path / "fields.csv", whole)
    config = configure((plate, tmp_path / "fields.csv", whole), tmp_path / "m.safetensors", field_px=96)
    found = find_labelled_fields(config, Silent())
    form = choose_format(found, 96)
    assert (form.tile_px, form.pixel_size_um) == (96, pytest.approx(0.5 * 128 / 96))
    tiles, _ = read_labelled_tiles(found, form, Silent())
    assert tiles[0].shape == (96, 96)


def listed(tmp_path, labelled, places, **given):
    write_label_list(tmp_path / "other.csv", places)
    return configure((labelled[0], tmp_path / "other.csv", places), tmp_path / "m.safetensors", **given)


def test_unsure_places_are_left_out_and_counted(labelled, tmp_path):
    first, *rest = labelled[2]
    unsure = LabelledPlace(first.plate, first.well, first.field, "unsure", first.box)
    listener = Listener()
    fields = find_labelled_fields(listed(tmp_path, labelled, [unsure, *rest]), listener)
    assert sum(len(field.labels) for field in fields) == 47
    assert listener.notes == ["1 places that are marked unsure are left out."]


ONE = {"plate": "plate-1", "well": "B03", "field": 0, "label": "clean", "box": Box(0, 0, 64, 64)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"plate": "plate-9"}, r"speaks of plate-9; the plates that were given are called plate-1"),
        ({"well": "H12"}, r"plate-1 has no well H12. It has B03, B04"),
        ({"field": 7}, r"plate-1 B03 has no field 7. It has 0, 1"),
        ({"box": Box(100, 0, 64, 64)}, r"y0=100, x0=0 of 64 x 64 pixels reaches beyond the field of 128 x 128"),
        ({"box": None, "field": 1}, r"1 whole fields and of 48 tiles.*two tables"),
        ({"box": Box(0, 0, 40, 40)}, r"has 40 x 40 pixels.*most others have a side of 64"),
    ],
)
def test_labels_that_fit_nothing_are_an_error_that_says_what_is_there(labelled, tmp_path, wrong, message):
    config = listed(tmp_path, labelled, [*labelled[2], LabelledPlace(**ONE | wrong)])
    with pytest.raises(ConfigError, match=message):
        train_classifier(config)


def test_labels_of_one_well_are_an_error(labelled, tmp_path):
    config = listed(tmp_path, labelled, [place for place in labelled[2] if place.well == "B03"])
    with pytest.raises(ConfigError, match=r"one well, plate-1 B03; expected two wells"):
        train_classifier(config)


def test_too_few_of_a_class_are_an_error(labelled, tmp_path):
    clean = [place for place in labelled[2] if place.label == "clean"]
    config = listed(
        tmp_path, labelled, [*clean, LabelledPlace(**ONE | {"label": "artifact", "box": Box(1, 0, 64, 64)})]
    )
    with pytest.raises(ConfigError, match=r"has 1 artifact places.*expected 4"):
        train_classifier(config)


def test_classes_that_no_split_can_learn_from_are_an_error(labelled, tmp_path):
    kinds = {"B03": "clean", "B04": "artifact"}
    places = [p for p in labelled[2] if p.well in kinds]
    places = [LabelledPlace(p.plate, p.well, p.field, kinds[p.well], p.box) for p in places]
    with pytest.raises(ConfigError, match="one class alone"):
        train_classifier(listed(tmp_path, labelled, places))


def test_a_channel_that_is_not_there_is_an_error(labelled, tmp_path):
    with pytest.raises(PlateError, match=r"plate-1 has 0 channel named 'DAPI'"):
        train_classifier(configure(labelled, tmp_path / "m.safetensors", channel="DAPI"))


def test_a_table_without_plates_is_an_error(labelled, tmp_path):
    with pytest.raises(ConfigError, match="no plate was given"):
        train_classifier(configure(labelled, tmp_path / "m.safetensors", plates=()))


def test_two_plates_of_one_name_are_an_error(labelled, tmp_path):
    write_plate(tmp_path / "again.zarr", fields=1)
    config = configure(labelled, tmp_path / "m.safetensors", plates=(labelled[0], tmp_path / "again.zarr"))
    with pytest.raises(ConfigError, match="both called 'plate-1'"):
        train_classifier(config)


def test_tiles_a_little_larger_or_smaller_are_fitted():
    tile = np.arange(64 * 60, dtype=np.float32).reshape(64, 60)
    np.testing.assert_array_equal(fit_to_side(tile, 60), tile[2:62])
    wider = fit_to_side(tile, 64)
    np.testing.assert_array_equal(wider[:, 2:62], tile)
    np.testing.assert_array_equal(wider[:, 1], tile[:, 1])


@pytest.fixture
def tiff_folder(tmp_path):
    rng = np.random.default_rng(4)
    for label in ("clean", "artifact"):
        (tmp_path / "sorted" / label).mkdir(parents=True)
        for i in range(6):
            dirty = [label == "artifact", 0, 0, 0]
            name = f"r02c{i + 2:02d}f01p01-ch1sk1fk1fl1.tiff" if i < 4 else f"{label} {i}.tif"
            tifffile.imwrite(tmp_path / "sorted" / label / name, draw(rng, dirty, 96))
    return tmp_path / "sorted"


def test_tiffs_of_a_well_stay_together_and_others_stand_alone(tiff_folder):
    found = list_labelled_tiffs(tiff_folder)
    assert [tiff.well for tiff in found[:6]] == ["clean 4", "clean 5", "B02", "B03", "B04", "B05"]
    assert [(tiff.label, tiff.well, tiff.field) for tiff in found[-4:]] == [
        ("artifact", f"B{column:02d}", 1) for column in (2, 3, 4, 5)
    ]


def test_folders_of_tiffs_train_a_classifier(tiff_folder, tmp_path):
    (tiff_folder / "clean" / "broken.tif").write_bytes(b"II*\x00")
    dest = tmp_path / "m.safetensors"
    config = configure((None, tiff_folder, None), dest, plates=(), pixel_size_um=0.3, max_epochs=1)
    listener = Listener()
    training = train_classifier(config, listener)
    assert any(note.startswith("clean/broken.tif is left out: broken.tif") for note in listener.notes)
    assert training.n_train + training.n_held_out == 12
    assert all(row["file"].startswith(f"{row['label']}/") for row in predictions_of(training))
    _, card = load_model(dest, ClassifierCard)
    assert (card.tile_px, card.pixel_size_um) == (96, 0.3)


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "--pixel-size-um"), ({"pixel_size_um": 0.3, "plates": ("p.zarr",)}, "belong to no plate")],
)
def test_folders_of_tiffs_need_a_pixel_size_and_no_plates(tiff_folder, tmp_path, given, message):
    config = configure((None, tiff_folder, None), tmp_path / "m.safetensors", **{"plates": ()} | given)
    with pytest.raises(ConfigError, match=message):
        train_classifier(config)


def test_an_empty_folder_of_a_class_is_an_error(tiff_folder):
    for path in (tiff_folder / "clean").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match=r"clean has no TIFF"):
        list_labelled_tiffs(tiff_folder)
    (tiff_folder / "clean").rmdir()
    with pytest.raises(ConfigError, match=r"clean cannot be listed"):
        list_labelled_tiffs(tiff_folder)


def first_convolution(network):
    return network.stages.conv1.weight


def test_a_classifier_of_ours_is_a_start(trained):
    given, _ = load_model(trained[0].model, ClassifierCard)
    network, what = start_network(ResNetSpec(name="resnet18"), str(trained[0].model), 0)
    assert torch.equal(first_convolution(network), first_convolution(given))
    assert what == "the weights of mine.safetensors"
    with pytest.raises(ModelError, match="is a resnet18 cut after layer2; expected a resnet34"):
        start_network(ResNetSpec(name="resnet34"), str(trained[0].model), 0)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_torchvision_are_a_start_summed_over_colours(tmp_path, suffix):
    import safetensors.torch

    state = torchvision.models.resnet18(weights=None).state_dict()
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "w.pth")
    else:
        safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    network, _ = start_network(SPEC, str(tmp_path / f"w{suffix}"), 0)
    torch.testing.assert_close(first_convolution(network), state["conv1.weight"].sum(1, keepdim=True))
    torch.testing.assert_close(network.stages.layer2[1].bn2.weight, state["layer2.1.bn2.weight"])
    with pytest.raises(ModelError, match="Name a file of the same network"):
        start_network(ResNetSpec(name="resnet50"), str(tmp_path / f"w{suffix}"), 0)


def test_files_that_are_no_weights_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"code": Path}, tmp_path / "pickle.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.safetensors").write_text("no weights at all")
    for name in ("text.pth", "pickle.pth", "text.safetensors"):
        with pytest.raises(ModelError, match=name):
            start_network(SPEC, str(tmp_path / name), 0)
    with pytest.raises(ModelError, match="no state dict"):
        start_network(SPEC, str(tmp_path / "list.pth"), 0)
    with pytest.raises(ModelError, match="neither `default`, `scratch` or `imagenet` nor a file"):
        start_network(SPEC, str(tmp_path / "absent.pth"), 0)


def test_imagenet_weights_without_a_network_say_what_to_do(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    with pytest.raises(ModelError, match=r"cannot be downloaded.*no route to host.*name the file with --start"):
        start_network(SPEC, "imagenet", 0)


def test_the_shipped_classifier_is_the_default_start(monkeypatch, tmp_path):
    shipped = tmp_path / "default-classifier.safetensors"
    monkeypatch.setattr(start_weights, "default_classifier_path", lambda: shipped)
    with pytest.raises(ModelError, match="has no classifier to start from"):
        start_network(SPEC, "default", 0)
    given, _ = start_network(SPEC, "scratch", 7)
    card = ClassifierCard(
        name="d", version="1", architecture=SPEC, pixel_size_um=0.3, tile_px=270, licence="BSD-3-Clause"
    )
    save_model(shipped, given, card)
    network, what = start_network(SPEC, "default", 0)
    assert torch.equal(first_convolution(network), first_convolution(given))
    assert what == "the classifier that artmask ships"
    assert "random weights, because" in start_network(ResNetSpec(name="resnet34"), "default", 0)[1]


def test_the_command_trains_and_says_how_good_it_is(labelled, tmp_path):
    from artmask.app import app

    plate, table, _ = labelled
    settings = tmp_path / "settings.yaml"
    settings.write_text("batch_size: 8\nvalidation: 0.3\n")
    dest = tmp_path / "m.safetensors"
    options = ["--start", "scratch", "--network", "resnet18", "--max-epochs", "1", "--config", str(settings)]
    result = CliRunner().invoke(app, ["train", "classifier", str(table), str(plate), "--dest", str(dest), *options])
    assert result.exit_code == 0, result.output
    assert "1 epochs, the best was 1" in result.output
    assert "precision" in result.output
    assert "m.report" in result.output
    assert dest.is_file()


def test_configuration_out_of_bounds_is_refused(labelled, tmp_path):
    with pytest.raises(ValidationError, match="validation"):
        configure(labelled, tmp_path / "m", validation=1.0)
