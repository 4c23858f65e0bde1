import random
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest
from exports import (
    CHANNELS,
    as_generation,
    children,
    index_bytes,
    local_name,
    make_plate,
    set_text,
    small_screen,
)
from exports import (
    parse_index as tree_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upath import UPath

from artifact_mask.errors import ExportError
from artifact_mask.io import harmony_xml
from artifact_mask.io.harmony_index import HarmonyIndex, IndexHead, parse_index, read_head

HARMONY = "http://www.perkinelmer.com/PEHH/Harmony"
IDS = ("Row", "Col", "FieldID", "PlaneID", "TimepointID", "ChannelID")
few = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)

TINY = make_plate(wells=[(2, 3), (4, 11)], field_ids=[1, 7], channels=CHANNELS[:2])

Change = Callable[[ElementTree.Element], None]


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Index of a plate with wells, fields, channels, planes and timepoints."""
    return index_bytes(tmp_path_factory.mktemp("index"), small_screen())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Index of a smaller plate, for tests with many examples."""
    return index_bytes(tmp_path_factory.mktemp("index"), TINY)


def save(folder: Path, content: bytes) -> Path:
    file = folder / "Index.idx.xml"
    file.write_bytes(content)
    return file


def parse(folder: Path, content: bytes) -> HarmonyIndex:
    return parse_index(save(folder, content))


def images_of(root: ElementTree.Element) -> list[ElementTree.Element]:
    return children(root, "Images", "Image")


def changed(content: bytes, change: Callable[[list[ElementTree.Element]], None]) -> bytes:
    root = tree_of(content)
    change(images_of(root))
    return ElementTree.tostring(root, encoding="utf-8")


def set_all(tag: str, text: str) -> Callable[[list[ElementTree.Element]], None]:
    return lambda images: [set_text(image, tag, text) for image in images] and None


def without(*tags: str) -> Callable[[list[ElementTree.Element]], None]:
    def remove(images: list[ElementTree.Element]) -> None:
        for image in images:
            image[:] = [child for child in image if local_name(child) not in tags]

    return remove


# What an index says


def test_each_image_is_a_record_in_the_order_of_the_file(tmp_path: Path, screen: bytes) -> None:
    found = parse(tmp_path, screen)
    images = images_of(tree_of(screen))
    assert len(found.records) == len(images) == 2 * 2 * 2 * 5
    for record, image in zip(found.records, images, strict=True):
        said = {local_name(child): child.text for child in image}
        assert record[:6] == tuple(int(said[tag] or "") for tag in IDS)
        assert (record.url, record.time, record.page) == (said["URL"], said["AbsTime"], None)
        assert (record.x_m, record.y_m, record.z_m) == tuple(float(said[f"Position{axis}"] or "") for axis in "XYZ")
    assert found.problems == []


def test_the_plate_and_the_objective_are_what_the_index_says(tmp_path: Path, screen: bytes) -> None:
    found = parse(tmp_path, screen)
    assert (found.plate["Name"], found.plate["MeasurementID"]) == ("screen", "measurement-of-screen")
    assert (found.plate_size, found.image_size, found.pixel_size_um) == ((8, 12), (300, 260), 0.5)
    assert found.magnification is not None
    assert found.numerical_aperture is not None


def test_channels_tell_exposure_and_binning(tmp_path: Path, screen: bytes) -> None:
    channels = parse(tmp_path, screen).channels
    assert {c: (channel.name, channel.kind) for c, channel in channels.items()} == {
        1: ("Brightfield", "brightfield"),
        2: ("HOECHST 33342", "fluorescence"),
    }
    assert [(channel.exposure_s, channel.binning) for channel in channels.values()] == [(0.01, 2), (0.1, 2)]
    assert [(channel.excitation_nm, channel.emission_nm) for channel in channels.values()] == [(740, None), (405, 456)]


def test_flat_fields_are_kept_as_written(tmp_path: Path, screen: bytes) -> None:
    written = [entry[0].text for entry in children(tree_of(screen), "Maps", "Map", "Entry")]
    assert list(parse(tmp_path, screen).flat_fields.values()) == written


@pytest.mark.parametrize("generation", [f"{HARMONY}V4", f"{HARMONY}V6", f"{HARMONY}V8", "any:thing"])
def test_the_namespace_means_nothing(tmp_path: Path, screen: bytes, generation: str) -> None:
    expected = parse(tmp_path, screen)
    assert parse(tmp_path, as_generation(screen, generation)) == expected


def test_an_index_without_a_namespace_is_read(tmp_path: Path, screen: bytes) -> None:
    root = tree_of(screen)
    for element in root.iter():
        element.tag = local_name(element)
    expected = parse(tmp_path, screen)
    assert parse(tmp_path, ElementTree.tostring(root)) == expected


def test_harmony_7_says_the_same_in_a_map(tmp_path: Path, screen: bytes) -> None:
    expected = parse(tmp_path, screen)
    found = parse(tmp_path, index_bytes(tmp_path, small_screen(), harmony="v7"))
    assert (found.channels, found.image_size, found.pixel_size_um) == (
        expected.channels,
        expected.image_size,
        expected.pixel_size_um,
    )
    assert found.flat_fields.keys() == expected.flat_fields.keys()
    assert found.records == [r._replace(timepoint_id=r.timepoint_id + 1) for r in expected.records]


@pytest.mark.parametrize("after_images", [False, True])
def test_the_map_of_channels_is_found_by_its_content(tmp_path: Path, screen: bytes, after_images: bool) -> None:
    root = tree_of(index_bytes(tmp_path, small_screen(), harmony="v7"))
    (maps,) = children(root, "Maps")
    maps[:] = [ElementTree.Element("Map"), *reversed(maps[:])]
    root.remove(maps)
    root.insert(len(root) if after_images else 0, maps)
    expected = parse(tmp_path, screen)
    found = parse(tmp_path, ElementTree.tostring(root))
    assert found.channels == expected.channels
    assert found.flat_fields.keys() == expected.flat_fields.keys()


def test_columbus_names_the_page_of_each_plane(tmp_path: Path) -> None:
    records = parse(tmp_path, index_bytes(tmp_path, small_screen(), harmony="columbus")).records
    assert len({(record.url, record.page) for record in records}) == len(records)
    assert {record.page for record in records} == set(range(8))


def test_a_page_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    # To guess would be to take the pixels of another plane.
    content = index_bytes(tmp_path, small_screen(), harmony="columbus").replace(b'BufferNo="3"', b'BufferNo="-1"')
    found = parse(tmp_path, content)
    assert len(found.problems) == 5
    assert all("BufferNo is -1" in problem for problem in found.problems)


def test_one_complete_record_a_channel_is_enough(tmp_path: Path, screen: bytes) -> None:
    metadata = ("ChannelName", "ChannelType", "MainExcitationWavelength", "MainEmissionWavelength", "ImageSizeX")
    expected = parse(tmp_path, screen)

    def strip(images: list[ElementTree.Element]) -> None:
        without(*metadata)(images[:10])
        without("ImageSizeX", "ExposureTime", "BinningX")(images[15:])

    assert parse(tmp_path, changed(screen, strip)) == expected


def test_the_size_of_an_image_is_that_of_most_channels(tmp_path: Path) -> None:
    content = index_bytes(tmp_path, make_plate(channels=CHANNELS))

    def widen(images: list[ElementTree.Element]) -> None:
        for image in images:
            if children(image, "ChannelID")[0].text == "1":
                set_text(image, "ImageSizeX", "2160")

    assert parse(tmp_path, changed(content, widen)).image_size == (64, 64)


def test_the_largest_intensity_means_nothing(tmp_path: Path, screen: bytes) -> None:
    expected = parse(tmp_path, screen)
    assert parse(tmp_path, changed(screen, set_all("MaxIntensity", "65536"))) == expected


@pytest.mark.parametrize(("unit", "text"), [("m", "5E-07"), ("mm", "0.0005"), ("um", "0.5"), ("\u00b5m", "0.5")])
def test_a_length_may_have_another_unit(tmp_path: Path, screen: bytes, unit: str, text: str) -> None:
    def convert(images: list[ElementTree.Element]) -> None:
        for image in images:
            for tag in ("ImageResolutionX", "PositionX"):
                set_text(image, tag, text)
                children(image, tag)[0].set("Unit", unit)

    found = parse(tmp_path, changed(screen, convert))
    assert found.pixel_size_um == pytest.approx(0.5)
    assert found.records[0].x_m == pytest.approx(5e-7)


def test_optional_elements_may_be_absent(tmp_path: Path, screen: bytes) -> None:
    def strip(images: list[ElementTree.Element]) -> None:
        for image in images:
            image[:] = [child for child in image if local_name(child) in IDS]

    found = parse(tmp_path, changed(screen, strip))
    assert [record[:6] for record in found.records] == [record[:6] for record in parse(tmp_path, screen).records]
    assert found.records[0][6:] == ("", None, 0.0, 0.0, 0.0, "")
    assert (found.image_size, found.pixel_size_um, found.magnification) == (None, None, None)
    assert [channel.name for channel in found.channels.values()] == ["Channel 1", "Channel 2"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "cp1252"])
def test_encodings_and_line_ends_make_no_difference(tmp_path: Path, screen: bytes, encoding: str) -> None:
    expected = parse(tmp_path, screen)
    text = screen.decode("utf-8-sig").replace("\n", "\r\n")
    text = text.replace('encoding="utf-8"', f'encoding="{encoding.removesuffix("-sig")}"')
    assert parse(tmp_path, text.encode(encoding)) == expected


def test_an_index_in_an_object_store_is_read(screen: bytes) -> None:
    index = UPath("memory://harmony-index/Index.idx.xml")
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_bytes(screen)
    assert len(parse_index(index).records) == 40
    head = read_head(index)
    assert head is not None
    assert head.name == "screen"


# What cannot be understood


@pytest.mark.parametrize(
    ("tag", "value", "problem"),
    [
        ("Row", "99", "Row is 99, expected 1 to 48"),
        ("Col", "0", "Col is 0, expected 1 to 48"),
        ("Row", "-1", "Row is -1, expected a whole number"),
        ("Row", "", "Row is '', expected a whole number"),
        ("FieldID", "one", "FieldID is one, expected a whole number"),
        ("PlaneID", "1_0", "PlaneID is 1_0"),
        ("TimepointID", "\u0661", "TimepointID is \u0661"),
        ("ChannelID", "9" * 5000, "ChannelID is '9999"),
        ("PositionX", "NaN", "PositionX is NaN"),
        ("PositionY", "-INF", "PositionY is -INF"),
        ("PositionZ", "high", "PositionZ is high"),
        ("PositionZ", "1E300", "PositionZ is 1E300"),
    ],
)
def test_a_broken_record_is_left_out_and_told_of(
    tmp_path: Path, screen: bytes, tag: str, value: str, problem: str
) -> None:
    expected = parse(tmp_path, screen).records
    found = parse(tmp_path, changed(screen, lambda images: set_text(images[3], tag, value)))
    assert found.records == expected[:3] + expected[4:]
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"image 0203K1F1P2R2: {problem}")
    assert len(found.problems[0]) < 200


@pytest.mark.parametrize("tag", IDS)
def test_a_record_without_a_number_is_left_out_and_told_of(tmp_path: Path, screen: bytes, tag: str) -> None:
    found = parse(tmp_path, changed(screen, lambda images: without(tag)(images[:1])))
    assert found.problems == [f"image 0203K1F1P1R1: {tag} is missing"]
    assert len(found.records) == 39


def test_an_index_whose_records_are_all_broken_is_refused(tmp_path: Path, screen: bytes) -> None:
    with pytest.raises(ExportError, match=r"lists 40 images, none of which .* image 0203K1F1P1R1: Row is 0"):
        parse(tmp_path, changed(screen, set_all("Row", "0")))


@pytest.mark.parametrize("text", ["0", "-5", "NaN", "INF", "1E400", "blue", "", "9" * 5000, "1_0", "\u0661"])
def test_an_optional_value_that_makes_no_sense_is_absent(tmp_path: Path, screen: bytes, text: str) -> None:
    def spoil(images: list[ElementTree.Element]) -> None:
        for tag in (
            *("MainExcitationWavelength", "MainEmissionWavelength", "ExposureTime", "BinningX", "ImageSizeX"),
            *("ImageResolutionX", "ObjectiveMagnification", "ObjectiveNA", "ChannelType"),
        ):
            set_all(tag, text)(images)

    found = parse(tmp_path, changed(screen, spoil))
    for channel in found.channels.values():
        assert (channel.excitation_nm, channel.emission_nm, channel.exposure_s, channel.binning) == (None,) * 4
        # How the light came still says that it is no fluorescence.
        assert channel.kind == ("brightfield" if channel.channel_id == 1 else "unknown")
    assert (found.image_size, found.pixel_size_um, found.magnification, found.numerical_aperture) == (None,) * 4
    assert (len(found.records), found.problems) == (40, [])


@pytest.mark.parametrize("value", ["", "many", "-3", "0", "9" * 5000, "100000"])
def test_a_plate_size_that_cannot_be_read_is_unknown(tmp_path: Path, screen: bytes, value: str) -> None:
    root = tree_of(screen)
    (rows,) = children(root, "Plates", "Plate", "PlateRows")
    rows.text = value
    assert parse(tmp_path, ElementTree.tostring(root)).plate_size == (0, 12)


@pytest.mark.parametrize("read", [parse_index, read_head])
def test_a_file_that_does_not_exist_cannot_be_read(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(ExportError, match="cannot be read"):
        read(tmp_path / "Index.idx.xml")


@pytest.mark.parametrize("kept", [0, 1, 100, 0.3, 0.99])
def test_a_truncated_index_is_refused(tmp_path: Path, screen: bytes, kept: float) -> None:
    cut = screen[: kept if isinstance(kept, int) else int(kept * len(screen))]
    with pytest.raises(ExportError, match="not complete XML"):
        parse(tmp_path, cut)


@pytest.mark.parametrize(
    "content", [b"\x00" * 4096, b"II*\x00" + bytes(range(256)), b"{}", b"<a><b></a>", b"a" * 10**6]
)
def test_what_is_not_xml_is_refused(tmp_path: Path, content: bytes) -> None:
    file = save(tmp_path, content)
    with pytest.raises(ExportError, match="not complete XML"):
        parse_index(file)
    if not content.startswith(b"<a>"):
        with pytest.raises(ExportError, match="not complete XML"):
            read_head(file)


def test_another_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"root is <AssayLayout>, expected <EvaluationInputData>"):
        parse(tmp_path, b"<AssayLayout><Image/></AssayLayout>")


def test_an_index_without_images_is_refused(tmp_path: Path, screen: bytes) -> None:
    root = tree_of(screen)
    (images,) = children(root, "Images")
    images[:] = []
    with pytest.raises(ExportError, match="lists no image"):
        parse(tmp_path, ElementTree.tostring(root))


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa">' + "".join(
    f'<!ENTITY {after} "{f"&{name};" * 20}">' for name, after in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "iso-8859-1"])
@pytest.mark.parametrize(
    "declaration",
    [
        BOMB + "]>",
        '<!DOCTYPE x [<!ENTITY k SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "http://example.org/x.dtd" [<!ENTITY % k SYSTEM "http://example.org/y">]>',
        '<!DOCTYPE x SYSTEM "http://example.org/x.dtd">',
        "<!DOCTYPE x>",
        '<!-- > --><?x > ?><!DOCTYPE x [<!ENTITY k "&#60;Image/&#62;">]>',
    ],
    ids=["bomb", "file", "parameter", "external", "plain", "hidden"],
)
@pytest.mark.parametrize("read", [parse_index, read_head])
def test_document_types_and_entities_are_refused(
    tmp_path: Path, declaration: str, encoding: str, read: Callable[[Path], object]
) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    content = f"{mark}{declaration}<EvaluationInputData><User>&k;</User></EvaluationInputData>"
    with pytest.raises(ExportError, match="contains XML entities or a document type"):
        read(save(tmp_path, content.encode(encoding)))


@pytest.mark.parametrize("inside", ["&k;", "<!DOCTYPE x [<!ENTITY k 'x'>]>&k;"])
def test_nothing_can_be_declared_after_the_root(tmp_path: Path, inside: str) -> None:
    with pytest.raises(ExportError, match="not complete XML"):
        parse(tmp_path, f"<EvaluationInputData>{inside}</EvaluationInputData>".encode())


@pytest.mark.parametrize("encoding", ["klingon-8", "shift_jis", "utf-7", "rot13", "zlib"])
def test_an_encoding_that_nobody_writes_is_refused(tmp_path: Path, screen: bytes, encoding: str) -> None:
    with pytest.raises(ExportError, match="not complete XML"):
        parse(tmp_path, screen[3:].replace(b'encoding="utf-8"', f'encoding="{encoding}"'.encode(), 1))


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("read", [parse_index, read_head])
def test_deep_nesting_is_refused(tmp_path: Path, closed: bool, read: Callable[[Path], object]) -> None:
    n = 500_000
    content = b"<EvaluationInputData>" + b"<a>" * n + (b"</a>" * n + b"</EvaluationInputData>") * closed
    with pytest.raises(ExportError, match="nested deeper than 64 levels"):
        read(save(tmp_path, content))


def test_deep_nesting_within_a_record_does_no_harm(tmp_path: Path, screen: bytes) -> None:
    expected = parse(tmp_path, screen)
    n = 300_000
    deep = b"<Novelty>" + b"<a>" * n + b"</a>" * n + b"</Novelty><URL>"
    assert parse(tmp_path, screen.replace(b"<URL>", deep, 1)) == expected


def test_an_index_that_is_too_large_is_not_read(tmp_path: Path, screen: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "Index.idx.xml"
    with file.open("wb") as stream:
        stream.write(screen)
        stream.truncate(harmony_xml.MAX_XML_BYTES + 1)
    with pytest.raises(ExportError, match=r"of more than 2147483648 bytes is not read"):
        parse_index(file)


@pytest.mark.parametrize("filling", [b"x", b"<a/>", b" ", b"<!--x-->"])
def test_an_element_without_end_is_refused(tmp_path: Path, filling: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harmony_xml, "MAX_ELEMENT_BYTES", 100_000)
    content = b"<EvaluationInputData><Plates><Plate>" + filling * (200_000 // len(filling))
    with pytest.raises(ExportError, match="element <Plate>"):
        parse(tmp_path, content)


def test_a_prolog_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no element in its first"):
        parse(tmp_path, b"<!--" + b"x>" * 100_000 + b"--><EvaluationInputData/>")


@pytest.mark.parametrize(
    "filling", [b"<x><y>1</y></x>", b"<Image><Row>0</Row></Image>", b"<Well><Image id='1'/></Well>"]
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, filling: bytes) -> None:
    file = save(tmp_path, b"<EvaluationInputData><Images>" + filling * 60_000 + b"</Images></EvaluationInputData>")
    tracemalloc.start()
    try:
        n = sum(1 for _ in harmony_xml.read_elements(file, ["Image", "Plate"]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n == 1 + 60_000 * filling.count(b"<Image")
    assert peak < 2**20


def test_a_tag_without_end_is_refused_soon(tmp_path: Path) -> None:
    # expat starts such a tag anew with each piece: in small pieces this took 20 s.
    content = b"<EvaluationInputData><User name='" + b"x" * (harmony_xml.MAX_ELEMENT_BYTES + 2 * 2**20)
    with pytest.raises(ExportError, match="of more than 16777216 bytes"):
        parse(tmp_path, content)


@pytest.mark.parametrize("n", [0, 1, 8_000, 20_000])
def test_a_long_prolog_is_held_back_and_read(tmp_path: Path, screen: bytes, n: int) -> None:
    expected = parse(tmp_path, screen)
    declaration, _, rest = screen.partition(b"\n")
    comment = b"<!--" + b" > " * (n // 3) + b"-->"
    assert parse(tmp_path, declaration + comment + rest) == expected


# The head of an index


def test_the_head_is_what_the_index_says_of_its_plate(tmp_path: Path, screen: bytes) -> None:
    started = parse(tmp_path, screen).plate["MeasurementStartTime"]
    expected = IndexHead("screen", "screen", "measurement-of-screen", started, (8, 12))
    assert read_head(save(tmp_path, screen)) == expected


def test_the_head_is_read_without_the_rest(tmp_path: Path, screen: bytes) -> None:
    expected = read_head(save(tmp_path, screen))
    # What is cut off, or broken, much later is not looked at.
    content = screen.replace(b"<Wells>", b"<Wells>" + b"<Well />" * 20_000, 1) + b"<<<"
    assert read_head(save(tmp_path, content)) == expected


def test_the_head_is_found_after_the_images(tmp_path: Path, screen: bytes) -> None:
    expected = read_head(save(tmp_path, screen))
    root = tree_of(screen)
    root[:] = reversed(root[:])
    assert read_head(save(tmp_path, ElementTree.tostring(root))) == expected


def test_an_index_without_a_plate_has_an_empty_head(tmp_path: Path) -> None:
    file = save(tmp_path, b"<EvaluationInputData><Images/></EvaluationInputData>")
    assert read_head(file) == IndexHead("", "", "", "", (0, 0))


def test_another_xml_file_has_no_head(tmp_path: Path) -> None:
    assert read_head(save(tmp_path, b"<AssayLayout><PlateCols>24</PlateCols>")) is None


def test_a_head_that_is_cut_off_is_refused(tmp_path: Path, screen: bytes) -> None:
    with pytest.raises(ExportError, match="not complete XML"):
        read_head(save(tmp_path, screen[: screen.index(b"<PlateRows>")]))


# Whatever comes


@few
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_elements_means_nothing(tmp_path: Path, tiny: bytes, seed: int) -> None:
    shuffle = random.Random(seed).shuffle
    root = tree_of(tiny)
    for parent in list(root.iter()):
        elements = list(parent)
        shuffle(elements)
        parent[:] = elements
    expected, found = parse(tmp_path, tiny), parse(tmp_path, ElementTree.tostring(root))
    assert set(found.records) == set(expected.records)
    assert (found.channels, found.plate, found.flat_fields) == (expected.channels, expected.plate, expected.flat_fields)
    assert (found.image_size, found.pixel_size_um, found.problems) == (expected.image_size, expected.pixel_size_um, [])


@few
@given(data=st.data())
def test_unknown_elements_and_attributes_are_passed_over(tmp_path: Path, tiny: bytes, data: st.DataObject) -> None:
    root = tree_of(tiny)
    parents = [element for element in root.iter() if len(element) or local_name(element) == "Images"]
    for _ in range(data.draw(st.integers(1, 12))):
        parent = data.draw(st.sampled_from(parents))
        novelty = ElementTree.Element(data.draw(st.sampled_from(["Novelty", "{urn:x}Row2", "image", "Rows"])), Unit="m")
        novelty.text = data.draw(texts)
        ElementTree.SubElement(novelty, "Inner").text = "1"
        parent.insert(data.draw(st.integers(0, len(parent))), novelty)
        parent.set("Added", "yes")
    expected, found = parse(tmp_path, tiny), parse(tmp_path, ElementTree.tostring(root))
    plate = {key: text for key, text in found.plate.items() if key in expected.plate}
    assert (found.records, found.channels, plate) == (expected.records, expected.channels, expected.plate)


@few
@given(data=st.data())
def test_optional_elements_may_be_absent_or_hold_anything(tmp_path: Path, tiny: bytes, data: st.DataObject) -> None:
    """Ids and positions stay as they are, whatever becomes of the rest."""
    root = tree_of(tiny)
    kept = {*IDS, "id", "URL", "PositionX", "PositionY", "PositionZ", "AbsTime"}
    optional = [
        (image, child) for image in images_of(root) for child in list(image) if local_name(child) not in kept
    ] + [(plate, child) for plate in children(root, "Plates", "Plate") for child in list(plate)]
    for _ in range(data.draw(st.integers(1, 30))):
        parent, child = data.draw(st.sampled_from(optional))
        if data.draw(st.booleans()):
            child.text = data.draw(texts | st.sampled_from(["NaN", "1E999", "-1", "0", "9" * 400]))
        elif child in list(parent):
            parent.remove(child)
    found = parse(tmp_path, ElementTree.tostring(root))
    assert found.records == parse(tmp_path, tiny).records
    assert found.problems == []


@few
@given(tag=st.sampled_from([*IDS, "PositionX", "PositionZ", "URL", "AbsTime", "id"]), text=texts)
def test_any_text_in_a_record_spoils_no_other_record(tmp_path: Path, tiny: bytes, tag: str, text: str) -> None:
    expected = parse(tmp_path, tiny).records
    found = parse(tmp_path, changed(tiny, lambda images: set_text(images[0], tag, text)))
    assert [record for record in found.records if record not in expected[:1]][-7:] == expected[1:]
    assert len(found.records) + len(found.problems) == len(expected)


def damaged(content: bytes, source: random.Random) -> bytes:
    """Flip, cut, repeat, move and drop some of the bytes."""
    spoilt = bytearray(content)
    for _ in range(source.randint(1, 6)):
        start, n = source.randrange(len(spoilt) + 1), source.randint(1, 400)
        match source.randrange(6):
            case 0 if start < len(spoilt):
                spoilt[start] ^= 1 << source.randrange(8)
            case 1:
                del spoilt[start + 1 :]
            case 2:
                spoilt[start:start] = spoilt[start : start + n]
            case 3:
                target = source.randrange(len(spoilt) + 1)
                spoilt[target:target] = spoilt[start : start + n]
            case 4:
                spoilt[start:start] = source.choice(
                    [b"<", b">", b"&", b"]]>", b"<!DOCTYPE x>", b"<![CDATA[", b"\x00", b"\xff", b"<Image>", b"<Entry/>"]
                )
            case _:
                del spoilt[start : start + n]
    return bytes(spoilt)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_index_raises_nothing_but_our_errors(tmp_path: Path, tiny: bytes, seed: int) -> None:
    source = random.Random(seed)
    others = [index_bytes(tmp_path, TINY, harmony=harmony) for harmony in ("v7", "columbus")]
    originals = [tiny, *others, tiny.decode("utf-8-sig").encode("utf-16")]
    for _ in range(300):
        file = save(tmp_path, damaged(source.choice(originals), source))
        for read in (parse_index, read_head):
            with suppress(ExportError):
                read(file)


# Real exports


def test_the_real_exports_are_understood_without_a_problem(shared_data: Path) -> None:
    folder = shared_data / "operetta"
    v5, v7, cls = (
        parse_index(folder / name)
        for name in ("phenix-v5/Index.idx.xml", "phenix-v7/Index.xml", "operetta-cls-v5/Images/Index.idx.xml")
    )
    assert [len(index.records) for index in (v5, v7, cls)] == [6, 7, 2]
    assert [index.problems for index in (v5, v7, cls)] == [[], [], []]
    assert [index.plate_size for index in (v5, v7, cls)] == [(16, 24), (8, 12), (16, 24)]
    assert [index.image_size for index in (v5, v7, cls)] == [(1080, 1080), (2160, 2160), (1080, 1080)]
    assert [index.pixel_size_um for index in (v5, v7)] == pytest.approx([0.597976, 0.296688], abs=1e-6)
    assert [(index.magnification, index.numerical_aperture) for index in (v5, v7)] == [(20, 1), (20, 1)]
    assert [len(index.flat_fields) for index in (v5, v7)] == [6, 7]
    assert v7.channels[4].name == "405ex, 570-630-em)"
    assert v7.records[0].timepoint_id == 1
    assert v7.records[0].time == "2024-06-24T11:48:55.515-04:00"
    assert all(channel.exposure_s and channel.binning for channel in [*v5.channels.values(), *v7.channels.values()])
    assert v5.channels[6].emission_nm is None


def test_the_heads_of_the_real_exports_are_read(shared_data: Path) -> None:
    head = read_head(shared_data / "operetta" / "phenix-v5" / "Index.idx.xml")
    assert head == IndexHead(
        name="BR00121482",
        barcode="BR00121482",
        measurement_id="5de72537-0fda-42a5-8715-2e605ccb652c",
        started="2021-03-29T16:51:44.6444882-04:00",
        plate_size=(16, 24),
    )
    assert read_head(shared_data / "operetta" / "operetta-cls-v5" / "Assaylayout" / "Unnamed.xml") is None
