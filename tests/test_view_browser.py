"""`artmask view` in a real browser: the pixels of the chosen field are drawn, and nothing comes from elsewhere."""

from threading import Thread

import imagecodecs
import numpy as np
import pytest
from chromium import needs_chromium, playwright, start_chromium, watched_page
from viewed_plates import FAILURE, LABELS, write_viewed_plate

from artifact_mask.config import ViewConfig
from artifact_mask.workflows.view import start_view

pytestmark = needs_chromium

HOSTILE = '<script>document.title="owned"</script><img src=x onerror="document.title=1">'
WAIT_MS = 60_000
"""WebGL is computed by the processor here."""
STATE = "document.getElementById('viewer').contentWindow.viewer.state.toJSON()"


@pytest.fixture(scope="module")
def browser():
    # WebGL in software.
    with start_chromium("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader") as browser:
        yield browser


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Serve plates for as long as the module's tests run; each is written once."""
    servers = {}

    def start(name="plate-1", ngff="0.5"):
        if (name, ngff) not in servers:
            root = tmp_path_factory.mktemp("viewed") / "plate.zarr"
            write_viewed_plate(root, name=name, ngff=ngff)
            server = start_view(ViewConfig(plate=root)).server
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            servers[name, ngff] = server, thread
        return servers[name, ngff][0].url

    yield start
    for server, thread in servers.values():
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def page(browser):
    """Page on which nothing may go wrong unnoticed, or come from another machine."""
    size = {"width": 1200, "height": 800}
    with watched_page(browser, is_problem=_is_problem, is_allowed=_is_here, timeout_ms=WAIT_MS, viewport=size) as page:
        yield page


def _is_problem(message):
    # A chunk that is absent is 404, and Zarr v2 has attributes in files of their own that may be absent.
    is_absent = "404" in message.text and "/plate/" in message.location["url"]
    return message.type == "error" and not is_absent


def _is_here(url):
    return url.startswith(("http://127.0.0.1:", "data:", "blob:http://127.0.0.1:"))


def drawn(page):
    """Picture ``(y, x, 3)`` of the field alone, as the browser draws it; the bars are above it."""
    area = page.locator("#viewer").bounding_box()
    clip = {**area, "y": area["y"] + 80, "height": area["height"] - 80}
    return imagecodecs.png_decode(page.screenshot(clip=clip))[..., :3].astype(int)


def shares(page):
    """Shares of the window that are drawn white, black, and reddish."""
    red, green, blue = np.moveaxis(drawn(page), -1, 0)
    grey = (abs(red - green) < 6) & (abs(red - blue) < 6)
    return tuple(float(share.mean()) for share in (grey & (red > 240), grey & (red < 15), red > green + 40))


def wait_for(page, is_so):
    """Wait until what is drawn is so; the last shares, for what is said if it never is."""
    for _ in range(WAIT_MS // 250):
        found = shares(page)
        if is_so(*found):
            return found
        page.wait_for_timeout(250)
    raise AssertionError(f"white {found[0]:.3f}, black {found[1]:.3f}, red {found[2]:.3f}")


def open_page(page, url, place="B03/0"):
    page.goto(f"{url}#{place}")
    playwright.expect(page.locator("#place")).to_have_text("{} field {}".format(*place.split("/")))


def state(page):
    """What Neuroglancer shows, as it says itself."""
    return page.evaluate(STATE)


def wait_for_state(page, is_so):
    """Wait until the state is so: the page's own policy forbids what Playwright would wait with."""
    for _ in range(WAIT_MS // 100):
        if is_so(state(page)):
            return
        page.wait_for_timeout(100)
    raise AssertionError(state(page))


def wait_for_source(page, path):
    wait_for_state(page, lambda now: path in now.get("layers", [{"source": ""}])[0]["source"])


@pytest.mark.parametrize("ngff", ["0.5", "0.4"])
def test_pixels_and_labels_of_the_field_are_drawn(page, serve, ngff):
    open_page(page, serve(ngff=ngff))
    # A quarter is bright, the rest dark, and the square in the middle is an artifact.
    white, black, red = wait_for(page, lambda white, black, red: white > 0.05 and black > 0.15 and red > 0.01)
    assert black / white == pytest.approx((0.75 - 0.04) / 0.25, rel=0.15)
    assert red / white == pytest.approx(0.04 / 0.25, rel=0.3)


def test_clicks_on_wells_and_fields_show_other_pixels(page, serve):
    open_page(page, serve())
    wait_for(page, lambda white, black, red: black > 2 * white > 0)
    page.locator("[data-well='C11']").click()
    playwright.expect(page.locator("#place")).to_have_text("C11 field 0")
    wait_for(page, lambda white, black, red: white > 4 * black > 0)
    assert page.url.endswith("#C11")
    left = drawn(page)
    page.locator("[data-field='1']").click()
    playwright.expect(page.locator("#place")).to_have_text("C11 field 1")
    wait_for_source(page, "/C/11/1/")
    wait_for(page, lambda white, black, red: white > 4 * black > 0 and not np.array_equal(drawn(page), left))
    assert page.url.endswith("#C11/1")
    page.go_back()
    playwright.expect(page.locator("#place")).to_have_text("C11 field 0")


def test_layers_are_listed_and_shown_by_a_click(page, serve):
    open_page(page, serve())
    boxes = page.locator("#layers label")
    playwright.expect(boxes).to_have_text(
        ["Brightfield", "HOECHST 33342", "Brightfield, masked", *(f"labels/{name}" for name in LABELS)]
    )
    wait_for(page, lambda white, black, red: white > 0.05 and red > 0.01)
    page.get_by_label("labels/artifacts").uncheck()
    wait_for(page, lambda white, black, red: red < 0.001 and white > 0.05)
    page.get_by_label("Brightfield, masked").check()
    wait_for(page, lambda white, black, red: white < 0.01 and black > 0.5)
    # What is set in the viewer itself is seen in the list.
    page.evaluate(
        "document.getElementById('viewer').contentWindow.viewer.layerManager.managedLayers[1].setVisible(true)"
    )
    playwright.expect(page.get_by_label("HOECHST 33342")).to_be_checked()


def test_layers_zoom_and_if_wished_contrast_stay_for_the_next_field(page, serve):
    open_page(page, serve())
    wait_for(page, lambda white, black, red: white > 0.05)
    page.get_by_label("labels/stain").check()
    page.get_by_label("labels/artifacts").uncheck()
    page.evaluate(
        """() => {
          const { state } = document.getElementById("viewer").contentWindow.viewer, now = state.toJSON();
          now.layers[0].shaderControls.contrast.range = [0, 9000];
          state.reset();
          state.restoreState({ ...now, crossSectionScale: 0.5, position: [0, 0, 0, 0] });
        }"""
    )
    page.get_by_label("Keep contrast").check()
    page.locator("[data-field='1']").click()
    playwright.expect(page.locator("#place")).to_have_text("B03 field 1")
    wait_for_source(page, "/B/3/1/")
    now = state(page)
    shown = [layer["name"] for layer in now["layers"] if layer.get("visible", True)]
    assert shown == ["Brightfield", "labels/stain"]
    assert now["crossSectionScale"] == 0.5
    assert now["layers"][0]["shaderControls"]["contrast"]["range"] == [0, 9000]
    page.get_by_role("button", name="Whole field").click()
    wait_for_state(page, lambda now: now["crossSectionScale"] > 1)
    assert state(page)["position"][:2] == [-40 + 499.5, 10 + 499.5]
    page.get_by_label("Keep contrast").uncheck()
    page.locator("[data-field='0']").click()
    wait_for_source(page, "/B/3/0/")
    assert state(page)["layers"][0]["shaderControls"]["contrast"]["range"] == [1000, 3000]


def test_plate_is_walked_over_by_keys(page, serve):
    open_page(page, serve())
    page.locator("[data-well='B03']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.well") == "C11"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#place")).to_have_text("B04 field 0")
    page.keyboard.press("p")
    playwright.expect(page.locator("#place")).to_have_text("B03 field 0")
    page.keyboard.press("n")
    playwright.expect(page.locator("#place")).to_have_text("B03 field 1")
    page.keyboard.press("n")
    playwright.expect(page.locator("#place")).to_have_text("B04 field 0")
    page.locator("[data-field='0']").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#place")).to_have_text("B04 field 1")
    assert page.locator("#wells [tabindex='0']").count() == 1


def test_map_is_coloured_and_says_its_values(page, serve):
    open_page(page, serve())
    assert page.locator("#highest").inner_text() == "20 %"
    wells = {
        name: page.locator(f"[data-well='{name}']").evaluate("one => getComputedStyle(one).backgroundColor")
        for name in ("B03", "B04", "C11")
    }
    assert len(set(wells.values())) == 3
    label = page.locator("[data-well='B03']").get_attribute("aria-label")
    assert label == "B03, artifact fraction 20 %, 2 fields, Compound plate-1, Concentration 1.5"


def test_failed_and_rejected_fields_are_marked_and_say_why(page, serve):
    open_page(page, serve(), "B04/1")
    playwright.expect(page.locator("#problem")).to_contain_text(f"Failed: {FAILURE}")
    playwright.expect(page.locator("#problem")).to_contain_text("Missing: Brightfield")
    assert "bad" in page.locator("[data-well='B04']").get_attribute("class")
    assert page.locator("[data-field='1']").inner_text() == "1 ✕"
    page.locator("[data-well='B03']").click()
    playwright.expect(page.locator("#place")).to_have_text("B03 field 0")
    page.locator("[data-field='1']").click()
    playwright.expect(page.locator("#problem")).to_have_text("Rejected: more than 25 % are artifacts")
    assert page.locator("[data-field='1']").inner_text() == "1 !"


@pytest.mark.parametrize("place", ["Z99/0", "B03/77", "%3Cimg%20src=x%3E", "%"])
def test_address_that_leads_nowhere_is_said(page, serve, place):
    page.goto(f"{serve()}#{place}")
    playwright.expect(page.locator("#problem")).not_to_be_empty()
    page.locator("[data-well='B03']").click()
    playwright.expect(page.locator("#problem")).to_be_empty()
    wait_for(page, lambda white, black, red: white > 0.05)


def test_hostile_names_stay_text(page, serve):
    open_page(page, serve(name=HOSTILE))
    assert page.locator("#plate").inner_text() == HOSTILE
    assert page.title() == f"{HOSTILE} - artmask"
    assert HOSTILE in page.locator("#layout").inner_text()
    assert page.locator("img").count() == 0
    wait_for(page, lambda white, black, red: white > 0.05)


def test_page_says_when_the_server_has_ended(browser, tmp_path):
    write_viewed_plate(tmp_path / "plate.zarr")
    server = start_view(ViewConfig(plate=tmp_path / "plate.zarr")).server
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    page = browser.new_page()
    open_page(page, server.url)
    server.shutdown()
    thread.join()
    server.server_close()
    page.locator("[data-well='B04']").click()
    playwright.expect(page.locator("#problem")).to_contain_text("artmask view")
    page.close()


def test_browser_without_webgl_is_told(page, serve):
    page.add_init_script("if (window === top) HTMLCanvasElement.prototype.getContext = () => null;")
    page.goto(serve())
    playwright.expect(page.locator("#problem")).to_contain_text("no WebGL 2")
