"""The study as one PDF: the site's pages on one page, printed by Chromium or Chrome."""

import os
import shutil
import subprocess
from pathlib import Path

from facelib.errors import UserError
from facelib.paths import runs_root
from facelib.runner.site import build_print

BROWSERS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)  # fmt: skip
LIMIT_S = 900


def write_pdf(path: Path | None = None) -> Path:
    """Build the site and print it; return the PDF, by default `study.pdf` in the runs root.

    Raises:
        UserError: no browser, no notebooks, or a browser that printed nothing.
    """
    browser = find_browser()
    path = (path or runs_root() / "study.pdf").resolve()
    page = build_print()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    flags = ["--headless", "--disable-gpu", "--disable-background-networking",
             "--no-pdf-header-footer", f"--print-to-pdf={partial}"]  # fmt: skip
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")  # in a container; it does not start as root with it
    try:
        done = subprocess.run([browser, *flags, page.as_uri()], capture_output=True, text=True,
                              timeout=LIMIT_S)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{browser} printed nothing in {LIMIT_S} s: print {page} yourself"
        ) from None
    if not partial.is_file():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"{browser} printed nothing ({last}): open {page} and print it")
    partial.replace(path)
    return path


def find_browser() -> str:
    """The first Chromium or Chrome of this machine.

    Raises:
        UserError: there is none.
    """
    found = next((there for name in BROWSERS if (there := shutil.which(name))), None)
    if found is None:
        raise UserError("no Chromium or Chrome to print with: install one (apt-get install "
                        "chromium, brew install --cask chromium), then make pdf; or read the "
                        "site, which needs none: make study")  # fmt: skip
    return found
