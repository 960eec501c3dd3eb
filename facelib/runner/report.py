"""Executed notebooks to one static HTML site: an index and a page a notebook.

Nothing is loaded from a network: pictures are inline, formulas are drawn as SVG, the style sheet
lies beside the pages. Text is escaped, outputs are cleaned, and a page allows its own script only
(by its digest), so that nothing in a notebook runs in a browser. Code is folded away behind a word;
wide tables scroll in boxes of their own.
"""

import base64
import contextlib
import hashlib
import html
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from facelib.config import NOT_IN_DIGEST, Config, plain_config
from facelib.errors import BadData, UserError
from facelib.formats.decode import decode
from facelib.metrics.tables import accuracies, benchmark_name
from facelib.paths import atomic_file, runs_root
from facelib.runner import notebooks
from facelib.runner.formulas import formula_html
from facelib.runner.safe_html import clean_html
from facelib.runs.folder import list_runs
from facelib.studies.results import LABELS, method_of

log = logging.getLogger(__name__)
TEMPLATES = Path(__file__).with_name("site")
SITE_TITLE = "Face verification: ArcFace against InfoNCE"
QUESTION = (
    "A classifier with an angular margin (ArcFace), a contrastive loss (InfoNCE), or both: "
    "which one makes embeddings that tell two people apart, from the front and in profile?"
)
FOOTER = (
    "Made by facelib from its executed notebooks. No real face is in the default study: "
    "its faces are rendered."
)
THUMBNAIL = (640, 360)  # pixels, twice the size that the index shows
MOST_RUNS = 20
WIDE = 760  # pixels of a picture


@dataclass(frozen=True)
class Page:
    """A notebook's page: its place in the site, what the index says of it, its HTML."""

    href: str
    number: str
    title: str
    sentence: str
    thumbnail: str | None
    body: str


def build_site(notebooks_dir: Path | None = None, out: Path | None = None) -> Path:
    """Write the site of all numbered notebooks in a folder; return its index.html.

    Args:
        notebooks_dir: executed notebooks; default `notebooks/` in the runs root.
        out: folder of the site, replaced file by file; default `site/` in the runs root.

    Raises:
        UserError: no notebooks there. BadData: a file that is no notebook.
    """
    from pygments.formatters import HtmlFormatter

    folder = notebooks_dir or runs_root() / "notebooks"
    out = (out or runs_root() / "site").resolve()
    sources = notebooks.list_notebooks(folder)
    if not sources:
        raise UserError(f"no executed notebooks in {folder}: make study")
    hrefs = {path.name: f"{path.stem}.html" for path in sources}
    pages = [_make_page(path, hrefs, out) for path in sources]
    colours = HtmlFormatter(style="default", nobackground=True).get_style_defs(".highlight")
    _write(out / "style.css", (TEMPLATES / "style.css").read_text() + f"\n{colours}")
    for before, page, after in zip([None, *pages], pages, [*pages[1:], None]):
        around = {"previous": before, "following": after, "body": page.body}
        _write(out / page.href, _fill("page", title=f"{page.number} {page.title}", **around))
    body = _fill("index", pages=pages, question=QUESTION, results=results_html())
    index = out / "index.html"
    _write(index, _fill("page", title=SITE_TITLE, body=body, index=True))
    _remove_others(out, [page.href for page in pages], [page.thumbnail for page in pages])
    return index


def results_html() -> str:
    """Table of the evaluated runs: both protocols side by side; empty where there are none."""
    import pandas as pd

    evaluated = []
    for run in list_runs():
        try:
            evaluated += [(run, run.evaluation())] if (run.path / "eval.json").is_file() else []
        except BadData as error:
            log.warning("%s", error)
    rows, warned = [], set()
    for run, report in evaluated[:MOST_RUNS]:
        for name, figures in report["benchmarks"].items():
            best, strict = accuracies(figures)
            row = {
                "loss": LABELS[method_of(run.config.to_dict())],
                "benchmark": benchmark_name(name, figures.get("rendered", False)),
            }
            row |= {"best threshold": best, "strict": strict}
            warned |= {f"{name}: {text}" for text in figures.get("warnings", ())}
            rows.append(row | {"settings": changed_settings(run.config), "run": run.name})
    if not rows:
        return ""
    table = pd.DataFrame(rows).to_html(index=False, border=0, classes="results")
    left = len(evaluated) - MOST_RUNS
    more = f"<p>{left} more runs: <code>python -m facelib runs</code></p>" if left > 0 else ""
    warnings = "".join(f"<li>{html.escape(text)}</li>" for text in sorted(warned))
    return table + more + (f"<p>Warnings:</p><ul>{warnings}</ul>" if warned else "")


def changed_settings(cfg: Config) -> str:
    """Settings by which a run differs from its preset's run of that loss, as `--set` has them."""
    changes = cfg.changes_from(plain_config(cfg)).items()
    unseen = {"name", "loss", *NOT_IN_DIGEST}
    return " ".join(f"{key}={value}" for key, (_, value) in changes if key not in unseen)


def _make_page(path: Path, hrefs: dict[str, str], out: Path) -> Page:
    notebook = notebooks.read_notebook(path)
    thumbnail = _save_thumbnail(notebook, out, path.stem)
    described, body = describe(notebook, path), render_notebook(notebook, hrefs)
    return Page(hrefs[path.name], *described, thumbnail, body)


def describe(notebook, path: Path) -> tuple[str, str, str]:
    """Number, title and question (else first sentence), from the notebook's first Markdown cell."""
    number, _, fallback = path.stem.partition("_")
    text = next((c.source for c in notebook.cells if c.cell_type == "markdown"), "")
    lines = text.strip().splitlines()
    title = fallback.replace("_", " ").capitalize()
    if lines and lines[0].startswith("# "):
        title = re.sub(r"^#\s+(\d+\s+)?", "", lines.pop(0)).strip()
    paragraph = next((p for p in "\n".join(lines).split("\n\n") if p.strip()), "")
    paragraph = re.sub(r"^\s*\*\*\w+[.:]\*\*", "", paragraph)  # a label such as **Question.**
    plain = " ".join(re.sub(r"[*_`#>$]|\]\([^)]*\)|\[", "", paragraph).split())
    sentences = re.split(r"(?<=[.?!])\s", plain)
    return number, title, next((s for s in sentences if s.endswith("?")), sentences[0])


def render_notebook(notebook, hrefs: dict[str, str]) -> str:
    """The cells as HTML, without a page around them; links to notebooks lead to their pages."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="notebook",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        anchor_link_text="",
    )
    exporter.register_filter("markdown2html", _markdown_filter)
    exporter.register_filter("clean_output", clean_html)
    _mark_pictures(notebook)
    body, _ = exporter.from_notebook_node(notebook)
    return _mend_links(body, hrefs)


def _mark_pictures(notebook) -> None:
    """Give each picture the heading above it as alternative text, and wide ones a class of theirs.

    On a phone a wide picture scrolls in its box: shrunk to the screen, its words could not be read.
    """
    heading = "figure"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = re.findall(r"^#+\s+(.*)$", cell.source, flags=re.MULTILINE)
            heading = found[-1] if found else heading
        else:
            cell.metadata.setdefault("alt", f"Figure of the section {heading!r}")
            for output in cell.outputs:
                png = output.get("data", {}).get("image/png")
                with contextlib.suppress(ValueError):  # no picture: nothing to widen
                    if png and int.from_bytes(base64.b64decode(png[:32])[16:20], "big") > WIDE:
                        output.metadata["image/png"] = {"unconfined": True}


def _markdown_filter(source: str) -> str:
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class WithFormulas(IPythonRenderer):
        """nbconvert's renderer; it leaves formulas to MathJax, this one draws them."""

        def block_math(self, body: str) -> str:
            return formula_html(body, display=True)

        def inline_math(self, body: str) -> str:
            return formula_html(body, display=False)

    return MarkdownWithMath(renderer=WithFormulas(escape=True)).render(source)


def _mend_links(body: str, hrefs: dict[str, str]) -> str:
    """Lead links to notebooks to their pages; unlink what lies outside the site."""

    def mend(match: re.Match) -> str:
        target, anchor, text = html.unescape(match[1]), match[2] or "", match[3]
        if not target or re.match(r"(https?|mailto):", target):
            return match[0]
        page = hrefs.get(Path(target).name)
        return f'<a href="{page}{anchor}">{text}</a>' if page else text

    return re.sub(r'<a href="([^"#]*)(#[^"]*)?"[^>]*>(.*?)</a>', mend, body, flags=re.DOTALL)


def _save_thumbnail(notebook, out: Path, stem: str) -> str | None:
    """The notebook's first picture, small, for the index; None without pictures."""
    from PIL import Image

    outputs = (o for c in notebook.cells if c.cell_type == "code" for o in c.outputs)
    kinds = ("image/png", "image/jpeg")
    found = next((o.data[k] for o in outputs for k in kinds if k in o.get("data", {})), None)
    if found is None:
        return None
    try:
        picture = Image.fromarray(decode(base64.b64decode(found)))
    except (ValueError, BadData) as error:
        log.warning("%s: its first picture is left out (%s)", stem, error)
        return None
    picture.thumbnail(THUMBNAIL)
    with atomic_file(out / "thumbnails" / f"{stem}.png") as temporary:
        picture.save(temporary, format="PNG")
    return f"thumbnails/{stem}.png"


def _fill(template: str, **values: object) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True)
    for name in {"body", "results"} & set(values):
        values[name] = jinja2.utils.markupsafe.Markup(values[name])
    page = environment.get_template(f"{template}.html.j2")
    return page.render(site_title=SITE_TITLE, footer=FOOTER, script=_script_digest(), **values)


def _script_digest() -> str:
    """What names the script of our own pages, the only one that a browser may run in them."""
    source = (TEMPLATES / "page.html.j2").read_text()
    script = re.search(r"<script>(.*?)</script>", source, flags=re.DOTALL)[1]
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _remove_others(out: Path, hrefs: list[str], thumbnails: list[str | None]) -> None:
    """Remove pages of notebooks that are gone; leave everything this module did not write."""
    kept = {"index.html", *hrefs, *filter(None, thumbnails)}
    for path in [*out.glob("[0-9][0-9]_*.html"), *out.glob("thumbnails/*.png")]:
        if path.relative_to(out).as_posix() not in kept:
            path.unlink()


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
