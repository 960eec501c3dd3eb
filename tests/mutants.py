"""`make mutants`: small changes of the code (mutmut), and which of them the tests see.

    python -m tests.mutants [--modules metrics/verification data/sampler] [--out FOLDER]

Each module is changed in a copy of the committed files; the tests of its room that run the changed
function are run against it. Killed: a test fails. `mutants.json` holds the counts of each module,
and the difference of every mutant that survived.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from facelib.errors import UserError
from facelib.paths import REPO

ROOMS = ("losses", "metrics", "formats")
SINGLE = {
    "data/sampler": "tests/data/test_sampler.py",
    "training/schedule": "tests/training/test_schedule.py",
}
SETTINGS = """
[tool.mutmut]
source_paths = ["facelib"]
only_mutate = ["facelib/{module}.py"]
also_copy = ["environment.yml", "README.md", ".github", "runs/published"]
pytest_add_cli_args = ["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider"]
pytest_add_cli_args_test_selection = ["{tests}"]
use_git_change_detection = false
"""
LINE = re.compile(r"^\s*(facelib\.\S+): (.+)$", re.MULTILINE)


def list_modules() -> dict[str, str]:
    """Module of facelib → its tests."""
    found = {
        f"{room}/{path.stem}": f"tests/{room}"
        for room in ROOMS
        for path in sorted((REPO / "facelib" / room).glob("*.py"))
        if path.stem != "__init__"
    }
    return found | SINGLE


def mutmut(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "mutmut", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"mutmut {words[0]} failed in {folder}: {done.stdout[-2000:]}{done.stderr}")
    return done.stdout


def try_module(module: str, tests: str, children: int) -> dict:
    """Counts and survivors of one module."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "copy"
        subprocess.run(["git", "clone", "-q", str(REPO), str(folder)], check=True)
        with open(folder / "pyproject.toml", "a") as settings:
            settings.write(SETTINGS.format(module=module, tests=tests))
        mutmut(folder, "run", "--max-children", str(children))
        states = dict(LINE.findall(mutmut(folder, "results", "--all", "true")))
        alive = [name for name, state in states.items() if state in ("survived", "no tests")]
        survivors = {name: changed_lines(mutmut(folder, "show", name)) for name in alive}
    counts = Counter(states.values())
    seen = sum(n for state, n in counts.items() if state not in ("survived", "no tests"))
    return {"mutants": len(states), **counts, "score": seen / len(states), "survivors": survivors}


def changed_lines(difference: str) -> list[str]:
    return re.findall(r"^[-+] +(.*)$", difference, re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> None:
    modules = list_modules()
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("--modules", nargs="+", default=list(modules), choices=modules)
    parser.add_argument("--children", type=int, default=2, help="processes side by side")
    parser.add_argument("--out", type=Path, default=REPO / "runs" / "mutants")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "mutants.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for module in args.modules:
        found[module] = try_module(module, modules[module], args.children)
        path.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
        print(f"{module}: {found[module]['score']:.0%} of {found[module]['mutants']} mutants seen")


if __name__ == "__main__":
    main()
