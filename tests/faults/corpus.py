"""Small good files of every format, the reader of each, and seeded mutations of their bytes.

A mutated file must be read or refused with one `UserError`: nothing else may come out of a reader.
"""

import json
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TOKENS = (
    b"\0", b"\xff", b"\xff\xff\xff\x7f", b"\xff" * 8, b"\n", b"\r\n", b"\x85", b"\xe9",
    "\u2028".encode(), "²".encode(), b",", b"\t", b" ", b"../../",
    b"-1", b"nan", b"1e999", b"99999999999999999999", b"true", b"null", b"{}", b"[]", b'"x"',
    b"[" * 200, b"PK\x03\x04", b"\x0a\x23\xd7\xce",  # a zip's and a record's magic
    b"\x80\x04", b"(", b"]", b"}", b"R", b"b", b"cnumpy\ndtype\n", b"\x94", b"2\x86",  # pickle
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One kind of file: its good bytes, its name, and what reads a path of it."""

    name: str
    file: str
    content: bytes
    read: Callable[[Path], object]


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One to eight changes: bytes flipped, cut, doubled, moved, or a token put in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at, length = rng.randrange(len(data) + 1), 1 + rng.randrange(16)
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + length] = rng.randbytes(length)
        elif kind == 2:
            del data[at : at + length * rng.choice((1, 1, 50))]
        elif kind == 3:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 20))
        elif kind == 4:
            data[at:at] = rng.choice(TOKENS)
        elif kind == 5:
            data[at : at + length] = rng.choice(TOKENS)
        else:
            del data[at:]
    return bytes(data)


def build(folder: Path) -> dict[str, Case]:
    """All cases; the good files beside which a mutated one is read are written into `folder`."""
    cases = [*_formats(folder), *_texts(folder), *_runs(folder), *_weights(folder)]
    return {case.name: case for case in cases}


def _formats(folder: Path) -> list[Case]:
    from facelib.evaluate.labelled import load_labelled, save_labelled
    from facelib.formats.benchmarks import load_benchmark, save_benchmark
    from facelib.formats.decode import decode, encode_jpeg
    from facelib.formats.face_index import read_face_index
    from facelib.formats.recordio import RecordReader, rebuild_index, write_face_records
    from facelib.metrics.features import open_features
    from facelib.metrics.scores import load_scores
    from facelib.prepare.inspection import inspect

    rng = np.random.default_rng(0)
    pictures = [encode_jpeg(rng.integers(0, 255, (16, 16, 3), np.uint8)) for _ in range(4)]
    write_face_records(folder / "set", [(i // 2, p) for i, p in enumerate(pictures)],
                       names=["a", "b"])  # fmt: skip
    save_benchmark(folder / "b.bin", pictures[:2] * 2, pictures[2:] * 2, [1, 0, 1, 0],
                   fold=[0, 0, 1, 1])  # fmt: skip
    np.savez(folder / "s.npz", score=rng.normal(size=40), same=np.arange(40) % 2,
             fold=np.arange(40) // 4)  # fmt: skip
    save_labelled(folder / "l.npz", rng.normal(size=(8, 4)), np.arange(8) // 2)
    np.save(folder / "f.npy", rng.normal(size=(4, 3)))
    arrays = ([np.frombuffer(p, np.uint8) for p in pictures], np.array([True, False]))

    def read_set(path: Path) -> None:
        reader = RecordReader(path.parent)
        for key in read_face_index(reader)[0][:4]:
            reader.read(int(key))

    def rebuild(path: Path) -> None:
        (path.parent / "train.idx").unlink(missing_ok=True)
        rebuild_index(path.parent)

    rec, idx = ((folder / "set" / name).read_bytes() for name in ("train.rec", "train.idx"))
    return [
        Case("bin", "b.bin", (folder / "b.bin").read_bytes(), load_benchmark),
        Case("bin of arrays", "x.bin", pickle.dumps(arrays, 4), load_benchmark),
        Case("bin of protocol 0", "y.bin", pickle.dumps(arrays, 0), load_benchmark),
        Case("sidecar", "b.meta.npz", (folder / "b.meta.npz").read_bytes(),
             lambda path: load_benchmark(path.parent / "b.bin")),
        Case("rec", "set/train.rec", rec, read_set),
        Case("idx", "set/train.idx", idx, read_set),
        Case("rec without idx", "alone/train.rec", rec, rebuild),
        Case("inspect", "inspected.rec", rec, lambda path: inspect(_beside(path, idx))),
        Case("scores", "s.npz", (folder / "s.npz").read_bytes(), load_scores),
        Case("labelled", "l.npz", (folder / "l.npz").read_bytes(), load_labelled),
        Case("features", "f.npy", (folder / "f.npy").read_bytes(), open_features),
        Case("jpeg", "p.jpg", pictures[0], lambda path: decode(path.read_bytes(), 8, scale=True)),
        Case("png", "p.png", _png(), lambda path: decode(path.read_bytes())),
    ]  # fmt: skip


def _beside(path: Path, idx: bytes) -> Path:
    path.with_suffix(".idx").write_bytes(idx)
    return path


def _png() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 90, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def _texts(folder: Path) -> list[Case]:
    from tests.test_readers import TEXTS

    good = {
        "names": "Ann\nBob\nCy\n", "exclude": "a\n1\n", "people": "0\tAnn Lee\n1\tBob\n",
        "fiducials": "10.5,20\n" * 30,
        "landmarks": "file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\na.jpg,1,2,3,4,5,6,7,8,9,10\n",
        "cfp list": "1 ../Data/Images/001/frontal/01.jpg\n2 ../Data/Images/001/frontal/02.jpg\n",
        "cfp pairs": "1,2\n3,4\n",
        "lfw pairs": "1\t2\nAnn\t1\t2\nBob\t1\t2\nAnn\t1\tBob\t2\nAnn\t2\tBob\t1\n",
        "columns": "1.jpg 1\n2.jpg 1\n", "features": '{"path": ["a"], "id": ["b"]}',
        "weights config": '{"model_type": "dinov2"}', "json object": '{"a": [1, 2.5, null]}',
        "json lines": '{"step": 1}\n{"step": 2}\n',
    }  # fmt: skip
    return [Case(f"text: {name}", f"{name}.txt", good[name].encode(), read)
            for name, read in TEXTS.items()]  # fmt: skip


def _runs(folder: Path) -> list[Case]:
    from facelib.config import make_config
    from facelib.runs.folder import create_run, load_run, tabulate, write_json
    from facelib.runs.progress import describe

    run = create_run(make_config(), folder / "runs")
    run.set_status(state="done", step=3, steps=3)
    tick = {"step": 1, "loss": 2.5, "lr": 0.1, "images_per_s": 9.0, "eta_s": 1.0,
            "peak_memory_mb": 9.0}  # fmt: skip
    (run.path / "metrics.jsonl").write_text((json.dumps(tick) + "\n") * 3)
    figures = {"best": {"accuracy": 0.9}, "strict": {"accuracy": 0.8}, "rendered": True}
    write_json(run.path / "eval.json", {"checkpoint": "a", "benchmarks": {"lfw": figures}})

    def read(path: Path) -> None:
        tabulate()
        found = load_run(path.parent)
        _ = found.state, describe(found), found.evaluation(), found.metrics()

    files = ("config.json", "status.json", "metrics.jsonl", "eval.json")
    return [Case(f"run: {name}", f"runs/{run.name}/{name}", (run.path / name).read_bytes(), read)
            for name in files]  # fmt: skip


def _weights(folder: Path) -> list[Case]:
    import torch

    from facelib.archive import seal_file
    from facelib.metrics.lgcn import LinkNetwork, LinkSettings, load_links, save_links
    from facelib.models.iresnet import iresnet, load_backbone
    from facelib.runner.notebooks import read_notebook
    from facelib.training.checkpoint import _digest, load_checkpoint

    learner = torch.nn.Linear(3, 2).state_dict()
    torch.save({"learner": learner, "optimizer": {}, "step": 1, "rng": [], "scaler": None,
                "best": None, "base": "", "digest": _digest(learner, "")},
               folder / "c.pt")  # fmt: skip
    plain = (folder / "c.pt").read_bytes()
    seal_file(folder / "c.pt")
    save_links(LinkNetwork(LinkSettings(4, (4, 4), (3, 2), 2)), folder / "l.safetensors")
    cell = {"cell_type": "code", "source": "1", "metadata": {}, "outputs": [], "id": "a",
            "execution_count": 1}  # fmt: skip
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    model = iresnet("iresnet18", width=4, image_size=16, dim=8)
    return [
        Case("checkpoint", "c.pt", (folder / "c.pt").read_bytes(), load_checkpoint),
        Case("archive of others", "d.pt", plain, load_checkpoint),
        Case("init", "i.pt", plain, lambda path: load_backbone(model, path)),
        Case("l-gcn", "l.safetensors", (folder / "l.safetensors").read_bytes(), load_links),
        Case("notebook", "n.ipynb", json.dumps(notebook).encode(), read_notebook),
    ]
