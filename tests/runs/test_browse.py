"""The table of runs in JupyterLab: sorted by a click, with links to files that exist."""

import json

import pytest

from facelib.config import make_config
from facelib.runs.browse import browse
from facelib.runs.folder import create_run
from tests.studies.test_explorer_browser import browser  # noqa: F401

SPEED = {"images_per_s": 800.0, "eta_s": 90.0, "peak_memory_mb": 500.0}


@pytest.fixture
def runs(runs_folder):
    made = [create_run(make_config(seed=seed)) for seed in range(4)]
    for run, loss in zip(made, (0.5, 10.25, 0.125)):  # the last one has not started
        row = {"step": 1, "loss": loss, **SPEED}
        (run.path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    return made


def test_every_link_of_a_run_leads_to_a_file_and_text_is_no_markup(runs, monkeypatch):
    # Catches: links from another folder than the notebook's; a column's name taken as HTML.
    monkeypatch.chdir(runs[0].path.parent)
    table = browse()
    table.frame["<b>x"] = 480000.0  # a column of counts, with gaps in other rows
    page = table._repr_html_()
    assert page.count("<a href=") == 4 + 3 and "&lt;b&gt;x" in page and "<b>" not in page
    assert page.count("<td>480000</td>") == 4
    assert f'href="{runs[0].path.name}/metrics.jsonl"' in page


@pytest.mark.slow
def test_a_click_on_a_heading_sorts_by_number_up_and_down(runs, browser):  # noqa: F811
    # Catches: 10.25 before 2 as text, a run without a loss in between.
    page = browser.new_page()
    page.set_content(browse(runs)._repr_html_())
    heading = page.get_by_role("button", name="loss")

    def losses() -> list[str]:
        return [cell.inner_text() for cell in page.locator("tbody tr td:nth-child(5)").all()]

    heading.press("Enter")
    assert losses() == ["0.125", "0.5", "10.25", ""]
    heading.click()
    assert losses() == ["10.25", "0.5", "0.125", ""]
    page.close()
