"""Figures of clusterings by hand and restated slowly; K-means, DBSCAN and the rules for eps."""

import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.metrics import normalized_mutual_info_score

from facelib.metrics import clustering as cl
from facelib.metrics.geometry import unit


def made_faces(people: int, images: int, dim: int = 32, spread: float = 0.5, seed: int = 0):
    """Unit rows around random directions, and their labels, in mixed order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(people), images))
    centres = unit(rng.normal(size=(people, dim)))
    noise = spread * rng.normal(size=(len(labels), dim)) / np.sqrt(dim)
    return unit(centres[labels] + noise), labels


def slow_bcubed(labels, clusters):
    """Item by item, as the definition reads."""
    precision, recall = [], []
    for label, cluster in zip(labels, clusters, strict=True):
        together = np.sum((labels == label) & (clusters == cluster))
        precision.append(together / np.sum(clusters == cluster))
        recall.append(together / np.sum(labels == label))
    p, r = np.mean(precision), np.mean(recall)
    return p, r, 2 * p * r / (p + r)


@pytest.mark.parametrize(
    ("labels", "clusters", "precision", "recall"),
    [
        ("aaabbb", "111222", 1, 1),
        ("aaabbb", "111111", 1 / 2, 1),
        ("aabb", "1234", 1, 1 / 2),
        # a: three items, two in 1 (of 3 there), one in 2 (of 2); b: one in 1, one in 2
        ("aaabb", "11212", (2 / 3 + 2 / 3 + 1 / 2 + 1 / 3 + 1 / 2) / 5,
         (2 / 3 + 2 / 3 + 1 / 3 + 1 / 2 + 1 / 2) / 5),
    ],
)  # fmt: skip
def test_bcubed_is_what_a_hand_counts(labels, clusters, precision, recall):
    # Catches: precision and recall exchanged, a mean over clusters instead of items.
    p, r, f = cl.bcubed(np.array(list(labels)), np.array(list(clusters)))
    assert (p, r) == pytest.approx((precision, recall), abs=1e-12)
    assert f == pytest.approx(2 * precision * recall / (precision + recall))


def test_nmi_is_what_a_hand_counts():
    # Catches: geometric averaging (which gives √½ in the second case), log base slips.
    labels = np.array([0, 0, 1, 1])
    assert cl.nmi(labels, np.array([5, 5, 3, 3])) == pytest.approx(1)
    # I = H(labels) = ln 2, H(clusters) = ln 4, mean 1.5 ln 2
    assert cl.nmi(labels, np.arange(4)) == pytest.approx(2 / 3)
    assert cl.nmi(labels, np.array([0, 1, 0, 1])) == pytest.approx(0, abs=1e-12)
    assert cl.nmi(np.zeros(3), np.zeros(3)) == 1


@pytest.mark.parametrize("seed", range(8))
def test_random_partitions_agree_with_slow_restatements_and_scikit_learn(seed):
    # Catches: a cell of the table counted for another identity or cluster.
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 1 + rng.integers(1, 20), 150)
    clusters = np.where(rng.random(150) < 0.5, labels, rng.integers(-3, 30, 150))
    assert cl.bcubed(labels, clusters) == pytest.approx(slow_bcubed(labels, clusters), abs=1e-12)
    theirs = normalized_mutual_info_score(labels, clusters, average_method="arithmetic")
    assert cl.nmi(labels, clusters) == pytest.approx(theirs, abs=1e-12)


def test_the_influence_of_an_item_is_how_f_changes_with_its_weight():
    # Catches: slopes of precision and recall swapped, sizes of clusters taken for identities.
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 6, 80), rng.integers(0, 9, 80)
    both = np.equal.outer(labels, labels) & np.equal.outer(clusters, clusters)
    parts = [both.sum(1) / np.equal.outer(x, x).sum(1) for x in (clusters, labels)]

    def f(weight):
        precision, recall = (np.average(part, weights=weight) for part in parts)
        return 2 * precision * recall / (precision + recall)

    assert f(np.ones(80)) == pytest.approx(cl.bcubed(labels, clusters)[2])
    steps = [(f(np.ones(80) + 1e-6 * row) - f(np.ones(80))) / 1e-6 for row in np.eye(80)]
    assert cl.influence_on_f(labels, clusters) == pytest.approx(steps, abs=1e-6)


def test_people_who_meet_in_a_cluster_of_any_clustering_vary_together():
    # Catches: people alone, pairs counted once, the second clustering forgotten, a negative sum.
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(20), 4)
    clusters, other = labels - labels % 2, labels - labels % 3
    psi = rng.normal(size=80) + labels // 6
    own = np.bincount(labels, psi)
    for parts in ((clusters,), (clusters, other)):
        met = [[any(set(c[labels == a]) & set(c[labels == b]) for c in parts) for a in range(20)]
               for b in range(20)]  # fmt: skip
        wanted = own @ np.array(met) @ own * 20 / 19
        assert cl.variance_of_f(psi, labels, *parts) == pytest.approx(wanted)
    together = np.zeros(80)
    assert cl.variance_of_f(psi - psi.mean(), labels, together) > 0


def test_the_graph_holds_the_nearest_others_whatever_the_block():
    # Catches: an item as its own neighbour, rows of a later block at the wrong place.
    emb, _ = made_faces(6, 5)
    cos = emb @ emb.T
    np.fill_diagonal(cos, -2)
    graph = cl.neighbour_graph(emb, 4, block=7)
    np.testing.assert_array_equal(graph.neighbour, np.argsort(-cos, axis=1)[:, :4])
    np.testing.assert_allclose(graph.cosine, np.sort(cos, axis=1)[:, :-5:-1], atol=1e-6)
    assert cl.neighbour_graph(emb, 1000).neighbour.shape == (30, 29)


def test_kmeans_finds_separate_people_and_repeats_itself():
    # Catches: seeds that are not spread, clusters that lose all items, an unseeded draw.
    emb, labels = made_faces(30, 8, spread=0.3)
    clusters = cl.spherical_kmeans(emb, 30)
    assert cl.bcubed(labels, clusters)[2] > 0.97
    assert len(np.unique(clusters)) == 30
    np.testing.assert_array_equal(clusters, cl.spherical_kmeans(emb, 30))


def test_kmeans_ends_where_every_item_is_with_its_nearest_centre():
    # Catches: centres that are not made unit, an assignment older than its centres.
    emb, _ = made_faces(12, 20, spread=1.5)
    clusters = cl.spherical_kmeans(emb, 12, iterations=200)
    centres = unit(np.stack([emb[clusters == k].sum(0) for k in range(12)]))
    np.testing.assert_array_equal((emb @ centres.T).argmax(1), clusters)
    whole = cl.spherical_kmeans(emb[:9], 9)
    assert len(np.unique(whole)) == 9


@pytest.mark.parametrize(("eps", "min_samples"), [(0.3, 3), (0.35, 2), (0.35, 5), (0.6, 4)])
def test_dbscan_has_the_core_items_and_the_noise_of_scikit_learn(eps, min_samples):
    # Catches: the item not counted among its samples, border items that join two clusters.
    emb, _ = made_faces(15, 12, spread=0.8)
    ours = cl.dbscan(cl.neighbour_graph(emb, 1000), eps, min_samples)
    theirs = DBSCAN(eps=eps, min_samples=min_samples, metric="cosine").fit(emb)
    core = theirs.core_sample_indices_
    assert len(core) > 10
    assert cl.bcubed(theirs.labels_[core], ours[core])[2] == pytest.approx(1)
    noise = theirs.labels_ == -1
    assert (np.bincount(ours)[ours[noise]] == 1).all()
    border = np.setdiff1d(np.flatnonzero(~noise), core)
    assert np.isin(ours[border], ours[core]).all()


def test_noise_is_a_cluster_of_its_own_each():
    # Catches: all noise in one cluster, as the label −1 would make it.
    assert len(np.unique(cl.dbscan(cl.neighbour_graph(np.eye(6)), 0.5))) == 6


@pytest.mark.parametrize(
    ("people", "images", "spread"), [(5, 20, 0.5), (60, 4, 0.4), (40, 15, 0.9)]
)
def test_both_rules_find_an_eps_near_the_best_one(people, images, spread):
    # Catches: the end of the grid, the edge of a plateau, modularity without its chance part.
    emb, labels = made_faces(people, images, 64, spread)
    graph = cl.neighbour_graph(emb)
    other, their = made_faces(people, images, 64, spread, seed=1)
    best = max(cl.bcubed(labels, cl.dbscan(graph, e))[2] for e in cl.eps_grid(graph))
    for eps in (cl.choose_eps(cl.neighbour_graph(other), their), cl.label_free_eps(graph)):
        assert cl.bcubed(labels, cl.dbscan(graph, eps))[2] > best - 0.05


def test_modularity_is_that_of_the_adjacency_matrix():
    # Catches: degrees without the links that come in.
    emb, labels = made_faces(4, 6, spread=1.0)
    graph = cl.neighbour_graph(emb)
    a = np.zeros((24, 24))
    a[np.arange(24)[:, None], graph.neighbour[:, :2]] = 1
    a += a.T
    k, both = a.sum(1), a.sum()
    same = labels[:, None] == labels
    assert cl.modularity(graph, labels, 2) == pytest.approx(
        ((a - np.outer(k, k) / both) * same).sum() / both
    )


def test_all_methods_are_reported_under_the_keys_of_the_command_line():
    # Catches: labels that steer DBSCAN, lengths of embeddings that matter.
    emb, labels = made_faces(10, 9)
    scaled = emb * np.linspace(1, 9, len(emb))[:, None]
    report = cl.cluster_all(scaled, labels)
    keys = {"bcubed_precision", "bcubed_recall", "bcubed_f", "nmi", "clusters", "seconds"}
    assert set(report) == {"kmeans", "dbscan"}
    assert keys <= set(report["kmeans"]) & set(report["dbscan"])
    assert report["kmeans"]["clusters"] == 10
    mixed = cl.cluster_all(emb, labels[::-1])["dbscan"]
    for key in ("eps", "eps_rule", "clusters"):
        assert report["dbscan"][key] == pytest.approx(mixed[key])
    assert report["dbscan"]["bcubed_f"] > 0.9 > mixed["bcubed_f"]
    assert cl.cluster_all(emb, labels, eps=0.01)["dbscan"]["clusters"] > 10
