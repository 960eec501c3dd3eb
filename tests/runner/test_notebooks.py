"""The notebooks: their form (lint), and each one executed by papermill with its gate parameters.

The gate runs are the quickest ones, in an empty place of their own, in order: a notebook finds the
data and runs of those before it (on several cores: `-n 2 --dist loadfile`, one worker a file).
That the committed outputs still hold is nbval's part, with the default parameters:
`pytest --nbval-lax --nbval-current-env notebooks` (in `make test`).
"""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_output

from facelib.errors import UserError
from facelib.runner import notebooks
from facelib.runner.execute import Execution
from tests.notebook_lint import complaints
from tests.small_notebooks import write_small

PATHS = notebooks.list_notebooks()
ESTIMATE = {"seconds": 1, "faces": 0, "runs": 0, "disk_mb": 0}


@pytest.fixture(scope="session")
def gate_place(tmp_path_factory):
    """Runs and data of all gate runs of this session; nothing of the user's is touched."""
    place = tmp_path_factory.mktemp("gate")
    return place, {"FACELIB_RUNS": str(place / "runs"), "FACELIB_DATA": str(place / "data")}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_notebook_has_the_form_that_readers_and_machines_rely_on(path):
    # Catches: logic in notebooks, undocumented parameters, stale or missing outputs.
    assert complaints(path) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_papermill_runs_the_notebook_to_its_end(path, gate_place):
    # Catches: a notebook that no longer runs, or only where earlier cells left something behind.
    place, environment = gate_place
    gate = notebooks.facelib_metadata(path).get("gate", {})
    run = Execution(path, place / path.name, notebooks.check_values(path, gate), environment)
    run.run_to_end()
    assert run.output.is_file()


def test_the_notebooks_are_numbered_without_a_clash():
    # Catches: two chapters with one number; a notebook that make study leaves out.
    numbers = [path.name[:2] for path in PATHS]
    assert len(set(numbers)) == len(numbers)
    assert sorted(notebooks.FOLDER.glob("*.ipynb")) == PATHS


@pytest.fixture
def good(tmp_path):
    """A notebook without complaints, as a path and a tree to damage."""
    path = write_small(tmp_path / "07_good.ipynb", "count", gate={"count": 1}, estimate=ESTIMATE)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "# 07 Good\n\nNeeds nothing, makes nothing, time: 1 s."
    notebook.cells.insert(1, new_code_cell("import math"))
    for count, cell in enumerate(notebook.cells[1:], start=1):
        cell.execution_count = count
    notebooks.write_notebook(notebook, path)
    assert complaints(path) == []
    return path, notebook


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("class Model:\n    pass", "class Model"),
        ("def f():\n" + "    x = 1\n" * 5, "function f is longer than 5 lines"),
        ("for i in range(3):\n    loss.backward()", "a loop that trains"),
        ("while True:\n    pass", "a while loop"),
        ("!pip install x", "a shell command"),
        ("%pip install x", "an installation"),
        ("import sys\nsys.path.append('..')", "sys.path"),
        ("import os\nos.chdir('..')", "chdir"),
        ("open('/home/me/x')", "an absolute path: /home/me/x"),
        ("x = 1\n" * 25 + "y = 2", "26 lines, at most 25"),
    ],
)
def test_the_lint_finds_logic_and_private_paths_in_cells(good, source, complaint):
    # Catches: a rule of the lint that is never true.
    path, notebook = good
    notebook.cells[-1].source = source
    notebooks.write_notebook(notebook, path)
    found = complaints(path)
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("count: int = 3", "parameter count: papermill reads no help"),
        ("count = 3  # how many", "wanted `name: type = literal  # help`"),
        ("count: int = 3 + x  # how many", "wanted `name: type = literal  # help`"),
        ("number: int = 3  # how many", "no parameter 'count'"),
    ],
)
def test_the_lint_finds_parameters_that_papermill_cannot_explain(good, source, complaint):
    # Catches: a parameter that is missing from papermill --help-notebook, a stale gate.
    path, notebook = good
    notebook.cells[2].source = source
    notebooks.write_notebook(notebook, path)
    assert any(complaint in found for found in complaints(path))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda nb: nb.cells[0].update(source="# Good"), "does not begin with '# 07 Title'"),
        (lambda nb: nb.cells[0].update(source="# 07 Good"), "does not say 'needs'"),
        (lambda nb: nb.cells[1].update(execution_count=5), "execution counts are [5, 2, 3]"),
        (lambda nb: nb.cells.pop(1), "the first code cell is not the imports"),
        (lambda nb: nb.cells.pop(2), "0 cells tagged parameters"),
        (lambda nb: nb.metadata.pop("facelib"), "lack facelib.gate"),
        (lambda nb: nb.metadata.update(widgets={}), "widget state"),
        (lambda nb: nb.cells[0].update(source="# 07 x [y](z.ipynb)"), "link to z.ipynb"),
        (lambda nb: nb.cells[-1].metadata.update(tags=["nbval-check-output"]), "has no output"),
        (lambda nb: nb.cells[-1].outputs.append(new_output("error", ename="E")), "an error: E"),
        (lambda nb: nb.cells[-1].outputs.append(stream("x" * 400_000, "stdout")), "at most 400"),
        (lambda nb: nb.cells[-1].outputs.append(stream("x", "stderr")), "messages on stderr"),
        (lambda nb: nb.cells[-1].outputs.append(stream(str(notebooks.REPO))), "of this machine"),
    ],
)
def test_the_lint_finds_stale_and_private_outputs(good, damage, complaint):
    # Catches: a cell that passes nbval because it was stripped; committed errors and paths.
    path, notebook = good
    damage(notebook)
    notebooks.write_notebook(notebook, path)
    assert any(complaint in found for found in complaints(path))


def stream(text: str, name: str = "stdout"):
    return new_output("stream", text=text, name=name)


def test_the_map_lists_every_notebook_with_its_question():
    # Catches: a map typed by hand, which lacks the last notebook (11 was missing).
    lines = notebooks.study_map().splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == [
        f"| {path.stem}" for path in notebooks.list_notebooks()
    ]
    assert all(line.endswith("? |") for line in lines)


def test_parameters_are_read_as_python_reads_them(tmp_path):
    # Catches: papermill's patterns, which lose `note` and `x` and stop at "a=b".
    cell = new_code_cell(
        'note: str = "a=b"  # a note\nx: str | None = None\nmode: Literal["a", "b|c"] = "a"\n'
        "size: Optional[Literal[1, 2]] = 1\nsizes: list[int] = [\n    1,\n]  # long\n"
        "quoted: 'int | None' = 3",
        metadata={"tags": ["parameters"]},
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "07_p.ipynb")
    found = notebooks.read_parameters(tmp_path / "07_p.ipynb")
    assert [found["note"]["help"], found["sizes"]["help"]] == ["a note", "long"]
    good = {"note": "c=d", "x": "text", "mode": "b|c", "size": "2", "sizes": "[3]", "quoted": "4"}
    values = {**good, "size": 2, "sizes": [3], "quoted": 4}
    assert notebooks.check_values(tmp_path / "07_p.ipynb", good) == values
    assert notebooks.check_values(tmp_path / "07_p.ipynb", {"x": "None"}) == {"x": None}
    for name, value in {"mode": "c", "size": 3, "sizes": ["a"], "note": 1}.items():
        with pytest.raises(UserError, match=f"{name}="):
            notebooks.check_values(tmp_path / "07_p.ipynb", {name: value})
