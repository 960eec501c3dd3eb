"""The site: every page there, nothing from a network, formulas drawn, code folded away."""

import base64
import hashlib
import io
import re
from pathlib import Path

import pytest
from nbformat import read
from nbformat.v4 import new_markdown_cell, new_notebook, new_output
from PIL import Image

from facelib.config import make_config
from facelib.errors import UserError
from facelib.runner import report
from facelib.runner.formulas import formula_html
from facelib.runner.notebooks import write_notebook
from facelib.runs.folder import create_run, write_json
from facelib.studies import records
from tests.small_notebooks import write_small

FORMULA = (
    r"# Loss" + "\n\n"
    r"A margin $m$: $$L = -\frac{1}{B}\sum_i \log p_i$$ Costs $5." + "\n\n"
    "Next: [two](01_two.ipynb#Loss), [readme](../README.md), [paper](https://arxiv.org/abs/1801.07698)."
)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site of two notebooks, the first with a picture and a table."""
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path / "runs"))
    picture = io.BytesIO()
    Image.new("RGB", (900, 300), "red").save(picture, format="PNG")
    png = {"image/png": base64.b64encode(picture.getvalue()).decode()}
    table = {"text/html": "<table class='dataframe'><tr><td>12.5</td></tr></table>"}
    first = write_small(tmp_path / "nb" / "00_one.ipynb", FORMULA, "show()")
    notebook = read(first, as_version=4)
    outputs = [new_output("display_data", png), new_output("display_data", table)]
    notebook.cells[-1].outputs = outputs
    write_notebook(notebook, first)
    write_small(tmp_path / "nb" / "01_two.ipynb", "1 + 1")
    return report.build_site(tmp_path / "nb", tmp_path / "site")


def test_every_relative_link_of_the_site_leads_somewhere(site):
    # Catches: a link to a notebook file, to a page that does not exist, to outside the site.
    for page in site.parent.glob("*.html"):
        for target in re.findall(r'(?:href|src)="([^"#]+)', page.read_text()):
            if not re.match(r"(https?|data):", target):
                assert (site.parent / target).is_file(), f"{page.name}: {target}"


def test_the_site_loads_nothing_from_a_network(site):
    # Catches: MathJax or a font from a CDN; only links that a reader clicks may leave the site.
    for page in site.parent.glob("*"):
        if page.suffix in (".html", ".css"):
            text = re.sub(r'<a href="https?://[^"]*"', "", page.read_text())
            assert not re.search(r"(src|href)=.https?:|url\(|@import|cdn", text), page.name


def test_code_is_folded_and_tables_scroll_in_their_own_box(site):
    # Catches: a wall of code on a phone, a table that widens the page.
    page = (site.parent / "00_one.html").read_text()
    assert page.count('<details class="code">') == 2
    assert '<div class="scroll"><table class="dataframe">' in page
    assert 'name="viewport"' in page
    assert 'class="unconfined"' in page  # the wide picture scrolls on a phone


def test_formulas_are_drawn_and_links_to_notebooks_lead_to_pages(site):
    # Catches: raw dollars on the page, an .ipynb link, a price taken for a formula.
    page = (site.parent / "00_one.html").read_text()
    assert page.count('class="math"') == 2
    assert 'aria-label="m"' in page
    assert "Costs $5." in page
    assert '<a href="01_two.html#Loss">two</a>, readme, ' in page


def test_the_index_shows_title_sentence_and_first_picture(site):
    # Catches: cards without their picture, more than a sentence, a picture of full size.
    index = site.read_text()
    assert "<strong>00 A title</strong>\n<span>A first sentence.</span>" in index
    assert Image.open(site.parent / "thumbnails" / "00_one.png").size == (640, 213)
    assert index.count("<li>") == 2


def test_pages_lead_to_their_neighbours(site):
    # Catches: next and previous swapped, or leading nowhere at the ends.
    first, second = ((site.parent / n).read_text() for n in ("00_one.html", "01_two.html"))
    assert '<a href="01_two.html">01 A title →</a>' in first
    assert '<a href="00_one.html">← 00 A title</a>' in second
    assert '<a href="index.html">All notebooks →</a>' in second


def test_the_headline_table_shows_both_protocols_of_rendered_faces_as_such(tmp_path, monkeypatch):
    # Catches: one protocol without the other, figures of rendered faces not called so.
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path))
    figures = {
        "rendered": True,
        "best": {"accuracy": 0.9123},
        "strict": {"accuracy": 0.8},
        "intervals": {"best.accuracy": [0.9, 0.92]},
        "warnings": ["few < many"],
    }
    run = create_run(make_config(loss="infonce"))
    write_json(run.path / "eval.json", {"benchmarks": {"cfp_fp": figures}})
    table = report.results_html()
    for text in (
        run.name,
        "CFP-FP (rendered)",
        "best threshold",
        "strict",
        "<li>cfp_fp: few &lt; many</li>",
        "91.2 [90.0, 92.0]",
        "80.0",
    ):
        assert text in table


def test_the_headline_table_tells_runs_of_one_loss_apart():
    # Catches: five rows that all read "infonce"; settings of the preset listed as changes.
    cfg = make_config(loss="infonce")
    assert report.changed_settings(cfg) == ""
    other = cfg.replace(bank="queue", bank_slots=192, log_every=5)
    assert report.changed_settings(other) == "bank=queue bank_slots=192"
    views = make_config(loss="coreface", dropout=0.4)  # the smoke preset has no dropout
    assert report.changed_settings(views) == "dropout=0.4"
    large = make_config("ms1m-arcface", data="/data/faces", s=64.0)
    assert report.changed_settings(large) == "data=/data/faces s=64.0"


def test_pages_of_notebooks_that_are_gone_are_removed(site, tmp_path):
    # Catches: an old page that stays in the site for ever; a foreign file that is removed.
    (tmp_path / "nb" / "00_one.ipynb").unlink()
    (site.parent / "mine.html").write_text("mine")
    report.build_site(tmp_path / "nb", site.parent)
    left = sorted(path.name for path in site.parent.glob("*.html"))
    assert left == ["01_two.html", "index.html", "mine.html"]


def test_without_notebooks_it_says_what_to_type(tmp_path):
    # Catches: an empty site.
    with pytest.raises(UserError, match=r"no executed notebooks in .*: make study"):
        report.build_site(tmp_path, tmp_path / "site")


@pytest.mark.parametrize(
    "tex",
    [
        r"s\cos(\theta_{y}+m) \le 1, \lVert f\rVert_2 = 1",
        r"\tfrac{1}{B}\sum\nolimits_i \bigl(x_i\bigr)",
        r"f^\top W, \mathbb{R}^{d}, \text{FAR}=10^{-3}, \lfloor rN\rfloor",
    ],
)
def test_the_formulas_of_the_methods_can_be_drawn(tex):
    # Catches: a synonym that swallows the beginning of another command (\le in \left).
    assert formula_html(tex, display=True).startswith('<div class="formula"><svg')


def test_a_formula_that_cannot_be_drawn_is_shown_as_its_source():
    # Catches: one exotic formula that breaks the whole site.
    tex = r"\begin{cases} a & b \end{cases}"
    assert formula_html(tex, False) == r"<code>\begin{cases} a &amp; b \end{cases}</code>"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("**Question.** A fact. *How far does it get?* More.", "How far does it get?"),
        ("A `first` sentence, [linked](x.html). A second.", "A first sentence, linked."),
        ("", ""),
    ],
)
def test_the_card_of_a_notebook_shows_its_question(text, sentence):
    # Catches: cards that all say "Question.", Markdown marks on the index.
    notebook = new_notebook(cells=[new_markdown_cell(f"# 07 A name\n\n{text}")])
    assert report.describe(notebook, Path("07_x.ipynb")) == ("07", "A name", sentence)


def test_nothing_of_a_notebook_runs_in_a_page(tmp_path, monkeypatch):
    # Mutations: an output, a heading or a formula's neighbour put into the page as it is.
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path / "runs"))
    bad = "<script>alert(1)</script>"
    source = f"# A {bad} title\n\nA sentence <img src=x onerror=alert(2)> with $m$. {bad}?"
    path = write_small(tmp_path / "nb" / "00_one.ipynb", source, "show()")
    notebook = read(path, as_version=4)
    table = (
        f"<style>td {{}}</style><table class='dataframe' onclick='alert(3)'><thead><tr><th>a"
        f"</th></tr></thead><tr><td>1 &lt; 2 {bad}<a href='javascript:alert(4)'>b</a></td></tr>"
        "</table><iframe src='http://x'></iframe><svg onload=alert(5)>"
    )
    notebook.cells[-1].outputs = [
        new_output("display_data", {"text/html": table}),
        new_output("display_data", {"application/javascript": "alert(6)"}),
        new_output("display_data", {"image/svg+xml": "<svg onload=alert(7)></svg>"}),
        new_output("display_data", {"text/markdown": f"- **run** {bad}"}),
        new_output("stream", text=bad),
    ]
    write_notebook(notebook, path)
    index = report.build_site(tmp_path / "nb", tmp_path / "site")
    for page in (index, tmp_path / "site" / "00_one.html"):
        text = page.read_text()
        scripts = re.findall(r"<script.*?>(.*?)</script>", text, flags=re.DOTALL)
        assert len(scripts) == (page != index) and "alert" not in "".join(scripts)
        tags = " ".join(re.findall(r"<[^>]*>", re.sub(r'(id|href)="#?A-%3Cscript[^"]*"', "", text)))
        found = re.search(".{60}(alert|onclick|onload|iframe).{30}", tags)
        assert not found, found[0]
        policy = re.search(r"script-src 'sha256-(.*?)'", text)[1]
        for script in scripts:
            digest = hashlib.sha256(script.encode()).digest()
            assert base64.b64encode(digest).decode() == policy
    assert '<table class="dataframe"><thead><tr><th>a</th></tr></thead>' in text
    assert "<td>1 &lt; 2 b</td>" in text and 'aria-label="m"' in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", "", " ", "a\nb", "a\u2028b", "<b>", "/tmp/x", "a" * 101]
)
def test_names_of_runs_and_records_are_folder_names(name, tmp_path, monkeypatch):
    # Mutation: a record written outside published/; a name that a page would show as HTML.
    monkeypatch.setattr(records, "published_root", lambda: tmp_path / "published")
    for call in (
        lambda: records.publish([{"report": {}}], name, "x"),
        lambda: records.load_record(name),
        lambda: make_config(name=name),
    ):
        with pytest.raises(UserError, match="wanted a folder name without slashes"):
            call()
    assert list(tmp_path.iterdir()) == []
