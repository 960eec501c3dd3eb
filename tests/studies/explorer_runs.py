"""Made results for the tests of the explorer: no training, no face."""

from pathlib import Path

import numpy as np

from facelib.config import make_config
from facelib.formats.benchmarks import Benchmark
from facelib.formats.decode import encode_jpeg
from facelib.metrics.geometry import unit
from facelib.metrics.scores import make_scores
from facelib.metrics.verification import verify_scores
from facelib.studies.explorer.nearest import Centres
from facelib.studies.results import Result

HIDDEN = ("", "", "mask", "hand, glasses")


class Made(Result):
    """A result whose benchmark "toy", scores and embeddings are held in memory."""

    @property
    def name(self):
        return self.folder.name

    def benchmark(self, name):
        return self.bench

    def scores(self, name):
        return self.made

    def embeddings(self, name):
        return self.emb


def made_centres(result):
    """Six training people of dimension 8, the same for all runs."""
    rng = np.random.default_rng(1)
    colours = [encode_jpeg(np.full((64, 64, 3), 40 * i, np.uint8)) for i in range(6)]
    names = [f"trainee {i}" for i in range(6)]
    return Centres("class centres", unit(rng.normal(size=(6, 8))), names, colours)


def made_results(pairs=200, runs=2, images=120, name="</script><script>alert(1)</script>"):
    """Runs over the same pairs, two people's names of which would end a script element."""
    rng = np.random.default_rng(0)
    same = np.arange(pairs) % 2 == 0
    person = np.arange(images) // 2
    first = rng.integers(0, images // 2, pairs)
    second = np.where(same, first, (first + 1) % (images // 2))
    names = np.array([f"{name} {p}" for p in person])
    sides = 2 * first, 2 * second + 1
    noise = rng.integers(0, 255, (images, 64, 64, 3), np.uint8) // 8 + 100
    pictures = [encode_jpeg(picture) for picture in noise.astype(np.uint8)]
    yaws = [rng.uniform(-60, 60, pairs).astype("f4") for _ in range(2)]
    fold = np.arange(pairs) * 10 // pairs
    people = [names[side] for side in sides]
    hidden = np.array(HIDDEN)[rng.integers(0, len(HIDDEN), images)]
    bench = Benchmark("toy", pictures, *sides, same, fold, *people, *yaws, "digest",
                      *(hidden[side] for side in sides))  # fmt: skip
    results = []
    for number in range(runs):
        scores = make_scores(rng.normal(same * 0.4, 0.2).clip(-1, 1), same, fold)
        report = {"rendered": True, "benchmarks": {"toy": verify_scores(scores).to_dict()}}
        label = f"loss {number} {name}"
        result = Made(Path(f"run-{number}"), make_config(), report, label)
        vars(result).update(bench=bench, made=scores, emb=rng.normal(size=(images, 8)))
        results.append(result)
    return results
