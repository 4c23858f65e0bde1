"""A U-Net learns from weak labels, corrected ones or masks, is judged on other wells, and goes on after a kill."""

import json

import imagecodecs
import numpy as np
import pytest
import tifffile
from exports import make_plate
from listener import Listener
from scipy import ndimage
from stores import writing
from typer.testing import CliRunner

from artifact_mask.config import RunConfig, TrainUNetConfig
from artifact_mask.errors import ConfigError, ModelError
from artifact_mask.io.label_list import LabelledPlace, write_label_list
from artifact_mask.io.ome_zarr import write_field, write_labels
from artifact_mask.io.ome_zarr_plate import create_plate
from artifact_mask.nn.fit_unet import UNetTraining
from artifact_mask.nn.model_card import PRESETS, UNetCard, find_unet, read_card
from artifact_mask.nn.predict import Segmenter
from artifact_mask.workflows.progress import Silent
from artifact_mask.workflows.segmented_fields import find_segmented_fields
from artifact_mask.workflows.train_unet import train_unet
from artifact_mask.workflows.training_fields import (
    PackedTruth,
    read_training_fields,
    read_truth_field,
    take_at_their_word,
)

SIZE = 128
WELLS = ((2, 3), (2, 4), (2, 5), (3, 3), (3, 4))


def draw(rng, n=3):
    """Draw a field with dark squares, and their labels."""
    image, labels = rng.normal(20000, 300, (SIZE, SIZE)), np.zeros((SIZE, SIZE), np.int32)
    for number, (y, x) in enumerate(rng.integers(4, SIZE - 16, (n, 2)), start=1):
        image[y : y + 12, x : x + 12] = 7000 + rng.normal(0, 300, (12, 12))
        labels[y : y + 12, x : x + 12] = number
    return image.clip(0, 65535).astype(np.uint16), labels


def write_plate(root, *, wells=WELLS, labels=("weak",), seed=0, without=()):
    """Write a plate with labels; those of wells in ``without`` have none."""
    rng = np.random.default_rng(seed)
    plate = make_plate(wells=wells, field_ids=range(1, 3), size=SIZE, name="plate-1")
    (acquisition,) = plate.acquisitions
    with writing(root) as files:
        create_plate(files, root, plate, ingest_digest="of-a-test")
        for well in plate.wells:
            for field in well.fields:
                folder = root / well.path / str(field.index)
                image, found = draw(rng)
                write_field(files, folder, acquisition, field, [((0, 0, 0), image)], {})
                for name in labels if well.name not in without else ():
                    write_labels(files, folder, acquisition, field, [((0, 0), found)], name=name)
    return root


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """Plate with weak labels; not to be changed."""
    return write_plate(tmp_path_factory.mktemp("weak") / "plate.zarr")


def find_fields(plate, labels=("weak",)):
    nothing = {"masks": None, "channel": None, "pixel_size_um": None, "ignore": None}
    return find_segmented_fields((plate,), labels=labels, progress=Silent(), **nothing)


def configure(places, dest, **given):
    quick = {"crop_px": 64, "max_epochs": 4, "batch_size": 8, "validation": 0.3, "rounds": 1, "precision": "float32"}
    return TrainUNetConfig(**{"places": places, "dest": dest} | quick | given)


@pytest.fixture(scope="module")
def trained(plate, tmp_path_factory):
    listener = Listener()
    training = train_unet(configure(plate, tmp_path_factory.mktemp("trained") / "mine.safetensors", rounds=2), listener)
    return training, listener.notes


def test_an_easy_problem_is_learnt(trained):
    training, _ = trained
    assert training.metrics["ring10_f1"] > 0.9
    assert training.metrics["objects_found"] > 0.9
    assert training.metrics["false_objects_per_field"] < 1
    assert training.n_train + training.n_held_out == 10
    assert not training.model.with_name("mine.safetensors.training").exists()


def test_the_card_says_what_it_saw(trained):
    training, _ = trained
    card = read_card(training.model, UNetCard)
    assert card.architecture == PRESETS["light"].architecture
    assert "10 fields of 5 wells, truth from weak" in card.training_data[0]
    assert card.metrics == training.metrics
    assert "held-out fields" in card.threshold_choice
    low, high = card.seen["artifact_fraction"]
    assert 0 < low < 3 * 144 / SIZE**2 * 1.01
    assert high <= 3 * 144 / SIZE**2 * 1.01


def test_the_report_has_every_held_out_field(trained):
    training, _ = trained
    report = json.loads((training.report / "report.json").read_text())
    assert [len(r["epochs"]) > 0 for r in report["rounds"]] == [True, True]
    assert not set(report["held_out"]) & set(report["train"])
    lines = (training.report / "fields.csv").read_text().splitlines()
    assert len(lines) == 1 + training.n_held_out
    assert lines[0].startswith("plate,well,field,file,strict_true_px")
    assert (training.report / "curves.png").stat().st_size > 10_000


def test_a_round_cleans_the_labels_for_the_next(trained):
    _, notes = trained
    (cleaned,) = [note for note in notes if "contradicts" in note]
    assert "the next round leaves them out" in cleaned


def test_the_model_finds_the_squares_of_another_plate(trained, tmp_path):
    other = write_plate(tmp_path / "plate.zarr", wells=WELLS[:2], seed=9)
    segmenter = Segmenter.load(trained[0].model, "cpu")
    for source in find_fields(other):
        contrast, truth = read_truth_field(source, source.pixel_size_um)
        found = segmenter.predict(contrast[np.newaxis])[0] >= segmenter.card.threshold
        assert (found & (truth == 1)).sum() > 0.8 * (truth == 1).sum()
        assert (found & ndimage.binary_dilation(truth == 1, iterations=6)).sum() > 0.9 * found.sum()


def test_interrupted_it_goes_on(plate, tmp_path, monkeypatch):
    config = configure(plate, tmp_path / "m.safetensors", max_epochs=3)
    steps = 0
    step = UNetTraining.training_step

    def stop(self, batch, batch_idx):
        nonlocal steps
        steps += 1
        if steps > 45:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(UNetTraining, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train_unet(config)
    listener = Listener()
    training = train_unet(config, listener)
    assert (training.n_resumed, training.n_epochs) == (1, 3)
    assert any("goes on after epoch 1" in note for note in listener.notes)


def test_corrected_labels_come_before_weak_ones(tmp_path):
    root = write_plate(tmp_path / "plate.zarr", labels=("weak", "corrected"), without=("B03",))
    found = find_fields(root, ("corrected", "weak"))
    assert {field.source for field in found} == {"corrected"}
    assert "B03" not in {field.well for field in found}
    listener = Listener()
    given = {"labels": "corrected,weak", "max_epochs": 1, "rounds": 2}
    training = train_unet(configure(root, tmp_path / "m.safetensors", **given), listener)
    assert training.n_train + training.n_held_out == 8
    # What a person corrected is never doubted.
    assert any("contradicts 0 labelled objects, and sees 0" in note for note in listener.notes)


def test_a_folder_of_images_and_masks_will_do(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "given" / name).mkdir(parents=True)
    for column in range(1, 5):
        image, labels = draw(rng)
        stem = f"r02c0{column}f01p01-ch1sk1fk1fl1"
        tifffile.imwrite(tmp_path / "given" / "images" / f"{stem}.tiff", image)
        mask = np.where(labels > 0, 1, 0).astype(np.uint8)
        mask[:10] = 255
        (tmp_path / "given" / "masks" / f"{stem}.png").write_bytes(imagecodecs.png_encode(mask))
    given = {"ignore": 255, "pixel_size_um": 0.3, "validation": 0.0, "max_epochs": 1}
    training = train_unet(configure(tmp_path / "given", tmp_path / "m.safetensors", **given))
    assert (training.n_train, training.n_held_out, training.metrics) == (4, 0, {})
    card = read_card(training.model, UNetCard)
    assert (card.threshold, card.min_object_px, card.pixel_size_um) == (0.5, 25, 0.3)


def test_the_published_preset_works_at_its_own_pixel_size(plate, tmp_path):
    config = configure(plate, tmp_path / "m.safetensors", preset="published", max_epochs=1, batch_size=2)
    card = read_card(train_unet(config).model, UNetCard)
    assert card.architecture == PRESETS["published"].architecture
    pixel_size = find_fields(plate)[0].pixel_size_um
    assert card.pixel_size_um == pytest.approx(pixel_size * SIZE / 576)


def test_training_goes_on_from_a_model(trained, plate, tmp_path):
    model = trained[0].model
    config = configure(plate, tmp_path / "m.safetensors", start=str(model), max_epochs=1)
    card = read_card(train_unet(config).model, UNetCard)
    assert card.pixel_size_um == read_card(model, UNetCard).pixel_size_um
    assert any("mine.safetensors" in line for line in card.training_data)
    with pytest.raises(ConfigError, match="works at"):
        train_unet(config.model_copy(update={"model_pixel_size_um": 1.7}))


def test_what_a_person_called_clean_is_background(plate, tmp_path):
    sources = find_fields(plate)
    first, second = sources[:2]
    places = [
        LabelledPlace(first.plate, first.well, first.field, "clean"),
        LabelledPlace(second.plate, second.well, second.field, "unsure"),
    ]
    write_label_list(tmp_path / "known.csv", places)
    known = take_at_their_word(sources, tmp_path / "known.csv", Silent())
    assert first.read_mask().any()
    assert not known[0].read_mask().any()
    assert (known[1].read_mask() == 255).all()
    np.testing.assert_array_equal(known[2].read_mask(), sources[2].read_mask())


def test_truth_is_resampled_with_the_field(plate):
    source = find_fields(plate)[0]
    contrast, truth = read_truth_field(source, source.pixel_size_um / 2)
    assert contrast.shape == truth.shape == (2 * SIZE, 2 * SIZE)
    assert (truth == 1).sum() == pytest.approx(4 * (source.read_mask() == 1).sum(), rel=0.1)
    assert contrast[truth == 1].mean() < -2


def test_fields_beyond_the_memory_are_read_again(plate):
    sources = find_fields(plate)
    um = sources[0].pixel_size_um
    kept, has_artifact, checksum = read_training_fields(sources, um, Silent())
    listener = Listener()
    lazy, _, again = read_training_fields(sources, um, listener, memory_bytes=100_000)
    assert (checksum, has_artifact.all()) == (again, True)
    assert "do not fit into memory" in listener.notes[0]
    cleaned = {9: PackedTruth.pack(np.zeros((SIZE, SIZE), np.uint8))}
    for fields in (kept, lazy):
        np.testing.assert_array_equal(fields[9].is_artifact, kept[9].is_artifact)
        assert not fields.with_truths(cleaned)[9].is_artifact.any()
        assert fields.with_truths(cleaned)[8].is_artifact.any()
        twice = fields.with_truths(cleaned).with_truths({8: cleaned[9]})
        assert not twice[8].is_artifact.any()
        assert not twice[9].is_artifact.any()


def test_a_field_that_cannot_be_read_is_left_out(tmp_path):
    root = write_plate(tmp_path / "plate.zarr")
    for file in (root / "B" / "3" / "0" / "0").glob("c*"):
        file.write_bytes(b"damaged")
    listener = Listener()
    fields, _, _ = read_training_fields(find_fields(root), find_fields(root)[0].pixel_size_um, listener)
    assert len(fields) == 9
    assert "plate-1 B03 field 0 is left out" in listener.notes[0]


@pytest.mark.parametrize(
    ("wells", "given", "message"),
    [
        (WELLS[:1], {}, "All fields are of one well, plate-1 B03"),
        (WELLS, {"labels": ("corrected",)}, "corrected"),
    ],
)
def test_what_cannot_be_learnt_from_is_told(tmp_path, wells, given, message):
    root = write_plate(tmp_path / "plate.zarr", wells=wells)
    with pytest.raises(ConfigError, match=message):
        train_unet(configure(root, tmp_path / "m.safetensors", **given))


def test_a_file_that_is_no_model_is_told(plate, tmp_path):
    (tmp_path / "no.safetensors").write_bytes(b"no model at all")
    with pytest.raises(ModelError, match="not a safetensors file"):
        train_unet(configure(plate, tmp_path / "m.safetensors", start=str(tmp_path / "no.safetensors")))


def test_the_command(plate, tmp_path):
    from artmask.app import app

    (tmp_path / "quick.yaml").write_text("crop_px: 64\nbatch_size: 8\nmax_epochs: 1\nrounds: 1\n")
    dest = tmp_path / "m.safetensors"
    result = CliRunner().invoke(
        app, ["train", "unet", str(plate), "--dest", str(dest), "--config", str(tmp_path / "quick.yaml")]
    )
    assert result.exit_code == 0, result.output
    assert "held-out fields" in result.output
    assert Segmenter.load(dest).card.name == "m"


@pytest.mark.parametrize("name", ["weak", "supervised"])
def test_shipped_models_are_found_by_name(name):
    assert RunConfig(plates="p", model=name).model == name
    assert find_unet(name).is_file()
