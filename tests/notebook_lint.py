"""What a notebook of the study must look like, as complaints about one that does not."""

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

from facelib.config import FIELDS
from facelib.errors import UserError
from facelib.paths import REPO
from facelib.runner import notebooks

MAX_LINES, MAX_FUNCTION_LINES, MAX_KB = 25, 5, 400
TRAINING = {"launch", "backward", "step", "fit", "train"}
ESTIMATES = {"seconds", "faces", "runs", "disk_mb"}
WIDGETS = "application/vnd.jupyter.widget"


def complaints(path: Path) -> list[str]:
    """All complaints about one notebook; none for a good one."""
    notebook = notebooks.read_notebook(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = [*_title(notebook, path), *_parameters(path, code), *_metadata(path, notebook)]
    found += [*_counts(code), *_links(notebook, path), *_settings(code)]
    for number, cell in enumerate(code, start=1):
        checks = (*_source(cell.source), *_outputs(cell))
        found += [f"code cell {number}: {complaint}" for complaint in checks]
    if path.stat().st_size > 1000 * MAX_KB:
        found.append(f"{path.stat().st_size // 1000} KB, at most {MAX_KB}")
    return found


def _title(notebook, path: Path) -> Iterator[str]:
    first = notebook.cells[0]
    if first.cell_type != "markdown" or not re.match(rf"# {path.name[:2]} \S", first.source):
        yield f"the first cell does not begin with '# {path.name[:2]} Title'"
    for word in ("needs", "makes", "time"):
        if word not in first.source.lower():
            yield f"the first cell does not say {word!r}"


def _parameters(path: Path, code: list) -> Iterator[str]:
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells tagged parameters, wanted 1"
        return
    if tagged[0] is code[0] or not _imports(code[0].source):
        yield "the first code cell is not the imports"
    logging.getLogger("papermill").setLevel(logging.ERROR)
    helped = {p["name"] for p in notebooks.read_parameters(path).values() if p["help"].strip()}
    for node in ast.parse(tagged[0].source).body:
        if not isinstance(node, ast.AnnAssign) or not _is_literal(node.value):
            yield f"parameters, line {node.lineno}: wanted `name: type = literal  # help`"
        elif node.target.id not in helped:
            yield f"parameter {node.target.id}: papermill reads no help after it"


def _settings(code: list) -> Iterator[str]:
    """The parameters reach make_config in one call, which a cell that is run again repeats."""
    for number, cell in enumerate(code, start=1):
        tree = ast.parse(TransformerManager().transform_cell(cell.source))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) == "make_config":
                again = [k.arg for k in node.keywords if getattr(k.value, "id", "") == k.arg]
                if again and again != ["loss"]:
                    yield f"code cell {number}: make_config retypes {', '.join(again)}"
        if "parameters" not in cell.metadata.get("tags", []):
            for name in sorted(_assigned(tree) & set(FIELDS) - {"name"}):
                yield f"code cell {number}: {name} is a setting, and a variable here"


def _assigned(tree: ast.AST) -> set[str]:
    """Names that a cell leaves behind: not those of comprehensions and functions."""
    inside = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif not isinstance(node, (*inside, ast.FunctionDef)):
            found |= _assigned(node)
    return found


def _metadata(path: Path, notebook) -> Iterator[str]:
    given = notebook.metadata.get("facelib", {})
    try:
        notebooks.check_values(path, given["gate"])
    except KeyError:
        yield "the metadata lack facelib.gate, the parameters of the quickest run"
    except UserError as error:
        yield f"facelib.gate: {error}"
    if set(given.get("estimate", {})) != ESTIMATES:
        yield f"the metadata facelib.estimate want exactly {', '.join(sorted(ESTIMATES))}"
    if "widgets" in notebook.metadata:
        yield "widget state in the metadata: make outputs"


def _counts(code: list) -> Iterator[str]:
    counts = [cell.execution_count for cell in code if cell.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}, wanted 1, 2, 3, ...: make outputs"


def _links(notebook, path: Path) -> Iterator[str]:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not re.match(r"https?:", target) and not (path.parent / target).exists():
            yield f"link to {target}, which does not exist"


def _source(source: str) -> Iterator[str]:
    lines = source.count("\n") + 1
    if lines > MAX_LINES:
        yield f"{lines} lines, at most {MAX_LINES}"
    tree = ast.parse(TransformerManager().transform_cell(source))
    for node in ast.walk(tree):
        yield from _node(node)


def _node(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.ClassDef(name=name):
            yield f"class {name}: it belongs in facelib"
        case ast.FunctionDef(name=name) if node.end_lineno - node.lineno >= MAX_FUNCTION_LINES:
            yield f"function {name} is longer than {MAX_FUNCTION_LINES} lines"
        case ast.While():
            yield "a while loop"
        case ast.For() if TRAINING & {_called(n) for n in ast.walk(node)}:
            yield "a loop that trains"
        case ast.Attribute(value=ast.Name(id="sys"), attr="path"):
            yield "sys.path"
        case ast.Attribute(attr="chdir"):
            yield "chdir"
        case ast.Call(args=[ast.Constant(value=str(command)), *_]) if _called(node) in (
            "system",
            "getoutput",
            "run_cell_magic",
        ):
            yield f"a shell command: {command}"
        case ast.Call(args=[ast.Constant(value="pip" | "conda"), *_]):
            yield "an installation"
        case ast.Constant(value=str(text)) if re.match(r"(/|~/|[A-Z]:\\)\w", text):
            yield f"an absolute path: {text}"


def _outputs(cell) -> Iterator[str]:
    if "nbval-check-output" in cell.metadata.get("tags", []) and not cell.outputs:
        yield "is to be compared, but has no output: make outputs"
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"an error: {output.ename}"
        if output.get("name") == "stderr":
            yield "messages on stderr: make outputs"
        if output.output_type == "execute_result" and output.execution_count is None:
            yield "an output without execution count (nbval fails on it)"
        if any(kind.startswith(WIDGETS) for kind in output.get("data", {})):
            yield "a widget among the outputs"
        shown = [str(v) for k, v in output.get("data", {}).items() if not k.startswith("image")]
        if str(REPO) in "".join([output.get("text", ""), *shown]):
            yield "a path of this machine among the outputs"


def _imports(source: str) -> bool:
    kinds = (ast.Import, ast.ImportFrom)
    tree = ast.parse(TransformerManager().transform_cell(source))
    return any(isinstance(node, kinds) for node in tree.body)


def _is_literal(node: ast.AST | None) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError):
        return False
    return True


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))
