"""Benchmarks by name: every InsightFace `.bin`, beside train.rec or in the data folder."""

import shutil

import numpy as np
import pytest

from facelib.config import make_config
from facelib.data.locate import benchmark_paths
from facelib.errors import UserError
from facelib.formats.benchmarks import load_benchmark, save_benchmark
from facelib.formats.decode import encode_jpeg
from facelib.prepare.inspection import inspect

NAMES = ("agedb_30", "calfw", "cplfw")


@pytest.fixture
def insightface_folder(tiny_records, tmp_path):
    """A training folder with the three further benchmarks, as InsightFace hands it out."""
    folder = tmp_path / "faces"
    shutil.copytree(tiny_records, folder)
    rng = np.random.default_rng(0)
    for name in NAMES:
        faces = [encode_jpeg(rng.integers(0, 255, (112, 112, 3), np.uint8)) for _ in range(40)]
        save_benchmark(folder / f"{name}.bin", faces[:20], faces[20:], [True, False] * 10)
        (folder / f"{name}.meta.npz").unlink()
    return folder


def test_benchmarks_of_source_b_are_found_and_described_by_name(insightface_folder):
    # Catches: a list of allowed names that ends with LFW and CFP.
    cfg = make_config(data=str(insightface_folder), benchmarks=",".join(NAMES))
    paths = benchmark_paths(cfg)
    assert [load_benchmark(path).name for path in paths] == list(NAMES)
    found = inspect(paths[0], deep=True)
    assert (found["kind"], found["pairs"], found["problems"]) == ("benchmark", 20, [])
    assert found["folds"] == 10


@pytest.mark.parametrize(
    ("name", "hint"), [("cplfw", "copy it there"), ("lfw", r"prepare lfw\|cfp\|.* --help")]
)
def test_a_missing_benchmark_says_where_it_comes_from(tiny_records, name, hint):
    # Catches: advice to make a file that no command here can make.
    with pytest.raises(UserError, match=f"benchmark '{name}': not at .*{hint}"):
        benchmark_paths(make_config(data=str(tiny_records), benchmarks=name))
