"""`make mutants`: small changes of the code (mutmut), and which of them the tests see.

    python -m tests.mutants [--modules metrics/verification data/sampler] [--out FOLDER]

The modules are changed in a copy of the committed files. Against each change run those tests of
the module's own file (of its room, where there is none) that run the changed function. Killed: a
test fails. Equivalent: nobody could see the change; `equivalent_mutants.toml` lists these with a
reason. The score is killed / (mutants - equivalent). `mutants.csv` has one row per module,
`survivors.json` all mutants that no test saw. The copy is kept: the next run there tries only what
changed since, and what survived.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from facelib.errors import UserError
from facelib.paths import REPO

ROOMS = ("losses", "metrics", "formats")
SINGLE = {
    "data/sampler": "tests/data/test_sampler.py",
    "training/schedule": "tests/training/test_schedule.py",
}  # module: its tests
LIST = Path(__file__).parent / "equivalent_mutants.toml"
# Trainings that are taken up again run every line of a loss, take long and see little.
SETTINGS = """
[tool.mutmut]
source_paths = ["facelib"]
only_mutate = {modules}
also_copy = ["environment.yml", "README.md", ".github", "runs/published"]
pytest_add_cli_args = ["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider",
                       "--ignore=tests/losses/test_training.py"]
pytest_add_cli_args_test_selection = {tests}
use_git_change_detection = false
"""
LINE = re.compile(r"^\s*(facelib\.\S+): (.+)$", re.MULTILINE)
UNSEEN = ("survived", "no tests")
SHOW = """
import json, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
print(json.dumps({name: get_diff_for_mutant(name) for name in sys.argv[1:]}))
"""


def list_modules() -> dict[str, str]:
    """Module of facelib → its tests."""
    found = {}
    for room in ROOMS:
        for path in sorted((REPO / "facelib" / room).rglob("*.py")):
            if path.stem != "__init__":
                name = path.relative_to(REPO / "facelib").with_suffix("").as_posix()
                own = f"tests/{room}/test_{path.stem}.py"
                # The tests of all losses see more of one than its own.
                found[name] = own if room != "losses" and (REPO / own).exists() else f"tests/{room}"
    return found | SINGLE


def call(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = done.stdout[-2000:] + done.stderr
        raise UserError(f"{' '.join(command)[:200]} failed in {folder}: {said}")
    return done.stdout


def git(folder: Path, *words: str) -> str:
    return call(folder, "git", *words)


def mutmut(folder: Path, *words: str) -> str:
    return call(folder, sys.executable, "-m", "mutmut", *words)


def forget(folder: Path, codes: tuple[int, ...] = (0, 33)) -> None:
    """Have mutmut try mutants with these results again (survived: 0, no tests: 33)."""
    for path in (folder / "mutants").rglob("*.py.meta"):
        found = json.loads(path.read_text())
        known = found["exit_code_by_key"].items()
        found["exit_code_by_key"] = {k: None if code in codes else code for k, code in known}
        path.write_text(json.dumps(found))


def try_modules(modules: dict[str, str], folder: Path, children: int) -> dict[str, str]:
    """State of each mutant of some modules (module → its tests), in a copy that is kept."""
    if folder.exists():
        git(folder, "fetch", "-q", str(REPO), "HEAD")
        for path in git(folder, "diff", "--name-only", "FETCH_HEAD", "--", "facelib").split():
            (folder / "mutants" / path).unlink(missing_ok=True)  # mutmut keeps what is there
        git(folder, "reset", "-q", "--hard", "FETCH_HEAD")
        forget(folder)
    else:
        git(REPO, "clone", "-q", str(REPO), str(folder))
    paths = json.dumps([f"facelib/{module}.py" for module in modules])
    with open(folder / "pyproject.toml", "a") as settings:
        tests = json.dumps(sorted(set(modules.values())))
        settings.write(SETTINGS.format(modules=paths, tests=tests))
    mutmut(folder, "run", "--max-children", str(children))
    states = dict(LINE.findall(mutmut(folder, "results", "--all", "true")))
    if "not checked" in states.values():
        raise UserError(f"interrupted: the same command goes on in {folder}")
    return states


def describe(folder: Path, mutants: list[str]) -> dict[str, str]:
    """`was → becomes` of each mutant, of the lines that it changes."""
    found = {}
    for mutant, text in json.loads(call(folder, sys.executable, "-c", SHOW, *mutants)).items():
        lines = re.findall(r"^([-+])(?![-+]) *(.*)$", text, re.MULTILINE)
        sides = (" ".join(text for sign, text in lines if sign == side) for side in "-+")
        found[mutant] = " → ".join(sides)
    return found


def equivalents(module: str) -> list[tuple[str, re.Pattern]]:
    """(reason, pattern of a change) of the list that count for a module; `…` is any text."""
    return [
        (kind["reason"], re.compile(re.escape(line).replace("…", ".*")))
        for kind in tomllib.loads(LIST.read_text())["kind"]
        if module in kind["modules"] or "all" in kind["modules"]
        for line in kind["changes"]
    ]


def judge(module: str, states: dict[str, str], folder: Path) -> tuple[dict, dict]:
    """(row of the table, survivors) of a module."""
    equivalent, left, listed = defaultdict(list), [], equivalents(module)
    unseen = [name for name, state in states.items() if state in UNSEEN]
    for mutant, change in describe(folder, unseen).items():
        place = mutant.rpartition(".")[2].rpartition("__mutmut")[0].removeprefix("x").strip("_ǁ")
        why = next((reason for reason, form in listed if form.fullmatch(change)), None)
        (left if why is None else equivalent[why]).append(f"{place.replace('ǁ', '.')}: {change}")
    same, never = sum(map(len, equivalent.values())), Counter(states.values())["no tests"]
    killed = len(states) - same - len(left)
    row = {"module": module, "mutants": len(states), "killed": killed, "equivalent": same,
           "survived": len(left), "never_run": never,
           "score": f"{killed / (len(states) - same):.3f}"}  # fmt: skip
    return row, {"equivalent": dict(equivalent), "survived": left}


def save(out: Path, found: dict[str, tuple[dict, dict]]) -> None:
    """Write the rows and survivors of some modules; those of others stay."""
    table, lost = out / "mutants.csv", out / "survivors.json"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    rows = {row["module"]: row for row in rows} | {name: row for name, (row, _) in found.items()}
    survivors = json.loads(lost.read_text()) if lost.exists() else {}
    survivors |= {name: alive for name, (_, alive) in found.items()}
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[next(iter(found))]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in sorted(rows))
    text = json.dumps(dict(sorted(survivors.items())), indent=1, ensure_ascii=False)
    lost.write_text(text + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    modules = list_modules()
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("--modules", nargs="+", default=list(modules), choices=modules)
    parser.add_argument("--children", type=int, default=2, help="processes side by side")
    parser.add_argument("--out", type=Path, default=REPO / "runs" / "mutants")
    parser.add_argument("--copy", type=Path, default=REPO / "runs" / "mutants" / "copy")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = {module: modules[module] for module in args.modules}
    states = try_modules(wanted, args.copy, args.children)
    commit, found = git(args.copy, "rev-parse", "--short", "HEAD").strip(), {}
    for module in wanted:
        start = f"facelib.{module.replace('/', '.')}.x"
        own = {name: state for name, state in states.items() if name.startswith(start)}
        if own:
            row, survivors = judge(module, own, args.copy)
            found[module] = ({**row, "commit": commit}, survivors)
            print(f"{module}: {row['score']} of {row['mutants']} mutants")
    save(args.out, found)


if __name__ == "__main__":
    main()
