"""Mutations guided by coverage (atheris) of the formats that are read byte by byte.

    pip install atheris==3.0.0          Linux; no part of the environment
    python -m tests.faults.guided [--minutes 2] [--reader NAME ...] [--keep FOLDER]

Each reader runs in a process of its own: atheris ends the one in which it runs. A file that gives a
fault (see `tests/faults/fuzz.py`) ends its reader's turn and is kept.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.fuzz import FINE, HANG, read_one

READERS = ("records: train.rec", "records: train.idx", "bin", "bin: sidecar", "scores: plain",
           "labelled embeddings")  # fmt: skip
INSTRUMENTED = ["facelib.formats", "facelib.metrics.scores", "facelib.evaluate.labelled",
                "facelib.safety"]  # fmt: skip
MOST_MB = 2048  # 1 GB above what importing takes
LONGEST = 1 << 16  # bytes of an input


def guide(reader: str, seconds: int, keep: Path) -> None:
    """Run one reader until the time is over or a fault is found; does not return."""
    import atheris

    folder = Path(tempfile.mkdtemp())
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.faults.cases import build

        case = next(case for case in build(folder) if case.name == reader)
        case.read(folder / case.file)
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / "good").write_bytes(case.content)

    def test_one(content: bytes) -> None:
        outcome, details = read_one(case, content, folder)
        if outcome not in FINE:
            raise AssertionError(f"{outcome}: {details}")

    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={HANG}", "-seed=1"]
    limits += [f"-rss_limit_mb={MOST_MB}", f"-artifact_prefix={keep}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], test_one)
    atheris.Fuzz()


def campaign(readers: list[str], seconds: int, keep: Path) -> dict:
    """Inputs, covered branches and fault of each reader."""
    keep.mkdir(parents=True, exist_ok=True)
    found = {}
    for reader in readers:
        line = [sys.executable, "-m", "tests.faults.guided", "--one", reader, "--keep", str(keep)]
        done = subprocess.run([*line, "--seconds", str(seconds)], capture_output=True, text=True)
        told = done.stderr
        inputs = re.findall(r"number_of_executed_units: (\d+)", told)
        covered = re.findall(r"cov: (\d+)", told)
        if not inputs or not covered:
            raise SystemExit(f"{reader}: no statistics of atheris:\n{told[-2000:]}")
        fault = "" if done.returncode == 0 else told[-1000:]
        found[reader] = {"inputs": int(inputs[0]), "covered": int(covered[-1]), "fault": fault}
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2, help="of each reader")
    parser.add_argument("--reader", nargs="*", default=list(READERS), choices=READERS)
    parser.add_argument("--keep", type=Path, default=Path("faults"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        guide(options.one, options.seconds, options.keep)
    found = campaign(options.reader, round(60 * options.minutes), options.keep)
    print(json.dumps(found, indent=1))
    return int(any(one["fault"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
