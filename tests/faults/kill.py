"""`make kill`: a seeded campaign of killed trainings, each taken up again by the same command.

    python -m tests.faults.kill [--kills 30] [--seed 0] [--starts fork sweep ...] [--out FOLDER]

A case is a loss, a `select`, workers, ranks, and how it is started: by its command, by a sweep, by
a study, or forked from this process, which saves the seconds of imports. It is killed once to four
times, at a step or at any moment since its start; signal and victim (any process of the tree) are
drawn. Then the same command must end well. Counted as faults: an end with other weights or metrics
than the run that nobody killed, a step twice in metrics.jsonl, processes left after 10 seconds,
checkpoints half written, hangs, failures.
"""

import argparse
import csv
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from facelib.config import Config, make_config
from facelib.runs.files import read_status
from facelib.runs.folder import write_json
from tests.faults.trees import Tree, make_records, result, role

LEFT_AFTER, HANGS_AFTER, IMPORTS = 10, 120, 8  # seconds, the first of a machine without other work
STEPS, LONG = 30, 30_000  # steps
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SELECTS = ("last", "val_auc", "val_loss", "train_loss")
LOSSES = {
    "arcface": {}, "infonce": {}, "hybrid": {}, "coreface": {"dropout": 0.4}, "cluster": {},
    "infonce+queue": {"bank": "queue", "bank_slots": 60},
}  # fmt: skip
ON_TWO_RANKS = (("arcface", "last"), ("hybrid", "train_loss"), ("infonce+queue", "val_auc"),
                ("cluster", "val_loss"))  # fmt: skip
HOW = {"fork": 30, "train": 4, "workers": 2, "ranks": 2, "sweep": 1, "study": 1}  # shares


@dataclass(frozen=True)
class Case:
    """What is trained and how it is started."""

    how: str
    loss: str
    select: str
    long: bool = False

    def config(self, records: Path) -> Config:
        """30 steps of the tiniest network, at a rate at which the best step is seldom the last."""
        ranks = 2 if self.how == "ranks" else 1
        workers = 2 if self.how == "workers" else 0
        return make_config(
            loss=self.loss.partition("+")[0], select=self.select, data=str(records), benchmarks="",
            width=4, image_size=16, dim=8, global_batch=16, split="within",
            val_fraction=0.4, log_every=1, eval_every=4, save_every=3, workers=workers,
            images_seen=16 * (LONG if self.long else STEPS), processes=ranks, lr=0.5,
            **LOSSES[self.loss],
        )  # fmt: skip

    @property
    def start(self) -> str:
        """How a `Tree` of it starts."""
        return self.how if self.how in ("fork", "sweep", "study") else "train"

    @property
    def reference(self) -> "Case":
        """The case with the same result that costs least: workers and command change nothing."""
        return Case("fork", self.loss, self.select) if self.how in ("train", "workers") else self


def draw_case(rng: random.Random, starts: Sequence[str], long: float = 0) -> Case:
    """A case; every loss with every `select` on one process, a few pairs otherwise.

    Args:
        long: the share of long cases among commands.
    """
    (how,) = rng.choices(starts, [HOW[name] for name in starts])
    if how != "fork" and rng.random() < long:
        return Case(how, "arcface", "train_loss", long=True)
    loss, select = rng.choice(list(LOSSES)), rng.choice(SELECTS)
    if how in ("sweep", "study"):
        return Case(how, "arcface", "train_loss")
    return Case(how, *(rng.choice(ON_TWO_RANKS) if how == "ranks" else (loss, select)))


def patience() -> float:
    """`LEFT_AFTER`, longer as there is more work than cores: a stop saves a checkpoint first."""
    return LEFT_AFTER * min(5, max(1, os.getloadavg()[0] / (os.cpu_count() or 1)))


def step_of(root: Path) -> int:
    """How far the runs below a folder are, all together."""
    files = root.glob("*/status.json")
    return sum(read_status(path).get("step", 0) for path in files)


def wait_for_moment(tree: Tree, root: Path, rng: random.Random, whole: float) -> None:
    """Until a drawn step has passed, or a drawn part of the time that the whole takes."""
    begin = time.monotonic()
    if rng.random() < 0.5:
        due = begin + rng.random() * whole
        while tree.poll() is None and time.monotonic() < due:
            time.sleep(0.001)
        return
    step = rng.randint(step_of(root), STEPS)
    while tree.poll() is None and step_of(root) < step:
        time.sleep(0.002)
    time.sleep(rng.random() * 0.02)


def strike(tree: Tree, root: Path, rng: random.Random, whole: float) -> dict | None:
    """Kill a member of a tree at a drawn moment, see its root end; None if it ended before."""
    wait_for_moment(tree, root, rng, whole)
    members = [process for process in tree.members() if role(process) not in ("tracker", "gone")]
    number, step = rng.choice(SIGNALS), step_of(root)
    if not members or tree.poll() is not None:
        tree.wait(HANGS_AFTER)
        return None
    # Half of the time who was started, as a person's Ctrl-C or a scheduler's kill.
    victim = psutil.Process(tree.root) if rng.random() < 0.5 else rng.choice(members)
    who = role(victim)
    if who == "worker":  # a loader's worker leaves Ctrl-C to its trainer
        number = signal.SIGKILL
    try:
        victim.send_signal(number)
    except psutil.NoSuchProcess:
        tree.wait(HANGS_AFTER)
        return None
    ended = tree.wait(HANGS_AFTER)
    faults = [] if ended else ["hang"]
    if who == "command" and b"Traceback" in tree.output.read_bytes():
        faults.append("traceback")
    return {"signal": number.name, "victim": who, "step": step, "faults": faults}


def finish(tree: Tree, root: Path, whole: dict) -> list[str]:
    """Let the last start of a command come to its end; what is wrong then."""
    ended = tree.wait(5 * HANGS_AFTER)
    faults = [f"left at the end: {name}" for name in tree.clear(patience())]
    if not ended or tree.code:
        return [*faults, "not resumed"]
    halves = list(root.glob("*/checkpoints/.*"))
    faults += [f"left: {len(halves)} half-written checkpoints"] * bool(halves)
    return faults + differences(result(root), whole)


def differences(found: dict, whole: dict) -> list[str]:
    """How a result is another than that of the run that nobody killed."""
    faults = [] if found == whole else ["another result"]
    for run in found.values():
        rows = [json.dumps(r, sort_keys=True) for r in run["metrics"]] if "metrics" in run else []
        faults += ["duplicate rows"] if len(rows) != len(set(rows)) else []
    return faults


class Campaign:
    """References, cases and their outcomes in one folder."""

    def __init__(self, folder: Path, seed: int, starts: Sequence[str] = tuple(HOW),
                 long: float = 0):  # fmt: skip
        self.folder, self.seed, self.starts, self.long = folder, seed, starts, long
        self.records = make_records(folder / "records")
        self.known: dict[Case, tuple[dict, float]] = {}

    def reference(self, case: Case) -> tuple[dict, float]:
        """What nobody killed: its result, and the seconds it took by its own way to start."""
        if case not in self.known:
            root = self.folder / f"whole{len(self.known)}"
            root.mkdir()
            begin = time.monotonic()
            tree = Tree(case.start, root, case.config(self.records))
            if not tree.wait(5 * HANGS_AFTER) or tree.code:
                raise RuntimeError(f"{case}: the undisturbed run failed; look at {root}")
            self.known[case] = result(root), time.monotonic() - begin
        return self.known[case]

    def rows(self) -> Iterator[dict]:
        """One row per kill, for ever."""
        for number in itertools.count():
            rng = random.Random(f"{self.seed} {number}")
            case = draw_case(rng, self.starts, self.long)
            root = self.folder / f"case{number}"
            root.mkdir()
            for row in self._leave(case, root, rng) if case.long else self._kill(case, root, rng):
                yield {"seed": self.seed, "case": number, **row, "faults": "; ".join(row["faults"])}

    def _leave(self, case: Case, root: Path, rng: random.Random) -> Iterator[dict]:
        """Kill a long case once and see that nothing goes on."""
        tree = Tree(case.start, root, case.config(self.records))
        if row := strike(tree, root, rng, 3 * IMPORTS):
            row["faults"] += [f"left: {name}" for name in tree.clear(patience())]
            yield {"start": f"long {case.how}", "loss": case.loss, "select": case.select,
                   "again": "never", **row}  # fmt: skip

    def _kill(self, case: Case, root: Path, rng: random.Random) -> Iterator[dict]:
        """Kill a case some times, each time start it again, half the times at once; see it end."""
        whole, seconds = self.reference(case.reference)
        seconds += IMPORTS if case.reference != case else 0
        cfg, struck = case.config(self.records), []
        tree = Tree(case.start, root, cfg)
        for _ in range(rng.randint(1, 4) if case.start == "fork" else 2):
            row = strike(tree, root, rng, seconds)
            if row is None:
                break
            at_once = rng.random() < 0.5
            left = [] if at_once else tree.clear(patience())
            before, tree = tree, Tree(case.start, root, cfg)
            left += before.clear(patience())
            row["faults"] += [f"left: {name}" for name in left]
            struck.append({"start": case.how, "loss": case.loss, "select": case.select,
                           "again": "at once" if at_once else "later", **row})  # fmt: skip
        faults = finish(tree, root, whole)
        if struck:
            struck[-1]["faults"] += faults
        yield from struck


def run_campaign(campaign: Campaign, kills: int, out: Path | None = None) -> list[dict]:
    """Rows of so many kills; each is written as it comes, and what is wrong is said."""
    rows = []
    for row in itertools.islice(campaign.rows(), kills):
        rows.append(row)
        if row["faults"] or len(rows) % 10 == 0:
            sys.stderr.write(f"{len(rows)} of {kills} kills: {row if row['faults'] else 'ok'}\n")
        if out:
            write(row, out)
    return rows


def summary(rows: list[dict]) -> dict:
    """Kills by kind, and faults by kind."""
    counts = {key: dict(sorted(Counter(row[key] for row in rows).items()))
              for key in ("signal", "start", "loss", "select", "victim", "again")}  # fmt: skip
    faults = Counter(fault for row in rows for fault in row["faults"].split("; ") if fault)
    return {"kills": len(rows), **counts, "faults": dict(faults)}


def write(row: dict, out: Path) -> None:
    """Add a kill to `kills.csv`, and write `summary.json` of all that it holds."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "kills.csv"
    first = not path.is_file()
    with open(path, "a", newline="") as handle:
        table = csv.DictWriter(handle, list(row), lineterminator="\n")
        if first:
            table.writeheader()
        table.writerow(row)
    with open(path, newline="") as handle:
        write_json(out / "summary.json", summary(list(csv.DictReader(handle))))


def main() -> int:
    """The campaign; exit code 1 with a fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--starts", nargs="+", choices=list(HOW), default=list(HOW))
    parser.add_argument("--long", type=float, default=0.5, help="share of long cases of commands")
    parser.add_argument("--out", type=Path, help="add to the record in this folder")
    options = parser.parse_args()
    # A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as name:
        campaign = Campaign(Path(name), options.seed, options.starts, options.long)
        found = summary(run_campaign(campaign, options.kills, options.out))
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
