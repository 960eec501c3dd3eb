"""`make fuzz`: a seeded campaign of mutated files over every reader.

    python -m tests.faults.fuzz [--inputs 10000] [--seed 0] [--out FILE.json]

Inputs are read in subprocesses. An input is number i of a seed and always the same: `--only i`
repeats one and shows its traceback. Counted: read, refused (one line), tracebacks, refusals of more
than one line, crashes, hangs above 10 s, and memory above 1 GB for files under 1 MB.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

HANG, MOST_MB = 10, 1024
BATCH = 2000
REPO = Path(__file__).resolve().parent.parent.parent


def one(cases: list, seed: int, number: int, folder: Path) -> tuple[str, str, str]:
    """Write and read input `number`: its case, what came of it, and details of a fault."""
    from facelib.errors import UserError
    from tests.faults.corpus import mutate

    rng = random.Random(f"{seed} {number}")
    case = cases[number % len(cases)]
    path = folder / case.file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(mutate(case.content, rng))
    try:
        case.read(path)
        return case.name, "read", ""
    except UserError as error:
        several = "\n" in str(error)
        return case.name, "several lines" if several else "refused", str(error) * several
    except BaseException:
        return case.name, "traceback", traceback.format_exc()
    finally:
        path.write_bytes(case.content)  # the files beside which the next one is read are good


def work(seed: int, start: int, stop: int, folder: Path) -> None:
    """Inputs start … stop − 1; a line before and after each, for the parent."""
    import logging

    from tests.faults.corpus import build

    logging.disable()
    os.environ["FACELIB_RUNS"] = str(folder / "runs")
    cases = list(build(folder).values())
    before = 0
    for number in range(start, stop):
        print(json.dumps({"begin": number, "case": cases[number % len(cases)].name}), flush=True)
        name, outcome, detail = one(cases, seed, number, folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        grown, before = peak - before if before else 0, peak
        if grown > MOST_MB:
            outcome, detail = "memory", f"{grown} MB"
        print(json.dumps({"end": number, "case": name, "outcome": outcome, "detail": detail}),
              flush=True)  # fmt: skip


def run_batch(seed: int, start: int, stop: int, found: Counter, faults: list[dict]) -> int:
    """One worker; returns the number of the first input that is still to do."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "tests.faults.fuzz", "--seed", str(seed),
                "--work", str(start), str(stop), folder]  # fmt: skip
        with open(f"{folder}/progress", "wb") as output:
            worker = subprocess.Popen(line, cwd=REPO, stdout=output, stderr=subprocess.DEVNULL)
        progress = open(f"{folder}/progress", "rb")  # noqa: SIM115 (goes with the folder)
        at, name, since, rest, hangs = start, "start", time.monotonic(), b"", False
        while True:
            ended = worker.poll() is not None
            *lines, rest = (rest + progress.read()).split(b"\n")
            for row in map(json.loads, lines):
                since = time.monotonic()
                name = row["case"]
                if "begin" in row:
                    at = row["begin"]
                    continue
                at = row["end"] + 1
                found[name, row["outcome"]] += 1
                if row["outcome"] not in ("read", "refused"):
                    faults.append({"seed": seed, "input": row["end"], **row})
            hangs = time.monotonic() - since > HANG + 50 * (at == start)  # imports first
            if hangs or ended:
                break
            time.sleep(0.02)
        progress.close()
        worker.kill()
        worker.wait()
    if at >= stop:
        return stop
    outcome = "hang" if hangs else "crash"
    found[name, outcome] += 1
    faults.append({"seed": seed, "input": at, "case": name, "outcome": outcome})
    return at + 1


def campaign(inputs: int, seed: int, tell: bool = True) -> dict:
    """The counts of a campaign, and its faults."""
    found: Counter = Counter()
    faults: list[dict] = []
    at, began = 0, time.monotonic()
    while at < inputs:
        stop = min(inputs, at - at % BATCH + BATCH)
        at = run_batch(seed, at, stop, found, faults)
        if tell:
            sys.stderr.write(f"{at} of {inputs} inputs, {len(faults)} faults\n")
    outcomes = Counter()
    for (_, outcome), count in found.items():
        outcomes[outcome] += count
    cases = sorted({name for name, _ in found})
    return {
        "inputs": inputs, "seed": seed, "seconds": round(time.monotonic() - began),
        "outcomes": dict(outcomes),
        "readers": {case: {outcome: count for (name, outcome), count in sorted(found.items())
                           if name == case} for case in cases},
        "faults": faults,
    }  # fmt: skip


def main() -> int:
    """The campaign's summary; exit code 1 with a fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", type=int, help="repeat one input and show what comes of it")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        start, stop, folder = options.work
        work(options.seed, int(start), int(stop), Path(folder))
        return 0
    if options.only is not None:
        from tests.faults.corpus import build

        with tempfile.TemporaryDirectory() as folder:
            os.environ["FACELIB_RUNS"] = f"{folder}/runs"
            cases = list(build(Path(folder)).values())
            print(*one(cases, options.seed, options.only, Path(folder)), sep="\n")
        return 0
    found = campaign(options.inputs, options.seed)
    text = json.dumps(found, indent=1) + "\n"
    options.out.write_text(text) if options.out else sys.stdout.write(text)
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
