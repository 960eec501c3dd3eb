"""Cases of data sets: records, benchmarks, arrays, pictures and the lists of LFW, CFP, IJB."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tests.faults.cases import Case
from tests.faults.mutate import in_archive, in_json

REPO = Path(__file__).resolve().parent.parent.parent


def jpegs(count: int, side: int = 16) -> list[bytes]:
    from facelib.formats.decode import encode_jpeg

    rng = np.random.default_rng(0)
    return [encode_jpeg(rng.integers(0, 255, (side, side, 3), np.uint8)) for _ in range(count)]


def records(folder: Path) -> Iterator[Case]:
    """A face set of four images of two people, in both forms of its record 0."""
    from facelib.formats.face_index import read_face_index
    from facelib.formats.rebuild import rebuild_index
    from facelib.formats.recordio import (
        Header,
        RecordReader,
        RecordWriter,
        pack,
        write_face_records,
    )  # fmt: skip
    from facelib.prepare.inspection import inspect

    pictures = jpegs(4)
    write_face_records(folder / "set", [(i // 2, p) for i, p in enumerate(pictures)],
                       names=["a", "b"])  # fmt: skip
    with RecordWriter(folder / "flat") as writer:
        for i, picture in enumerate(pictures):
            writer.write(i, pack(Header(0, i // 2, i, 0), picture))

    def read(path: Path) -> None:
        reader = RecordReader(path.parent)
        for key in read_face_index(reader, scan_limit=0)[0][:4]:
            reader.read(int(key))

    def rebuild(path: Path) -> None:
        path.with_suffix(".idx").unlink(missing_ok=True)
        rebuild_index(path)

    for name in ("train.rec", "train.idx", "property", "names.txt"):
        content = (folder / "set" / name).read_bytes()
        yield Case(f"inspect: {name}", f"set/{name}", content, lambda path: inspect(path.parent))
    for name in ("train.rec", "train.idx"):
        yield Case(f"records: {name}", f"set/{name}", (folder / "set" / name).read_bytes(), read)
        yield Case(f"records without record 0: {name}", f"flat/{name}",
                   (folder / "flat" / name).read_bytes(), read)  # fmt: skip
    rec = (folder / "set" / "train.rec").read_bytes()
    yield Case("records: index made anew", "alone/train.rec", rec, rebuild)


def benchmarks(folder: Path) -> Iterator[Case]:
    """A `.bin` in every form that is known, and its sidecar."""
    from facelib.formats.benchmarks import load_benchmark, save_benchmark
    from facelib.prepare.inspection import inspect

    pictures = jpegs(4)
    save_benchmark(folder / "b.bin", pictures[:2] * 2, pictures[2:] * 2, [1, 0, 1, 0],
                   fold=[0, 0, 1, 1], id1=[1, 1, 1, 1], id2=[1, 2, 1, 2],
                   yaw1=[0.0] * 4, yaw2=[9.0] * 4)  # fmt: skip
    content = (folder / "b.bin").read_bytes()
    yield Case("bin", "b.bin", content, load_benchmark)
    yield Case("bin: inspect", "b.bin", content, inspect, share=0.5)
    arrays = [np.frombuffer(p, np.uint8) for p in pictures]
    objects = np.empty(4, object)
    objects[:] = arrays
    for protocol in (0, 2, 3, 5):
        yield Case(f"bin: arrays, protocol {protocol}", f"arrays{protocol}.bin",
                   pickle.dumps((arrays, np.array([True, False])), protocol),
                   load_benchmark)  # fmt: skip
    yield Case("bin: array of objects", "objects.bin",
               pickle.dumps((objects, np.array([1, 0], ">i4")), 4), load_benchmark)  # fmt: skip
    for name in ("python2.bin", "python2_arrays.bin"):
        yield Case(f"bin: {name}", name, (REPO / "tests" / "golden" / name).read_bytes(),
                   load_benchmark)  # fmt: skip
    yield Case("bin: sidecar", "b.meta.npz", (folder / "b.meta.npz").read_bytes(),
               lambda path: load_benchmark(path.parent / "b.bin"), in_archive)  # fmt: skip


def arrays(folder: Path) -> Iterator[Case]:
    """Scores, embeddings and features."""
    from facelib.evaluate.embed import cached_embeddings
    from facelib.evaluate.labelled import load_labelled, save_labelled
    from facelib.metrics.compare import compare_files
    from facelib.metrics.features import HEADER, open_features
    from facelib.metrics.scores import load_scores
    from facelib.metrics.verification import verify_scores
    from facelib.prepare.inspection import inspect
    from facelib.runs.files import kept_embeddings

    rng = np.random.default_rng(0)
    person = np.arange(40) % 8
    scores = {"score": rng.normal(size=40) / 5, "same": np.arange(40) % 2, "fold": person // 2,
              "score_flip": rng.normal(size=40) / 5, "id1": person, "yaw1": person / 1,
              "yaw2": person / 2}  # fmt: skip
    scores["id2"] = np.where(scores["same"], person, person + 8)
    for name, kept in (("s", scores), ("plain", {k: scores[k] for k in ("score", "same")})):
        np.savez(folder / f"{name}.npz", **kept)
    content = (folder / "s.npz").read_bytes()
    yield Case(
        "scores",
        "s.npz",
        content,
        lambda path: verify_scores(load_scores(path)).to_dict(),
        in_archive,
        0.5,
    )
    yield Case("scores: plain", "plain.npz", (folder / "plain.npz").read_bytes(), inspect,
               in_archive)  # fmt: skip
    (folder / "other.npz").write_bytes(content)
    yield Case("scores: compare", "t.npz", content,
               lambda path: compare_files(path, path.parent / "other.npz", 20), in_archive,
               0.2)  # fmt: skip
    save_labelled(folder / "l.npz", rng.normal(size=(8, 4)), np.arange(8) // 2)
    labelled = (folder / "l.npz").read_bytes()
    yield Case("labelled embeddings", "l.npz", labelled, load_labelled, in_archive)

    def read_features(path: Path) -> None:
        features = open_features(path, path.parent)
        for _ in features.unit_blocks(3):
            pass

    yield Case("features: npz", "f.npz", labelled, read_features, in_archive)
    out = io.BytesIO()
    np.save(out, rng.normal(size=(4, 3)))
    yield Case("features: npy", "f.npy", out.getvalue(), read_features)
    (folder / "mega").mkdir()
    feature = HEADER.pack(3, 1, 4, 5) + np.ones(3, "<f4").tobytes()
    for name in "ab":
        (folder / "mega" / f"{name}.bin").write_bytes(feature)
    yield Case("features: list", "mega/list", b'{"path": ["a", "b"], "id": ["x", "y"]}',
               read_features, in_json)  # fmt: skip
    yield Case("features: one file", "mega/b.bin", feature,
               lambda path: read_features(path.parent / "list"))  # fmt: skip
    emb = rng.normal(size=(3, 4)).astype(np.float32)
    out = io.BytesIO()
    np.savez(out, emb=emb, emb_flip=emb, key=np.array("k"))
    yield Case("kept embeddings", "e.npz", out.getvalue(),
               lambda path: cached_embeddings(path, "k", lambda: (emb, emb)),
               in_archive)  # fmt: skip
    (folder / "embeddings").mkdir()
    yield Case("embeddings of a run", "embeddings/e.npz", out.getvalue(),
               lambda path: kept_embeddings(folder, "e", {}),
               in_archive)  # fmt: skip


def pictures(folder: Path) -> Iterator[Case]:
    """A picture of every format that is read."""
    from PIL import Image

    from facelib.data.datasets import FaceRecords
    from facelib.data.people import read_people
    from facelib.errors import BadData
    from facelib.evaluate.pictures import read_square
    from facelib.formats.decode import FORMATS, decode
    from facelib.prepare.aligner import Aligner

    def read_scaled(path: Path) -> None:
        try:
            decode(path.read_bytes(), 8, scale=True)
        except BadData as error:  # each caller of `decode` names its file or record
            raise BadData(f"{path}: {error}") from error

    yield Case("picture: JPEG, scaled", "p.jpg", jpegs(1, 40)[0], read_scaled)
    yield Case("picture: JPEG, square", "square.jpg", jpegs(1, 40)[0], read_square)
    yield Case("picture: JPEG of a folder of people", "tree/ann/p.jpg", jpegs(1)[0],
               lambda path: FaceRecords(path.parent.parent, 8)[0])  # fmt: skip
    for name in ("ann", "ben"):
        (folder / "two" / name).mkdir(parents=True)
        (folder / "two" / name / "a.jpg").write_bytes(jpegs(1)[0])
    yield Case("exclude: of a folder of people", "exclude.txt", b"ann\n",
               lambda path: read_people(folder / "two", exclude=path))  # fmt: skip
    deep = np.arange(192, dtype=np.uint16).reshape(8, 8, 3) * 300
    for suffix in (".png", ".tiff"):
        yield Case(f"picture: 16 bits, {suffix}", f"deep{suffix}",
                   cv2.imencode(suffix, deep)[1].tobytes(),
                   lambda path: Aligner(path.parent, 8, fit=True)(path))  # fmt: skip
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 9, 3), np.uint8))
    for kind in FORMATS:
        out = io.BytesIO()
        image.save(out, kind)
        yield Case(f"picture: {kind}", f"p.{kind}", out.getvalue(),
                   lambda path: Aligner(path.parent, 8, fit=True)(path))  # fmt: skip


def lists(folder: Path) -> Iterator[Case]:
    """The official folders of CFP and IJB-C, and the list of LFW, each read as a whole."""
    from facelib.evaluate.ijb import embed_faces
    from facelib.metrics.templates import verify_templates
    from facelib.prepare.cfp import cfp_to_bin
    from facelib.prepare.ijb import read_protocol
    from facelib.prepare.inspection import inspect

    picture = jpegs(1)[0]
    for person in ("001", "002"):
        for kind in ("frontal", "profile"):
            for root, name, content in (("Images", "01.jpg", picture),
                                        ("Fiducials", "01.txt", _points())):  # fmt: skip
                path = folder / "cfp" / "Data" / root / person / kind / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    split = folder / "cfp" / "Protocol" / "Split" / "FP" / "01"
    split.mkdir(parents=True)
    for kind, name in (("F", "frontal"), ("P", "profile")):
        lines = [f"{i} ../Data/Images/00{i}/{name}/01.jpg\n" for i in (1, 2)]
        (folder / "cfp" / "Protocol" / f"Pair_list_{kind}.txt").write_text("".join(lines))
    (split / "same.txt").write_text("1,1\n2,2\n")
    (split / "diff.txt").write_text("1,2\n2,1\n")
    (folder / "cfp" / "Protocol" / "Split" / "FF").mkdir()
    for name in ("Protocol/Pair_list_P.txt", "Protocol/Split/FP/01/same.txt",
                 "Data/Fiducials/001/frontal/01.txt"):  # fmt: skip
        yield Case(f"cfp: {Path(name).name}", f"cfp/{name}",
                   (folder / "cfp" / name).read_bytes(),
                   lambda path: cfp_to_bin(folder / "cfp", "FP", folder / "c.bin", 8),
                   share=0.3)  # fmt: skip
    (folder / "lfw").mkdir()
    yield Case("lfw: inspect", "lfw/pairs.txt", b"2\nAnn\t1\t2\nBob\t1\t2\nAnn\t1\tBob\t2\n"
               b"Ann\t2\tBob\t1\n", inspect)  # fmt: skip
    ijb = folder / "ijb"
    ijb.mkdir()
    (ijb / "a.jpg").write_bytes(picture)

    def read(path: Path) -> None:
        protocol = read_protocol(ijb)
        emb = embed_faces(protocol, ijb, lambda x: x.reshape(len(x), -1)[:, :4] + 1.0, 8)
        verify_templates(protocol, emb)

    points = "5 6 11 6 8 9 6 12 10 12"
    for name, text in (("face_tid_mid", "a.jpg 1 1\na.jpg 2 2\na.jpg 2 3\n"),
                       ("template_pair_label", "1 2 1\n2 1 0\n1 1 1\n"),
                       ("name_5pts_score", f"a.jpg {points} 0.9\n" * 3)):  # fmt: skip
        yield Case(f"ijb: {name}", f"ijb/ijbc_{name}.txt", text.encode(), read, share=0.3)


def _points() -> bytes:
    rng = np.random.default_rng(3)
    return "".join(f"{x:.1f},{y:.1f}\n" for x, y in rng.uniform(1, 15, (30, 2))).encode()
