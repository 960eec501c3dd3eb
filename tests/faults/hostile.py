"""Damaged and hostile files of every kind, and the command that is given each.

`attacks(folder)` writes them; `known(shared, folder)` does so for a folder of files that were found
once, beside the project. Each command must end with one line, exit code 2, in the first second of
processor time and without torch, and must write nothing.
"""

import argparse
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from tests.faults.cases_data import jpegs
from tests.faults.hostile_files import pickles, pictures, weights_files
from tests.faults.trees import make_records

MOST_SECONDS, MOST_MB = 2.0, 200  # the second, on a machine that does other work too
# In a small process of its own: a child's peak begins with that of the process that forks it.
MEASURE = """import json, os, subprocess, sys
_, code, used = os.wait4(subprocess.Popen(sys.argv[2:]).pid, 0)
with open(sys.argv[1], "w") as file:
    json.dump([os.waitstatus_to_exitcode(code), used.ru_utime + used.ru_stime,
               used.ru_maxrss / 1024], file)"""
SETTINGS = ("width=4", "image_size=16", "dim=8", "global_batch=16", "benchmarks=")


@dataclass(frozen=True)
class Attack:
    """A command over a bad file; `says` is a part of its one line; code 0 where runs are listed."""

    name: str
    command: tuple[str, ...]
    says: str = ""
    code: int = 2


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    code: int
    seconds: float
    mb: float
    output: str
    errors: str


def run(attack: Attack, folder: Path) -> Outcome:
    """Run it in an empty folder; `folder` holds the inputs."""
    place = folder / "place"
    place.mkdir(exist_ok=True)
    own = {"FACELIB_RUNS": folder / "runs", "FACELIB_DATA": place, "OMP_NUM_THREADS": 1,
           "PYTHONPATH": Path(__file__).parents[2]}  # fmt: skip
    environment = os.environ | {key: str(value) for key, value in own.items()}
    line = [sys.executable, "-c", MEASURE, str(folder / "used"), sys.executable, "-m", "facelib"]
    done = subprocess.run([*line, *attack.command], cwd=place, env=environment, text=True,
                          capture_output=True)  # fmt: skip
    return Outcome(*json.loads((folder / "used").read_text()), done.stdout, done.stderr)


def faults(attack: Attack, found: Outcome, folder: Path) -> list[str]:
    """What is wrong with an outcome; empty where nothing is."""
    lines = [line for line in found.errors.splitlines() if line.strip()]
    wrong = [f"code {found.code}"] if found.code != attack.code else []
    if attack.code and (len(lines) != 1 or not lines[0].startswith("error: ")):
        wrong.append(f"{len(lines)} lines")
    if attack.says not in found.errors + found.output:
        wrong.append(f"does not say {attack.says!r}")
    wrong += ["traceback"] if "Traceback" in found.errors else []
    wrong += [f"{found.seconds:.1f} s"] if found.seconds > MOST_SECONDS else []
    wrong += [f"{found.mb:.0f} MB"] if found.mb > MOST_MB else []
    wrong += [f"wrote {path.name}" for path in (folder / "place").rglob("*")]
    return wrong


def prepare(folder: Path) -> None:
    """What the commands need beside the bad file: a face set, runs, pictures."""
    from facelib.config import make_config
    from facelib.runs.folder import create_run, write_json

    make_records(folder / "set")
    for name, benchmark in {"good": "", "bad": "", "own": str(folder / "own.bin")}.items():
        path = create_run(make_config(name=name, data=str(folder / "set"), benchmarks=benchmark,
                                      width=4, image_size=16, dim=8, global_batch=16),
                          folder / "runs").path  # fmt: skip
        write_json(path / "status.json", {"state": "done", "step": 1})
    for person in ("ann", "ben"):
        (folder / "people" / person).mkdir(parents=True)
        (folder / "people" / person / "a.jpg").write_bytes(jpegs(1)[0])


def _bad(folder: Path) -> Path:
    return next((folder / "runs").glob("bad*"))


def attacks(folder: Path) -> Iterator[Attack]:
    """All of them; a file is written when it is asked for."""
    from tests.faults import hostile_verbs

    for make in (_weights, _lists, _pickles, _pictures, _arrays, _texts, _run_files,
                 hostile_verbs.attacks):  # fmt: skip
        yield from make(folder)


def _weights(folder: Path) -> Iterator[Attack]:
    path = folder / "weights.pt"
    train = ("train", "--no-eval", "--set", f"init={path}", f"data={folder / 'set'}", *SETTINGS)
    last = _bad(folder) / "checkpoints" / "last.pt"
    verbs = cycle([("eval", "bad"), ("train", "--no-eval", "--run", "bad"),
                   ("embed", "bad", str(folder / "people"), "--out", str(folder / "made.npz")),
                   ("export", "bad", "--onnx", str(folder / "made.onnx"))])  # fmt: skip
    for name, content in weights_files().items():
        path.write_bytes(content)
        yield Attack(f"init: {name}", train, str(path))
        last.write_bytes(content)
        yield Attack(f"checkpoint: {name}", next(verbs), "last.pt")
        last.unlink()
    published = folder / "published"
    published.mkdir()
    for name, content in (("config.json", b"["), ("model.safetensors", b"\xff" * 100),
                          ("model.safetensors", struct.pack("<Q", 2) + b"{}")):  # fmt: skip
        (published / name).write_bytes(content)
        yield Attack(f"init: {name}", ("train", "--no-eval", "--set", "backbone=generic-vit",
                     f"init={published}", f"data={folder / 'set'}", "benchmarks="),
                     name)  # fmt: skip
        (published / name).unlink()


def _lists(folder: Path) -> Iterator[Attack]:
    path = folder / "exclude.txt"
    for data in (str(folder / "set"), "rendered"):
        for name, content in {
            "latin-1": b"1\nJos\xe9\n", "utf-16, no mark": "1\nJos\u00e9\n".encode("utf-16le"),
            "zero bytes": b"1\0\0\n2\n", "binary": bytes(range(256)),
        }.items():  # fmt: skip
            path.write_bytes(content)
            yield Attack(f"exclude: {name}, {data[-8:]}", ("train", "--no-eval", "--set",
                         f"data={data}", f"exclude={path}", *SETTINGS), str(path))  # fmt: skip
    for name, text in {"a label outside": "24\n", "a huge label": "9" * 30, "nobody": "\n",
                       "a name": "Ann\n"}.items():  # fmt: skip
        path.write_text(text)
        for more in ((), ("--dry-run",)):
            yield Attack(f"exclude: {name} {more}", ("train", "--no-eval", *more, "--set",
                         f"data={folder / 'set'}", f"exclude={path}", *SETTINGS),
                         str(path))  # fmt: skip
    yield Attack("exclude: a folder", ("train", "--no-eval", "--set", f"data={folder / 'set'}",
                 f"exclude={folder}", *SETTINGS), str(folder))  # fmt: skip


def _pickles(folder: Path) -> Iterator[Attack]:
    path = folder / "b.bin"
    verbs = cycle([("inspect",), ("eval", "good", "--benchmarks"),
                   ("frozen", "generic-vit", "--benchmarks"),
                   ("overlap", "--train", str(folder / "set"), "--benchmark")])  # fmt: skip
    for name, content in pickles().items():
        path.write_bytes(content)
        verb = next(verbs)
        yield Attack(f"bin: {name}, {verb[0]}", (*verb, str(path)), str(path))


def _pictures(folder: Path) -> Iterator[Attack]:
    for name, content in pictures().items():
        path = folder / "people" / "ann" / name
        good = folder / "people" / "ben" / "a.jpg"
        before = path.read_bytes() if path.is_file() else None
        path.write_bytes(content)
        where = str(folder / "people")
        for verb in (("prepare", "folder", where, "--out", str(folder / "made")),
                     ("same", "good", str(path), str(good)),
                     ("embed", "good", where, "--out", str(folder / "made.npz")),
                     ("evaluate-on", "good", where)):  # fmt: skip
            yield Attack(f"picture: {name}, {verb[0]}", verb, str(path))
        path.write_bytes(before) if before else path.unlink()


def _arrays(folder: Path) -> Iterator[Attack]:
    path = folder / "s.npz"

    def archive(header: bytes, packed: bool = False) -> bytes:
        out = io.BytesIO()
        kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        with zipfile.ZipFile(out, "w", kind) as zipped:
            for name in ("score", "same", "emb", "label"):
                zipped.writestr(f"{name}.npy", header)
        return out.getvalue()

    def npy(shape: str, kind: str = "<f8", body: bytes = b"") -> bytes:
        text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body

    verbs = cycle(["inspect", "verify", "megaface", "cluster"])
    good = archive(npy("(2,)", body=bytes(16)))
    for name, content in {
        "encrypted": good.replace(b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x01\x00\x00\x00"),
        "another method": good.replace(b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x00\x00\x63\x00"),
        "huge": archive(npy("(1000000000000,)")), "negative": archive(npy("(-4,)")),
        "objects": archive(npy("(1,)", "|O", pickle.dumps([1]))), "cut": good[:-30],
        "bomb": archive(npy("(100000000,)", "|u1", bytes(10**8)), packed=True), "empty": b"",
        "deep header": archive(npy("(" * 3000)), "two shapes": archive(npy("(2,3)", body=bytes(9))),
    }.items():  # fmt: skip
        path.write_bytes(content)
        verb = next(verbs)
        yield Attack(f"npz: {name}, {verb}", (verb, str(path)), str(path))


def _texts(folder: Path) -> Iterator[Attack]:
    pairs, points = folder / "pairs.txt", folder / "points.csv"
    people, out = str(folder / "people"), str(folder / "made.bin")
    for name, content in {
        "latin-1": b"1\nJos\xe9\t1\t2\n", "zero bytes": b"1\n\0\t1\t2\n",
        "deep": b"[" * 10**5, "binary": bytes(range(256)) * 9,
    }.items():  # fmt: skip
        pairs.write_bytes(content)
        yield Attack(f"lfw: {name}", ("prepare", "lfw", str(pairs), people, "--out", out),
                     str(pairs))  # fmt: skip
        yield Attack(f"pairs: {name}", ("prepare", "pairs", str(pairs), people, "--out", out),
                     str(pairs))  # fmt: skip
        points.write_bytes(content)
        yield Attack(f"landmarks: {name}", ("prepare", "folder", people, "--align", str(points),
                     "--out", out), str(points))  # fmt: skip
    row = ",".join(map(str, range(5, 15)))
    for name, text in {"infinite": f"ann/a.jpg,inf,{row[2:]}\n", "twice": f"ann/a.jpg,{row}\n" * 2,
                       "short": "ann/a.jpg,1,2\n"}.items():  # fmt: skip
        points.write_text("file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\n" + text)
        for verb in (("prepare", "folder", people, "--out", out), ("embed", "good", people, "--out",
                     f"{out}.npz")):  # fmt: skip
            yield Attack(f"landmarks: {name}, {verb[0]}", (*verb, "--align", str(points)),
                         str(points))  # fmt: skip


def _run_files(folder: Path) -> Iterator[Attack]:
    run = _bad(folder)
    for file in ("status.json", "eval.json", "config.json", "metrics.jsonl"):
        before = (run / file).read_bytes() if (run / file).is_file() else None
        for name, content in {
            "a list": b"[]", "a number": b"5", "deep": b"[" * 10**5, "not UTF-8": b'{"a": "\xff"}',
            "zeros": bytes(400),
        }.items():  # fmt: skip
            (run / file).write_bytes(content)
            yield Attack(f"runs: {file} {name}", ("runs",), "good", code=0)
            if file != "metrics.jsonl":
                verb = ("explore", "bad") if file == "eval.json" else ("follow", "bad")
                yield Attack(f"{verb[0]}: {file} {name}", verb, file)
        (run / file).write_bytes(before) if before else (run / file).unlink()


def known(shared: Path, folder: Path) -> Iterator[Attack]:
    """The files of `shared` (hostile/ and damaged/), each with the verbs that read its kind."""
    data, run, shared = folder / "set", _bad(folder), shared.resolve()
    for path in sorted([*shared.glob("hostile/*"), *shared.glob("damaged/*")]):
        name, file = path.name, str(path)
        train = ("train", "--no-eval", "--set", f"data={data}", *SETTINGS)
        if name.startswith("bin_"):
            yield Attack(name, ("inspect", file), file)
            yield Attack(name, ("eval", "good", "--benchmarks", file), file)
        elif path.suffix == ".jpg":
            good = str(folder / "people" / "ben" / "a.jpg")
            yield Attack(name, ("same", "good", file, good), file)
        elif path.suffix == ".pt":
            yield Attack(name, (*train, f"init={file}"), file)
            (run / "checkpoints" / "last.pt").write_bytes(path.read_bytes())
            yield Attack(name, ("eval", "bad"), "last.pt")
            (run / "checkpoints" / "last.pt").unlink()
        elif name.startswith("exclude"):
            yield Attack(name, (*train, f"exclude={file}"), file)
        elif name.startswith("landmarks"):
            yield Attack(name, ("prepare", "folder", str(folder / "people"), "--align", file,
                         "--out", str(folder / "made")), file)  # fmt: skip
        elif name.startswith("Pair_list"):
            yield from _cfp(path, folder)
        elif name.startswith(("status", "metrics", "deep")):
            own = run / f"{name.partition('_')[0].partition('.')[0]}{path.suffix}"
            target = run / "status.json" if name == "deep.json" else own
            before = target.read_bytes() if target.is_file() else b""
            target.write_bytes(path.read_bytes())
            yield Attack(name, ("runs",), "good", code=0)
            target.write_bytes(before)
        elif path.suffix == ".npz":
            times = "times100" in name  # read, and said: they may be somebody's scale
            yield Attack(name, ("verify", file), "score" if times else file, code=0 if times else 2)


def _cfp(path: Path, folder: Path) -> Iterator[Attack]:
    split = folder / "cfp" / "Protocol" / "Split" / "FP" / "01"
    split.mkdir(parents=True)
    for name in ("F", "P"):
        (split.parents[2] / f"Pair_list_{name}.txt").write_bytes(path.read_bytes())
    (split / "same.txt").write_text("1,1\n")
    (split / "diff.txt").write_text("1,2\n")
    yield Attack(path.name, ("prepare", "cfp", str(folder / "cfp"), "--protocol", "FP", "--out",
                 str(folder / "c.bin")), "Pair_list_")  # fmt: skip


def campaign(folder: Path, shared: Path | None = None, only: str = ""
             ) -> Iterator[tuple[Attack, Outcome, list[str]]]:  # fmt: skip
    """(attack, outcome, faults) of all attacks, or of a folder of known files."""
    prepare(folder)
    for attack in known(shared, folder) if shared else attacks(folder):
        if only not in attack.name:
            continue
        found = run(attack, folder)
        yield attack, found, faults(attack, found, folder)


def main() -> int:
    """All attacks: what is wrong, then a summary; exit code 1 with a fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shared", type=Path, help="a folder with hostile/ and damaged/, instead")
    parser.add_argument("--only", default="", help="attacks with this in their name")
    options = parser.parse_args()
    count, wrong, most = 0, 0, [0.0, 0.0]
    with tempfile.TemporaryDirectory() as name:
        for attack, found, bad in campaign(Path(name), options.shared, options.only):
            count, wrong = count + 1, wrong + bool(bad)
            most = [max(most[0], found.seconds), max(most[1], found.mb)]
            if bad:
                sys.stdout.write(f"{attack.name}: {bad}: {found.errors[:300]!r}\n")
    sys.stdout.write(f"{count} commands, {wrong} with faults, {most[0]:.2f} s, {most[1]:.0f} MB\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
