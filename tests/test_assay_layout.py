import random
from contextlib import suppress
from html import escape
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifact_mask.errors import ExportError
from artifact_mask.io.assay_layout import read_layout

Wells = dict[tuple[object, object], str]
few = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def layer(name: str, value_type: str, wells: Wells) -> str:
    listed = "".join(
        f"<Well><Row>{row}</Row><Col>{column}</Col><Value>{escape(value)}</Value><Color>4294967295</Color></Well>"
        for (row, column), value in wells.items()
    )
    return f"<Layer><Name>{escape(name)}</Name><ValueType>{value_type}</ValueType>{listed}</Layer>"


def layout(*layers: str) -> str:
    head = '<?xml version="1.0" encoding="utf-8"?>\r\n<AssayLayout xmlns="http://www.perkinelmer.com/PEHH/HarmonyV5">'
    return f"{head}<PlateCols>24</PlateCols><PlateRows>16</PlateRows>{''.join(layers)}</AssayLayout>"


def save(folder: Path, content: str) -> Path:
    file = folder / "Layout.xml"
    file.write_text(content, encoding="utf-8-sig")
    return file


def test_each_well_has_the_values_of_its_layers(tmp_path: Path) -> None:
    compound = layer("Compound", "string", {(1, 1): "DMSO", (1, 2): "a & b <c>", (2, 1): ""})
    dose = layer("Concentration", "double", {(1, 1): "0", (1, 2): "1.5E-3", (2, 2): " "})
    assert read_layout(save(tmp_path, layout(compound, dose))) == {
        (1, 1): {"Compound": "DMSO", "Concentration": 0.0},
        (1, 2): {"Compound": "a & b <c>", "Concentration": 0.0015},
    }


@pytest.mark.parametrize("value_type", ["double", "int", "Float", "number"])
def test_a_layer_of_numbers_holds_floats(tmp_path: Path, value_type: str) -> None:
    content = layout(layer("Dose", value_type, {(1, 1): "1", (1, 2): "-2,5", (1, 3): "+.5e3"}))
    values = [well["Dose"] for well in read_layout(save(tmp_path, content)).values()]
    assert values == [1.0, -2.5, 500.0]
    assert all(type(value) is float for value in values)


@pytest.mark.parametrize("odd", ["high", "1.000,5", "1,000,5", "NaN", "INF", "1E999", "1_0", "0x1", "\u0661", "1 2"])
def test_one_value_that_is_no_number_makes_the_layer_text(tmp_path: Path, odd: str) -> None:
    content = layout(layer("Dose", "double", {(1, 1): "1", (1, 2): odd}))
    assert [well["Dose"] for well in read_layout(save(tmp_path, content)).values()] == ["1", odd]


def test_a_layer_of_texts_stays_text(tmp_path: Path) -> None:
    content = layout(layer("Batch", "string", {(1, 1): "007"}), layer("Other", "", {(1, 1): "1"}))
    assert read_layout(save(tmp_path, content)) == {(1, 1): {"Batch": "007", "Other": "1"}}


def test_layers_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    wells: Wells = {(1, 1): "x"}
    names = ["Dose", "Dose (2)", "Dose", "Dose", ""]
    content = layout(*(layer(name, "string", wells) for name in names))
    assert list(read_layout(save(tmp_path, content))[1, 1]) == ["Dose", "Dose (2)", "Dose (3)", "Dose (4)", "Layer 5"]


def test_wells_that_no_plate_has_are_passed_over(tmp_path: Path) -> None:
    wells: Wells = {(0, 1): "a", (1, -1): "b", ("x", 1): "c", (1, ""): "d", (99, 1): "e", ("9" * 5000, 1): "f"}
    assert read_layout(save(tmp_path, layout(layer("Dose", "string", wells | {(2, 3): "g"})))) == {
        (2, 3): {"Dose": "g"}
    }


def test_an_empty_layout_says_nothing(tmp_path: Path) -> None:
    assert read_layout(save(tmp_path, layout())) == {}
    assert read_layout(save(tmp_path, "<AssayLayout/>")) == {}


@pytest.mark.parametrize(
    "content",
    ["", "Compound;1;2", "<AssayLayout>", "<EvaluationInputData/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><AssayLayout/>"],
)
def test_what_is_no_layout_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ExportError):
        read_layout(save(tmp_path, content))


def test_a_layout_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be read"):
        read_layout(tmp_path / "Layout.xml")


@few
@given(
    wells=st.dictionaries(
        st.tuples(st.integers(1, 16), st.integers(1, 24)),
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12),
        max_size=8,
    )
)
def test_texts_are_read_as_written(tmp_path: Path, wells: Wells) -> None:
    expected = {place: {"L": value.strip()} for place, value in wells.items() if value.strip()}
    assert read_layout(save(tmp_path, layout(layer("L", "string", wells)))) == expected


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_layout_raises_nothing_but_our_errors(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    wells: Wells = {(row, column): str(row * column) for row in range(1, 4) for column in range(1, 4)}
    content = layout(layer("Compound", "string", wells), layer("Dose", "double", wells)).encode("utf-8-sig")
    file = tmp_path / "Layout.xml"
    for _ in range(300):
        spoilt = bytearray(content)
        for _ in range(source.randint(1, 3)):
            start, n = source.randrange(len(spoilt) + 1), source.randint(1, 60)
            match source.randrange(3):
                case 0:
                    del spoilt[start : start + n]
                case 1:
                    spoilt[start:start] = spoilt[start : start + n]
                case _:
                    spoilt[start : start + 1] = bytes([source.randrange(256)])
        file.write_bytes(spoilt)
        with suppress(ExportError):
            read_layout(file)


def test_the_real_layout_is_empty(shared_data: Path) -> None:
    assert read_layout(shared_data / "operetta" / "operetta-cls-v5" / "Assaylayout" / "Unnamed.xml") == {}
