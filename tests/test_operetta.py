import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from exports import (
    CHANNELS,
    as_generation,
    children,
    index_bytes,
    make_plate,
    parse_index,
    places,
    set_text,
    small_screen,
    write_export,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import read_export

from artifact_mask.errors import ArtmaskError, ExportError, ImageError
from artifact_mask.io.operetta_fields import Source
from artifact_mask.io.operetta_folder import resolve_image
from artifact_mask.metadata import Channel, Plate

HARMONY = "http://www.perkinelmer.com/PEHH/Harmony"
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Index of a plate with wells, fields, channels, planes and timepoints."""
    return index_bytes(tmp_path_factory.mktemp("index"), small_screen())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Index file of a smaller plate, for tests with many examples."""
    plate = make_plate(wells=[(2, 3), (4, 11)], field_ids=[1, 7], channels=CHANNELS[:2])
    return save_index(tmp_path_factory.mktemp("tiny"), index_bytes(tmp_path_factory.mktemp("index"), plate))


def save_index(folder: Path, content: bytes, name: str = "Index.idx.xml") -> Path:
    (folder / "Images").mkdir(exist_ok=True)
    (folder / "Images" / name).write_bytes(content)
    return folder / "Images" / name


def save(folder: Path, content: bytes, name: str = "Index.idx.xml") -> Path:
    save_index(folder, content, name)
    return folder


def changed(content: bytes, change: Callable[[list[ElementTree.Element]], None]) -> bytes:
    """Index after a change to its image records."""
    root = parse_index(content)
    change(children(root, "Images", "Image"))
    return ElementTree.tostring(root, encoding="utf-8")


def bare(channel: Channel) -> Channel:
    """Return a channel without what an instrument adds to it."""
    return replace(channel, exposure_s=None, binning=None)


def assert_same_plate(found: Plate, expected: Plate) -> None:
    (one,), (other,) = found.acquisitions, expected.acquisitions
    assert (found.name, one.measurement_id) == (expected.name, other.measurement_id)
    assert (found.n_rows, found.n_columns, one.shape) == (expected.n_rows, expected.n_columns, other.shape)
    assert one.pixel_size_um == pytest.approx(other.pixel_size_um)
    assert one.z_step_um == pytest.approx(other.z_step_um)
    assert [bare(channel) for channel in one.channels] == [bare(channel) for channel in other.channels]
    assert [w.path for w in found.wells] == [w.path for w in expected.wells]
    for well, other in zip(found.wells, expected.wells, strict=True):
        assert [(f.index, f.field_id) for f in well.fields] == [(f.index, f.field_id) for f in other.fields]
        assert [f.y_um for f in well.fields] == pytest.approx([f.y_um for f in other.fields])
        assert [f.x_um for f in well.fields] == pytest.approx([f.x_um for f in other.fields])


# What an index says


def test_an_index_is_read_as_the_plate_it_was_written_from(tmp_path: Path, screen: bytes) -> None:
    export = read_export(save(tmp_path, screen))
    assert_same_plate(export.plate, small_screen())
    for place in places(small_screen()):
        assert export.measurements[0].sources[place.well.path, place.field.index][place.plane] == Source(place.file)
    assert sum(len(planes) for planes in export.measurements[0].sources.values()) == len(list(places(small_screen())))


def test_the_folder_of_the_measurement_its_images_and_the_index_name_the_same_export(
    tmp_path: Path, screen: bytes
) -> None:
    folder = save(tmp_path, screen)
    exports = [read_export(folder), read_export(folder / "Images"), read_export(folder / "Images" / "Index.idx.xml")]
    assert exports[0] == exports[1] == exports[2]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_makes_no_difference(tmp_path: Path, screen: bytes, bom: bytes) -> None:
    assert screen.startswith(b"\xef\xbb\xbf")
    assert_same_plate(read_export(save(tmp_path, bom + screen[3:])).plate, small_screen())


@pytest.mark.parametrize("version", ["V4", "V5", "V6", "V8"])
@pytest.mark.parametrize("first_timepoint", [0, 1])
def test_every_generation_and_base_of_timepoints_gives_the_same_plate(
    tmp_path: Path, screen: bytes, version: str, first_timepoint: int
) -> None:
    content = as_generation(screen, HARMONY + version, first_timepoint=first_timepoint)
    export = read_export(save(tmp_path, content))
    assert_same_plate(export.plate, small_screen())
    assert export.measurements[0].sources == read_export(save(tmp_path, screen)).measurements[0].sources


def test_an_index_above_the_images_finds_them(tmp_path: Path) -> None:
    folder = write_export(tmp_path, make_plate())
    (folder / "Images" / "Index.idx.xml").rename(folder / "Index.xml")
    export = read_export(folder)
    assert export.measurements[0].images.folder == folder / "Images"


def test_an_index_above_the_images_finds_them_even_if_the_first_file_is_missing(tmp_path: Path) -> None:
    folder = write_export(tmp_path, make_plate())
    (folder / "Images" / "Index.idx.xml").rename(folder / "Index.xml")
    (folder / "Images" / next(places(make_plate())).file).unlink()
    assert read_export(folder).measurements[0].images.folder == folder / "Images"


def test_unknown_elements_and_attributes_are_passed_over(tmp_path: Path, screen: bytes) -> None:
    root = parse_index(screen)
    for parent in [root, *children(root, "Images"), *children(root, "Images", "Image"), *children(root, "Maps", "Map")]:
        parent.set("Added", "yes")
        parent.insert(0, ElementTree.Element("Novelty", Unit="m"))
    assert_same_plate(read_export(save(tmp_path, ElementTree.tostring(root))).plate, small_screen())


@few
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_elements_means_nothing(tmp_path: Path, tiny: Path, seed: int) -> None:
    shuffle = random.Random(seed).shuffle
    root = parse_index(tiny.read_bytes())
    for parent in [root, *children(root, "Images"), *children(root, "Wells"), *children(root, "Images", "Image")]:
        elements = list(parent)
        shuffle(elements)
        parent[:] = elements
    found, expected = read_export(save(tmp_path, ElementTree.tostring(root))), read_export(tiny)
    assert_same_plate(found.plate, expected.plate)
    assert found.measurements[0].sources == expected.measurements[0].sources


def test_a_field_missing_in_one_well_shifts_no_other(tmp_path: Path) -> None:
    plate = make_plate(wells=[(2, 3), (2, 4)], field_ids=[1, 5, 100], without=[(2, 3, 5)])
    wells = read_export(write_export(tmp_path, plate)).plate.wells
    assert [(f.index, f.field_id) for f in wells[0].fields] == [(0, 1), (2, 100)]
    assert [(f.index, f.field_id) for f in wells[1].fields] == [(0, 1), (1, 5), (2, 100)]


def test_y_grows_downwards_while_harmonys_grows_upwards(tmp_path: Path, screen: bytes) -> None:
    def move(images: list[ElementTree.Element]) -> None:
        for image in images:
            set_text(image, "PositionX", "1E-05")
            set_text(image, "PositionY", "3E-05")

    field = read_export(save(tmp_path, changed(screen, move))).plate.wells[0].fields[0]
    assert (field.y_um, field.x_um) == pytest.approx((-30.0, 10.0))


def test_a_field_in_the_middle_of_the_well_has_no_negative_zero(tmp_path: Path, screen: bytes) -> None:
    def centre(images: list[ElementTree.Element]) -> None:
        for image in images:
            set_text(image, "PositionY", "0")

    field = read_export(save(tmp_path, changed(screen, centre))).plate.wells[0].fields[0]
    assert str(field.y_um) == "0.0"


def test_channels_tell_their_kind_and_wavelengths(tmp_path: Path) -> None:
    channels = read_export(write_export(tmp_path, make_plate(channels=CHANNELS))).plate.acquisitions[0].channels
    assert tuple(map(bare, channels)) == CHANNELS
    assert [channel.binning for channel in channels] == [2] * len(CHANNELS)
    assert channels[0].exposure_s == 0.01
    assert channels[0].emission_nm is None  # written as 0


def test_channel_numbers_may_have_gaps(tmp_path: Path) -> None:
    plate = make_plate(channels=(CHANNELS[1], CHANNELS[3]))
    export = read_export(write_export(tmp_path, plate))
    assert [channel.channel_id for channel in export.plate.acquisitions[0].channels] == [2, 4]
    assert set(export.measurements[0].sources["B/3", 0]) == {(0, 0, 0), (0, 1, 0)}


def test_channels_focused_at_different_heights_are_one_plane(tmp_path: Path) -> None:
    def refocus(images: list[ElementTree.Element]) -> None:
        for image in images:
            (channel,) = children(image, "ChannelID")
            set_text(image, "PositionZ", f"{int(channel.text or 0)}E-06")

    content = changed(index_bytes(tmp_path, make_plate(channels=CHANNELS)), refocus)
    plate = read_export(save(tmp_path, content)).plate
    assert (plate.acquisitions[0].shape[2], plate.acquisitions[0].z_step_um) == (1, 1.0)


def test_the_z_step_is_that_of_the_planes_of_one_channel(tmp_path: Path) -> None:
    def refocus(images: list[ElementTree.Element]) -> None:
        for image in images:
            (channel,), (plane,) = children(image, "ChannelID"), children(image, "PlaneID")
            set_text(image, "PositionZ", str(1e-6 * (7 * int(channel.text or 0) + 1.5 * int(plane.text or 0))))

    content = changed(index_bytes(tmp_path, make_plate(channels=CHANNELS, n_z=4)), refocus)
    plate = read_export(save(tmp_path, content)).plate
    assert plate.acquisitions[0].shape[2] == 4
    assert plate.acquisitions[0].z_step_um == pytest.approx(1.5)


def test_an_image_that_the_index_does_not_list_is_absent_from_the_sources(tmp_path: Path, screen: bytes) -> None:
    root = parse_index(screen)
    (images,) = children(root, "Images")
    images.remove(images[1])
    export = read_export(save(tmp_path, ElementTree.tostring(root)))
    assert_same_plate(export.plate, small_screen())
    assert len(export.measurements[0].sources["B/3", 0]) == small_screen().acquisitions[0].n_planes - 1


def test_an_image_listed_twice_is_one_image(tmp_path: Path, screen: bytes) -> None:
    root = parse_index(screen)
    (images,) = children(root, "Images")
    images.extend(list(images))
    assert_same_plate(read_export(save(tmp_path, ElementTree.tostring(root))).plate, small_screen())


def test_two_files_for_one_plane_contradict_each_other(tmp_path: Path, screen: bytes) -> None:
    root = parse_index(screen)
    (images,) = children(root, "Images")
    twin = ElementTree.fromstring(ElementTree.tostring(images[0]))
    set_text(twin, "URL", "another.tiff")
    images.append(twin)
    sources = read_export(save(tmp_path, ElementTree.tostring(root))).measurements[0].sources
    source = sources["B/3", 0][0, 0, 0]
    assert source.url == ""
    assert (
        source.problem
        == f"the index lists two images for this plane: {next(places(small_screen())).file} and another.tiff"
    )
    assert sum(bool(source.problem) for planes in sources.values() for source in planes.values()) == 1


def test_an_image_that_the_index_names_for_two_planes_is_that_of_none(tmp_path: Path, screen: bytes) -> None:
    def copy_name(images: list[ElementTree.Element]) -> None:
        (url,) = children(images[0], "URL")
        set_text(images[5], "URL", url.text or "")

    sources = read_export(save(tmp_path, changed(screen, copy_name))).measurements[0].sources
    doubtful = [source for planes in sources.values() for source in planes.values() if source.problem]
    assert len(doubtful) == 2
    assert all("for 2 planes" in source.problem for source in doubtful)


def test_a_pixel_size_given_by_hand_takes_the_place_of_the_index(tmp_path: Path, screen: bytes) -> None:
    assert read_export(save(tmp_path, screen), pixel_size_um=0.25).plate.acquisitions[0].pixel_size_um == 0.25


def test_a_pixel_size_that_the_index_lacks_must_be_given(tmp_path: Path, screen: bytes) -> None:
    def strip(images: list[ElementTree.Element]) -> None:
        for image in images:
            for element in children(image, "ImageResolutionX"):
                image.remove(element)

    content = changed(screen, strip)
    with pytest.raises(ExportError, match="--pixel-size-um"):
        read_export(save(tmp_path, content))
    assert (
        read_export(save(tmp_path, content), pixel_size_um=0.5).plate.acquisitions[0].shape
        == small_screen().acquisitions[0].shape
    )


# Folders without an index


def test_names_alone_are_enough_with_a_pixel_size(tmp_path: Path) -> None:
    plate = make_plate(wells=[(2, 3), (16, 24)], field_ids=[1, 256], channels=CHANNELS[:2], n_t=2, n_z=2, size=(48, 64))
    export = read_export(write_export(tmp_path, plate, index=False), pixel_size_um=0.3)
    assert export.plate.acquisitions[0].shape == plate.acquisitions[0].shape
    assert (export.plate.n_rows, export.plate.n_columns) == (16, 24)
    assert [well.path for well in export.plate.wells] == ["B/3", "P/24"]
    assert [field.field_id for field in export.plate.wells[0].fields] == [1, 256]
    assert export.plate.acquisitions[0].pixel_size_um == 0.3
    assert [channel.kind for channel in export.plate.acquisitions[0].channels] == ["unknown", "unknown"]
    for place in places(plate):
        assert export.measurements[0].sources[place.well.path, place.field.index][place.plane] == Source(place.file)


def test_names_alone_do_not_tell_the_pixel_size(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"2 TIFFs .* --pixel-size-um"):
        read_export(write_export(tmp_path, make_plate(), index=False))


def test_other_files_beside_the_images_are_passed_over(tmp_path: Path) -> None:
    folder = write_export(tmp_path, make_plate(), index=False)
    for name in ("Thumbs.db", "r02c03f01p01-ch1sk1fk1fl1.tiff.part", "overview.tiff", "r02c03f01p01-ch1sk1fk1fl1.png"):
        (folder / "Images" / name).write_bytes(b"?")
    assert read_export(folder, pixel_size_um=0.3).plate.n_fields == 2


def test_one_odd_file_does_not_decide_the_size(tmp_path: Path) -> None:
    plate = make_plate(field_ids=[1, 2, 3, 4])
    folder = write_export(tmp_path, plate, index=False)
    files = [place.file for place in places(plate)]
    tifffile.imwrite(folder / "Images" / files[0], np.zeros((8, 9), np.uint16))
    (folder / "Images" / files[1]).write_bytes(b"")
    assert read_export(folder, pixel_size_um=0.3).plate.acquisitions[0].shape[-2:] == (64, 64)


def test_a_folder_whose_tiffs_are_all_damaged_is_refused(tmp_path: Path) -> None:
    folder = write_export(tmp_path, make_plate(), index=False)
    for file in (folder / "Images").iterdir():
        file.write_bytes(b"?")
    with pytest.raises(ExportError, match="None of the TIFFs"):
        read_export(folder, pixel_size_um=0.3)


def test_bare_tiffs_of_two_plates_are_two_measurements(tmp_path: Path) -> None:
    folders = [write_export(tmp_path / name, make_plate(name=name), index=False) for name in ("first", "second")]
    first, second = (read_export(folder / "Images", pixel_size_um=0.3).plate for folder in folders)
    assert first.acquisitions[0].measurement_id != second.acquisitions[0].measurement_id
    again = read_export(folders[0], pixel_size_um=0.3).plate
    assert (again.name, again.acquisitions[0].measurement_id) == (first.name, first.acquisitions[0].measurement_id)


# What is refused


@pytest.mark.parametrize(
    "url",
    [
        "../secret.tiff",
        "sub/../../secret.tiff",
        "..",
        "/etc/passwd",
        "//server/share/x.tiff",
        "\\\\server\\share\\x.tiff",
        "..\\secret.tiff",
        "sub\\..\\..\\secret.tiff",
        "C:\\secret.tiff",
        "c:secret.tiff",
        "file:///etc/passwd",
        "file:/etc/passwd",
        "https://example.org/x.tiff",
        "s3://bucket/x.tiff",
    ],
)
def test_a_url_that_leads_out_of_the_export_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ImageError, match="never opened"):
        resolve_image(tmp_path, url)


def test_an_empty_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="names no file"):
        resolve_image(tmp_path, "")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_symbolic_link_that_leads_out_of_the_export_is_refused(tmp_path: Path, kind: str) -> None:
    outside, images = tmp_path / "outside", tmp_path / "Images"
    outside.mkdir()
    images.mkdir()
    (outside / "x.tiff").write_bytes(b"secret")
    if kind == "file":
        (images / "x.tiff").symlink_to(outside / "x.tiff")
    else:
        (images / "sub").symlink_to(outside)
    with pytest.raises(ImageError, match="never opened"):
        resolve_image(images, "x.tiff" if kind == "file" else "sub/x.tiff")


def test_a_link_within_the_export_and_a_linked_export_are_fine(tmp_path: Path) -> None:
    images = tmp_path / "Images"
    images.mkdir()
    (images / "x.tiff").write_bytes(b"pixels")
    (images / "y.tiff").symlink_to("x.tiff")
    (tmp_path / "linked").symlink_to(images)
    assert resolve_image(tmp_path / "linked", "y.tiff").read_bytes() == b"pixels"


@pytest.mark.parametrize("url", ["x" * 300 + ".tiff", "x/" * 3000], ids=["name", "path"])
def test_a_url_too_long_for_a_file_name_is_a_missing_image(tmp_path: Path, screen: bytes, url: str) -> None:
    content = changed(screen, lambda images: set_text(images[0], "URL", url))
    assert read_export(save(tmp_path, content)).plate.n_fields == small_screen().n_fields
    with pytest.raises(ImageError):
        resolve_image(tmp_path, url)


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        read_export(tmp_path / "nowhere")


def test_an_empty_folder_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"neither an index .* nor TIFFs"):
        read_export(tmp_path, pixel_size_um=0.3)


def test_another_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="its root is not <EvaluationInputData>"):
        read_export(save(tmp_path, b"<AssayLayout><Image/></AssayLayout>"))


def set_all(tag: str, text: str) -> Callable[[list[ElementTree.Element]], None]:
    def change(images: list[ElementTree.Element]) -> None:
        for image in images:
            set_text(image, tag, text)

    return change


def test_a_file_name_with_row_0_names_no_well(tmp_path: Path) -> None:
    folder = write_export(tmp_path, make_plate(), index=False)
    good = next((folder / "Images").iterdir())
    good.rename(good.with_name(good.name.replace("r02c03", "r00c03")))
    try:
        paths = [well.path for well in read_export(folder, pixel_size_um=0.3).plate.wells]
    except ExportError:
        return
    assert paths == ["B/3"]


@few
@given(data=st.data())
def test_a_damaged_index_raises_nothing_but_our_errors(tmp_path: Path, tiny: Path, data: st.DataObject) -> None:
    content = bytearray(tiny.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        start = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "repeat", "drop"])):
            case "flip":
                content[start] ^= data.draw(st.integers(1, 255))
            case "cut":
                del content[start + 1 :]
            case "repeat":
                content[start:start] = content[start : start + data.draw(st.integers(1, 400))]
            case _:
                del content[start : start + data.draw(st.integers(1, 400))]
        if len(content) < 2:
            break
    with suppress(ArtmaskError):
        read_export(save(tmp_path, bytes(content)))


@few
@given(tag_index=st.integers(0, 30), text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20))
def test_any_text_in_any_element_raises_nothing_but_our_errors(
    tmp_path: Path, tiny: Path, tag_index: int, text: str
) -> None:
    root = parse_index(tiny.read_bytes())
    image = children(root, "Images", "Image")[0]
    image[tag_index % len(image)].text = text
    (plate,) = children(root, "Plates", "Plate")
    plate[tag_index % len(plate)].text = text
    with suppress(ArtmaskError):
        export = read_export(save(tmp_path, ElementTree.tostring(root)))
        for planes in export.measurements[0].sources.values():
            for source in planes.values():
                resolve_image(export.measurements[0].images.folder, source.url)


# Real exports


def test_the_phenix_export_is_what_its_index_says(shared_data: Path) -> None:
    export = read_export(shared_data / "operetta" / "phenix-v5")
    plate = export.plate
    assert (plate.n_rows, plate.n_columns) == (16, 24)
    assert plate.acquisitions[0].shape == (1, 6, 1, 1080, 1080)
    assert [well.path for well in plate.wells] == ["A/1"]
    assert [channel.kind for channel in plate.acquisitions[0].channels] == ["fluorescence"] * 5 + ["brightfield"]
    assert [channel.emission_nm for channel in plate.acquisitions[0].channels] == [706, 599, 599, 522, 456, None]
    assert plate.acquisitions[0].pixel_size_um == pytest.approx(0.597976, abs=1e-6)
    (measurement,) = export.measurements
    assert all((measurement.images.folder / source.url).is_file() for source in measurement.sources["A/1", 0].values())


def test_the_phenix_export_of_harmony_7_is_what_its_index_says(shared_data: Path) -> None:
    plate = read_export(shared_data / "operetta" / "phenix-v7").plate
    assert (plate.n_rows, plate.n_columns) == (8, 12)
    assert plate.acquisitions[0].shape == (1, 7, 1, 2160, 2160)
    assert [channel.name for channel in plate.acquisitions[0].channels][3] == "405ex, 570-630-em)"
    assert plate.acquisitions[0].channels[6].kind == "brightfield"
    assert plate.acquisitions[0].pixel_size_um == pytest.approx(0.296688, abs=1e-6)


def test_the_operetta_export_is_what_its_index_says(shared_data: Path) -> None:
    plate = read_export(shared_data / "operetta" / "operetta-cls-v5").plate
    assert (plate.name, plate.n_rows, plate.n_columns) == ("Test_Sample_BALL", 16, 24)
    assert plate.acquisitions[0].shape == (1, 1, 1, 1080, 1080)
    assert [(w.path, [f.field_id for f in w.fields]) for w in plate.wells] == [("C/3", [1, 2])]
    assert [f.y_um for f in plate.wells[0].fields] == pytest.approx([-645.814, -645.814])
    assert [f.x_um for f in plate.wells[0].fields] == pytest.approx([-645.814, 645.814])


def test_the_bare_tiffs_are_what_their_names_say(shared_data: Path) -> None:
    export = read_export(shared_data / "sabgal" / "images", pixel_size_um=0.3)
    assert export.plate.acquisitions[0].shape == (1, 1, 1, 1080, 1080)
    assert (len(export.plate.wells), export.plate.n_fields) == (13, 20)
    assert {f.field_id for w in export.plate.wells if w.path == "E/5" for f in w.fields} == {78, 242, 247}
