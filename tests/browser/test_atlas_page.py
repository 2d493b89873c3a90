"""The atlas page of the built site, used as a reader would: search, filter, sort, open a card, hover."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from helpers.atlas.examples import Examples, read_examples
from helpers.atlas.questions import KINDS, heads_of_kind, is_known, most_similar, rank_of
from helpers.atlas.table import Atlas, read_atlas
from tests.browser.conftest import DESK, PHONE, ROOT, Log, contrast_of, opened

STEM, PUBLISHED = "smollm2-135m", "gpt2-small.published"
HEADS = [(23, 3), (0, 0), (29, 8)]
THEMES = ["light", "dark"]


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    return read_atlas(ROOT / f"demos/atlas/{STEM}.parquet")


@pytest.fixture(scope="module")
def examples() -> Examples:
    return read_examples(ROOT / f"demos/atlas/{STEM}.attention.parquet")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def page(browser, origin, log) -> Iterator[Page]:
    """Nothing that a test does here may end in an error or a request to somewhere else."""
    page = opened(browser, origin, "atlas.html", log)
    yield page
    page.context.close()
    assert log.errors == []
    assert log.outside == []


def names(page: Page) -> list[str]:
    return page.locator(".atlas-table tbody th").all_inner_texts()


def card(page: Page) -> Locator:
    return page.get_by_role("dialog", name=re.compile(r"^L\d+H\d+$"))


def at_card(page: Page, name: str) -> Locator:
    """The page moved to a head's card by its address."""
    page.evaluate("hash => { location.hash = hash; }", name)
    expect(page.locator(".atlas-card h2")).to_have_text(name.split("-")[-1])
    return card(page)


def shown(value: float) -> str:
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text.replace("-", "−")


# --- the table ------------------------------------------------------------------------------------


def test_every_head_is_there_sorted_by_induction(page, atlas):
    assert names(page) == atlas.table.sort_values("induction", ascending=False)["name"].tolist()
    expect(page.get_by_role("status")).to_have_text("270 of 270 heads")
    first = page.locator(".atlas-table tbody tr").first
    assert shown(atlas.score("induction").max().item()) in first.inner_text()


@pytest.mark.parametrize("query", ["L23H3", "l23h3", "23.3", "23 3", " 23,3"])
def test_search_finds_a_head_however_it_is_written(page, query):
    page.get_by_label("Find a head").fill(query)
    assert names(page) == ["L23H3"]
    expect(page.get_by_role("status")).to_have_text("1 of 270 heads")
    page.keyboard.press("Enter")
    expect(card(page).locator("h2")).to_have_text("L23H3")


def test_search_for_a_layer_a_head_a_kind_and_nothing(page, atlas):
    def found(query: str) -> set[str]:
        page.get_by_label("Find a head").fill(query)
        return set(names(page))

    table = atlas.table
    assert found("L2") == set(table.loc[table["layer"] == 2, "name"])
    assert found("H8") == set(table.loc[table["head"] == 8, "name"])
    assert found("suppresses") == {head.name for head in heads_of_kind(atlas, "suppresses")}
    assert found("L99H0") == found("no such kind") == set()
    expect(page.get_by_role("status")).to_have_text("0 of 270 heads")
    page.get_by_role("button", name="Reset").click()
    assert len(names(page)) == 270


def test_filter_by_score_and_kind(page, atlas):
    page.get_by_label("Score").select_option("copying_rank")
    page.get_by_label("at least").fill("0.2")
    page.get_by_label("at most").fill("0.5")
    values = atlas.table.set_index("name")["copying_rank"]
    wanted = values[values.between(0.2, 0.5)].sort_values(ascending=False)
    assert names(page) == wanted.index.tolist()
    assert 0 < len(wanted) < 270
    cells = page.locator(".atlas-table tbody tr td:nth-child(2)").all_inner_texts()
    assert cells == [shown(value) for value in wanted]
    page.get_by_role("button", name="Reset").click()
    page.get_by_label("Kind").select_option("induction")
    assert names(page) == [head.name for head in heads_of_kind(atlas, "induction")]
    page.get_by_label("Kind").select_option("of no kind")
    known = {head.name for kind in KINDS for head in heads_of_kind(atlas, kind)}
    assert set(names(page)) == set(atlas.table["name"]) - known


def test_sort_by_a_column_both_ways(page, atlas):
    def header(name: str) -> Locator:
        return page.locator("thead th", has=page.locator(f"[data-sort={name}]"))

    ordered = atlas.table.sort_values("ioi_attribution")["name"].tolist()
    button = header("ioi_attribution").get_by_role("button")
    button.click()
    assert names(page) == ordered[::-1]
    expect(header("ioi_attribution")).to_have_attribute("aria-sort", "descending")
    page.keyboard.press("Enter")  # the column keeps the focus
    assert names(page) == ordered
    expect(header("ioi_attribution")).to_have_attribute("aria-sort", "ascending")
    header("head").get_by_role("button").click()
    assert names(page) == atlas.table["name"].tolist()


def test_published_scores_are_marked_and_have_no_pictures(page):
    page.get_by_label("Model").select_option(PUBLISHED)
    assert len(names(page)) == 144
    expect(page.locator(".atlas-note").first).to_contain_text("Published, not measured here")
    page.get_by_role("link", name="L9H9").click()
    expect(page).to_have_url(re.compile(rf"#{PUBLISHED}-L9H9$"))
    expect(card(page)).to_contain_text("name mover (Wang et al.)")
    expect(card(page)).to_contain_text(
        "No attention pictures: these scores were published, not measured"
    )
    expect(card(page).locator(".atlas-pattern")).to_have_count(0)
    expect(card(page)).not_to_contain_text("±")


# --- the card -------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_a_card_has_every_score_with_error_rank_and_meaning(page, atlas, head):
    name = f"L{head[0]}H{head[1]}"
    page.get_by_role("link", name=name, exact=True).click()
    expect(page).to_have_url(re.compile(rf"#{name}$"))
    expect(card(page)).to_be_visible()
    entries = card(page).locator(".atlas-score").all()
    assert [entry.get_attribute("data-score") for entry in entries] == atlas.scores
    for score, entry in zip(atlas.scores, entries, strict=True):
        text = entry.locator("summary").inner_text()
        value, error = atlas.score(score)[head].item(), atlas.error(score)[head].item()
        about = atlas.info["scores"][score]
        assert shown(value) + (" exact" if about["samples"] == 1 else f" ± {shown(error)}") in text
        assert text.endswith(f"{rank_of(atlas, score, *head)} of 270")
        about = {field: str(text).replace("`", "") for field, text in about.items()}
        expect(entry.get_by_text(about["meaning"])).to_be_hidden()
        entry.locator("summary").click()
        for field in ("meaning", "formula", "range", "null", "source"):
            expect(entry.get_by_text(about[field]).first).to_be_visible()
    kinds = is_known(atlas, *head)
    assert card(page).locator(".atlas-kind").all_inner_texts() == list(kinds)


def test_similar_heads_are_those_of_the_atlas_and_lead_to_their_cards(page, atlas):
    here, there = at_card(page, "L23H3").locator("section:last-child li").all()
    published = read_atlas(ROOT / f"demos/atlas/{PUBLISHED}.parquet")
    for line, other in ((here, atlas), (there, published)):
        nearest = most_similar(atlas, other, 23, 3, count=3)
        assert line.get_by_role("link").all_inner_texts() == [head.name for head in nearest]
        assert f"({nearest[0].value:.3f})" in line.inner_text()
    name = there.get_by_role("link").first.inner_text()
    there.get_by_role("link").first.click()
    expect(card(page).locator("h2")).to_have_text(name)
    expect(card(page)).to_contain_text("gpt2 (published)")
    page.go_back()
    expect(card(page).locator("h2")).to_have_text("L23H3")
    page.go_back()
    expect(card(page)).to_be_hidden()


@pytest.mark.parametrize("head", HEADS)
def test_hover_says_both_tokens_and_the_weight(page, examples, head):
    """On the largest weight off the first token, and on one that is nearly zero."""
    views = at_card(page, f"L{head[0]}H{head[1]}").locator(".atlas-pattern").all()
    assert len(views) == len(examples.info["prompts"]) == 3
    for view, prompt in zip(views, examples.info["prompts"], strict=True):
        pattern, tokens = examples.patterns(prompt)[head], examples.tokens(prompt)
        assert view.locator(".atlas-cell").count() == len(tokens) * (len(tokens) + 1) // 2
        largest = np.unravel_index(np.tril(pattern)[:, 1:].argmax(), pattern[:, 1:].shape)
        for dest, src in [(largest[0], largest[1] + 1), (len(tokens) - 1, 1)]:
            cell = view.locator(f"[data-dest='{dest}'][data-src='{src}']")
            cell.hover()
            said = view.locator(".atlas-said").inner_text()
            weight = pattern[dest, src]
            assert said.split() == [
                f"{tokens[dest].strip()}{dest}",
                "→",
                f"{tokens[src].strip()}{src}",
                f"{weight:.3f}",
            ]
            assert float(cell.get_attribute("fill-opacity")) == pytest.approx(weight**0.5, abs=1e-3)


def test_a_card_can_be_used_with_the_keyboard_alone(page, examples):
    page.get_by_label("Find a head").fill("17.4")
    page.get_by_role("link", name="L17H4").focus()
    page.keyboard.press("Enter")
    view = card(page).locator(".atlas-pattern").nth(1)
    view.focus()
    for _ in range(30):
        page.keyboard.press("ArrowDown")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    pattern, tokens = examples.patterns("repeated")[17, 4], examples.tokens("repeated")
    last = len(tokens) - 1
    expect(view.locator(".atlas-said")).to_contain_text(f"{tokens[last].strip()}{last} → {tokens[0]}0")
    expect(view.locator(".atlas-said strong")).to_have_text(f"{pattern[last, 0]:.3f}")
    page.keyboard.press("Escape")
    expect(card(page)).to_be_hidden()
    expect(page).to_have_url(re.compile("^[^#]*$"))  # once the dialog has told that it is closed
    expect(page.get_by_role("link", name="L17H4")).to_be_focused()


def test_a_link_to_a_card_opens_it_and_one_to_nothing_does_not(browser, origin):
    log = Log()
    addresses = {"#L23H3": "smollm2-135m: layer 23", f"#{PUBLISHED}-L10H7": "gpt2 (published): layer 10"}
    for address, text in {**addresses, f"#{STEM}-L0H0": "smollm2-135m: layer 0"}.items():
        page = opened(browser, origin, f"atlas.html{address}", log)
        expect(card(page)).to_contain_text(text)
        card(page).get_by_role("button", name="Close").click()
        expect(card(page)).to_be_hidden()
        page.context.close()
    for address in ("#L99H0", "#%", "#no-such-thing"):
        page = opened(browser, origin, f"atlas.html{address}", log)
        expect(page.get_by_role("status")).to_have_text("270 of 270 heads")
        expect(card(page)).to_be_hidden()
        page.context.close()
    assert log.errors == []


def test_what_the_data_say_is_text_and_never_html(browser, origin):
    """A token that is a tag, in a page that is otherwise the built one."""
    tag = "<img src=x onerror=document.title='run'>"
    page = browser.new_page()

    def with_tag(route: Route) -> None:
        text = route.fetch().text()
        assert text.count('" gave"') == 1
        route.fulfill(body=text.replace('" gave"', json.dumps(tag).replace("<", "\\u003c")))

    page.route("**/atlas.html", with_tag)
    page.goto(f"{origin}atlas.html#L23H3")
    view = card(page).locator(".atlas-pattern").first
    view.locator("[data-dest='11'][data-src='2']").hover()
    expect(view.locator(".atlas-said")).to_contain_text(tag)
    expect(view.locator(".atlas-dest.atlas-chosen")).to_contain_text("<img")
    assert page.locator("#atlas img").count() == 0
    assert page.title() != "run"
    page.close()


def test_it_works_without_a_server_too(browser, folder):
    page = browser.new_page()
    page.goto((folder / "atlas.html").as_uri() + "#L23H3")
    expect(card(page).locator(".atlas-pattern")).to_have_count(3)
    page.close()


# --- looks ----------------------------------------------------------------------------------------

TEXTS = [
    ".atlas-table th a",
    ".atlas-value",
    ".atlas-kind",
    ".atlas-field label",
    "#atlas-score",
    "[role=status]",
    ".atlas-card h2",
    ".atlas-card .atlas-kind",
    ".atlas-pictures figcaption",
    ".atlas-said strong",
    ".atlas-said sub",
    ".atlas-legend",
    ".atlas-name",
    ".atlas-number small",
    ".atlas-extreme .atlas-rank",
    ".atlas-score dd",
    ".atlas-card li a",
]


@pytest.mark.parametrize("theme", THEMES)
def test_both_themes_can_be_read(browser, origin, screenshots, theme):
    page = opened(browser, origin, "atlas.html", color_scheme=theme)
    page.screenshot(path=screenshots / f"site-{theme}-atlas.png")
    at_card(page, "L23H3")
    page.screenshot(path=screenshots / f"site-{theme}-atlas-card.png")
    for selector in TEXTS:
        assert contrast_of(page, selector) >= 4.5, selector
    ground = "getComputedStyle(document.querySelector('.atlas-card')).backgroundColor"
    label = "getComputedStyle(document.querySelector('.atlas-dest')).fill"
    assert colour_contrast(page, label, ground) >= 4.5
    for bar in ("--atlas-bar", "--atlas-minus"):  # under numbers
        bar_colour = f"getComputedStyle(document.documentElement).getPropertyValue('{bar}')"
        text = "getComputedStyle(document.querySelector('.atlas-value')).color"
        assert colour_contrast(page, text, bar_colour) >= 4.5, bar
    page.context.close()


def colour_contrast(page: Page, one: str, other: str) -> float:
    """Contrast between two colours given as JavaScript."""
    page.evaluate(
        f"""() => {{
            const probe = document.createElement("p");
            probe.id = "probe";
            probe.style.color = {one};
            probe.style.backgroundColor = {other};
            document.querySelector("#probe")?.remove();
            document.body.append(probe);
        }}"""
    )
    return contrast_of(page, "#probe")


def test_a_picture_is_large_enough_and_its_labels_stay_inside(page):
    at_card(page, "L23H3")
    for view in card(page).locator(".atlas-pattern").all():
        frame = view.locator("svg").bounding_box()
        assert frame["width"] >= 300
        for label in view.locator("text").all():
            box = label.bounding_box()
            assert frame["x"] - 1 <= box["x"]
            assert box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
            assert frame["y"] - 1 <= box["y"]
            assert box["y"] + box["height"] <= frame["y"] + frame["height"] + 1


def test_a_phone_shows_it_all(browser, origin, examples, screenshots):
    log = Log()
    page = opened(browser, origin, "atlas.html", log, viewport=PHONE, has_touch=True, is_mobile=True)
    page.screenshot(path=screenshots / "site-phone-atlas.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_label("Find a head").fill("23.3")
    page.get_by_role("link", name="L23H3").tap()
    summary = card(page).locator(".atlas-score summary").first
    value, rank = (summary.locator(part).bounding_box() for part in (".atlas-number", ".atlas-rank"))
    assert abs(value["y"] - rank["y"]) < 5, "beside each other, with the ticks below"
    assert card(page).evaluate("c => [c.scrollWidth - c.clientWidth, c.clientWidth]") == [
        0,
        PHONE["width"],
    ]
    view = card(page).locator(".atlas-pattern").first
    assert view.locator("svg").bounding_box()["width"] > 0.8 * PHONE["width"]
    view.locator("[data-dest='14'][data-src='10']").tap()
    weight = examples.patterns("task")[23, 3, 14, 10]
    expect(view.locator(".atlas-said")).to_have_text(f"to14 → John10{weight:.3f}")
    page.screenshot(path=screenshots / "site-phone-atlas-card.png")
    card(page).get_by_role("button", name="Close").tap()
    expect(card(page)).to_be_hidden()
    assert log.errors == []
    page.context.close()


def test_a_card_fits_a_desk(page):
    box = at_card(page, "L23H3").bounding_box()
    assert 1000 <= box["width"] < DESK["width"]
    assert box["height"] <= DESK["height"]
