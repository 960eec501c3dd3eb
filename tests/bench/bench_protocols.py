"""Template and identification protocols at their published sizes, on made features.

    python -m tests.bench.bench_protocols [--only ijb|scores|megaface] [--strangers 1000000]

IJB-C: 23,124 templates, 19,557 genuine and 15,638,932 impostor pairs, d = 512, from text files of
the official form. MegaFace: 3,530 probes of 80 people against a million distractors in a
memory-mapped file of 2 GB, which is deleted. Each part runs in a process of its own; prints one
JSON object: seconds of each step and the peak memory of the process (mapped pages count).

`scores` are CPU seconds of IJB-C's comparisons, medians of five alternating rounds: `products` by
matrix products, `pairs` one pair after another (an eighth of them, times 8), for pairs of any two
templates and for a gallery of a seventh against all, as IJB-C's are.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import repo  # noqa: F401

from facelib.metrics.features import open_features
from facelib.metrics.identification import identify
from facelib.metrics.templates import score_pairs, template_embeddings, verify_templates
from facelib.prepare.ijb import read_protocol

DIM = 512
TEMPLATES, IMAGES_A_TEMPLATE, PEOPLE = 23_124, 4, 3_531
GENUINE, IMPOSTORS = 19_557, 15_638_932
PROBES, CELEBRITIES = 3_530, 80


def made(rng: np.random.Generator, person: np.ndarray, noise: float) -> np.ndarray:
    """Features float32 (N, d): one direction a person, and noise of `noise` times its length."""
    directions = rng.standard_normal((person.max() + 1, DIM), np.float32)
    return directions[person] + noise * rng.standard_normal((len(person), DIM), np.float32)


def write_ijb(folder: Path, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The official text files; (template of each image, person of each template)."""
    template = np.repeat(np.arange(TEMPLATES), IMAGES_A_TEMPLATE)
    media = rng.integers(0, 2, len(template)) + 2 * template
    with open(folder / "ijbc_face_tid_mid.txt", "w") as file:
        file.writelines(f"{i}.jpg {t} {m}\n" for i, (t, m) in enumerate(zip(template, media)))
    person = np.arange(TEMPLATES) % PEOPLE
    a = rng.integers(0, TEMPLATES, GENUINE + IMPOSTORS)
    b = rng.integers(0, TEMPLATES, GENUINE + IMPOSTORS)
    a[:GENUINE] %= PEOPLE * 6  # everybody has six templates, some people a seventh
    b[:GENUINE] = (a[:GENUINE] + PEOPLE * rng.integers(1, 6, GENUINE)) % (PEOPLE * 6)
    clash = np.flatnonzero(person[a[GENUINE:]] == person[b[GENUINE:]]) + GENUINE
    b[clash] = (b[clash] + 1) % TEMPLATES
    label = np.arange(len(a)) < GENUINE
    with open(folder / "ijbc_template_pair_label.txt", "w") as file:
        for start in range(0, len(a), 1 << 18):
            part = slice(start, start + (1 << 18))
            np.savetxt(file, np.stack([a[part], b[part], label[part]], 1), fmt="%d")
    return template, person


def measure_ijb(folder: Path) -> dict:
    """Seconds of reading, pooling and scoring IJB-C's comparisons."""
    rng = np.random.default_rng(0)
    template, person = write_ijb(folder, rng)
    emb = made(rng, person[template], noise=4.0)
    begin = time.perf_counter()
    protocol = read_protocol(folder)
    read = time.perf_counter()
    template_embeddings(emb, protocol.template, protocol.media)
    pooled = time.perf_counter()
    figures = verify_templates(protocol, emb)
    done = time.perf_counter()
    return {
        "comparisons": len(protocol.same), "read_lists_s": round(read - begin, 1),
        "pool_s": round(pooled - read, 1), "pool_and_verify_s": round(done - pooled, 1),
        "figures": figures,
    }  # fmt: skip


def pair_by_pair(unit: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The peer of `score_pairs`: 65,536 pairs of rows gathered at a time."""
    parts = (slice(i, i + (1 << 16)) for i in range(0, len(a), 1 << 16))
    return np.concatenate([np.einsum("pd,pd->p", unit[a[part]], unit[b[part]]) for part in parts])


def measure_scores(_: Path, rounds: int = 5) -> dict:
    """CPU seconds of all comparisons by matrix products and pair by pair, and how far apart."""
    rng, found = np.random.default_rng(0), {}
    unit = made(rng, np.arange(TEMPLATES) % PEOPLE, 4.0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    b, few = rng.integers(0, TEMPLATES, GENUINE + IMPOSTORS), (GENUINE + IMPOSTORS) // 8
    for name, gallery in (("any_two", TEMPLATES), ("gallery", TEMPLATES // 7)):
        a, spent = rng.integers(0, gallery, len(b)), []
        for _ in range(rounds):
            begin = time.process_time()
            products = score_pairs(unit, a, b)
            middle = time.process_time()
            pairs = pair_by_pair(unit, a[:few], b[:few])
            spent.append((middle - begin, 8 * (time.process_time() - middle)))
        ours, theirs = (statistics.median(times) for times in zip(*spent))
        apart = float(np.abs(products[:few] - pairs).max())
        found[name] = {"products_s": round(ours, 2), "pairs_s": round(theirs, 2),
                       "ratio": round(theirs / ours, 2), "difference": apart}  # fmt: skip
    return found


def measure_megaface(folder: Path, strangers: int) -> dict:
    """Seconds of streaming the distractors against all probes."""
    rng = np.random.default_rng(0)
    person = np.arange(PROBES) % CELEBRITIES
    np.savez(folder / "probes.npz", emb=made(rng, person, noise=1.5), label=person)
    path = folder / "distractors.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (strangers, DIM))
    for start in range(0, strangers, 1 << 14):
        stop = min(start + (1 << 14), strangers)
        rows[start:stop] = rng.standard_normal((stop - start, DIM), np.float32)
    del rows
    return identify(open_features(folder / "probes.npz"), open_features(path))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("ijb", "scores", "megaface"))
    parser.add_argument("--strangers", type=int, default=1_000_000)
    options = parser.parse_args()
    if options.only is None:
        found = {}
        for part in ("ijb", "scores", "megaface"):
            command = [sys.executable, "-m", "tests.bench.bench_protocols", "--only", part,
                       "--strangers", str(options.strangers)]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[part] = json.loads(done.stdout)
    else:
        with tempfile.TemporaryDirectory() as folder:
            parts = {"ijb": measure_ijb, "scores": measure_scores, "megaface": measure_megaface}
            extra = [options.strangers] if options.only == "megaface" else []
            found = parts[options.only](Path(folder), *extra)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["peak_memory_gb"] = round(peak / 2**20, 2)
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
