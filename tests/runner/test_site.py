"""The site: every page there, each number with its record, nothing that runs or is fetched."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
from nbformat import read
from nbformat.v4 import new_output
from PIL import Image

from facelib.config import make_config
from facelib.errors import UserError
from facelib.paths import published_root
from facelib.runner import notebooks, pages, site, sources
from facelib.runner.pages import comparable_runs  # as it is before a fixture replaces it
from facelib.runs.folder import create_run, write_json
from facelib.studies import readme, records
from facelib.studies.answers import answers
from tests.small_notebooks import write_small
from tests.studies.explorer_runs import made_results

BAD = "<script>alert(1)</script>"
TEXT = (
    rf"# A {BAD} title" + "\n\n" + r"A margin $m$: $$L = -\frac{1}{B}\sum_i \log p_i$$ "
    "Next: [two](01_two.ipynb), [out](../README.md), [paper](https://arxiv.org/abs/1801.07698), "
    "**Next:** 01_two, as 01 says in 2026-01-01 of 0.01 "
    f"[bad](javascript:alert(2)), <img src=x onerror=alert(3)> ![far](http://x/y.png) {BAD}\n\n"
    "![near](../secret.png)\n\n```{raw} html\n<b onclick=alert(4)>\n```\n\n"
    "> ```{include} ../secret.txt\n> ```\n\n{download}`../secret.txt`\n"
)
TABLE = (
    "<style>td {}</style><table class='dataframe' onclick='alert(5)'><tr><td>1 &lt; 2 "
    f"{BAD}<a href='javascript:alert(6)'>b</a></td></tr></table><svg onload=alert(7)>"
)


def picture() -> str:
    made = io.BytesIO()
    Image.new("RGB", (900, 300), "red").save(made, format="PNG")
    return base64.b64encode(made.getvalue()).decode()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A site of two notebooks, the first a hostile one; the API is left out, it takes seconds."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "secret.txt").write_text("a secret")
    Image.new("RGB", (9, 9)).save(folder / "secret.png")
    path = write_small(folder / "nb" / "00_one.ipynb", TEXT, "show()", mystnb={"x": 1})
    notebook = read(path, as_version=4)
    notebook.metadata["mystnb"] = {"execution_mode": "force"}
    notebook.cells[-1].outputs = [
        new_output("display_data", {"image/png": picture()}),
        new_output("display_data", {"text/html": TABLE}),
        new_output("display_data", {"application/javascript": "alert(8)"}),
        new_output("display_data", {"image/svg+xml": "<svg onload=alert(9)></svg>"}),
        new_output("display_data", {"text/markdown": f"- **run** {BAD}\n\n```{{raw}} html\n{BAD}"}),
        new_output("stream", text=BAD),
    ]
    notebooks.write_notebook(notebook, path)
    write_small(folder / "nb" / "01_two.ipynb", "1 + 1", "explore([result])")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_RUNS", str(folder / "runs"))
        patch.setattr(pages, "api_pages", lambda: {"api.md": "# API"})
        made = [(result, result.report) for result in made_results()]
        patch.setattr(pages, "comparable_runs", lambda *_: made)
        index = site.build_site(folder / "nb", folder / "site")
        (folder / "nb" / "01_two.ipynb").rename(folder / "nb" / "03_three.ipynb")
        (folder / "site" / "mine.html").write_text("mine")
        yield index, lambda: site.build_site(folder / "nb", folder / "site")


class Words(HTMLParser):
    """Words of an article outside of links and code, its tags with attributes, its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inside, self.unlinked, self.tags = [], [], []
        self.feed(re.search(r"<article.*</article>", page, re.S)[0])

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("a", "code", "script"):  # names of presets
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.unlinked.append(data)


def test_nothing_of_a_notebook_runs_or_is_fetched(built):
    # Mutations: an output, HTML in Markdown, a directive or a role put into the page as it is.
    page = (built[0].parent / "00_one.html").read_text()
    words = Words(page)
    for tag, attributes in words.tags:
        assert tag not in ("script", "style", "iframe", "object", "svg")
        assert not [name for name in attributes if name.startswith("on")]
        assert "javascript" not in attributes.get("href", "")
        assert not re.match("https?:", attributes.get("src", ""))
    shown = "".join(words.unlinked)
    assert BAD in shown and "1 < 2 b" in shown and "out" in shown
    assert "a secret" not in page and not list(built[0].parent.rglob("secret*"))
    assert len([tag for tag, _ in words.tags if tag == "img"]) == 1


def test_a_page_allows_its_theme_s_scripts_only(built):
    # Mutation: the digest of a script that stands in the article, or 'unsafe-inline'.
    for page in built[0].parent.glob("*.html"):
        if page.name not in ("mine.html", "explorer.html"):  # of a user; with a policy of its own
            policy = re.search(r'Security-Policy" content="([^"]*)"', page.read_text())[1]
            scripts = re.search(r"script-src ([^;]*);", policy)[1]
            assert re.fullmatch(r"'self' file:( 'sha256-[^']*')*", scripts)
            assert "connect-src 'none'" in policy


def test_a_script_in_an_article_gets_no_digest(tmp_path):
    # Mutation: all inline scripts of a page allowed, one that slipped through too.
    source = tmp_path / "a.html"
    head = '<head><script src="a.js"></script><script>theme()</script></head>'
    for article in ("", "<article><script>alert(1)</script></article>"):
        source.write_text(head + article)
        site._copy(str(source), tmp_path / "b.html")
        assert (tmp_path / "b.html").read_text().count("sha256-") == 1


def test_formulas_code_figures_and_links_are_as_a_reader_wants_them(built):
    # Catches: a wall of code, a picture without number, a formula left as dollars, an .ipynb link.
    page = (built[0].parent / "00_one.html").read_text()
    assert page.count("<details") == 2 and r"\(m\)" in page and r"\frac{1}{B}" in page
    assert "Fig. 1" in page and 'alt="Figure of the section' in page
    assert page.count('href="01_two.html">') >= 2 and "README.md" not in page
    assert '<div class="pst-scrollable-table-container"><table class="dataframe">' in page


def asked_records() -> set[str]:
    return {record for one in answers() for record, _ in one["lines"]}


def test_every_number_of_the_first_page_leads_to_its_record(built):
    # Mutations: a number without link; a record's page without command, code or data; a question
    # without its records, or with those of another one.
    page = built[0].read_text()
    words = Words(page)
    names = r"\b(\d\d_[a-z_]+|[A-Za-z]\w*)"  # digits in them are no numbers
    assert not re.findall(r"\d", re.sub(names, "", "".join(words.unlinked)))
    linked = {a["href"] for tag, a in words.tags if tag == "a" and "records/" in a.get("href", "")}
    assert linked == {f"records/{one}.html" for one in asked_records()}
    for one in answers():
        part = page[page.index(f"<h3>{one['question']}") :].partition("</section>")[0]
        for record, line in one["lines"]:
            assert f"records/{record}.html" in part or not re.search(r"\d", line)
    for href in linked:
        text = re.sub("<[^>]*>", "", (built[0].parent / href).read_text())
        for fact in ("python -m facelib sweep", "code: commit", "digest"):
            assert fact in text


def test_every_figure_of_a_chapter_leads_to_its_run_or_record_and_is_referred_to(built):
    # Mutations: a caption without link, a source that no row explains, a number never named.
    page = (built[0].parent / "00_one.html").read_text()
    figures = re.findall(r'<figure[^>]* id="([^"]*)".*?<figcaption>(.*?)</figcaption>', page, re.S)
    assert len(figures) == 1
    for name, caption in figures:
        assert re.search(r'href="(records/|#how-the-figures-were-made")', caption), name
        assert f'href="#{name}">Fig. 1<' in page
    table = page[page.index('id="how-the-figures-were-made"') :]
    assert "python -m facelib study --only 00" in re.sub("<[^>]*>", "", table)


def test_figures_of_committed_notebooks_name_what_they_are_made_from():
    # Mutations: a source that is lost on the way to the figure, or that sticks to a name for ever.
    def made_from(name: str) -> list[set[str]]:
        notebook = notebooks.read_notebook(notebooks.FOLDER / f"{name}.ipynb")
        pairs = zip(notebook.cells, sources.cell_sources(notebook))
        return [
            s
            for c, s in pairs
            if any("image/png" in o.get("data", {}) for o in c.get("outputs", ()))
        ]

    formula, *trained = made_from("02_arcface")
    assert formula == set() and all(len(names) == 1 for names in trained)
    runs = made_from("03_infonce")  # of one run, or beside another that its settings made
    assert [len(names) for names in runs] == [1, 1, 2, 2, 2]
    assert made_from("13_results") == [{"rendered-losses"}]
    *runs, record = made_from("05_coreface")
    assert record == {"rendered-coreface"} and all(len(names) == 2 for names in runs)
    assert max(len(names) for names in made_from("04_hybrid")) == 3  # runs of other chapters


def test_pages_of_notebooks_that_are_gone_are_removed(built):
    # Catches: an old page that stays in the site for ever; a foreign file that is removed.
    built[1]()
    left = {path.name for path in built[0].parent.glob("*.html")}
    assert left >= {"00_one.html", "03_three.html", "index.html", "mine.html"}
    assert "01_two.html" not in left


def test_a_site_of_the_same_sources_is_not_built_again(built, monkeypatch):
    # Catches: a second `make study` that takes as long as Sphinx; a lost page that stays lost.
    built[1]()
    monkeypatch.setattr(site, "_run_sphinx", lambda *_: pytest.fail("built again"))
    built[1]()
    page = built[0].with_name("00_one.html")
    content = page.read_bytes()
    page.unlink()
    with pytest.raises(pytest.fail.Exception, match="built again"):
        built[1]()
    page.write_bytes(content)


def test_first_page_and_chapters_that_explore_lead_to_the_explorer_and_back(built, monkeypatch):
    # Catches: a link as plain text or in each chapter; a page of runs that are gone, or made anew.
    folder = built[0].parent
    before = (folder / "explorer.html").stat().st_mtime_ns
    built[1]()
    assert (folder / "explorer.html").stat().st_mtime_ns == before
    leads = {p.name for p in folder.glob("*.html") if 'href="explorer.html"' in p.read_text()}
    assert leads == {"index.html", "03_three.html"}
    assert 'href="index.html"' in (folder / "explorer.html").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(pages, "comparable_runs", lambda *_: [])
        built[1]()
        assert not (folder / "explorer.html").exists()
        assert "explorer.html" not in built[0].read_text()


def test_the_site_explores_the_largest_set_of_runs_one_of_each_method(runs_folder):
    # Catches: runs of different pairs in one page; a variant in place of the preset's run.
    def evaluated(digest, **settings):
        report = {"benchmarks": {"lfw": {"digest": digest}}}
        return create_run(make_config(**settings)), report

    wanted = [evaluated("a"), evaluated("a", loss="infonce")]
    others = [evaluated("a", seed=4), evaluated("b", seed=5), evaluated("b", loss="hybrid", seed=5)]
    found = comparable_runs(others + wanted)
    assert [run.name for run, _ in found] == [run.name for run, _ in wanted]
    assert comparable_runs([]) == []


def test_readme_first_page_and_chapter_change_with_their_record(tmp_path, monkeypatch):
    # Mutation: a sentence or a number that is typed, or kept somewhere else.
    for module in (records, readme, pages, sources):
        monkeypatch.setattr(module, "published_root", lambda: tmp_path)
    for record in published_root().glob("*/record.json"):
        shutil.copytree(record.parent, tmp_path / record.parent.name)

    def said() -> tuple[str, str, list[str]]:
        links = re.compile(r"\[((?:\\.|[^\]\\])*)\]\(records/[^)]*\)")
        front = links.sub(r"\1", pages.first_page([])).replace("\\", "")
        chapter = [line for one in answers() for _, line in one["lines"]]  # of notebook 13
        return front, readme.readme_section(pages.LOSSES), chapter

    def told(section: str, lines: list[str]) -> bool:
        gaps = re.findall(r"[+-][\d.]+ \[[+-][^]]*\]", "".join(lines[:2]))
        return len(gaps) > 5 and all(gap in section for gap in gaps)

    front, section, before = said()
    assert all(line in front for line in before) and told(section, before)
    table = tmp_path / pages.LOSSES / "results.csv"
    frame = pd.read_csv(table)
    frame.loc[frame["loss"] == "infonce", "best.accuracy"] -= 0.05
    frame.to_csv(table, index=False)
    front, section, after = said()
    assert after != before and all(line in front for line in after) and told(section, after)


def test_runs_show_both_protocols_warnings_and_what_they_came_from(tmp_path, monkeypatch):
    # Catches: one protocol without the other, rendered faces not called so, text taken as HTML.
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path))
    figures = {"rendered": True, "best": {"accuracy": 0.9123}, "strict": {"accuracy": 0.8},
               "intervals": {"best.accuracy": [0.9, 0.92]}, "warnings": ["few < many"]}  # fmt: skip
    run = create_run(make_config(loss="infonce"))
    write_json(run.path / "eval.json", {"benchmarks": {"cfp_fp": figures}})
    origin = {"data": {"train.rec": {"path": "a", "digest": "d1"}}, "code": "c1"}
    write_json(run.path / "origin.json", origin)
    text = pages.runs_page().replace("\\", "")
    for part in (run.name, "CFP-FP (rendered), best threshold", "strict", "few < many",
                 "91.2 [90.0, 92.0]", "80.0", "c1", "train.rec d1"):  # fmt: skip
        assert part in text


def test_settings_tell_runs_of_one_loss_apart():
    # Catches: five rows that all read "infonce"; settings of the preset listed as changes.
    cfg = make_config(loss="infonce")
    assert pages.changed_settings(cfg) == ""
    other = cfg.replace(bank="queue", bank_slots=192, log_every=5)
    assert pages.changed_settings(other) == "bank=queue bank_slots=192"
    large = make_config("ms1m-arcface", data="/data/faces", s=64.0)
    assert pages.changed_settings(large) == "data=/data/faces s=64.0"


def test_without_notebooks_it_says_what_to_type(tmp_path):
    # Catches: an empty site.
    with pytest.raises(UserError, match=r"no executed notebooks in .*: make study"):
        site.build_site(tmp_path, tmp_path / "site")


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


def test_a_text_of_a_record_cannot_end_its_block(tmp_path):
    # Mutation: three backticks round a command that has three of its own, and then a directive.
    text = "x\n```\n```{include} /etc/hostname\n````"
    assert sources.fenced(text, "sh") == f"`````sh\n{text}\n`````"
    assert sources.fenced("x", "sh") == "```sh\nx\n```"
