"""The table of labels: what people and spreadsheets write is understood, or refused with the line."""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from artifact_mask.errors import ConfigError
from artifact_mask.io.label_list import LABELS, Box, LabelledPlace, read_label_list, write_label_list

HEADER = "plate,well,field,label\n"


@pytest.fixture
def table(tmp_path):
    def write(content):
        path = tmp_path / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool)
NAMES |= st.sampled_from(
    ['</script><img src=x onerror="alert(1)">', '=cmd|"/c calc"!A1', 'a,b;"c"\td', "two\nlines", "ä 1"]
)
PLACES = st.builds(
    LabelledPlace,
    plate=NAMES,
    well=st.sampled_from(["A01", "B03", "P24", "AF48"]),
    field=st.integers(0, 999),
    label=st.sampled_from(LABELS),
    box=st.none() | st.builds(Box, *[st.integers(0, 999)] * 2, *[st.integers(1, 999)] * 2),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PLACES, min_size=1, unique_by=lambda p: (p.plate, p.well, p.field, p.box)))
def test_what_is_written_is_read_back(tmp_path, places):
    write_label_list(tmp_path / "labels.csv", places)
    assert read_label_list(tmp_path / "labels.csv") == places


def test_boxes_are_columns_only_where_there_are_tiles(tmp_path):
    path = tmp_path / "labels.csv"
    write_label_list(path, [LabelledPlace("P", "B03", 0, "clean")])
    assert path.read_text() == HEADER + "P,B03,0,clean\n"
    write_label_list(
        path, [LabelledPlace("P", "B03", 0, "clean"), LabelledPlace("P", "B03", 0, "artifact", Box(0, 9, 5, 6))]
    )
    assert path.read_text().splitlines()[1:] == ["P,B03,0,clean,,,,", "P,B03,0,artifact,0,9,5,6"]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffplate;well;field;label\r\nP;b3;0;Clean\r\n;;;\r\n",
        "plate\twell\tfield\tlabel\nP\tB03\t0\tCLEAN\n",
        "label, Field ,well,plate,comment\n\n clean , 0 , B3 , P ,looks good\n",
        'plate,well,field,label\r"P",B003,0.0,clean\r',
        "plate,well,field,label,y0,x0,height,width\nP,B03,0,clean,,,,\nP,B03,0,clean\n",
        "plate,well,field,label\nP,B03,0,clean\n".encode("utf-16"),
    ],
    ids=["excel", "tabs", "spaces-and-other-columns", "old-mac", "same-place-twice", "utf-16"],
)
def test_dialects_of_spreadsheets_are_understood(table, content):
    assert read_label_list(table(content)) == [LabelledPlace("P", "B03", 0, "clean")]


def test_fields_and_tiles_may_be_in_one_table(table):
    header = "plate,well,field,label,y0,x0,height,width\n"
    places = read_label_list(table(header + "P,B03,0,unsure,,,,\nP,B03,0,clean,0,0,270,270\n"))
    assert [(place.label, place.box) for place in places] == [("unsure", None), ("clean", Box(0, 0, 270, 270))]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no labels"),
        (HEADER, "has no labels"),
        ("well,field,label\nB03,0,clean\n", "no column 'plate'; found well, field, label"),
        ("plate,plate,well,field,label\nP,P,B03,0,clean\n", "'plate' twice"),
        (HEADER + "P,B03,0,good\n", "line 2: 'good' is not a label. Expected one of clean, artifact, unsure"),
        (HEADER + "P,B03,0\n", "line 2: '' is not a label"),
        (HEADER + ",B03,0,clean\n", "line 2: no plate"),
        (HEADER + "P,B0,0,clean\n", "line 2: 'B0' is not a well"),
        (HEADER + "P,B03,-1,clean\n", "line 2: field is '-1'"),
        (HEADER + "P,B03,1.5,clean\n", "line 2: field is '1.5'"),
        (HEADER + "P,B03,0,clean\n\nP,b3,0,artifact\n", "line 2 says that P B03 field 0 is clean, line 4"),
        ("plate,well,field,label,y0,x0,height,width\nP,B03,0,clean,0,0,9,\n", "line 2: width is empty"),
        ("plate,well,field,label,y0,x0,height,width\nP,B03,0,clean,0,0,9,0\n", "line 2: a tile of 9 x 0"),
        ("plate,well,field,label\nPlätte,B03,0,clean\n".encode("latin-1"), "not text in UTF-8"),
        (HEADER + 'P,B03,0,"' + 200_000 * "x", "line 2"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(table, content, said):
    with pytest.raises(ConfigError) as error:
        read_label_list(table(content))
    assert said in str(error.value)


def test_missing_table_is_one_message(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_label_list(tmp_path / "labels.csv")
