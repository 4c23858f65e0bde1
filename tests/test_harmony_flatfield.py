import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from artifact_mask.errors import ExportError
from artifact_mask.io.harmony_flatfield import background_polynomial, parse_profile, read_ffc_profile
from artifact_mask.io.harmony_index import parse_index
from artifact_mask.io.tiff import read_tiff_plane
from artifact_mask.kernels.flat_field import correct_flat_field, evaluate_polynomial

FFC = "operetta/ffc-profile/FFC_Profile_Measurement 2.xml"
SHAPE = "Coefficients: [[1.2], [0.1, -2E-3]], Dims: [8, 6], Origin: [3.5, 2.5], Scale: [0.125, 0.16], Type: Polynomial"
V5 = (
    f"{{Background: {{Character: NonFlat, Mean: 373.7, NonFlatness: {{Corrected: 0.05, Random: INF}}, "
    f"Profile: {{{SHAPE}}}, Quality: 1.0}}, Channel: 1, ChannelName: Alexa 647, "
    f"Foreground: {{Character: Flat, Profile: {{Type: Identity}}, Quality: 1}}, Version: Acapella:2013}}"
)
V7 = (
    "{Background: {Character: Null, Mean: NaN, Profile: {Type: Identity}, Quality: 0.25}, Channel: 4, "
    'ChannelName: "405ex, 570-630-em)", Version: Acapella:2013}'
)


def with_shape(shape: str) -> dict[str, Any]:
    return parse_profile(V5.replace(SHAPE, shape))


# The text


def test_a_profile_of_harmony_5_is_understood() -> None:
    profile = parse_profile(V5)
    assert list(profile) == ["Background", "Channel", "ChannelName", "Foreground", "Version"]
    assert (profile["Channel"], profile["ChannelName"], profile["Version"]) == (1, "Alexa 647", "Acapella:2013")
    assert profile["Background"]["Mean"] == 373.7
    assert profile["Background"]["Profile"]["Coefficients"] == [[1.2], [0.1, -0.002]]
    assert profile["Foreground"] == {"Character": "Flat", "Profile": {"Type": "Identity"}, "Quality": 1}


def test_a_profile_of_harmony_7_is_understood() -> None:
    assert parse_profile(V7) == {
        "Background": {"Character": "Null", "Mean": None, "Profile": {"Type": "Identity"}, "Quality": 0.25},
        "Channel": 4,
        "ChannelName": "405ex, 570-630-em)",
        "Version": "Acapella:2013",
    }


@pytest.mark.parametrize("text", [V5, V7])
def test_a_profile_survives_json(text: str) -> None:
    profile = parse_profile(text)
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile


@pytest.mark.parametrize("text", ["NaN", "nan", "INF", "-INF", "+inf", "Infinity", "1E999", "-1e400"])
def test_what_is_no_finite_number_is_none(text: str) -> None:
    assert parse_profile(f"{{Mean: {text}}}") == {"Mean": None}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("1.", 1.0),
        (".5", 0.5),
        ("-4.63e-4", -4.63e-4),
        ("Acapella:2013", "Acapella:2013"),
        ("1.2.3", "1.2.3"),
        ("0x10", "0x10"),
        ("HOECHST 33342", "HOECHST 33342"),
        ('"12"', "12"),
        ('"a: {b, [c]}"', "a: {b, [c]}"),
        ('"5" lens, x"', '5" lens, x'),
        ('""', ""),
        ("", ""),
        ("[]", []),
        ("{}", {}),
        ("[[1], [2, a b], {c: d}]", [[1], [2, "a b"], {"c": "d"}]),
        ("9" * 30, 1e30),
    ],
)
def test_a_value_is_what_it_looks_like(text: str, value: object) -> None:
    for padded in (f"{{Key:{text}}}", f"  {{ Key :  {text} }}\r\n", f"{{First: 1, Key: {text}, Last: 2}}"):
        assert parse_profile(padded)["Key"] == value


@pytest.mark.parametrize("name", ["488", "NaN", "1E5", "Alexa 488 Em 650", "DAPI:405"])
def test_the_name_of_a_channel_is_always_text(name: str) -> None:
    assert parse_profile(f"{{ChannelName: {name}}}") == {"ChannelName": name}


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "{", "}", "[]", "[1]", "Identity", "{a}", "{a:1", "{a:1,}", "{:1}", "{,}", "{a:1}}", "{a:1} b"),
        *("{a:[1,]}", "{a:[,1]}", "{a:[1}", "{a:{b:1]}", '{a:"x}', '{a:"x"y}', "{a:1 {}}", "{a: 1, a: 2}", "{a b}"),
        *("{a:]}", "{[1]:2}", '{"a:1}', "{a:[1 [2]]}"),
    ],
)
def test_what_is_malformed_is_refused(text: str) -> None:
    with pytest.raises(ExportError, match="cannot be understood at character"):
        parse_profile(text)


@pytest.mark.parametrize(("opening", "closing"), [("{a:", "}"), ("[", "]")])
@pytest.mark.parametrize("depth", [40, 100_000])
def test_deep_nesting_is_refused(opening: str, closing: str, depth: int) -> None:
    with pytest.raises(ExportError, match="nested deeper than 32 levels"):
        parse_profile("{a:" + opening * depth + "1" + closing * depth + "}")


def test_a_profile_that_is_too_long_is_refused() -> None:
    with pytest.raises(ExportError, match="1048576 are read at most"):
        parse_profile("{a:" + " " * 2**20 + "1}")


# The polynomial


def test_the_polynomial_is_that_of_the_background() -> None:
    polynomial = background_polynomial(parse_profile(V5))
    assert polynomial is not None
    assert polynomial.coefficients == ((1.2,), (0.1, -0.002))
    assert (polynomial.origin, polynomial.scale, polynomial.shape) == ((3.5, 2.5), (0.125, 0.16), (6, 8))
    assert hash(polynomial) == hash(background_polynomial(json.loads(json.dumps(parse_profile(V5)))))


@pytest.mark.parametrize(
    "text",
    [
        V7,
        "{}",
        "{Channel: 1}",
        "{Background: {Character: Null, Profile: {Type: Identity}, Quality: 1}}",
        "{Background: {Character: Flat, Profile: {Type: Identity}}}",
        "{Background: {Character: NonFlat, Profile: {Type: Identity}}}",
        "{Background: {Character: Flat, Profile: {" + SHAPE + "}}}",
        "{Background: {Character: Null}}",
        "{Background: {Character: NonFlat, Profile: {}}}",
    ],
)
def test_a_flat_background_has_no_polynomial(text: str) -> None:
    assert background_polynomial(parse_profile(text)) is None


@pytest.mark.parametrize(
    ("found", "instead"),
    [
        ("Coefficients: [[1.2], [0.1, -2E-3]], ", ""),
        ("[[1.2], [0.1, -2E-3]]", "[]"),
        ("[[1.2], [0.1, -2E-3]]", "[[1.2], [0.1]]"),
        ("[[1.2], [0.1, -2E-3]]", "[1.2]"),
        ("[[1.2], [0.1, -2E-3]]", "[[" + "], [".join(", ".join(["1"] * n) for n in range(1, 30)) + "]]"),
        ("1.2", "NaN"),
        ("1.2", "bright"),
        ("1.2", "1E300"),
        ("Dims: [8, 6]", "Dims: [8]"),
        ("Dims: [8, 6]", "Dims: [0, 6]"),
        ("Dims: [8, 6]", "Dims: [8.5, 6]"),
        ("Dims: [8, 6]", "Dims: [8, 1000000]"),
        ("Dims: [8, 6], ", ""),
        ("Origin: [3.5, 2.5]", "Origin: [3.5, INF]"),
        ("Origin: [3.5, 2.5]", "Origin: 3.5"),
        ("Scale: [0.125, 0.16]", "Scale: {x: 1}"),
        ("Scale: [0.125, 0.16]", "Scale: [0.125, 16]"),
        ("Origin: [3.5, 2.5]", "Origin: [1E6, 2.5]"),
        ("1.2", "1E9"),
        ("1.2", "0"),
        ("1.2", "-1"),
        ("Type: Polynomial", "Type: Spline"),
    ],
)
def test_a_polynomial_that_is_none_is_refused(found: str, instead: str) -> None:
    with pytest.raises(ExportError, match="Ingest without Harmony's flat field"):
        background_polynomial(with_shape(SHAPE.replace(found, instead)))


@pytest.mark.parametrize("profile", [{"Background": 3}, {"Background": {"Profile": [1]}}])
def test_a_background_that_is_no_dictionary_is_refused(profile: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=r"expected \{"):
        background_polynomial(profile)


# Whatever comes

names = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=8)
values = st.recursive(
    st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False) | st.just("NonFlat"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names.map("k{}".format), inner, max_size=4),
    max_leaves=12,
)


def unquoted(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {unquoted(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(unquoted, value)) + "]"
    return str(value)


@given(profile=st.dictionaries(names.map("k{}".format), values, max_size=5))
def test_what_is_written_is_read_back(profile: dict[str, Any]) -> None:
    assert parse_profile(unquoted(profile)) == profile


@given(text=st.text(st.sampled_from('{}[]:,"\n aK1.e-\u00e4')).map("{{a: {}}}".format) | st.text())
@settings(max_examples=300)
def test_any_text_raises_nothing_but_our_errors(text: str) -> None:
    with suppress(ExportError):
        background_polynomial(parse_profile(text))


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_profile_raises_nothing_but_our_errors(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(1500):
        spoilt = list(source.choice([V5, V7]))
        for _ in range(source.randint(1, 4)):
            start, n = source.randrange(len(spoilt) + 1), source.randint(1, 30)
            match source.randrange(3):
                case 0:
                    spoilt[start : start + n] = []
                case 1:
                    spoilt[start:start] = spoilt[start // 2 : start // 2 + n]
                case _:
                    spoilt[start : start + 1] = source.choice('{}[]:,"\\ \x00\ufffd-9eNa')
        with suppress(ExportError):
            polynomial = background_polynomial(parse_profile("".join(spoilt)))
            if polynomial is not None:
                evaluate_polynomial(polynomial, (6, 8))


# Stand-alone profiles


def write(folder: Path, content: str) -> Path:
    file = folder / "FFC_Profile_Measurement 1.xml"
    file.write_text(content, encoding="utf-8-sig")
    return file


def test_a_stand_alone_profile_is_read_by_channel(tmp_path: Path) -> None:
    entries = f'<Entry ChannelID="2"><FlatfieldProfile>{V7}</FlatfieldProfile></Entry><Entry ChannelID="x"/><Entry/>'
    file = write(tmp_path, f'<Results xmlns="any"><Version>2</Version><Map>{entries}</Map></Results>')
    assert read_ffc_profile(file) == {2: V7}


@pytest.mark.parametrize("content", ["", "<Results>", "<AssayLayout/>", "<!DOCTYPE x><Results/>"])
def test_what_is_no_stand_alone_profile_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ExportError):
        read_ffc_profile(write(tmp_path, content))


# Real exports


def test_the_real_profiles_are_understood(shared_data: Path) -> None:
    texts = [*read_ffc_profile(shared_data / FFC).values()]
    for name in ("phenix-v5/Index.idx.xml", "phenix-v7/Index.xml", "operetta-cls-v5/Images/Index.idx.xml"):
        texts += parse_index(shared_data / "operetta" / name).flat_fields.values()
    profiles = [parse_profile(text) for text in texts]
    assert len(profiles) == 4 + 6 + 7 + 1
    assert {profile["Version"] for profile in profiles} == {"Acapella:2013"}
    polynomials = [p for p in map(background_polynomial, profiles) if p is not None]
    assert len(polynomials) == 4 + 5 + 3 + 1
    for polynomial in polynomials:
        assert evaluate_polynomial(polynomial, polynomial.shape).mean() == pytest.approx(1, abs=2e-3)


def background_variation(image: NDArray[np.generic]) -> float:
    """Coefficient of variation of the 5th percentile over 8 by 8 tiles."""
    tiles = image.reshape(8, 135, 8, 135).swapaxes(1, 2).reshape(64, -1)
    dark = np.percentile(tiles, 5, axis=1)
    return float(dark.std() / dark.mean())


def test_dividing_by_the_profile_flattens_the_background_of_real_images(shared_data: Path) -> None:
    folder = shared_data / "operetta" / "phenix-v5"
    index = parse_index(folder / "Index.idx.xml")
    before, after, flipped = [], [], []
    turns = (np.flipud, np.fliplr, np.transpose)
    for record in index.records[:5]:
        polynomial = background_polynomial(parse_profile(index.flat_fields[record.channel_id]))
        assert polynomial is not None
        profile = evaluate_polynomial(polynomial, (1080, 1080))
        plane = read_tiff_plane(folder / record.url, (1080, 1080))
        before.append(background_variation(plane))
        after.append(background_variation(correct_flat_field(plane, profile)))
        flipped.append(min(background_variation(correct_flat_field(plane, turn(profile))) for turn in turns))
    assert before == pytest.approx([0.173, 0.210, 0.192, 0.236, 0.213], abs=0.002)
    assert after == pytest.approx([0.090, 0.064, 0.032, 0.023, 0.013], abs=0.002)
    # Where the background dominates, it shows that the polynomial is read the right way round.
    assert all(right < 0.75 * wrong for right, wrong in zip(after[3:], flipped[3:], strict=True))
