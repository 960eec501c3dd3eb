"""`make fuzz`: a seeded campaign of mutated files over every reader.

    python -m tests.faults.fuzz [--inputs 10000] [--seed 0] [--minutes 60] [--reader NAME]

Input i of a seed is always the same: `--only i` repeats one and shows what comes of it. A forked
process reads them, in turn; where it dies or hangs, another goes on. Counted are files that were
read or refused (one line that names the file), and the faults: tracebacks, refusals of another
form, crashes, hangs above 10 s, and allocations above 1 GB (of files of a few KB). The inputs that
gave faults are kept.
"""

import argparse
import json
import logging
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
HANG, MOST_BYTES = 10, 1 << 30
BUSY = 20  # times that long where other work has the processor
GENERATION = 5000  # inputs of one process: what it leaks goes with it
FINE = ("read", "refused")


def draw(cases: list, seed: int, number: int) -> tuple:
    """Case and bytes of an input."""
    from tests.faults.mutate import in_bytes

    rng = random.Random(f"{seed} {number}")
    case = rng.choices(cases, [case.share for case in cases])[0]
    inside = case.inside if case.inside and rng.random() < 0.6 else in_bytes
    return case, inside(case.content, rng)


def read_one(case, content: bytes, folder: Path) -> tuple[str, str]:
    """Write and read one file: what came of it, and details of a fault."""
    from facelib.errors import UserError

    path = folder / case.file
    path.write_bytes(content)
    try:
        case.read(path)
        return "read", ""
    except BaseException as error:
        if _lacks_memory(error):
            return "memory", traceback.format_exc()
        if not isinstance(error, UserError):
            return "traceback", traceback.format_exc()
        message = str(error)
        named = str(folder) in message or any(p.name in message for p in path.parent.iterdir())
        one_line = len(message.splitlines()) == 1 and len(message) < 1000
        return ("refused", "") if named and one_line else ("other refusal", message)
    finally:
        path.write_bytes(case.content)  # the files beside which the next one is read are good


def _lacks_memory(error: BaseException | None) -> bool:
    """Whether an allocation above the limit stands behind an error."""
    signs = ("can't allocate memory", "Insufficient memory", "Unable to allocate")
    while error is not None:
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in signs):
            return True
        error = error.__cause__ or error.__context__
    return False


def prepare(folder: Path) -> list:
    """All cases, each of them read once: later processes begin with everything imported."""
    import cv2
    import torch

    from tests.faults.cases import build

    logging.disable()
    warnings.simplefilter("ignore")
    os.environ["FACELIB_RUNS"] = str(folder / "runs")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cases = build(folder)
    for case in cases:
        case.read(folder / case.file)
    return cases


def work(cases: list, seed: int, start: int, stop: int, folder: Path, out: int) -> None:
    """Read inputs start … stop − 1 and write a line on each to a pipe."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES,) * 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries write there of damaged pictures
    for number in range(start, stop):
        case, content = draw(cases, seed, number)
        began = time.monotonic()
        outcome, detail = read_one(case, content, folder)
        line = [number, case.name, outcome, detail, time.monotonic() - began]
        os.write(out, (json.dumps(line) + "\n").encode())


def _used(child: int) -> float:
    """Seconds of processor time of a process that nobody has waited for."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def generation(cases: list, seed: int, start: int, stop: int, folder: Path):
    """Lines of one process; the last is of a crash or a hang where it did not end by itself."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(cases, seed, start, stop, folder, writing)
        finally:
            os._exit(0)
    os.close(writing)
    at, rest, since, used, more = start, b"", time.monotonic(), 0.0, BUSY
    with open(reading, "rb", buffering=0) as pipe:
        while True:
            ready = select.select([pipe], [], [], max(0, HANG - (time.monotonic() - since)))[0]
            if not ready and more and 0 < _used(child) - used < HANG / 2:
                since, used, more = time.monotonic(), _used(child), more - 1
                continue
            block = pipe.read(1 << 16) if ready else b""
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield json.loads(line)
                at, since, used, more = at + 1, time.monotonic(), _used(child), BUSY
            if not block:
                break
    if not ready:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if at < stop:
        case, _ = draw(cases, seed, at)
        (folder / case.file).write_bytes(case.content)
        yield [at, case.name, "hang" if not ready else "crash", "", time.monotonic() - since]


def campaign(inputs: int, seed: int, seconds: float = 1e9, keep: Path | None = None,
             reader: str = "") -> dict:  # fmt: skip
    """The counts of a campaign, and its faults."""
    counts: dict[str, Counter] = {}
    slowest: Counter = Counter()
    faults: list[dict] = []
    at, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = [case for case in prepare(folder) if reader in case.name]
        while at < inputs and time.monotonic() - began < seconds:
            for line in generation(cases, seed, at, min(inputs, at + GENERATION), folder):
                number, name, outcome, detail, took = line
                at = number + 1
                counts.setdefault(name, Counter())[outcome] += 1
                slowest[name] = max(slowest[name], round(took, 3))
                if outcome not in FINE:
                    faults.append({"input": number, "reader": name, "outcome": outcome,
                                   "detail": detail})  # fmt: skip
                    _keep(keep, cases, seed, number)
            sys.stderr.write(f"{at} of {inputs} inputs, {len(faults)} faults\n")
    total = sum(counts.values(), Counter())
    return {
        "inputs": total.total(), "seed": seed, "seconds": round(time.monotonic() - began),
        "cpu_seconds": round(sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])),
        "outcomes": dict(total),
        "readers": {name: {**counts[name], "slowest_s": slowest[name]} for name in sorted(counts)},
        "faults": faults,
    }  # fmt: skip


def _keep(folder: Path | None, cases: list, seed: int, number: int) -> None:
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        case, content = draw(cases, seed, number)
        (folder / f"{seed}-{number}-{Path(case.file).name}").write_bytes(content)


def main() -> int:
    """The campaign's summary; exit code 1 with a fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e6, help="end after this time")
    parser.add_argument("--reader", default="", help="only readers with this in their name")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="inputs with faults")
    parser.add_argument("--out", type=Path, help="a file for the summary")
    parser.add_argument("--only", type=int, help="repeat one input and show what comes of it")
    options = parser.parse_args()
    if options.only is not None:
        with tempfile.TemporaryDirectory() as name:
            cases = [case for case in prepare(Path(name)) if options.reader in case.name]
            case, content = draw(cases, options.seed, options.only)
            print(case.name, content[:300], *read_one(case, content, Path(name)), sep="\n")
        return 0
    found = campaign(options.inputs, options.seed, 60 * options.minutes, options.keep,
                     options.reader)  # fmt: skip
    text = json.dumps(found, indent=1) + "\n"
    options.out.write_text(text) if options.out else sys.stdout.write(text)
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
