"""Notebooks as programs: which there are, their parameters, their digests, their clean outputs.

A notebook declares its parameters in one cell tagged `parameters`, one annotated literal a line:

    loss: str = "arcface"  # arcface, infonce or hybrid

papermill only warns of an unknown parameter and then runs with the default, so every value is
checked here first. The notebook's metadata hold, under `facelib`, what machines need to know:

    "facelib": {"gate": {"images_seen": 512},                       parameters of the quickest run
                "estimate": {"seconds": 70, "faces": 15600, "runs": 1, "disk_mb": 90},
                "trains": [{"loss": "infonce"}]}        runs made before it (facelib.runner.ahead)
"""

import ast
import difflib
import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from facelib.digests import digest_values
from facelib.errors import UserError
from facelib.paths import REPO, atomic_file
from facelib.runner.execute import Execution
from facelib.safety.guard import guarded
from facelib.safety.readers import check_fields, read_object, reading

log = logging.getLogger(__name__)
FOLDER = REPO / "notebooks"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
MACHINERY = {"ahead", "doctor", "execute", "notebooks", "pages", "pdf", "site", "sources", "study",
             "sweep"}  # fmt: skip
ESTIMATES = dict.fromkeys(("seconds", "disk_mb", "faces", "runs"), (int, float))
SCALARS = {"int": int, "float": (int, float), "str": str, "bool": bool, "list": list, "dict": dict}


def list_notebooks(folder: Path | None = None) -> list[Path]:
    """The numbered notebooks of a folder, in order; partial and failed executions left out."""
    found = (folder or FOLDER).glob("[0-9][0-9]_*.ipynb")
    return sorted(path for path in found if "." not in path.stem)


def select_notebooks(notebooks: list[Path], only: Iterable[str] | None) -> list[Path]:
    """Those named in `only` by number (`02`), name (`02_arcface`) or path; all where it is empty.

    Raises:
        UserError: a name that fits none.
    """
    if not only:
        return notebooks
    chosen = set()
    for name in only:
        stem = Path(name).name.removesuffix(".ipynb")
        fits = [path for path in notebooks if stem in (path.stem, path.stem.split("_")[0])]
        if not fits:
            names = ", ".join(path.stem for path in notebooks) or "none in this folder"
            raise UserError(f"no notebook {name!r}: allowed are {names}")
        chosen.update(fits)
    return [path for path in notebooks if path in chosen]


def import_nbformat():
    """nbformat without the grammars of web addresses that its checker loads where it finds them.

    They take a second of processor time, and nothing here has a use for them.
    """
    unused = "rfc3987_syntax"
    loaded = sys.modules.setdefault(unused, None)  # importing it fails, which jsonschema allows for
    try:
        import nbformat
    finally:
        if loaded is None:
            del sys.modules[unused]
    return nbformat


def read_notebook(path: Path):
    """The notebook as a tree of nbformat 4.

    Raises:
        UserError: no such file (names the notebooks beside it). BadData: not a notebook.
    """
    path = Path(path)
    if not path.is_file():
        beside = ", ".join(p.name for p in sorted(path.parent.glob("*.ipynb"))) or "none"
        raise UserError(f"no notebook {path}: notebooks in that folder: {beside}")
    with reading(path, "a notebook"):
        nbformat = import_nbformat()
        notebook = nbformat.reads(json.dumps(read_object(path)), as_version=4)
        nbformat.validate(notebook)  # reading alone only logs what is wrong
        return notebook


def study_map() -> str:
    """All notebooks and the question that each opens with, as a Markdown table."""
    lines = ["| notebook | question |", "|---|---|"]
    for path in list_notebooks():
        lines.append(f"| {path.stem} | {title_and_question(read_notebook(path), path.stem)[1]} |")
    return "\n".join(lines)


def title_and_question(notebook, stem: str) -> tuple[str, str]:
    """A notebook's title, else its name, and the question that it opens with, else ""."""
    first = next((c.source for c in notebook.cells if c.cell_type == "markdown"), "")
    title = re.match(r"\s*# +(.*)", first)
    asked = re.search(r"\*\*Question\.\*\* (.*\?)", first)
    return title[1] if title else stem, asked[1].replace("*", "") if asked else ""


def read_parameters(path: Path) -> dict[str, dict]:
    """Parameters of a notebook: name -> {name, inferred_type_name, default, help}.

    Read as Python: papermill's own patterns miss `a: str | None`, `Literal[…]` and "a=b".
    """
    found = {}
    for cell in read_notebook(path).cells:
        if cell.cell_type != "code" or "parameters" not in cell.metadata.get("tags", []):
            continue
        with reading(path, "a parameters cell in Python"):
            body, lines = ast.parse(cell.source).body, cell.source.encode().splitlines()
        for node in body:
            target = getattr(node, "target", None) or getattr(node, "targets", [None])[0]
            if isinstance(target, ast.Name) and getattr(node, "value", None) is not None:
                annotation = getattr(node, "annotation", None)
                comment = lines[node.end_lineno - 1][node.end_col_offset :].decode()
                found[target.id] = {
                    "name": target.id,
                    "inferred_type_name": ast.unparse(annotation) if annotation else "None",
                    "default": ast.unparse(node.value),
                    "help": comment.partition("#")[2].strip(),
                }
    return found


def check_values(path: Path, values: Mapping[str, object]) -> dict[str, object]:
    """Values for a notebook's parameters, as its annotations want them.

    A string is converted where the annotation is no string: `"64"` for an int gives 64.

    Raises:
        UserError: unknown parameter (with the nearest known one) or a value of the wrong type.
    """
    if not values:
        return {}
    known = read_parameters(path)
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            allowed = ", ".join(known) or "none"
            raise UserError(f"{path.name} has no parameter {name!r}{hint}: it has {allowed}")
    return {name: _fit(value, known[name], path.name) for name, value in values.items()}


def split_assignments(pairs: Iterable[str]) -> dict[str, list[str]]:
    """`["loss=arcface,infonce", "batch=64"]` to `{"loss": ["arcface", "infonce"], ...}`.

    Raises:
        UserError: a pair without `=` or without values, or a name given twice.
    """
    grid: dict[str, list[str]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name or not text:
            raise UserError(f"{pair!r}: write NAME=VALUE,VALUE, for example loss=arcface,infonce")
        if name in grid:
            raise UserError(f"{name!r} is given twice: write {name}={','.join(grid[name])},{text}")
        grid[name] = text.split(",")
    return grid


def facelib_metadata(path: Path) -> dict:
    """The notebook's `facelib` metadata: gate parameters and estimates; empty where absent."""
    found = read_notebook(path).metadata.get("facelib", {})
    with reading(path, "a notebook's `facelib` metadata"):
        check_fields(found.get("estimate", {}), ESTIMATES, f"{path}: estimate")
        for one in found.get("trains", []):
            check_fields(dict(one), {"held_out": int}, f"{path}: trains")
        return dict(found)


def notebook_digest(path: Path) -> str:
    """Digest over what a notebook says and does: sources, kinds and tags of cells; no outputs."""
    cells = read_notebook(path).cells
    return digest_values([[c.cell_type, c.source, c.metadata.get("tags", [])] for c in cells])


def library_digest() -> str:
    """Digest over the package's Python sources, those left out that run and show notebooks."""
    folder = REPO / "facelib"
    sources = (path for path in sorted(folder.rglob("*.py")) if path.stem not in MACHINERY)
    return digest_values([[str(path.relative_to(folder)), path.read_text()] for path in sources])


def clean_outputs(notebook) -> None:
    """Remove from an executed notebook, in place, what differs between two equal executions.

    Timings, papermill's notes, progress (stderr) and the kernel's version go; outputs, execution
    counts and tags stay.
    """
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = KERNELSPEC
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        for key in ("papermill", "execution", "ExecuteTime"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]


def refresh_outputs(only: Iterable[str] | None = None, folder: Path | None = None) -> list[Path]:
    """Execute notebooks with their defaults and write the outputs into them, in place.

    Each is executed twice: the first execution trains what is missing, the second finds every run
    finished, so that no live progress and no speed of this machine gets into the outputs.

    Raises:
        UserError: a notebook fails; it is left as it was.
    """
    refreshed = []
    for path in select_notebooks(list_notebooks(folder), only):
        for purpose in ("computing", "writing outputs"):
            log.info("%s: %s", path.stem, purpose)
            executed = path.with_name(f".{path.stem}.tmp.ipynb")
            run = Execution(path, executed)
            try:
                run.run_to_end()
                notebook = read_notebook(executed)
            finally:
                run.remove_files()
        clean_outputs(notebook)
        write_notebook(notebook, path)
        refreshed.append(path)
    return refreshed


def write_notebook(notebook, path: Path) -> None:
    """Write a notebook atomically, in the form that JupyterLab gives it."""
    with atomic_file(path) as temporary:
        temporary.write_text(import_nbformat().writes(notebook).rstrip("\n") + "\n")


def _fit(value: object, parameter: Mapping[str, str], where: str) -> object:
    kinds = _kinds(parameter)
    texts = "str" in kinds or repr(value) in kinds  # a text is meant as it stands
    if isinstance(value, str) and (not texts or (value == "None" and "None" in kinds)):
        value = _parse(value)
    if not any(_is_a(value, kind) for kind in kinds):
        allowed = parameter["help"] and f" ({parameter['help']})"
        raise UserError(
            f"{where}: {parameter['name']}={value!r} is {type(value).__name__}, "
            f"wanted {' or '.join(kinds)}{allowed}"
        )
    return value


def _kinds(parameter: Mapping[str, str]) -> list[str]:
    """Types that a parameter accepts, as text: its annotation's and its default's."""
    annotation, default = parameter["inferred_type_name"], _parse(parameter["default"])
    if annotation == "None":
        return [type(default).__name__]
    node = ast.parse(annotation, mode="eval").body
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # written in quotes
        node = ast.parse(node.value, mode="eval").body
    kinds = [ast.unparse(part) for part in _parts(node)]
    return kinds if default is not None or "None" in kinds else [*kinds, "None"]


def _parts(node: ast.expr) -> list[ast.expr]:
    """The members of `a | b`, `Union[a, b]`, `Optional[a]` and `Literal[a, b]`."""
    if isinstance(node, ast.BinOp):
        return [*_parts(node.left), *_parts(node.right)]
    if not isinstance(node, ast.Subscript):
        return [node]
    name = ast.unparse(node.value).rpartition(".")[2]
    if name not in ("Union", "Optional", "Literal"):
        return [node]
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        return inner
    parts = [part for one in inner for part in _parts(one)]
    return [*parts, ast.Constant(None)] if name == "Optional" else parts


def _is_a(value: object, kind: str) -> bool:
    if kind in ("None", "NoneType"):
        return value is None
    node = ast.parse(kind, mode="eval").body
    if isinstance(node, ast.Constant | ast.UnaryOp):  # an entry of Literal
        allowed = ast.literal_eval(node)
        return type(value) is type(allowed) and value == allowed
    base, _, inner = kind.partition("[")
    if base not in SCALARS:
        return True  # a type this module does not know is the notebook's own business
    fits = isinstance(value, SCALARS[base]) and (base == "bool" or not isinstance(value, bool))
    entries = value if fits and base == "list" and inner else ()
    return fits and all(_is_a(entry, inner.removesuffix("]")) for entry in entries)


def _parse(text: str) -> object:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(names: list[str]) -> int:
    """`make outputs`: refresh the outputs of all notebooks, or of those named."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    def refresh() -> None:
        refresh_outputs(names)

    return guarded(refresh)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
