"""The report in a real browser: wells are opened by click and by keys, names do nothing, and nothing is asked for."""

import numpy as np
import pandas as pd
import pytest
from chromium import needs_chromium, playwright, start_chromium, watched_page

from artifact_mask.io.page import encode_jpeg
from artifact_mask.io.report_content import PlateContent, StageState
from artifact_mask.io.report_fields import Outline, Picture, encode_pictures
from artifact_mask.io.report_page import overview_row, write_page

pytestmark = needs_chromium

HOSTILE = (
    '</script><script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">{{report}}$$x$$'
)
WELLS = [(2, 2), (2, 3), (2, 4), (3, 2)]
N_FIELDS = 2


@pytest.fixture(scope="module")
def browser():
    with start_chromium() as browser:
        yield browser


@pytest.fixture(params=[{"width": 1280, "height": 800}], ids=["desk"])
def page(browser, request):
    """Page on which nothing may go wrong unnoticed, or come from the network."""
    with watched_page(browser, is_problem=_is_problem, viewport=request.param) as page:
        yield page


def _is_problem(message):
    return message.type in ("error", "warning")


def make_content(name="Plate01", *, was_run=True, error="the image is torn", compound="Drug", layer="Compound"):
    """Plate of 4 wells x 2 fields: one failed, one was rejected; DMSO at the first well."""
    place = {"plate": name, "acquisition": 0}
    fields = pd.DataFrame(
        [
            place
            | {"well": f"{'ABC'[row - 1]}{column:02d}", "row": row, "column": column, "field": i, "field_id": i + 1}
            | ({"artifact_fraction": 0.01 * n + 0.1 * i, "stained_fraction": 0.2} if was_run else {})
            | {"rejected": "too much" if (n, i) == (2, 1) else "", "error": error if (n, i) == (1, 1) else ""}
            for n, (row, column) in enumerate(WELLS)
            for i in range(N_FIELDS)
        ]
    )
    wells = pd.DataFrame(
        [
            place
            | {"well": f"{'ABC'[row - 1]}{column:02d}", "row": row, "column": column}
            | {"n_fields": 2, "n_failed_fields": int(n == 1), "n_rejected_fields": int(n == 2), "n_measured_fields": 1}
            | ({"artifact_fraction": 0.01 * n, "stained_fraction": [0.1, 0.2, 0.4, np.nan][n]} if was_run else {})
            | {"control": "negative" if n == 0 else "", layer: "DMSO" if n == 0 else compound}
            | {"Concentration": [0.0, 1.0, 10.0, 10.0][n]}
            for n, (row, column) in enumerate(WELLS)
        ]
    )
    plate = pd.DataFrame(
        [
            place
            | {"n_wells": 4, "n_fields": 8, "n_failed_fields": 1, "n_rejected_fields": 1, "n_measured_fields": 6}
            | ({"artifact_fraction": 0.02, "stained_fraction": 0.2} if was_run else {})
        ]
    )
    jpeg = encode_jpeg(np.full((40, 40), 150, np.uint8))
    drawn = Picture(jpeg, (40, 40), (Outline("M40 40l40 0 0 40z", 120), Outline("M100 100l20 0 0 20z", None)), 0, True)
    pictures = {
        well: encode_pictures([drawn, Picture(error=error) if well == "B03" else drawn]) for well in wells["well"]
    }
    return PlateContent(
        name=name,
        place=f"s3://bucket/{name}.zarr",
        n_rows=8,
        n_columns=12,
        tables={"fields": fields, "wells": wells, "plate": plate},
        layers=[layer, "Concentration"],
        state="finished" if was_run else "not run yet",
        stages=[StageState("ingest", 8, 0, 0, "2026-01-01 10:00 UTC")],
        warnings=[f"{name} is unlike the others"],
        provenance=[("Images", [("measured", "2026-01-01"), (layer, compound)])],
        label="artifacts" if was_run else "",
        pictures=pictures,
    )


def write(tmp_path, *contents, column=None):
    rows = [overview_row(content, section=n) for n, content in enumerate(contents)] if len(contents) > 1 else []
    path = tmp_path / "report.html"
    path.write_bytes(write_page(contents[0].name if len(contents) == 1 else "screen", contents, rows, column=column))
    return path


def load(page, path):
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")


def click_well(page, row, column):
    """Click where a well is drawn, by the axes of the map."""
    place = page.evaluate(
        """([row, column]) => {
        const [root] = Bokeh.documents.find((one) => one.roots()[0].name === "map").roots();
        const { el, frame } = Bokeh.index.get_by_id(root.id), box = el.getBoundingClientRect();
        return [box.left + frame.x_scale.compute(column), box.top + frame.y_scale.compute(row)];
    }""",
        [row, column],
    )
    page.mouse.click(*place)


def source(page, figure, name):
    """Data of a figure's source."""
    return page.evaluate(
        """([figure, name]) => {
        const document = Bokeh.documents.find((one) => one.roots()[0].name === figure);
        return Object.fromEntries(Object.entries(document.get_model_by_name(name).data).map(([k, v]) => [k, [...v]]));
    }""",
        [figure, name],
    )


def test_click_opens_a_well_with_its_fields(page, tmp_path):
    load(page, write(tmp_path, make_content()))
    click_well(page, 2, 4)
    assert page.locator("#well h3").inner_text() == "B04"
    assert "Compound: Drug, Concentration: 10" in page.locator("#well").inner_text()
    assert page.locator(".field").count() == 2
    assert page.locator(".field.rejected .reason").inner_text() == "Rejected: too much"
    decoded = page.locator(".picture.before img").evaluate_all("found => found.map((image) => image.naturalWidth)")
    assert decoded == [40, 40]
    assert page.locator(".field").first.locator(".outline path").count() == 2


def test_arrow_keys_and_enter_open_a_well_and_escape_goes_back(page, tmp_path):
    load(page, write(tmp_path, make_content()))
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    assert page.locator("#under-cursor").inner_text().startswith("B03: stained_fraction 0.2. Compound: Drug")
    page.keyboard.press("Enter")
    assert page.locator("#well h3").inner_text() == "B03"
    assert page.evaluate("document.activeElement.textContent") == "B03"
    assert page.locator(".field.failed .reason").inner_text() == "Failed: the image is torn"
    assert page.locator(".no-picture").inner_text() == "No picture: the image is torn"
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowUp")
    assert page.locator("#under-cursor").inner_text() == "A03: not imaged"
    page.keyboard.press("Enter")
    assert page.locator("#well h3").inner_text() == "B03"


def test_masked_pictures_are_filled_with_the_grey_of_the_masked_image(page, tmp_path):
    load(page, write(tmp_path, make_content()))
    click_well(page, 2, 2)
    field = page.locator(".field").first
    assert field.locator(".before .outline").is_visible()
    page.get_by_label("as taken").check()
    assert not field.locator(".before .outline").is_visible()
    page.get_by_label("masked", exact=True).check()
    assert not field.locator(".before").is_visible()
    fills = field.locator(".after path").evaluate_all("found => found.map((path) => path.getAttribute('fill'))")
    assert fills == ["rgb(120 120 120)", "url(#unknown)"]
    page.get_by_label("side by side").check()
    assert field.locator(".before").is_visible()
    assert field.locator(".after").is_visible()
    page.get_by_label("Next well").click()
    assert page.locator("#well h3").inner_text() == "B03"
    assert page.get_by_label("side by side").is_checked()


def test_map_is_coloured_by_any_column_and_by_treatments(page, tmp_path):
    load(page, write(tmp_path, make_content()))
    wells = source(page, "map", "wells")
    assert wells["value"] == ["0.1", "0.2", "0.4", "\u2014"]
    assert wells["mark"] == ["\u2212", "", "", ""]
    assert [colour.lower() for colour in wells["colour"][::2]] == ["#440154", "#fde724"]
    assert source(page, "map", "unknown") == {"x": [2], "y": [3]}
    assert len(source(page, "map", "gaps")["x"]) == 92
    page.locator("#column").select_option("artifact_fraction")
    assert source(page, "map", "wells")["value"] == ["0", "0.01", "0.02", "0.03"]
    page.locator("#column").select_option("Compound")
    colours = source(page, "map", "wells")["colour"]
    assert len(set(colours)) == 2
    assert colours[1] == colours[2]
    assert "DMSO" in page.locator("#map-legend").inner_text()
    assert "negative control" in page.locator("#map-legend").inner_text()


def test_histogram_counts_all_fields_and_tells_rejected_ones(page, tmp_path):
    load(page, write(tmp_path, make_content()))
    page.locator("#field-column").select_option("artifact_fraction")
    bars = source(page, "histogram", "bars")
    assert sum(bars["top"]) == 8
    assert sum(bars["used"]) == 7
    assert bars["left"][0] == 0
    assert bars["right"][-1] == pytest.approx(0.13)
    page.locator("#field-column").select_option("stained_fraction")
    assert source(page, "histogram", "bars")["top"] == [8]


def test_dose_response_has_the_mean_of_the_wells_of_each_dose(page, tmp_path):
    load(page, write(tmp_path, make_content()))
    page.locator("#column").select_option("artifact_fraction")
    means = source(page, "dose", "means")
    assert dict(zip(zip(means["series"], means["dose"], strict=True), means["y"], strict=True)) == {
        ("DMSO", "0"): 0,
        ("Drug", "1"): 0.01,
        ("Drug", "10"): pytest.approx(0.025),
    }
    page.locator("#series").select_option("")
    assert source(page, "dose", "means")["series"] == ["all wells"] * 3


def test_well_of_a_table_leads_to_its_fields(page, tmp_path):
    load(page, write(tmp_path, make_content()))
    page.locator('a[data-well="B03"]').first.click()
    assert page.locator("#well h3").inner_text() == "B03"
    page.locator('a[data-well="C02"]').first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#well h3").inner_text() == "C02"


def test_plates_of_a_campaign_are_shown_one_at_a_time(page, tmp_path):
    load(page, write(tmp_path, make_content("One"), make_content("Two", was_run=False)))
    assert page.locator("#plate-0").is_visible()
    assert not page.locator("#plate-1").is_visible()
    page.get_by_role("button", name="Two").click()
    assert page.locator("#plate-1").is_visible()
    assert not page.locator("#plate-0").is_visible()
    assert page.locator("#column").input_value() == "n_fields"
    click_well(page, 2, 2)
    assert page.locator(".modes label").count() == 0
    assert page.locator(".picture").count() > 0


def test_hostile_names_stay_text_everywhere(page, tmp_path):
    content = make_content(HOSTILE, compound=HOSTILE, layer=HOSTILE, error=HOSTILE)
    load(page, write(tmp_path, content, make_content("other")))
    click_well(page, 2, 3)
    page.locator("#column").select_option(HOSTILE)
    click_well(page, 2, 4)
    tooltip = page.locator(".bk-Tooltip, .bk-tooltip").first
    playwright.expect(tooltip).to_contain_text("<script>")
    for summary in page.locator("#well summary").all():
        summary.click()
    assert HOSTILE in page.locator("#well").inner_text()
    assert HOSTILE in page.locator("h2").nth(1).inner_text()
    assert page.title() == "screen"
    assert page.locator("img[src='x']").count() == 0
    # Bokeh's own trees are shadows, which selectors of playwright look into; nor has a formula been set.
    assert page.locator("mjx-container").count() == 0


def test_everything_is_readable_without_javascript(browser, tmp_path):
    with watched_page(browser, java_script_enabled=False) as page:
        page.goto(write(tmp_path, make_content("One"), make_content("Two")).as_uri())
        text = page.locator("body").inner_text()
        for said in ("One", "Two", "the image is torn", "too much", "unlike the others", "Drug", "Concentration"):
            assert said in text
        assert page.locator("#plate-1").is_visible()
        assert not page.locator("#explore").is_visible()


@pytest.mark.parametrize("page", [{"width": 390, "height": 844}], indirect=True, ids=["phone"])
def test_narrow_page_does_not_scroll_sideways(page, tmp_path):
    load(page, write(tmp_path, make_content("One"), make_content("Two")))
    page.focus("#map")
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_printed_page_has_all_plates_and_no_controls(page, tmp_path):
    load(page, write(tmp_path, make_content("One"), make_content("Two")))
    page.emulate_media(media="print")
    assert page.locator("#plate-1").is_visible()
    assert not page.locator("#plate").is_visible()
    closed = page.locator("#plate-1 details:not([open])")
    assert closed.count() > 0
    assert not closed.first.is_visible()
    assert len(page.pdf()) > 10_000


def test_page_is_dark_where_the_reader_wants_it(page, tmp_path):
    page.emulate_media(color_scheme="dark")
    load(page, write(tmp_path, make_content()))
    red, *_ = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert red < 60
    click_well(page, 3, 2)
    page.emulate_media(color_scheme="light")
    click_well(page, 2, 2)
    assert page.locator("#well h3").inner_text() == "B02"
