"""The house: who may import whom (`lint-imports` checks the layers), names, rooms, files."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import facelib
from facelib.paths import REPO
from facelib.rows import LOSS_ROWS

ROOT = REPO / "facelib"
FILES = sorted(ROOT.rglob("*.py"))
ROOMS = sorted(path.parent for path in ROOT.glob("*/__init__.py"))
MAIN = {"arcface", "infonce", "hybrid", "coreface", "cluster"}  # each has a chapter of its own
# The chapter on cluster-guided training replaces one of its terms by these two, as source B does.
CHAPTERS = {"center": {"losses/cluster.py", "studies/ablation.py"},
            "triplet": {"losses/cluster.py", "studies/ablation.py"}}  # fmt: skip


def imports(path: Path) -> Iterator[tuple[ast.AST, bool]]:
    """Imports of a file, and whether each stands inside a function."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, id(node) in inside


def names_facelib(node: ast.AST) -> bool:
    module = getattr(node, "module", None) or node.names[0].name
    return module.partition(".")[0] == "facelib"


def test_arrows_are_not_hidden_in_functions():
    # Catches: an import inside a function that only hides a circle or an arrow up.
    hidden = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node, inside in imports(path)
        if inside and names_facelib(node) and path.parent.name != "cli"
    ]
    assert len(hidden) <= 5, hidden


def test_no_module_imports_a_private_name_of_another():
    # Catches: two modules that share what neither offers.
    found = [
        f"{path.relative_to(ROOT)}: {alias.name}"
        for path in FILES
        for node, _ in imports(path)
        if isinstance(node, ast.ImportFrom) and names_facelib(node)
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert found == []


def test_no_module_reaches_into_another_for_a_private_name():
    # Catches: `plots._label`, which a renaming in plots breaks in the middle of a notebook.
    found = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        modules = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and names_facelib(node)
            for alias in node.names
            if alias.name.islower()
        }
        found += [
            f"{path.relative_to(ROOT)}: {node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
        ]
    assert found == []


def test_every_room_says_what_it_is_for_and_stands_in_the_list():
    # Catches: a room that nobody finds, or that is gone.
    assert len(ROOMS) <= 16
    assert len(list(ROOT.glob("*.py"))) <= 12
    listed = re.findall(r"^    (\w+) {2,}\S", facelib.__doc__, re.M)
    assert sorted(listed) == [room.name for room in ROOMS]
    for room in ROOMS:
        text = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
        assert "ay import" in text and "To " in text, room.name


def test_a_comparator_s_name_stands_in_its_own_file_only():
    # Catches: a list of losses kept somewhere else, which the next loss would have to join.
    for name in set(LOSS_ROWS) - MAIN:
        allowed = {f"losses/{name}.py", "presets.py", *CHAPTERS.get(name, ())}
        word = re.compile(rf"""(["']){name}\1|loss={name}\b""")
        places = {str(path.relative_to(ROOT)) for path in FILES if word.search(path.read_text())}
        outside = places - allowed
        # "center" is also an alignment of text in matplotlib.
        if name == "center":
            outside = {place for place in outside if not place.startswith("studies/plots")}
        assert not outside, f"{name}: {sorted(outside)}"
