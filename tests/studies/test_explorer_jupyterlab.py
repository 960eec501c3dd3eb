"""The explorer in real JupyterLab: a cell is run, the threshold dragged, the numbers change."""

import json
import os
import subprocess
import sys
import time
import urllib.request

import nbformat
import numpy as np
import pytest

from facelib.paths import REPO
from facelib.runner.notebooks import KERNELSPEC
from facelib.runs.launch import free_port
from tests.studies.explorer_runs import made_results
from tests.studies.test_explorer_browser import browser, check_rates  # noqa: F401

CELL = """from facelib.studies.explorer.widget import explore
from tests.studies.explorer_runs import made_results

explore(made_results())"""
QUIET = {"fetchNews": "false", "checkForUpdates": False}  # nothing is asked of the network


@pytest.fixture
def lab(tmp_path):
    """Address of a JupyterLab over a folder with one notebook."""
    cell = nbformat.v4.new_code_cell(CELL)
    made = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": KERNELSPEC})
    nbformat.write(made, tmp_path / "small.ipynb")
    kept = (
        tmp_path / ".settings" / "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    )
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps(QUIET))
    port = free_port()
    options = {"ip": "127.0.0.1", "port": port, "port_retries": 0, "root_dir": tmp_path,
               "open_browser": False, "allow_root": True}  # fmt: skip
    options = [f"--ServerApp.{name}={value}" for name, value in options.items()]
    places = {f"JUPYTER{name}_DIR": str(tmp_path / f".{name}".lower()) for name in
              ("_CONFIG", "_DATA", "_RUNTIME", "LAB_WORKSPACES")}  # fmt: skip
    places |= {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / ".settings"), "PYTHONPATH": str(REPO)}
    with open(tmp_path / "lab.log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options, "--IdentityProvider.token="],
            env={**os.environ, **places}, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield wait_for(f"http://127.0.0.1:{port}", server, tmp_path / "lab.log")
    finally:
        server.terminate()  # it ends its kernels
        server.wait(60)


def wait_for(address, server, log, seconds=120):
    for _ in range(10 * seconds):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/api").close()
            return address
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_a_person_in_jupyterlab_drags_the_threshold_and_the_numbers_change(
    lab,
    browser,  # noqa: F811
    tmp_path,
):
    # Catches: a module that anywidget does not load, text in place of the widget, a lost pointer,
    # arrow keys that JupyterLab takes for its own.
    page, said = browser.new_page(viewport={"width": 1280, "height": 1000}), []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda m: said.append(f"{m.text} {m.location}") if m.type == "error" else 0)
    page.set_default_timeout(180_000)  # the kernel imports torch
    page.goto(f"{lab}/lab/tree/small.ipynb")
    page.get_by_text("(ipykernel) | Idle").wait_for()
    page.locator(".jp-CodeCell .cm-content").first.press("Shift+Enter")
    knob = page.locator(".fx-handle rect")
    knob.wait_for()
    knob.scroll_into_view_if_needed()
    result, everything = made_results()[0], np.ones(200, bool)
    before, told = check_rates(page, result, everything), page.locator(".fx-rates").inner_text()
    box = knob.bounding_box()
    page.mouse.move(box["x"] + 7, box["y"] + 11)
    page.mouse.down()
    page.mouse.move(box["x"] + 107, box["y"] + 11, steps=4)
    page.mouse.up()
    dragged = check_rates(page, result, everything)
    assert dragged > before
    page.locator(".fx-handle").press("ArrowLeft")
    assert check_rates(page, result, everything) == pytest.approx(dragged - 0.005)
    assert page.locator(".fx-rates").inner_text() != told
    page.locator(".fx-lists button").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    assert (tmp_path / "run-1" / "explorer.html").is_file()
    assert page.locator("a", has_text="run-1/explorer.html").count() == 1
    page.close()
    assert not said
