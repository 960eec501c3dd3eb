"""README, handbook and contributing page: every command exists, every number has its record."""

import re
import shlex
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

from facelib.cli.main import build_parser
from facelib.config import make_config, parse_settings
from facelib.paths import REPO, published_root
from facelib.runner.notebooks import check_values, list_notebooks, split_assignments
from facelib.runner.sweep import split_values
from facelib.studies.readme import ANSWER, RESULTS, headline, readme_section

TEXT = (REPO / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in sorted((REPO / ".github").glob("*.md"))}
CONTRIBUTING, HANDBOOK = PAGES["CONTRIBUTING.md"], PAGES["HANDBOOK.md"]
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT + "".join(PAGES.values()), re.S)
LINES = [line for block in BLOCKS for line in block.strip().splitlines()]


@pytest.mark.parametrize("line", sorted(set(LINES)))
def test_every_command_in_a_code_block_exists(line, capsys):
    # Catches: a renamed verb, option, setting, preset, notebook parameter or make target.
    words = shlex.split(line)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (REPO / "Makefile").read_text(), re.M)
    elif words[:3] == ["python", "-m", "facelib"]:
        options = build_parser().parse_args(words[3:])
        settings = parse_settings(getattr(options, "set", []))
        if words[3] == "train":
            make_config(options.preset or "smoke", **settings)
        if words[3] == "sweep":
            notebook = next(p for p in list_notebooks() if p.stem == options.notebook)
            for name, values in split_assignments(options.grid).items():
                for value in values:
                    assert check_values(notebook, split_values(name, value))
    elif words[0] == "sbatch":
        nodes = int(words[1].removeprefix("--nodes=")) if words[1].startswith("--") else 2
        script, preset, *settings = words[1 + words[1].startswith("--") :]
        assert (REPO / script).is_file()
        make_config(preset, elastic=True, processes=8 * nodes, **parse_settings(settings))
    else:
        assert words[0] in ("conda", "export"), line


def test_the_results_are_those_of_the_record():
    # Catches: a number typed by hand. Mend: python -m facelib report --readme rendered-losses
    for (begin, end), made in ((ANSWER, headline), (RESULTS, readme_section)):
        shown = TEXT.split(begin)[1].split(end)[0].strip()
        assert shown == made("rendered-losses").strip()


def test_the_first_screen_is_sentence_picture_answer_and_commands():
    # Catches: a picture or an answer that slips below long text.
    first = TEXT.split("\n## ")[0]
    places = [
        first.index(s) for s in ("How far", "<picture>", ANSWER[0], "make study", "make test")
    ]
    assert places == sorted(places)
    assert len(first[: places[-1]].split()) < 180


def test_what_readme_and_model_card_say_of_the_stand_in_is_in_06():
    # Catches: a new stand-in, or new outputs of 06, under the old sentence.
    told = "no better than raw pixels on LFW and CFP-FF and worse on CFP-FP"
    assert all(told in " ".join(text.split()) for text in (TEXT, PAGES["MODEL_CARD.md"]))
    cells = nbformat.read(REPO / "notebooks" / "06_frozen_baselines.ipynb", 4).cells
    heads = [cells[0], nbformat.read(REPO / "notebooks" / "07_lora.ipynb", 4).cells[0]]
    assert all(told in head.source for head in heads)
    outputs = [o["data"].get("text/plain", "") for c in cells for o in c.get("outputs", ())
               if "data" in o]  # fmt: skip
    [table] = [t for t in outputs if "difference" in t and "raw pixels, cen" in t]
    best = re.findall(r"\(rendered\) +\S+ \[(\S+), (\S+)\]", table.split("strict: difference")[0])
    (_, lfw), (_, ff), (_, fp) = ((float(lo), float(hi)) for lo, hi in best)
    assert lfw >= 0 and ff >= 0 > fp


def test_the_readme_is_short_and_its_links_lead_somewhere():
    # Catches: a README that grows back; a page or picture that moved.
    assert len(TEXT.split()) <= 1500
    pages = {"README.md": (REPO, TEXT)}
    pages |= {name: (REPO / ".github", text) for name, text in PAGES.items()}
    for name, (folder, text) in pages.items():
        for link in re.findall(r"\]\(([^)#]+)\)|(?:src|srcset)=\"([^\"]+)\"", text):
            target = "".join(link)
            assert target.startswith("http") or (folder / target).exists(), f"{name}: {target}"


def test_the_citation_file_has_what_its_format_asks_for():
    # Catches: a field that tools need and nobody misses (cff-version 1.2.0).
    cited = yaml.safe_load((REPO / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software"
    assert cited["title"] and cited["message"] and all(a["name"] for a in cited["authors"])
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert cited["version"] == project["version"]


def test_every_file_and_notebook_that_the_readme_names_exists():
    # Catches: a map that has gone stale.
    named = re.findall(r"`((?:facelib|notebooks|runs|tests)/[\w./-]*)`", TEXT + HANDBOOK)
    missing = [name for name in named if not (REPO / name).exists()]
    assert missing in ([], ["runs/"])
    for notebook in list_notebooks():
        assert f"`{notebook.stem}`" in TEXT
    for part in re.findall(r"`([\w/]+\.py|\w+/)`", HANDBOOK.split("part of `facelib`")[1]):
        assert (REPO / "facelib" / part).exists() or (REPO / part).exists(), part


def test_the_contributing_page_knows_every_room_and_names_files_that_exist():
    # Catches: a room that is moved or added without a line for newcomers.
    rooms = {path.parent.name for path in (REPO / "facelib").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/`", CONTRIBUTING, re.M)) == rooms
    for name in re.findall(r"`(\w+/[\w./]*|\w+\.py|\.github/[\w/]*)`", CONTRIBUTING):
        assert (REPO / "facelib" / name).exists() or (REPO / name).exists(), name


def test_published_records_say_how_they_were_made():
    # Catches: a record without its command, versions or commit.
    import json

    records = list(Path(published_root()).glob("*/record.json"))
    assert records
    for path in records:
        record = json.loads(path.read_text())
        assert {"command", "date", "runs", "packages", "machine", "commit"} <= set(record)
        assert (path.parent / "results.csv").is_file()
