"""What Sphinx does with a page's tree beyond its own: cleaned HTML, links inside the site, figures.

The trees are of docutils. Nothing of a notebook is trusted: see `runner.site`.
"""

import re
import textwrap
from pathlib import Path

from docutils import nodes

from facelib.runner import pages
from facelib.runner.safe_html import clean_html

# A chapter by its name or, where no other number looks so, by its number: 03_infonce, 03.
CHAPTER = re.compile(r"\b([0-9]{2}_[a-z_]+|(?<![-.,:])0[0-9](?![-.,:]?\d))\b")
SAFE_LINK = re.compile(r"(https?://|mailto:|[^:]*(#.*)?$)")
SCROLLED = '<div class="pst-scrollable-table-container">{}</div>'


def connect(app) -> None:
    """Let Sphinx call the functions below."""
    app.connect("doctree-read", _clean_tree, priority=0)  # before pictures are collected
    app.connect("doctree-resolved", _link_chapters)
    app.connect("doctree-resolved", _refer_to_figures)
    app.connect("doctree-resolved", _unlink_missing)
    app.connect("autodoc-process-docstring", _as_rst, priority=0)  # before its sections are


def _clean_tree(app, tree) -> None:
    """HTML of outputs is cleaned, other HTML shown as text; links and pictures stay in the site."""

    def show_as_text(node, text: str) -> None:
        node.parent.replace(node, nodes.inline(text=text))

    for node in list(tree.findall(nodes.raw)):
        if "text_html" in node["classes"]:
            node[:] = [nodes.Text(SCROLLED.format(clean_html(node.astext())))]
        else:
            show_as_text(node, node.astext())
    for node in list(tree.findall(nodes.image)):
        uri, root = node["uri"], Path(app.srcdir)  # with a slash first: from the root
        path = root / uri[1:] if uri.startswith("/") else Path(tree["source"]).parent / uri
        if not (path.is_file() and path.resolve().is_relative_to(root.parent)):
            show_as_text(node, node.get("alt", ""))
    for node in list(tree.findall(nodes.figure)):
        if next(node.findall(nodes.image), None) is None:  # a table beside a picture, or none left
            node.replace_self([part for part in node if not isinstance(part, nodes.caption)])
    for node in list(tree.findall(nodes.reference)):
        if not SAFE_LINK.match(node.get("refuri", "")):
            show_as_text(node, node.astext())


def _link_chapters(app, tree, page: str) -> None:
    """The name or number of another chapter in a text is a link to it."""
    known = {key: name for name in app.env.found_docs if name[:2].isdigit()
             for key in (name, name[:2])}  # fmt: skip
    for text in list(tree.findall(nodes.Text)):
        parts = CHAPTER.split(text.astext())
        if len(parts) > 1 and isinstance(text.parent, nodes.paragraph):
            links = [nodes.reference("", part, internal=True,
                                     refuri=app.builder.get_relative_uri(page, known[part]))
                     if known.get(part, page) != page else nodes.Text(part)
                     for part in parts]  # fmt: skip
            text.parent.replace(text, links)


def _refer_to_figures(app, tree, page: str) -> None:
    """The text after a figure, else the text before it, names the figure by its number."""
    for cell in [node for node in tree.findall(nodes.container) if "cell" in node["classes"]]:
        beside, place = cell.parent, cell.parent.index(cell)
        near = [*beside[place + 1 : place + 2], *reversed(beside[:place])]
        text = next((node for node in near if isinstance(node, nodes.paragraph)), None)
        for figure in cell.findall(nodes.figure):
            if text is None:
                text = nodes.paragraph()
                beside.insert(place, text)
            name = figure["ids"][0]
            number = ".".join(map(str, _numbers(app, figure, page)[name]))
            link = nodes.reference("", f"Fig. {number}", internal=True, refid=name)
            text += [nodes.Text(" ("), link, nodes.Text(")")]


def _numbers(app, figure, page: str) -> dict[str, tuple[int, ...]]:
    """Numbers of the figures of the page that holds this one, in a tree of all pages too."""
    node = figure
    while node.parent is not None and "docname" not in node.attributes:
        node = node.parent
    return app.env.toc_fignumbers[node.get("docname", page)]["figure"]


def _unlink_missing(app, tree, name: str) -> None:
    """A link to what is not in the site, such as a file of the repository, is plain text."""
    known = {anchor for node in tree.findall(nodes.Element) for anchor in node.get("ids", ())}
    for node in list(tree.findall(nodes.reference)):
        anchor = node.get("refid") or node.get("refuri", "").partition("#")[2]
        own = "refid" in node or node.get("refuri", "").startswith("#")
        if own and anchor == pages.EXPLORER:
            node.attributes.pop("refid", None)
            node["refuri"] = anchor
        elif own and anchor not in known:
            node.parent.replace(node, nodes.inline(text=node.astext()))


def _as_rst(app, what: str, name: str, obj, options, lines: list[str]) -> None:
    """Docstrings are plain text: what stands in columns keeps its form, a bar is a bar."""
    parts = "\n".join(lines).split("\n\n")
    for i, part in enumerate(parts):
        if re.search(r"\S {2,}\S|^ *\|", part, flags=re.MULTILINE):
            parts[i] = "::\n\n" + textwrap.indent(part, "    ")
        else:
            parts[i] = part.replace("|", r"\|")
    lines[:] = [*"\n\n".join(parts).split("\n"), ""]
