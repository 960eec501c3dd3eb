"""Damaged files for the verbs that read more than one: the other files of each are good."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.faults.cases_data import jpegs
from tests.faults.hostile import Attack, _bad

BAD = {"empty": b"", "a text": b"hello\n" * 50, "zeros": bytes(400), "deep": b"[" * 10**5,
       "not UTF-8": b'{"a": "\xff"}', "an archive": b"PK\x03\x04" + bytes(40)}  # fmt: skip
IJB = {"face_tid_mid": "a.jpg 1 1\nb.jpg 2 2\n", "template_pair_label": "1 2 0\n1 1 1\n"}


def npy(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, values)
    return out.getvalue()


def make_good(folder: Path) -> Path:
    """Good files of each kind."""
    from facelib.formats.benchmarks import save_benchmark

    good = folder / "good"
    (good / "ijb").mkdir(parents=True)
    rng, label = np.random.default_rng(0), np.arange(8) // 2
    np.savez(good / "emb.npz", emb=rng.normal(size=(8, 4)), label=label)
    np.savez(good / "scores.npz", score=np.linspace(-1, 1, 20), same=np.arange(20) % 2)
    (good / "emb.npy").write_bytes(npy(rng.normal(size=(2, 4))))
    pictures = jpegs(4)
    save_benchmark(good / "b.bin", pictures[:2] * 2, pictures[2:] * 2, [1, 0, 1, 0],
                   fold=[0, 0, 1, 1])  # fmt: skip
    for name, text in IJB.items():
        (good / "ijb" / f"ijbc_{name}.txt").write_text(text)
    return good


def places(folder: Path, good: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """(where a bad file lies, a command that reads it)."""
    bad, data, run = folder / "bad.npz", str(folder / "set"), _bad(folder)
    emb, scores, bench = (str(good / name) for name in ("emb.npz", "scores.npz", "b.bin"))
    out = str(folder / "made")
    yield bad, ("compare", str(bad), scores)
    yield bad, ("compare", scores, str(bad))
    yield bad, ("cluster", emb, "--tune", str(bad))
    yield bad, ("cluster", str(bad), "--train-lgcn", out)
    yield bad, ("cluster", emb, "--lgcn", str(bad))
    yield bad, ("megaface", emb, str(bad))
    yield bad.with_suffix(".list"), ("megaface", emb, str(bad.with_suffix(".list")),
                                     "--distractor-folder", data)  # fmt: skip
    array = bad.with_suffix(".npy")
    yield array, ("ijb", str(good / "ijb"), "--features", str(array))
    yield array, ("megaface", emb, str(array))
    for name in IJB:
        yield good / "ijb" / f"ijbc_{name}.txt", ("ijb", str(good / "ijb"), "--features",
                                                  str(good / "emb.npy"))  # fmt: skip
    weights = folder / "weights"
    for name in ("config.json", "model.safetensors"):
        yield weights / name, ("frozen", "generic-vit", "--weights", str(weights), "--benchmarks",
                               bench)  # fmt: skip
    other = folder / "other"
    shutil.copytree(data, other)
    for name in ("train.rec", "train.idx"):
        for verb in (("train", "--no-eval", "--set", f"data={other}"), ("overlap", "--train",
                     str(other), "--benchmark", bench), ("frozen", "generic-vit", "--data",
                     str(other), "--benchmarks", bench)):  # fmt: skip
            yield other / name, verb
    yield bad, ("overlap", "--train", data, "--benchmark", bench, "--names", str(bad))
    yield good / "b.meta.npz", ("eval", "good", "--benchmarks", bench)
    yield folder / "own.bin", ("eval", "own")
    yield run / "eval.json", ("same", "bad", str(folder / "people" / "ann" / "a.jpg"),
                              str(folder / "people" / "ben" / "a.jpg"))  # fmt: skip
    yield folder / "rows.jsonl", ("report", "--publish", str(folder / "rows.jsonl"), "name")
    yield folder / "runs" / "notebooks" / "01_a.ipynb", ("report", "--out", out)
    yield folder / "b.ipynb", ("sweep", str(folder / "b.ipynb"), "--grid", "a=1", "--out", out)
    people = str(folder / "people")
    for kind in ("calfw", "cplfw", "agedb", "pairs"):
        yield bad, ("prepare", kind, str(bad), people, "--out", out)
    yield bad, ("train", "--no-eval", "--set", f"data={people}", f"exclude={bad}", "global_batch=2")


def attacks(folder: Path) -> Iterator[Attack]:
    """Each bad content in each place, in turn two of them."""
    good = make_good(folder)
    contents = list(BAD.items())
    for number, (path, verb) in enumerate(places(folder, good)):
        before = path.read_bytes() if path.is_file() else None
        for name, content in (contents[number % 6], contents[(number + 3) % 6]):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            # A list of names that says nobody is fine for some; of each verb one line names it.
            yield Attack(f"{verb[0]}: {name}, {path.name}", verb, path.stem)
        path.write_bytes(before) if before else path.unlink()
    yield from _wrong_figures(folder, good)


def _wrong_figures(folder: Path, good: Path) -> Iterator[Attack]:
    """Files of the right form whose numbers no command can use."""
    emb = np.ones((8, 4))
    emb[3] = np.nan
    path, label = folder / "odd.npz", np.arange(8) // 2
    for name, arrays in {"not finite": {"emb": emb, "label": label},
                         "all zero": {"emb": emb * 0, "label": label},
                         "one person": {"emb": np.ones((8, 4)), "label": label * 0},
                         }.items():  # fmt: skip
        np.savez(path, **arrays)
        yield Attack(f"cluster: {name}", ("cluster", str(path)), "odd.npz")
        if name != "one person":
            yield Attack(f"megaface: {name}", ("megaface", str(path)), "odd.npz")
            yield Attack(f"megaface: {name}, strangers", ("megaface", str(good / "emb.npz"),
                         str(path)), "odd.npz")  # fmt: skip
    path.unlink()
    rows = folder / "rows.jsonl"
    for name, row in {"no settings": {"report": {}}, "a list": {"report": []},
                      "odd figures": {"report": {"benchmarks": {"a": 5}}}}.items():  # fmt: skip
        rows.write_text(json.dumps(row) + "\n")
        yield Attack(f"publish: {name}", ("report", "--publish", str(rows), "name"), "rows.jsonl")
    rows.unlink()
