"""The audit's arithmetic: nearest identities, threshold, joined signals, scores, the list."""

import logging

import numpy as np
import pandas as pd
import pytest

from facelib.audit import checks
from facelib.data.datasets import FaceRecords
from facelib.errors import BadData, UserError
from facelib.formats.benchmarks import read_people
from facelib.metrics import geometry as an


def clusters(n, d=16, images=4, seed=0, noise=0.1):
    """n identities around random directions: embeddings (n·images, d), labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n), images)
    return rng.normal(size=(n, d))[labels] + noise * rng.normal(size=(len(labels), d)), labels


def test_the_threshold_is_the_declared_share_of_training_strangers():
    # Catches: an identity matched with itself, single-image identities as queries (zeros).
    emb, labels = clusters(200)
    halves = np.zeros((2, 200, 16), np.float32)
    np.add.at(halves, (np.arange(len(emb)) % 2, labels), an.unit(emb))
    halves[1, :50] = 0
    threshold = checks.impostor_threshold(halves, rate=0.1)
    found, _ = an.nearest_centres(halves[1, 50:], halves.sum(0), skip=np.arange(50, 200))
    assert (found >= threshold).sum() == 15 and threshold < 0.95
    assert checks.impostor_threshold(halves, rate=0.001) > found.max()
    halves[1] = 0
    with pytest.raises(UserError, match="0 training identities with two images"):
        checks.impostor_threshold(halves)


def test_every_candidate_of_another_signal_has_its_similarity_too():
    # Catches: the cosine of another pair, a nearest neighbour listed twice.
    train, bench = np.eye(4), np.array([[1.0, 0, 0, 0], [0, 0.6, 0.8, 0]])
    also = pd.DataFrame({"id": [7, 9, 9], "label": [0, 1, 1]})
    found = checks.match_embeddings(train, bench, np.array([7, 9]), also=also)
    assert found["label"].tolist() == [0, 2, 1] and found["rank"].tolist() == [1, 1, 0]
    np.testing.assert_allclose(found["similarity"], [1, 0.8, 0.6], rtol=1e-6)


def signals():
    names = pd.DataFrame(
        {"id": [10, 11, 12], "label": [0, 1, 2], "kind": ["match", "spelling", "match"]}
    )
    images = pd.DataFrame({"id": [10, 10, 13], "label": [0, 0, 5], "bits": [4, 2, 0]})
    embeddings = pd.DataFrame(
        {"id": [10, 11, 12, 13, 13], "label": [0, 1, 9, 5, 6],
         "similarity": [0.9, 0.8, 0.3, 0.4, 0.35], "rank": [1, 1, 1, 1, 2]}
    )  # fmt: skip
    return checks.join_signals(names, images, embeddings, threshold=0.7)


def test_signals_meet_on_one_row_and_candidates_are_no_matches():
    # Catches: a spelling candidate counted as a match, second neighbours, best bits lost.
    rows = signals().set_index(["id", "label"])
    first = rows.loc[(10, 0)]
    assert (first["copies"], first["bits"], first["signals"]) == (2, 2, 3)
    assert rows.loc[(11, 1), ["by_name", "by_embedding", "signals"]].tolist() == [False, True, 1]
    assert rows.loc[(12, 2), "by_name"] and not rows.loc[(12, 9), "by_embedding"]
    assert (13, 6) not in rows.index
    people = checks.people_table(signals(), np.array([10, 11, 12, 13, 14]))
    assert people["label"].tolist() == [0, 1, 2, 5, -1]
    assert people["labels"].tolist() == [[0], [1], [2], [5], []]
    assert people.loc[14, ["by_name", "by_hash", "by_embedding"]].tolist() == [False] * 3


def test_precision_and_recall_count_pairs_and_not_people():
    # Catches: a benchmark person matched with a wrong training identity counted as found.
    table = checks.score_signals(signals(), {(10, 0), (12, 9), (11, 1)})
    assert table.loc["names", ["found", "right"]].tolist() == [2, 1]
    assert table.loc["embeddings", ["precision", "recall"]].tolist() == [1, 2 / 3]
    assert table.loc["any", ["found", "right"]].tolist() == [4, 2]
    curve, average = checks.ranked_precision(signals(), {(10, 0), (12, 9), (11, 1)})
    assert curve["precision"].tolist() == [1, 1, 2 / 3, 3 / 4]
    assert average == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_training_leaves_out_exactly_the_listed_identities(tmp_path, tiny_records, caplog):
    # Catches: a name that others bear too (they would go as well), a label read as a name.
    names = [f"person {i}" for i in range(24)]
    names[3], names[4], names[5] = "Twin", "twin", "7"
    lines = checks.exclusion_lines([1, 3, 5], names)
    assert lines == ["person 1", "label 3", "7"]
    assert checks.exclusion_lines([1, 3], names[:5]) == ["person 1", "3"]
    assert checks.exclusion_lines([3, 4], names) == ["Twin", "twin"]
    assert checks.exclusion_lines([2, 2, 0], None) == ["0", "2"]
    caplog.set_level(logging.WARNING)
    count = checks.write_exclusions(
        tmp_path / "x.txt", [0, 22], FaceRecords(tiny_records, 32).names
    )
    kept = FaceRecords(tiny_records, 32, exclude=tmp_path / "x.txt")
    assert count == 2 and kept.classes == 22 and "person 22" not in kept.names
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 Ann\n", "line 1: '1 Ann', wanted id<TAB>name"),
        ("1\tAnn\n1\tBo\n", "line 2: id 1 occurs"),
    ],
)
def test_a_names_file_of_another_form_is_named_with_its_line(tmp_path, text, message):
    # Catches: a silent skip of lines with spaces for tabs.
    (tmp_path / "people.txt").write_text(text)
    with pytest.raises(BadData, match=message):
        read_people(tmp_path / "people.txt")
