"""The study as a site: executed notebooks and generated pages, built by Sphinx with MyST-NB.

Nothing of a notebook runs in a page. Markdown keeps no HTML, no directive and no role; outputs keep
text, pictures and cleaned tables; links and pictures stay inside the site or are plain web links;
and a page's policy allows files beside it and the theme's own scripts only, so that no request
leaves when it is read, from `file://` too.
"""

import base64
import functools
import gc
import hashlib
import io
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from facelib.errors import BadData, UserError
from facelib.formats.decode import decode
from facelib.locks import cores
from facelib.paths import atomic_file, runs_root
from facelib.runner import notebooks, pages, sources, trees

log = logging.getLogger(__name__)
STATIC = Path(__file__).with_name("static")
FOOTER = (
    "Made by facelib from its executed notebooks. No real face is in the default study: "
    "its faces are rendered."
)
PICTURES = ("image/png", "image/jpeg")
SHOWN = {"text/plain", "text/html", "text/markdown", *PICTURES}  # of an output; the rest could run
FENCE = re.compile(r"([`~:]{3,}[ \t]*)\{")  # opens a directive
POLICY = (
    "default-src 'self' file:; script-src 'self' file: {}; style-src 'self' file: 'unsafe-inline'; "
    "img-src 'self' file: data:; connect-src 'none'; object-src 'none'; frame-src 'none'; "
    "base-uri 'none'; form-action 'self' file:"
)
NO_SYNTAX = ["html_block", "html_inline", "myst_role", "myst_block_break", "myst_target",
                 "front_matter"]  # fmt: skip
SETTINGS = {
    "project": pages.TITLE,
    "html_title": pages.TITLE,
    "author": "",
    "copyright": "",
    "extensions": ["myst_nb", "sphinxcontrib.katex", "sphinx.ext.autodoc", "sphinx.ext.napoleon"],
    "html_theme": "sphinx_book_theme",
    "html_theme_options": {
        "use_download_button": False,
        "use_fullscreen_button": False,
        "navbar_persistent": [],  # the search stands in the side bar
        "max_navbar_depth": 1,  # sections are in the contents of each page
        "collapse_navbar": True,
        "extra_footer": FOOTER,
    },
    "html_context": {"default_mode": "auto"},
    "html_static_path": [str(STATIC)],
    "html_css_files": ["style.css"],
    "html_copy_source": False,
    "html_show_sourcelink": False,
    "html_show_sphinx": False,
    "html_show_search_summary": False,  # it is fetched, which no browser does from file://
    "html_permalinks": False,
    "html_use_index": False,
    "html_domain_indices": False,
    "exclude_patterns": [".*"],
    "default_role": "code",
    "highlight_language": "text",
    "numfig": True,
    "autodoc_member_order": "bysource",
    "autodoc_use_type_comments": False,  # finding none takes half of the time of the API pages
    "nb_execution_mode": "off",
    "nb_ipywidgets_js": {},
    "nb_code_prompt_show": "Code",
    "nb_code_prompt_hide": "Code",
    "nb_render_markdown_format": "myst",
    "myst_heading_anchors": 2,
    "myst_enable_extensions": ["dollarmath", "amsmath"],
    "myst_disable_syntax": NO_SYNTAX,
    "katex_css_path": "katex-math.css",  # MathML needs neither KaTeX's style sheet nor its fonts
    "katex_options": "output: 'mathml'",
    "suppress_warnings": ["myst", "mystnb", "docutils", "ref", "toc", "autodoc", "image"],
}


def build_site(notebooks_dir: Path | None = None, out: Path | None = None) -> Path:
    """Build the site of all numbered notebooks in a folder; return its index.html.

    Where it is there, and what it was made from is the same, nothing is done.

    Args:
        notebooks_dir: executed notebooks; default `notebooks/` in the runs root.
        out: folder of the site, replaced file by file; default `site/` in the runs root.

    Raises:
        UserError: no notebooks there. BadData: a file that is no notebook.
    """
    folder = notebooks_dir or runs_root() / "notebooks"
    out = (out or runs_root() / "site").resolve()
    executed = notebooks.list_notebooks(folder)
    if not executed:
        raise UserError(f"no executed notebooks in {folder}: make study")
    read = {path.stem: notebooks.read_notebook(path) for path in executed}
    chapters = [(stem, *notebooks.title_and_question(nb, stem)) for stem, nb in read.items()]
    generated, build = pages.generated_pages(chapters), out / ".build"
    explored = " ".join(run.name for run, _ in pages.comparable_runs(pages.evaluated_runs()))
    made_from = {path.name: path for path in executed} | generated | {"explored": explored}
    stamp = sources.stamp(made_from)
    stamp_file = build / "stamp"
    made = all((out / f"{stem}.html").is_file() for stem in ("index", *read))
    if made and stamp_file.is_file() and stamp_file.read_text() == stamp:
        return out / "index.html"
    if pages.write_site_explorer(out):
        generated["index.md"] = pages.link_from_first_page(generated["index.md"])
        for notebook in read.values():
            pages.link_explorer(notebook)
    written = {f"{stem}.ipynb": _text(make_safe(nb, stem)) for stem, nb in read.items()}
    _write_sources(build / "source", written | generated)
    _run_sphinx(build, "html")
    for page in (page for root in (build / "html", out) for page in root.glob("[0-9][0-9]_*.html")):
        if page.stem not in read:  # its notebook is gone
            page.unlink()
    shutil.copytree(build / "html", out, dirs_exist_ok=True, copy_function=_copy)
    with atomic_file(stamp_file) as temporary:
        temporary.write_text(stamp)
    return out / "index.html"


def build_print() -> Path:
    """Build the site and, for a printer, all of its pages as one; return that page."""
    folder = build_site().parent / ".build"
    _run_sphinx(folder, "singlehtml")
    page = folder / "singlehtml" / "print.html"
    _copy(str(page.with_name("index.html")), str(page))
    return page


def make_safe(notebook, stem: str = ""):
    """Reduce a notebook, in place, to what a page shows: text, code, tables, pictures.

    Its metadata go, since they could set up the build. Code is folded away, cells that show nothing
    with the next one, and a picture becomes a numbered figure under the heading above it, with
    links to what it is made from.
    """
    heading, made_from = "Figure", sources.cell_sources(notebook)
    notebook.metadata = {"kernelspec": notebooks.KERNELSPEC}
    for cell, names in zip(notebook.cells, made_from):
        cell.metadata = {}
        cell.pop("attachments", None)
        if cell.cell_type != "code":
            cell.source = FENCE.sub(r"\1", cell.source)
            headings = re.findall(r"^#+\s+(.*)$", cell.source, flags=re.MULTILINE)
            heading = sources.plain(headings[-1]) if headings else heading
            continue
        cell.metadata["tags"] = ["hide-input"]
        cell.outputs = [output for output in map(_safe_output, cell.outputs) if output]
        if any(kind in output.get("data", {}) for output in cell.outputs for kind in PICTURES):
            alt = f"Figure of the section {heading}"
            figure = {"caption": sources.caption(heading, names)}
            cell.metadata["mystnb"] = {"figure": figure, "image": {"alt": alt}}
    notebook.cells = _joined(notebook.cells)
    end = sources.sources_section(stem, set().union(*made_from))
    notebook.cells.append(notebooks.import_nbformat().v4.new_markdown_cell(end, id="sources"))
    return notebook


def _joined(cells: list) -> list:
    """Cells in which code that shows nothing stands in one fold with the code after it."""
    kept = []
    for cell in cells:
        if kept and cell.cell_type == kept[-1].cell_type == "code" and not kept[-1].outputs:
            cell.source = f"{kept.pop().source}\n\n{cell.source}"
        kept.append(cell)
    return kept


def _safe_output(output):
    """The output with the kinds that cannot run; None where nothing of it is left."""
    if "data" not in output:
        return output
    output.metadata = {}
    output.data = {kind: data for kind, data in output.data.items() if kind in SHOWN}
    for kind in [kind for kind in PICTURES if kind in output.data]:
        try:
            decode(base64.b64decode(output.data[kind]))
        except (ValueError, BadData) as error:
            log.warning("a picture is left out (%s)", error)
            del output.data[kind]
    if "text/markdown" in output.data:
        output.data["text/markdown"] = FENCE.sub(r"\1", output.data["text/markdown"])
    return output if output.data else None


def _text(notebook) -> str:
    return notebooks.import_nbformat().writes(notebook)


def _write_sources(folder: Path, contents: dict[str, str | Path]) -> None:
    """Write what changed, remove what is gone: Sphinx builds only pages whose sources are newer."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in contents:
            path.unlink()
    for name, content in contents.items():
        path = folder / name
        new = content.read_bytes() if isinstance(content, Path) else content.encode()
        if not path.is_file() or path.read_bytes() != new:
            with atomic_file(path) as temporary:
                temporary.write_bytes(new)


def _run_sphinx(build: Path, kind: str) -> None:
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    _read_own_code_only()
    places = build / "source", None, build / kind, build / "doctrees"
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace(), _without_gc():
        options = {"status": None, "warning": warnings, "parallel": cores()}
        app = Sphinx(*places, kind, SETTINGS, **options)
        trees.connect(app)
        app.build()
    for line in warnings.getvalue().splitlines():
        log.debug("%s", line)


@contextmanager
def _without_gc() -> Iterator[None]:
    """Looking for circles among a tree's many nodes takes long and finds little."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@functools.cache
def _read_own_code_only() -> None:
    """autodoc parses no base class of a library, such as torch's: a fifth of the API's time."""
    from sphinx.errors import PycodeError
    from sphinx.pycode import ModuleAnalyzer

    find = ModuleAnalyzer.get_module_source

    def find_own(name: str):
        if not name.startswith("facelib."):
            raise PycodeError(f"{name} is a library's")
        return find(name)

    ModuleAnalyzer.get_module_source = find_own


def _copy(source: str, target: str) -> None:
    """Copy a file of the site; a page with what a browser may load: files beside it, its scripts.

    The scripts are those outside the article, the theme's: one that a notebook brought has no
    digest here, and does not run.
    """
    if not source.endswith(".html"):
        shutil.copyfile(source, target)
        return
    page = Path(source).read_text(encoding="utf-8")
    theirs = page
    if Path(source).name != "search.html":  # it has no words of ours, and a script in its article
        theirs = re.sub(r"<article.*</article>", "", page, flags=re.DOTALL)
    scripts = re.findall(r"<script(?: [^>]*)?>(.*?)</script>", theirs, flags=re.DOTALL)
    digests = {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts if s}
    allowed = " ".join(f"'sha256-{digest}'" for digest in sorted(digests))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY.format(allowed)}">'
    with atomic_file(Path(target)) as temporary:
        temporary.write_text(page.replace("<head>", f"<head>\n{policy}", 1), encoding="utf-8")
