"""The explorer in Chromium: a drag, a filter, an opened pair, speed and accessibility."""

from pathlib import Path

import numpy as np
import pytest

from facelib.metrics.geometry import unit
from facelib.studies.explorer import nearest
from facelib.studies.explorer.page import write_explorer
from tests.studies.explorer_runs import made_centres, made_results

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PAIRS, RUNS = 7000, 6
LIMIT_MS = 100


@pytest.fixture(scope="module")
def results():
    return made_results(PAIRS, RUNS, 1400)


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "training_centres", made_centres)
        return write_explorer(results, tmp_path_factory.mktemp("page") / "e.html")


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    with api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, written):
    """The explorer's page; at the end nothing was said to the console or asked of a network."""
    said, asked = [], []
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(written.as_uri())
    opened.wait_for_selector(".fx-handle")
    yield opened
    opened.close()
    assert not said
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]


def check_rates(page, result, chosen):
    shown = page.eval_on_selector(".fx", "node => ({...node.dataset})")
    score, same, t = result.made.score[chosen], result.made.same[chosen], float(shown["threshold"])
    assert float(shown["fmr"]) == (score[~same] >= t).mean()
    assert float(shown["fnmr"]) == (score[same] < t).mean()
    return t


def test_a_dragged_threshold_gives_the_rates_of_the_scores(page, results):
    # Catches: the classes swapped, a line that does not follow the pointer or the keys.
    everything = np.ones(PAIRS, bool)
    before = check_rates(page, results[0], everything)
    box = page.locator(".fx-handle rect").bounding_box()
    page.mouse.move(box["x"] + 7, box["y"] + 11)
    page.mouse.down()
    page.mouse.move(box["x"] + 107, box["y"] + 11, steps=4)
    page.mouse.up()
    dragged = check_rates(page, results[0], everything)
    assert dragged > before
    page.locator(".fx-handle").press("ArrowLeft")
    assert check_rates(page, results[0], everything) == pytest.approx(dragged - 0.005)
    assert float(page.get_attribute(".fx-handle", "aria-valuenow")) < dragged


def test_lists_show_the_worst_errors_and_the_nearest_right_pairs(page, results):
    # Catches: an error among the right pairs, a sort by index, pairs of the threshold before.
    page.locator(".fx-handle").press("PageUp")
    made, t = results[0].made, float(page.get_attribute(".fx", "data-threshold"))
    wrong, far = (made.score >= t) != made.same, np.abs(made.score - t)
    for number, (kind, order) in enumerate(
        [(wrong & ~made.same, -far), (wrong & made.same, -far), (~wrong, far)]
    ):
        names = page.locator(".fx-lists section").nth(number).get_by_role("button").evaluate_all(
            "all => all.map(b => Number(b.ariaLabel.match(/Pair (\\d+)/)[1]))")  # fmt: skip
        wanted = np.sort(order[kind])[:12]
        assert len(names) == 12 and kind[names].all() and np.array_equal(order[names], wanted)


def test_filters_choose_the_pairs_of_a_fold_and_a_yaw(page, results):
    # Catches: a filter of one only, bins that lose their lower limit, another run's scores.
    bench = results[0].bench
    page.get_by_label("Run").select_option(index=2)
    page.get_by_label("Fold").select_option("4")
    page.get_by_label("Yaw difference").select_option("2")
    turn = np.abs(bench.yaw1 - bench.yaw2)
    check_rates(page, results[2], (bench.fold == 3) & (turn >= 15) & (turn < 30))


def test_the_filter_by_what_hides_a_face_looks_at_both_pictures(page, results):
    # Catches: the first picture only, "nothing" as all pairs, a word taken for its sound.
    bench = results[0].bench
    sides = list(zip(bench.hidden1, bench.hidden2))
    for kind, wanted in {
        "nothing": [a == b == "" for a, b in sides],
        "anything": [a != "" or b != "" for a, b in sides],
        "glasses": ["glasses" in a or "glasses" in b for a, b in sides],
    }.items():
        page.get_by_label("Hidden by").select_option(kind)
        check_rates(page, results[0], np.array(wanted))


def test_an_opened_pair_shows_the_nearest_people_of_the_training(page, results):
    # Catches: the second picture's people under the first, pictures that were not decoded.
    page.locator(".fx-lists button").first.click()
    score, same, bench = results[0].made.score, results[0].made.same, results[0].bench
    worst, centres = int(np.argmax(np.where(same, -2, score))), made_centres(None)
    region = page.get_by_role("region", name="nearest people of the training")
    shown = region.get_by_role("img").evaluate_all("all => all.map(c => c.ariaLabel)")
    sides = [bench.index1[worst], bench.index2[worst]]
    top = [np.argsort(-(unit(r.emb[[s]]) @ centres.unit.T)[0])[:3] for r in results for s in sides]
    assert shown == [f"training person trainee {i}" for i in np.concatenate(top)]
    grey = region.locator("canvas").first.evaluate(
        "c => c.getContext('2d').getImageData(9, 9, 1, 1).data[0]")  # fmt: skip
    assert abs(grey - 40 * int(shown[0][-1])) < 6


def test_a_pair_opens_with_its_cosine_in_every_run(page, results):
    # Catches: a list that is not sorted, cosines of another pair, a dialog that stays.
    page.locator(".fx-lists button").first.press("Enter")
    score, same = results[0].made.score, results[0].made.same
    worst = int(np.argmax(np.where(same, -2, score)))
    assert page.locator("dialog h2").inner_text() == f"Pair {worst}"
    region = page.get_by_role("region", name="all runs")
    cosines = region.locator("td:nth-child(2)").all_inner_texts()
    assert [float(c) for c in cosines] == [round(r.made.score[worst], 4) for r in results]
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_each_interaction_takes_less_than_a_tenth_of_a_second(page):
    # Catches: lists or bars that are made for all pairs. Layout is part of the time.
    took = page.evaluate("""() => {
        const time = (act) => { const t = performance.now(); act(); document.body.offsetHeight;
                                return performance.now() - t; };
        const pick = (select, value) => time(() => { select.value = value;
            select.dispatchEvent(new Event("change")); });
        const [, run, fold] = document.querySelectorAll(".fx select");
        const key = () => document.querySelector(".fx-handle").dispatchEvent(
            new KeyboardEvent("keydown", { key: "ArrowRight" }));
        const found = { drag: [], run: [], fold: [], pair: [] };
        for (let i = 0; i < 9; i += 1) {
            found.drag.push(time(key));
            found.run.push(pick(run, i % 6));
            found.fold.push(pick(fold, i));
            found.pair.push(time(() => document.querySelector(".fx-lists button").click()));
            document.querySelector("dialog").close();
        }
        return found; }""")
    medians = {name: sorted(values)[len(values) // 2] for name, values in took.items()}
    print(medians)
    # Others may use this machine: the quickest tells what the page needs.
    assert max(map(min, took.values())) < LIMIT_MS


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_has_no_serious_finding_of_axe(page, width, scheme):
    # Catches: poor contrast, controls without names, parts wider than a telephone.
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.wait_for_timeout(500)  # the histogram is drawn again for the width
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for _ in range(2):  # the page, then an opened pair
        found = axe.run(page).response["violations"]
        assert not [v["id"] for v in found if v["impact"] in ("serious", "critical")]
        page.locator(".fx-lists button").first.press("Enter")
