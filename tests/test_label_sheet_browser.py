"""The label sheet in a real browser: what is pressed and clicked is what the saved table says."""

import re
from collections import Counter

import numpy as np
import pytest
from chromium import needs_chromium, playwright, start_chromium, watched_page

from artifact_mask.io.label_list import Box, LabelledPlace, read_label_list, write_label_list
from artifact_mask.io.label_sheet import SheetField, save_label_sheet
from artifact_mask.io.page import encode_jpeg
from artifact_mask.kernels.tiles import plan_tiles

pytestmark = needs_chromium

HOSTILE = '</script><img src=x onerror="document.title=\'owned\'">, "=1+1"'
SIZE = 128
BOXES = tuple(
    Box(y.start, x.start, y.stop - y.start, x.stop - x.start)
    for y, x in (tile.core for tile in plan_tiles((SIZE, SIZE), core_px=SIZE // 2, halo_px=0))
)


@pytest.fixture(scope="module")
def browser():
    with start_chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """Page on which nothing may go wrong unnoticed, or come from the network."""
    with watched_page(browser, viewport={"width": 1280, "height": 720}) as page:
        yield page


def write_sheet(folder, n_fields=6, *, boxes=(), plate="P1"):
    picture = encode_jpeg(np.random.default_rng(0).integers(0, 255, (SIZE, SIZE), np.uint8))
    fields = [SheetField(plate, f"B{n % 3 + 1:02d}", n, (SIZE, SIZE), picture, picture, boxes) for n in range(n_fields)]
    save_label_sheet(folder / "sheet.html", fields)
    return folder / "sheet.html"


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def save(page, folder):
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename == "sheet-labels.csv"
    download.value.save_as(folder / "saved.csv")
    return read_label_list(folder / "saved.csv")


def labels_of(places):
    return [place.label for place in places]


def click_tile(page, number, **options):
    area = page.locator("#frame").bounding_box()
    y, x = BOXES[number].y0 + BOXES[number].height / 2, BOXES[number].x0 + BOXES[number].width / 2
    position = {"x": area["width"] * x / SIZE, "y": area["height"] * y / SIZE}
    page.locator("#frame").click(position=position, **options)


def test_table_says_what_was_pressed(page, tmp_path):
    page.goto(write_sheet(tmp_path).as_uri())
    press(page, "c", "a", "3", "1", "2")
    assert page.locator("#done").inner_text() == "5 of 6"
    assert save(page, tmp_path) == [
        LabelledPlace("P1", f"B{n % 3 + 1:02d}", n, label)
        for n, label in enumerate(["clean", "artifact", "unsure", "clean", "artifact"])
    ]


def test_buttons_do_what_the_keys_do_and_give_the_keys_back(page, tmp_path):
    page.goto(write_sheet(tmp_path).as_uri())
    page.get_by_role("button", name="Artifact").first.click()
    page.get_by_role("button", name="Clean").first.click()
    press(page, "Enter", "u")
    page.get_by_role("button", name="Undo").click()
    press(page, "a")
    assert labels_of(save(page, tmp_path)) == ["artifact", "clean", "artifact"]


def test_button_that_was_reached_by_tab_is_pressed_by_enter(page, tmp_path):
    page.goto(write_sheet(tmp_path).as_uri())
    page.locator('.judge [data-label="artifact"]').focus()
    press(page, "Enter", "Enter")
    assert labels_of(save(page, tmp_path)) == ["artifact", "artifact"]


def test_undo_takes_back_and_goes_back(page, tmp_path):
    page.goto(write_sheet(tmp_path).as_uri())
    press(page, "c", "a", "a", "z", "Backspace", "u")
    assert labels_of(save(page, tmp_path)) == ["clean", "unsure"]
    press(page, "z", "z", "z", "z")
    assert page.locator("#done").inner_text() == "0 of 6"


def test_labelling_goes_on_to_the_next_that_is_open_and_says_when_all_is_done(page, tmp_path):
    page.goto(write_sheet(tmp_path, 3).as_uri())
    press(page, "ArrowRight", "a", "c")
    assert page.locator("#place-well").inner_text() == "B01 field 0"
    press(page, "c")
    assert "All is labelled" in page.locator("#status").inner_text()
    assert labels_of(save(page, tmp_path)) == ["clean", "artifact", "clean"]


def test_held_key_labels_one_field(page, tmp_path):
    page.goto(write_sheet(tmp_path).as_uri())
    for _ in range(4):
        page.keyboard.down("a")
    page.keyboard.up("a")
    assert page.locator("#done").inner_text() == "1 of 6"


def test_labels_outlive_the_page(page, tmp_path):
    sheet = write_sheet(tmp_path)
    page.goto(sheet.as_uri())
    press(page, "c", "a")
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    assert page.locator("#done").inner_text() == "2 of 6"
    assert page.locator("#place-well").inner_text() == "B03 field 2"
    press(page, "u")
    assert labels_of(save(page, tmp_path)) == ["clean", "artifact", "unsure"]


def test_leaving_asks_only_while_labels_are_not_saved(page, tmp_path):
    page.goto(write_sheet(tmp_path).as_uri())
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    press(page, "c")
    page.reload()
    assert asked == ["beforeunload"]
    press(page, "a")
    save(page, tmp_path)
    page.reload()
    assert asked == ["beforeunload"]


def test_other_sheets_start_empty(page, tmp_path):
    page.goto(write_sheet(tmp_path).as_uri())
    press(page, "c")
    save(page, tmp_path)
    (tmp_path / "other").mkdir()
    page.goto(write_sheet(tmp_path / "other", 5).as_uri())
    assert page.locator("#done").inner_text() == "0 of 5"


def test_browser_that_keeps_nothing_is_enough_and_said(page, tmp_path):
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } });")
    page.goto(write_sheet(tmp_path).as_uri())
    press(page, "c", "a")
    assert "keeps no labels" in page.locator("#warning").inner_text()
    assert labels_of(save(page, tmp_path)) == ["clean", "artifact"]


def test_bad_tiles_are_clicked_and_enter_makes_the_rest_clean(page, tmp_path):
    page.goto(write_sheet(tmp_path, 3, boxes=BOXES).as_uri())
    click_tile(page, 1)
    click_tile(page, 2)
    click_tile(page, 2)
    click_tile(page, 3, modifiers=["Shift"])
    press(page, "Enter")
    click_tile(page, 0)
    press(page, "f")
    places = save(page, tmp_path)
    assert [(place.field, place.box) for place in places] == [(n, box) for n in range(2) for box in BOXES]
    assert labels_of(places) == ["clean", "artifact", "clean", "unsure", "artifact", "clean", "clean", "clean"]
    press(page, "z")
    assert page.locator("#done").inner_text() == "5 of 12 tiles, field 2 of 3"


def test_tiles_are_judged_one_by_one(page, tmp_path):
    page.goto(write_sheet(tmp_path, 2, boxes=BOXES).as_uri())
    press(page, "a", "c", "ArrowRight", "a", "PageDown", "ArrowDown", "ArrowRight", "u")
    assert [(place.field, BOXES.index(place.box), place.label) for place in save(page, tmp_path)] == [
        (0, 0, "artifact"),
        (0, 1, "clean"),
        (0, 3, "artifact"),
        (1, 3, "unsure"),
    ]


def test_click_finds_the_tile_while_zoomed(page, tmp_path):
    page.goto(write_sheet(tmp_path, 1, boxes=BOXES).as_uri())
    area = page.locator("#frame").bounding_box()
    page.mouse.move(area["x"] + area["width"] * 0.99, area["y"] + area["height"] * 0.98)
    page.keyboard.down(" ")
    page.mouse.move(area["x"] + area["width"] * 0.98, area["y"] + area["height"] * 0.98)
    page.wait_for_timeout(200)
    page.mouse.click(area["x"] + area["width"] * 0.7, area["y"] + area["height"] * 0.2)
    page.keyboard.up(" ")
    (place,) = save(page, tmp_path)
    assert place.box == BOXES[1]


def test_saved_table_is_loaded_and_what_is_not_on_the_sheet_is_kept(page, tmp_path):
    places = [
        LabelledPlace("P1", "B02", 1, "artifact"),
        LabelledPlace("P1", "B03", 2, "clean"),
        LabelledPlace("P9", "H12", 7, "unsure", Box(0, 270, 270, 270)),
    ]
    write_label_list(tmp_path / "before.csv", places)
    page.goto(write_sheet(tmp_path).as_uri())
    press(page, "c", "c")
    page.locator("#file").set_input_files(tmp_path / "before.csv")
    playwright.expect(page.locator("#status")).to_contain_text("2 labels loaded. 1 of places")
    press(page, "u")
    assert save(page, tmp_path) == [
        LabelledPlace("P1", "B01", 0, "clean"),
        *places[:2],
        LabelledPlace("P1", "B01", 3, "unsure"),
        places[2],
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\ufeffPlate;Well;Field;Label\r\nP1;b1;0;ARTIFACT\r\n", "1 labels loaded"),
        ('plate,well,field,label\n"P1",B03,2,unsure', "1 labels loaded"),
        ("plate,well,field,label\nP1,B01,0,good\n", "Line 2: “good” is not a label"),
        ("plate,well,field,label\nP1,B01,0,clean\nP1,B1,0,artifact\n", "Line 3 says artifact"),
        ("a,b\n1,2\n", "no column “plate”"),
    ],
)
def test_tables_of_spreadsheets_are_loaded_or_refused(page, tmp_path, content, said):
    (tmp_path / "table.csv").write_bytes(content.encode())
    page.goto(write_sheet(tmp_path).as_uri())
    page.locator("#file").set_input_files(tmp_path / "table.csv")
    playwright.expect(page.locator("#status")).to_contain_text(said)
    assert page.locator("#done").inner_text() == ("1 of 6" if "loaded" in said else "0 of 6")


@pytest.mark.parametrize("plate", [HOSTILE, 'two\nlines; "quoted"', "Zellen_ä_β"])
def test_name_of_a_plate_does_nothing_and_comes_back(page, tmp_path, plate):
    page.goto(write_sheet(tmp_path, plate=plate).as_uri())
    press(page, "a", "g", "Escape")
    assert page.title() == "sheet"
    assert page.locator("img[src='x']").count() == 0
    assert save(page, tmp_path) == [LabelledPlace(plate, "B01", 0, "artifact")]
    page.locator("#file").set_input_files(tmp_path / "saved.csv")
    playwright.expect(page.locator("#status")).to_contain_text("1 labels loaded.")
    assert page.locator("#count-artifact").inner_text() == "1"


def test_overview_is_coloured_filtered_and_leads_to_a_field(page, tmp_path):
    page.goto(write_sheet(tmp_path).as_uri())
    press(page, "c", "a", "a", "g")
    thumbnails = page.locator(".thumbnail")
    assert Counter(thumbnails.evaluate_all("found => found.map(one => one.dataset.label)")) == {
        "clean": 1,
        "artifact": 2,
        "": 3,
    }
    page.locator('[data-filter="artifact"]').click()
    assert thumbnails.count() == 2
    thumbnails.nth(1).click()
    assert page.locator("#place-well").inner_text() == "B03 field 2"
    press(page, "g", "Home", "ArrowLeft", "u", "Escape")
    assert labels_of(save(page, tmp_path)) == ["clean", "unsure", "artifact"]


def test_overview_of_tiles_counts_them(page, tmp_path):
    page.goto(write_sheet(tmp_path, 2, boxes=BOXES).as_uri())
    press(page, "a", "Enter", "c", "g")
    playwright.expect(page.locator(".thumbnail .state")).to_have_text(["4/4", "1/4"])  # drawn when they come into view
    page.locator('[data-filter="open"]').click()
    assert page.locator(".thumbnail").count() == 1


def test_help_opens_and_closes_and_keeps_keys_from_the_sheet(page, tmp_path):
    page.goto(write_sheet(tmp_path).as_uri())
    press(page, "?", "c")
    assert page.locator("#help").is_visible()
    press(page, "Escape", "a")
    assert labels_of(save(page, tmp_path)) == ["artifact"]


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080)])
@pytest.mark.parametrize("boxes", [(), BOXES], ids=["fields", "tiles"])
def test_nothing_moves_or_is_cut_off_while_labelling(page, tmp_path, size, boxes):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(write_sheet(tmp_path, boxes=boxes).as_uri())

    def places():
        return [page.locator(one).bounding_box() for one in ("#frame", "header", "#save", "#undo", ".sliders")]

    before = places()
    press(page, "c", "a", "u", "c", "ArrowLeft")
    assert places() == before
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("aside").evaluate("aside => aside.scrollHeight <= aside.clientHeight")


@pytest.mark.slow
def test_five_hundred_keys_all_land(page, tmp_path):
    page.goto(write_sheet(tmp_path, 500).as_uri())
    keys = "".join(np.random.default_rng(0).choice(list("cau"), 500, p=[0.6, 0.35, 0.05]))
    press(page, *keys)
    assert page.locator("#done").inner_text() == "500 of 500"
    names = {"c": "clean", "a": "artifact", "u": "unsure"}
    assert labels_of(save(page, tmp_path)) == [names[key] for key in keys]
    assert re.search(r"500 labels are saved", page.locator("#status").inner_text())
