"""The planted overlap: the clean set untouched inside it, and the answer known."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from facelib.audit.people_names import match_names
from facelib.config import make_config
from facelib.data.datasets import FaceRecords
from facelib.errors import UserError
from facelib.formats.benchmarks import read_people
from facelib.rendered.dataset import RenderedSpec, rendered_dataset
from facelib.rendered.planted import COPIES, planted_people

CLEAN = RenderedSpec(identities=50, images=2, test_identities=20, size=32, seed=5)
PLANTED = replace(CLEAN, planted=12)


@pytest.fixture(scope="module")
def folders(planted_root):
    return rendered_dataset(CLEAN, planted_root, 1), rendered_dataset(PLANTED, planted_root, 1)


def test_without_overlap_nothing_changes_its_name():
    # Catches: the new option in the digest of the default set or of its runs.
    assert RenderedSpec().digest() == "aaa57411" != RenderedSpec(planted=94).digest()
    assert "planted" not in RenderedSpec().settings()
    assert (
        make_config().run_name == "smoke-arcface-b0aa66d8" != make_config(data_planted=94).run_name
    )
    with pytest.raises(UserError, match="planted=201 is not allowed.* 0 to 200"):
        RenderedSpec(planted=201)


def test_benchmarks_and_strangers_are_those_of_the_clean_set(folders):
    # Catches: benchmarks drawn anew, strangers in another order: the clean runs are no controls.
    clean, planted = folders
    for name in ("lfw", "cfp_ff", "cfp_fp"):
        for end in (".bin", ".meta.npz"):
            assert (clean / f"{name}{end}").read_bytes() == (planted / f"{name}{end}").read_bytes()
    truth = pd.read_csv(planted / "planted.csv")
    a = FaceRecords(clean, 32)
    b = FaceRecords(planted, 32, exclude=truth["label"].tolist())
    assert len(a) == len(b) and b.classes == 50
    assert all(a.jpeg(i) == b.jpeg(i) for i in range(len(a)))


def test_the_answer_names_people_spread_over_the_folds_and_every_copy(folders):
    # Catches: all planted people in the first folds, a copy without its row, a wrong record number.
    truth, copies = (pd.read_csv(folders[1] / f"{name}.csv") for name in ("planted", "copies"))
    people = truth["id"].to_numpy() - CLEAN.identities
    np.testing.assert_array_equal(people, planted_people(PLANTED))
    assert np.bincount(people // 2, minlength=10).max() <= 2 and len(set(people)) == 12
    records = FaceRecords(folders[1], 32)
    assert len(records) == 62 * 2 + len(copies) == 124 + truth["copies"].sum()
    assert copies["kind"].value_counts().to_dict() == dict.fromkeys(COPIES, 4)
    for row in copies.itertuples():
        jpeg = records.jpeg(row.record - 1)
        assert records.labels[row.record - 1] == row.label
        same = hashlib.sha256(jpeg).hexdigest()[:16] == row.source
        assert same == (row.kind == "exact")


def test_names_match_for_half_of_the_planted_and_for_few_strangers(folders):
    # Catches: names that give everyone away, or nobody; no homonym to be wrong about.
    truth = pd.read_csv(folders[1] / "planted.csv")
    people = read_people(folders[1] / "people.txt")
    found = match_names(FaceRecords(folders[1], 32).names, list(people.values()))
    ids = list(people)
    rows = found[["train", "bench", "kind"]].itertuples(index=False)
    pairs = {(ids[row.bench], row.train): row.kind for row in rows}
    for row in truth.to_dict("records"):
        assert pairs.get((row["id"], row["label"]), "other") == row["name"]
    assert truth["name"].value_counts().to_dict() == {"match": 6, "other": 4, "spelling": 2}
    strangers = [pair for pair, kind in pairs.items() if kind == "match" and pair[1] < 50]
    assert len(strangers) == 1
