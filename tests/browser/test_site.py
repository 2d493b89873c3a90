"""The web pages that `make site` writes, used as a reader would: hover, copy, dark theme, phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from helpers.figure_json import PLOTLY, decode
from helpers.notebooks.checks import link_rules
from helpers.notebooks.figures import circuitsvis_views
from helpers.notebooks.page import to_html
from tests.browser.conftest import DESK, PHONE, ROOT, Log, contrast_of, opened, photograph
from tests.browser.looks import pixels

NOTEBOOKS = sorted((ROOT / "demos").glob("*.ipynb"))
MAX_BYTES = 10_000_000  # of a page with everything it loads: seconds on a slow line


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture(scope="module")
def outputs(path) -> list[dict]:
    """The data of each output of the committed notebook."""
    cells = nbformat.read(path, 4).cells
    return [o.data for cell in cells for o in cell.get("outputs", []) if "data" in o]


@pytest.fixture(scope="module")
def log(path) -> Log:
    """What the page of the next fixture does, as long as it is open."""
    return Log()


@pytest.fixture(scope="module")
def page(browser, origin, path, screenshots, log) -> Iterator[Page]:
    """A demo in the light theme, opened once for the tests that only look, hover and copy."""
    clipboard = ["clipboard-read", "clipboard-write"]
    name = f"{path.stem}.html"
    page = opened(browser, origin, name, log, color_scheme="light", permissions=clipboard)
    photograph(page, screenshots / f"site-light-{path.stem}.jpg")
    yield page
    assert log.errors == [], "in all that was done with it"
    page.context.close()


def figures(page: Page) -> list[Locator]:
    return page.locator(".js-plotly-plot").all()


# --- every page -----------------------------------------------------------------------------------


def check_alone(log: Log, name: str, record_property: Callable[[str, object], None]) -> None:
    """No error, nothing from elsewhere, and no more than a slow line brings in seconds."""
    assert log.errors == []
    assert log.outside == []
    size = sum(log.sizes.values())
    record_property("bytes", size)
    print(f"{name}: {size / 1e6:.2f} MB with everything, {len(log.sizes)} files")
    assert 0 < size < MAX_BYTES


@pytest.mark.parametrize("name", ["index", "search", "atlas", "api", "api-patching"])
def test_a_page_works_by_itself(browser, origin, name, record_property):
    log = Log()
    page = opened(browser, origin, f"{name}.html", log)
    page.mouse.wheel(0, 100_000)
    page.wait_for_load_state("networkidle")
    check_alone(log, name, record_property)
    page.context.close()


def test_the_index_shows_and_opens_each_page(browser, origin, screenshots):
    page = opened(browser, origin, "index.html")
    photograph(page, screenshots / "site-index.jpg")
    cards = page.locator(".sd-card").all()
    assert len(cards) == len(NOTEBOOKS) + 1
    targets = [card.locator("a.sd-stretched-link").get_attribute("href") for card in cards]
    assert set(targets) == {"atlas.html", *(f"{path.stem}.html" for path in NOTEBOOKS)}
    assert targets[0] == "Exploratory_Analysis_Demo.html", "where a newcomer begins"
    for card in cards:
        assert card.locator("img").evaluate("image => image.naturalWidth") > 0
        assert card.locator(".sd-card-text").first.inner_text().strip()
    page.context.close()


def test_who_searches_for_a_helper_finds_it(browser, origin):
    page = opened(browser, origin, "search.html?q=patch_sweep")
    entry = re.compile(r"api-patching\.html#helpers\.patching\.patch_sweep")
    expect(page.locator("ul.search li a").first).to_have_attribute("href", entry)
    page.context.close()


def test_the_api_reference_leads_to_sections_of_the_demos(folder):
    ids = {
        p.name: set(re.findall(r'\bid="([^"]+)"', p.read_text("utf-8"))) for p in folder.glob("*.html")
    }
    links = {
        tuple(link.split("#"))
        for page in folder.glob("api-*.html")
        for link in re.findall(r'href="(\w+_Demo\.html#[^"]+)"', page.read_text("utf-8"))
    }
    assert {name for name, _ in links} == {f"{path.stem}.html" for path in NOTEBOOKS}
    assert [link for link in links if unquote(link[1]) not in ids[link[0]]] == []


def test_the_api_reference_in_both_widths(browser, origin, screenshots):
    for width, size in {"desk": DESK, "phone": PHONE}.items():
        page = opened(browser, origin, "api-patching.html", viewport=size)
        photograph(page, screenshots / f"site-api-{width}.jpg")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        page.context.close()


def test_it_opens_without_a_server_too(browser, folder):
    page = browser.new_page()
    page.goto((folder / f"{NOTEBOOKS[0].stem}.html").as_uri())
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    page.close()


# --- a demo ---------------------------------------------------------------------------------------


WATCH = """
new MutationObserver((_, watcher) => {
    const figure = document.querySelector(".js-plotly-plot .main-svg");
    if (!figure) return;
    const cells = [...document.querySelectorAll(".cell")];
    const own = cells.findIndex(cell => cell.contains(figure));
    window.firstFigure = {seconds: performance.now() / 1000, own, there: cells.length};
    watcher.disconnect();
}).observe(document, {childList: true, subtree: true});
addEventListener("DOMContentLoaded", () => { window.wholePage = performance.now() / 1000; });
"""


def test_the_first_figure_is_drawn_before_the_rest_of_the_page(browser, origin, path, record_property):
    """Before a cell after its own is read. Its seconds depend on the machine: see `make bench`."""
    page = browser.new_page(viewport=DESK)
    page.add_init_script(WATCH)
    page.goto(f"{origin}{path.stem}.html")
    first, whole = page.evaluate("[window.firstFigure, window.wholePage]")
    cells = page.locator(".cell").count()
    page.close()
    record_property("seconds to first figure", first["seconds"])
    seconds = f"{first['seconds']:.2f} s, {first['seconds'] / whole:.2f} of the whole page's time"
    print(f"{path.stem}: first figure after {seconds}")
    assert first["own"] >= 0
    assert first["there"] == first["own"] + 1 < cells
    assert first["seconds"] < whole


def test_a_demo_works_by_itself(page, path, log, record_property):
    page.mouse.wheel(0, 100_000)
    page.wait_for_load_state("networkidle")
    check_alone(log, path.stem, record_property)


def test_every_figure_is_drawn(page, outputs):
    titles = [data[PLOTLY]["layout"]["title"]["text"] for data in outputs if PLOTLY in data]
    assert titles
    assert [figure.locator(".gtitle").text_content() for figure in figures(page)] == titles
    for figure in figures(page):
        frame = figure.bounding_box()
        drawn = figure.locator(".main-svg").first.bounding_box()
        assert drawn["width"] >= 400
        assert drawn["height"] >= 200
        assert drawn["x"] + drawn["width"] <= frame["x"] + frame["width"] + 1, "cut off"
    views = [view for data in outputs for view in circuitsvis_views(data.get("text/html", ""))]
    assert page.locator("[id^=circuits-vis] canvas").count() >= len(views)
    assert page.locator("[id^=circuits-vis]").count() == len(views)


def test_printed_sentences_are_not_cut_off(page):
    printed = page.locator(".cell:is(.tag_wrap, .tag_wrap-wide) .output pre").evaluate_all(
        "outputs => outputs.map(o => [o.textContent.slice(0, 80), o.scrollWidth > o.clientWidth])"
    )
    assert printed
    assert [text for text, cut in printed if cut] == []


def test_columns_of_tables_are_apart_and_under_their_headings(page):
    """As far as two letters, so that no number runs into the next."""
    tables = page.locator(".cell_output table.dataframe").all()
    assert tables
    for table in tables:
        apart, aligned = table.evaluate(
            """table => {
                const cells = [...table.querySelectorAll("th, td")].map(cell => getComputedStyle(cell));
                return [
                    cells.map(cell => parseFloat(cell.paddingLeft) + parseFloat(cell.paddingRight)),
                    [...new Set(cells.map(cell => cell.textAlign))],
                ];
            }"""
        )
        assert min(apart) >= 16
        assert aligned == ["left"]


def test_hover_says_name_and_value(page, outputs):
    """On the cell of largest magnitude in each heatmap, as the notebook's own data have it."""
    heatmaps = 0
    for figure, data in zip(figures(page), [d for d in outputs if PLOTLY in d], strict=True):
        trace = decode(data[PLOTLY])["data"][0]
        if trace["type"] != "heatmap":
            continue
        heatmaps += 1
        values = np.array(trace["z"])
        row, column = np.unravel_index(np.abs(values).argmax(), values.shape)
        figure.scroll_into_view_if_needed()
        x, y = figure.evaluate(
            """(figure, [column, row]) => {
                const {xaxis: x, yaxis: y} = figure._fullLayout, box = figure.getBoundingClientRect();
                return [box.x + x._offset + x.l2p(column), box.y + y._offset + y.l2p(row)];
            }""",
            [int(column), int(row)],
        )
        page.mouse.move(x - 2, y)
        page.mouse.move(x, y)
        shown = figure.locator(".hoverlayer .hovertext").first
        expect(shown).to_contain_text(trace["customdata"][row][column].strip())
        expect(shown).to_contain_text(f"{values[row, column]:.4f}")
    if not heatmaps:
        pytest.skip("this demo draws no heatmap")


def test_attention_views_answer(page, outputs):
    views = [view for data in outputs for view in circuitsvis_views(data.get("text/html", ""))]
    for shown, view in zip(page.locator("[id^=circuits-vis]").all(), views, strict=True):
        heads = view["props"]["attentionHeadNames"]
        for number, head in reversed(list(enumerate(heads))):
            small = shown.locator("canvas").nth(number)
            small.hover(position={"x": 10, "y": small.bounding_box()["height"] - 4})
            expect(shown.get_by_text(f"{head} Zoomed")).to_be_visible()
        large = shown.locator("canvas").last
        large.scroll_into_view_if_needed()
        page.mouse.move(0, 0)
        before = nearly_black(large)
        box = large.bounding_box()
        x, y = box["x"] + 0.4 * box["width"], box["y"] + 0.6 * box["height"]
        for attempt in range(40):  # it fades in, when the page finds the time
            page.mouse.move(x + 2 * (attempt % 2), y)
            page.wait_for_timeout(250)
            if nearly_black(large) > before + 0.005:
                break
        else:
            pytest.fail("no dark box that names both tokens and the value")


def test_attention_views_follow_the_window(browser, origin, path, outputs, tmp_path):
    """On the site, and on the page that `make demo` writes."""
    if not any(circuitsvis_views(data.get("text/html", "")) for data in outputs):
        pytest.skip("this demo has no attention view")
    alone = tmp_path / "page.html"
    alone.write_text(to_html(nbformat.read(path, 4), path.stem), encoding="utf-8")
    for address in (f"{origin}{path.stem}.html", alone.as_uri()):
        page = browser.new_page(viewport=DESK)
        page.goto(address)
        for view in page.locator("[id^=circuits-vis]").all():
            expect(view.locator("canvas").first).to_be_visible(timeout=30_000)
        narrow_and_widen(page)
        page.close()


def narrow_and_widen(page: Page) -> None:
    wide = view_widths(page)
    assert min(map(max, wide)) > 400, wide
    page.set_viewport_size(PHONE)
    expect_widths(page, lambda widths: max(map(max, widths)) < PHONE["width"])
    page.set_viewport_size(DESK)
    expect_widths(page, lambda widths: widths == wide)
    page.screenshot(full_page=True, type="jpeg")  # makes the window as long as the page, and back
    expect_widths(page, lambda widths: widths == wide)


def view_widths(page: Page) -> list[list[float]]:
    """``[view][canvas]``: what is drawn of each attention pattern, in pixels."""
    return page.locator("[id^=circuits-vis]").evaluate_all(
        "views => views.map(view => [...view.querySelectorAll('canvas')].map(c => c.clientWidth))"
    )


def expect_widths(page: Page, right: Callable[[list[list[float]]], bool]) -> None:
    """Once the page has drawn itself anew, and half a second later still."""
    for _ in range(40):
        page.wait_for_timeout(250)
        if right(view_widths(page)):
            break
    page.wait_for_timeout(500)
    widths = view_widths(page)
    assert right(widths), widths


def nearly_black(shown: Locator) -> float:
    """The share of an element's pixels."""
    return float((pixels(shown.screenshot())[..., :3].max(-1) < 0.25).mean())


def test_code_can_be_copied(page, path):
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    buttons = page.locator(".cell_input button.copybtn")
    assert buttons.count() == len(cells)
    for number in (0, 1, len(cells) - 1):
        block = page.locator(".cell_input").nth(number)
        block.hover()
        block.locator("button.copybtn").click()
        expect(block.locator("button.copybtn")).to_have_class(re.compile("success"))
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.strip() == cells[number].source.strip()


def test_table_of_contents_and_links(page, path):
    sections = page.locator("article section > :is(h2, h3)").count()
    entries = page.locator("#pst-secondary-sidebar nav.page-toc a.nav-link").all()
    assert len(entries) == sections > 0
    for entry in entries:
        assert page.locator(f"[id='{unquote(entry.get_attribute('href'))[1:]}']").count() == 1
    repository = link_rules(ROOT / "pyproject.toml").repository
    file = f"{repository}/blob/main/demos/{path.stem}"
    for name, link in {
        "Open in Colab": f"https://colab.research.google.com/github/{file}.ipynb",
        "View source": f"https://github.com/{file}.py",
    }.items():
        assert page.get_by_role("link", name=name).get_attribute("href") == link


def check_theme(page: Page, theme: str) -> None:
    """Text stands out from the ground behind it, and figures keep theirs."""
    assert page.locator("html").get_attribute("data-theme") == theme
    for selector in ("article p", "article h2", ".cell_input .k, .cell_input .kn", ".output pre"):
        assert contrast_of(page, selector) >= 4.5, selector
    grounds = page.locator(".output.text_html:has(.js-plotly-plot, [id^=circuits-vis])").evaluate_all(
        "frames => frames.map(frame => getComputedStyle(frame).backgroundColor)"
    )
    assert set(grounds) == {"rgb(255, 255, 255)"}


def test_the_light_theme_can_be_read(page):
    check_theme(page, "light")


def test_the_dark_theme_can_be_read(browser, origin, path, screenshots):
    page = opened(browser, origin, f"{path.stem}.html", color_scheme="dark")
    check_theme(page, "dark")
    photograph(page, screenshots / f"site-dark-{path.stem}.jpg")
    page.context.close()


def test_the_theme_can_be_switched(browser, origin):
    page = opened(browser, origin, f"{NOTEBOOKS[0].stem}.html", color_scheme="light")
    page.locator("button.theme-switch-button").first.click()
    page.locator("button[data-mode=dark]:visible").first.click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.context.close()


def test_a_phone_shows_it_all(browser, origin, path, screenshots):
    page = opened(browser, origin, f"{path.stem}.html", viewport=PHONE, has_touch=True, is_mobile=True)
    photograph(page, screenshots / f"site-phone-{path.stem}.jpg")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for figure in figures(page):
        frame = figure.locator("xpath=ancestor::div[contains(@class, 'text_html')]")
        reachable, size = frame.evaluate("frame => [frame.scrollWidth, frame.clientWidth]")
        assert size > 0.8 * PHONE["width"]
        assert reachable >= figure.locator(".main-svg").first.bounding_box()["width"]
        assert "sideways" in frame.evaluate("frame => getComputedStyle(frame, '::before').content")
    size = page.locator("article p").first.evaluate("p => parseFloat(getComputedStyle(p).fontSize)")
    assert size >= 15
    page.context.close()
