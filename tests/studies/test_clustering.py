"""From a trained run to clusterings, tables and pictures, on tiny records and a toy benchmark."""

import numpy as np
import pytest

from facelib.errors import UserError
from facelib.metrics.clustering import bcubed
from facelib.studies import clustering as cs
from facelib.studies.source_a import CLUSTERING_SOURCE_B
from tests.studies.test_centres import runs  # noqa: F401 - a fixture

COUNTS = [6, 10]


@pytest.fixture(scope="module")
def found(runs):  # noqa: F811
    faces = [cs.Faces(run.result, "toy", steps=3) for run in runs]
    return [c for f in faces for c in cs.cluster_faces(f, COUNTS)]


def test_counts_are_nested_and_nobody_is_both_held_out_and_clustered(found):
    # Catches: eps chosen on people that are clustered, sets that are not nested.
    faces = found[0].faces
    parts = [[set(faces.items[1][rows]) for rows in both] for both in faces.split(COUNTS)]
    assert [[len(people) for people in both] for both in parts] == [[6, 6], [10, 10]]
    assert parts[0][0] < parts[1][0]
    assert not parts[1][0] & parts[1][1]
    with pytest.raises(UserError, match=r"to half of them \(10\)"):
        faces.split([11])


def test_every_method_is_a_row_with_its_own_figures_beside_the_published_one(found):
    # Catches: figures of another count or method in a row; published cells moved.
    frame = cs.figures_frame(found)
    assert len(frame) == 2 * 2 * len(cs.METHODS)
    one = found[5]
    row = frame.iloc[5]
    assert (row["method"], row["people"]) == (cs.METHODS[one.method], one.people)
    assert row["bcubed_f"] == pytest.approx(bcubed(one.labels, one.clusters)[2])
    assert row["lo"] <= row["bcubed_f"] <= row["hi"]
    table = cs.table(frame, CLUSTERING_SOURCE_B)
    cell = table["rendered, here"].loc[(row["embedding"], row["method"]), "10 people"]
    assert cell == f"{100 * row['bcubed_f']:.1f} / {100 * row['nmi']:.1f}"
    published = table["published (source B)"]
    assert published.loc[("MagFace", "DBSCAN"), "1,845 people"] == "74.26 / 92.13"
    assert (published.loc["InfoNCE"] == "").all().all()


def test_the_lgcn_is_trained_once_and_kept_beside_the_run(found, monkeypatch):
    # Catches: another number of steps or another checkpoint that gets the old network.
    result = found[0].faces.result
    monkeypatch.setattr(cs, "train_links", lambda *_, **__: 1 / 0)
    assert cs.Faces(result, "toy", steps=3).links.settings == found[0].faces.links.settings
    with pytest.raises(ZeroDivisionError):
        _ = cs.Faces(result, "toy", steps=4).links


def test_differences_have_the_interval_of_paired_people(found):
    # Catches: a and b exchanged, draws that are not paired (a − a would have an interval).
    a, b = found[0], found[1]
    frame = cs.difference_frame([(a, b), (a, a)])
    assert frame["a − b"].tolist() == [
        pytest.approx(100 * (a.figures["bcubed_f"] - b.figures["bcubed_f"])), 0
    ]  # fmt: skip
    assert frame.iloc[1][["lo", "hi"]].tolist() == [0, 0]
    assert not frame["excludes 0"][1]


def test_examples_are_a_whole_person_a_torn_one_and_two_in_one_cluster():
    # Catches: a lonely picture called a cluster, a good cluster that lacks pictures.
    labels = np.repeat(["ann", "bob", "cid", "dan"], [4, 5, 3, 3])
    clusters = np.array([0, 0, 0, 0, 1, 1, 2, 2, 9, 3, 3, 3, 3, 3, 5])
    rows = np.arange(15) + 100
    made = cs.Clustering(None, "lgcn", 4, rows, labels, clusters)
    parts = cs.examples(made)
    assert parts["good"][0].tolist() == [100, 101, 102, 103]
    assert parts["split"][1] == ["A", "A", "B", "B", "–"]
    assert parts["split"][0][-1] == 108
    assert parts["merged"][1] == ["person cid"] * 3 + ["person dan"] * 2
