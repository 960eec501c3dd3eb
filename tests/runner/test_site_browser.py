"""The site in a real browser, from file://: no request, no error, nothing wider than the screen."""

import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from facelib.runner import notebooks, pages, site
from tests.studies.explorer_runs import made_results

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"no browser: {CHROMIUM} is not installed"),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The whole site, of all committed notebooks, with an explorer."""
    folder = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_RUNS", str(folder / "runs"))
        made = [(result, result.report) for result in made_results()]
        patch.setattr(pages, "comparable_runs", lambda *_: made)
        return site.build_site(notebooks.FOLDER, folder / "site")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield started
        started.close()


def visit(browser, path: Path, width: int):
    """The opened page, and what it complained of or asked the network for."""
    page, seen = browser.new_page(viewport={"width": width, "height": 900}), []
    page.on("console", lambda m: seen.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("requestfailed", lambda request: seen.append(f"failed: {request.url}"))
    page.on("request", lambda request: seen.append(request.url)
            if not request.url.startswith(("file:", "data:")) else None)  # fmt: skip
    page.goto(path.as_uri(), wait_until="load")
    return page, seen


def site_pages(index: Path) -> list[Path]:
    found = index.parent.rglob("*.html")
    return [p for p in found if not {".build", "_static"} & set(p.relative_to(index.parent).parts)]


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_screen_and_ask_for_nothing(index, browser, width):
    # Catches: a table that widens the page, a font from a CDN, a script that the policy stops.
    for path in site_pages(index):
        page, seen = visit(browser, path, width)
        assert not seen, f"{path.name}: {seen}"
        widest = page.evaluate("document.documentElement.scrollWidth")
        assert widest <= width, f"{path.name} is {widest} pixels wide on {width}"
        page.close()


def test_no_link_of_the_site_is_dead(index, browser):
    # Catches: a page that is not built, a heading that has another name, a file outside.
    pages = {path.as_uri(): path.read_text() for path in site_pages(index)}
    for path in site_pages(index):
        page, _ = visit(browser, path, 1280)
        links = page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.href)")
        for target, anchor in {urldefrag(link) for link in links if link.startswith("file:")}:
            target = urlsplit(target)._replace(query="").geturl()
            file = Path(unquote(urlsplit(target).path))
            assert target in pages or ("_downloads" in file.parts and file.is_file()), target
            assert not anchor or re.search(f'id="{re.escape(anchor)}"', pages[target]), anchor
        page.close()


def test_formulas_are_typeset_and_search_finds_without_network(index, browser):
    # Catches: raw TeX on a page; a search that wants a server.
    page, _ = visit(browser, index.parent / "09_cluster_guided.html", 1280)
    assert page.locator("math").count() > 0 and page.locator(".katex-error").count() == 0
    assert not re.search(r"\\\(|\\\[", page.locator("article").inner_text())
    page.goto(f"{(index.parent / 'search.html').as_uri()}?q=CoReFace")
    page.wait_for_selector("#search-results li a")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_first_page_and_a_chapter_have_no_serious_accessibility_finding(index, browser, scheme):
    # Catches: colours too close, a picture without alternative text, a frame keys cannot reach.
    from axe_playwright_python.sync_playwright import Axe

    for name in ("index.html", "13_results.html"):
        page, _ = visit(browser, index.parent / name, 1280)
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)  # the theme gives frames their tab stops late
        found = Axe().run(page).response["violations"]
        serious = [
            (rule["id"], rule["nodes"][0]["html"][:200])
            for rule in found
            if rule["impact"] in ("serious", "critical")
        ]
        assert not serious, f"{name}: {serious}"
        page.close()
