"""Small image files for the tests of the converters: plain colours, nobody in them."""

from pathlib import Path

import numpy as np

from facelib.formats.decode import encode_jpeg


def write_jpeg(path: Path, colour: int, size: tuple[int, int] = (112, 112)) -> bytes:
    """Write a JPEG of size (height, width) in one grey-blue; return its bytes."""
    content = encode_jpeg(np.full((*size, 3), (colour, colour, 200), np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return content


def write_lfw(root: Path, size: tuple[int, int] = (112, 112)) -> Path:
    """LFW in small: 4 people × 2 images, `pairs.txt` with 2 folds of 2 + 2 pairs."""
    people = ["Ann_A", "Bo_B", "Cy_C", "Di_D"]
    for i, name in enumerate(people):
        for n in (1, 2):
            write_jpeg(root / "images" / name / f"{name}_{n:04d}.jpg", 40 * i + 15 * n, size)
    lines = ["2\t2"]
    for a, b in (people[:2], people[2:]):
        lines += [f"{a}\t1\t2", f"{b}\t2\t1", f"{a}\t1\t{b}\t1", f"{b}\t2\t{a}\t2"]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    return root


def write_cfp(root: Path, folds: int = 3, size: tuple[int, int] = (112, 112)) -> Path:
    """CFP in small: 2 people a fold, each 3 frontal and 2 profile images."""
    lists = {"F": ("frontal", 3), "P": ("profile", 2)}
    for kind, (name, count) in lists.items():
        lines = []
        for i in range(2 * folds * count):
            person, n = i // count + 1, i % count + 1
            place = f"Images/{person:03d}/{name}/{n:02d}.jpg"
            write_jpeg(root / place, 20 * person + 5 * n + (3 if kind == "P" else 0), size)
            lines.append(f"{i + 1} ../{place}")
        (root / "Protocol").mkdir(exist_ok=True)
        (root / "Protocol" / f"Pair_list_{kind}.txt").write_text("\n".join(lines) + "\n")
    for fold in range(folds):
        f, p = 6 * fold, 4 * fold  # images of the folds before this one
        pairs = {
            "FF": (f"{f + 1},{f + 2}\n{f + 6},{f + 4}\n", f"{f + 1},{f + 4}\n{f + 6},{f + 2}\n"),
            "FP": (f"{f + 1},{p + 2}\n{f + 6},{p + 4}\n", f"{f + 1},{p + 4}\n{f + 6},{p + 1}\n"),
        }
        for protocol, (same, diff) in pairs.items():
            folder = root / "Protocol" / "Split" / protocol / f"{fold + 1:02d}"
            folder.mkdir(parents=True)
            (folder / "same.txt").write_text(same)
            (folder / "diff.txt").write_text(diff)
    return root
