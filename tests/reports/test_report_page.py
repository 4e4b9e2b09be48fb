"""The report in a real browser: filters, sliders, keyboard, hostile names, links; and what it must not do."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from pipeline import storage
from pipeline.reports.compare import CompareConfig, compare
from pipeline.reports.report import ReportConfig, report
from pipeline.storage import Uri
from tests.helpers.browser import Page, chromium
from tests.helpers.outputs import blocks, failure, note, put_rows, row
from tests.helpers.pictures import jpeg, photo

HOSTILE = '</script><img src=x onerror="document.title=1">{{ 7 * 7 }}&lt;\u2028.jpg'
KEYS = ("a.jpg", "b/gone.jpg", HOSTILE, "c.jpg")
CLASSES = ("ground", '<b id="evil">tree</b></style>', "sky")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of four images: one has only sky, one has no picture any more, one has an evil key; and a failure."""
    folder = tmp_path_factory.mktemp("report")
    info = note(classes=CLASSES, input=f"{folder}/in")
    network = note(classes=CLASSES, input=f"{folder}/in", crf=None, generation="n")
    rows: dict[str, list[dict[str, object]]] = {"refined": [], "network": []}
    for seed, key in enumerate(KEYS):
        picture, mask = jpeg(photo(seed)), blocks(seed)
        if key == "a.jpg":
            mask[:] = 2
        if key != "b/gone.jpg":
            storage.put_whole(f"{folder}/in/{key}", picture)
        before = mask.copy()
        before[: 10 * seed] = 0
        rows["refined"].append(row(key, mask, info, picture, confidence=0.9 - 0.1 * seed))
        rows["network"].append(row(key, before, network, picture))
    put_rows(f"{folder}/out", info, rows["refined"], [failure(f"<i>{HOSTILE}", info, message="<u>cut</u>")])
    put_rows(f"{folder}/network", network, rows["network"])
    made = report(ReportConfig(output=Uri(f"{folder}/out"), network=Uri(f"{folder}/network")))
    assert (made.images, made.failed, made.pictures) == (4, 1, 4)
    return str(Path(made.report))


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with chromium() as page:
        yield page


@pytest.fixture
def page(browser: Page, path: str) -> Iterator[Page]:
    browser.look(1280, 900, "light")
    browser.open(path)
    yield browser
    assert browser.complaints() == []
    assert {url.split("#")[0] for url in browser.requests()} <= {"about:blank", f"file://{path}"}


def shown(page: Page) -> list[str]:
    return page.texts(".card .key")


def is_open(page: Page) -> bool:
    return bool(page.run("return document.getElementById('viewer').open"))


def test_it_is_filtered_and_sorted_and_the_address_keeps_that(page: Page, path: str) -> None:
    assert sorted(shown(page)) == sorted(" ".join(key.split()) for key in KEYS)
    page.choose("#class", "0")
    page.choose("#sort", "sure")
    assert page.texts("#count") == ["3 of 4 shown"]
    chosen = shown(page)
    assert chosen[0] == "b/gone.jpg"
    assert chosen[-1] == "c.jpg"
    fragment = page.address.partition("#")[2]
    page.open(path, fragment)
    assert shown(page) == chosen
    page.choose("#class", "")
    page.choose("#why", "random")
    page.choose("#sort", "unsure")
    assert shown(page)[0] == "c.jpg"
    page.choose("#class", "2")
    page.choose("#sort", "share")
    assert shown(page)[0] == "a.jpg"


def test_masks_are_shown_through_over_the_image_and_wiped(page: Page) -> None:
    page.choose("#opacity", "25")
    assert page.find(".card .mask").value_of_css_property("opacity") == "0.25"
    page.choose("#sort", "unsure")
    page.find(".card").click()
    assert page.texts("#viewer-key") == ["c.jpg"]
    page.choose("#wipe", "30")
    clips = [page.find(f"#{side}-mask").value_of_css_property("clip-path") for side in ("left", "right")]
    assert clips == ["inset(0px 70% 0px 0px)", "inset(0px 0px 0px 30%)"]
    sources = {page.find(f"#{name}").get_attribute("src") for name in ("base", "left-mask", "right-mask")}
    assert len(sources) == 3  # the picture, the network's mask and the refined one
    page.choose("#left", "image")
    assert not page.find("#left-mask").is_displayed()


def test_the_keyboard_is_enough(page: Page) -> None:
    page.choose("#sort", "unsure")
    page.run("document.querySelector('.card').focus()")
    page.press(Keys.ENTER)
    assert page.texts("#viewer-key") == ["c.jpg"]
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.texts("#viewer-key") == ["b/gone.jpg"]
    assert page.texts("#viewer-place") == ["3 of 4"]
    assert "is gone" in page.texts("#viewer-problem")[0]
    assert not page.find("#base").is_displayed()
    assert page.find("#right-mask").value_of_css_property("opacity") == "1"
    page.press("]", "-", "-")
    assert "wipe=60" in page.address
    assert "opacity=40" in page.address
    page.press(Keys.ESCAPE)
    assert not is_open(page)
    # The browser says that a dialog is closed in a task of its own, after the key's.
    page.wait("return document.activeElement.textContent.includes('gone.jpg')")
    page.press(Keys.ARROW_LEFT)
    page.press(" ")
    assert is_open(page)


def test_hostile_names_are_text(page: Page, path: str) -> None:
    title = page.run("return document.title")
    assert title.startswith("Masks of ")
    assert page.run("return document.querySelectorAll('#evil, .key img, .key b, td i, td u').length") == 0
    assert "<u>cut</u>" in page.texts("#failures td p")
    assert CLASSES[1] in [text.strip() for text in page.texts("#classes tbody th")]
    assert any("{{ 7 * 7 }}&lt;" in key for key in shown(page))
    page.open(path, "class=constructor&sort=__proto__&why=%3Cscript%3E&left=toString&wipe=1e9&key=%3Cimg%3E")
    assert len(shown(page)) == 4
    assert page.find("#wipe").get_attribute("value") == "100"
    assert not is_open(page)


CONTRAST = """
const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const channels = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = channels(getComputedStyle(at).backgroundColor);
    if (found.length < 4 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const low = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.checkVisibility() || element.matches("script, style, noscript, option")) continue;
  const style = getComputedStyle(element);
  const [a, b] = [channels(element.closest("svg") ? style.fill : style.color), behind(element)].map(luminance);
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push(`${element.tagName} ${element.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
}
return low;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(page: Page, scheme) -> None:
    page.look(1280, 900, scheme)
    assert page.run(CONTRAST) == []
    page.find(".card").click()
    assert page.run(CONTRAST) == []


UNNAMED = """
return [...document.querySelectorAll("button, select, input")]
  .filter((control) => !control.labels?.length && !control.textContent.trim()).map((control) => control.id);
"""


@pytest.mark.parametrize("width", [360, 768, 2560])
def test_it_fits_the_window(page: Page, path: str, width: int) -> None:
    page.look(width, 800, "light")
    page.open(path)
    assert page.run("return document.documentElement.scrollWidth") <= width
    page.run("document.querySelector('.card').click()")
    assert page.run("const v = document.querySelector('.viewer'); return v.scrollWidth - v.clientWidth") <= 0
    assert page.run(UNNAMED) == []


def test_the_page_of_a_comparison_is_one_too(browser: Page, path: str, tmp_path: Path) -> None:
    folder = Path(path).parents[1]
    to = f"{tmp_path}/compare.html"
    compare(CompareConfig(output_a=Uri(f"{folder}/network"), output_b=Uri(f"{folder}/out"), to=Uri(to)))
    browser.look(360, 800, "dark")
    browser.open(to, "why=changed&sort=disagreement")
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert browser.texts(".card .key")[0] == "c.jpg"
    browser.run("document.querySelector('.card').click()")
    assert browser.texts("#left option")[:2] == ["image", "mask of A"]
    assert browser.run(CONTRAST) == []
    assert browser.complaints() == []
