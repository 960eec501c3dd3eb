"""The study as a PDF: what it needs, and what it says where that is missing."""

import pytest

from facelib.errors import UserError
from facelib.runner import pdf


def test_without_a_browser_it_says_what_to_install_before_anything_is_built(monkeypatch):
    # Mutations: a site built first, a traceback, a message without the next command.
    monkeypatch.setattr(pdf, "BROWSERS", ("no-such-browser",))
    monkeypatch.setattr(pdf, "build_print", lambda: pytest.fail("built"))
    with pytest.raises(UserError, match="no Chromium or Chrome .*apt-get install"):
        pdf.write_pdf()


@pytest.mark.parametrize("script", ["exit 0", "echo no display >&2; exit 1"])
def test_a_browser_that_prints_nothing_is_an_error_and_leaves_the_old_file(
    script, tmp_path, monkeypatch
):
    # Mutation: an exit code that is believed; the file of last time taken for a new one.
    browser, page, old = (tmp_path / name for name in ("browser", "print.html", "study.pdf"))
    browser.write_text(f"#!/bin/sh\n{script}\n")
    browser.chmod(0o755)
    old.write_text("old")
    monkeypatch.setattr(pdf, "BROWSERS", (str(browser),))
    monkeypatch.setattr(pdf, "build_print", lambda: page)
    with pytest.raises(UserError, match="printed nothing"):
        pdf.write_pdf(old)
    assert old.read_text() == "old"
