"""Geometry of embeddings: every figure against an independent recomputation or a known value."""

import numpy as np
import pytest

from facelib.metrics import geometry as an
from facelib.metrics.intervals import People


def cloud(count, d, seed=0):
    return an.unit(np.random.default_rng(seed).normal(size=(count, d)))


def test_nearest_centres_in_blocks_equal_the_whole_matrix_at_once():
    # Catches: block offset left out, last short block lost, an earlier winner overwritten.
    queries, centres = 3 * cloud(50, 8), 7 * cloud(103, 8, seed=1)
    cosine = np.array([[q @ c / np.sqrt(q @ q * (c @ c)) for c in centres] for q in queries])
    for block in (1, 10, 103, 1000):
        best, which = an.nearest_centres(queries, centres, block)
        np.testing.assert_allclose(best, cosine.max(1), atol=1e-6)
        np.testing.assert_array_equal(which, cosine.argmax(1))


def test_a_skipped_centre_does_not_count_for_its_own_query_in_any_block():
    # Catches: skip off by a block, the centre left out for all queries, −1 read as the last one.
    queries, centres = cloud(9, 5), cloud(30, 5, seed=1)
    order = np.argsort(-queries @ centres.T, axis=1)
    skip = np.where(np.arange(9) < 6, order[:, 0], -1)
    wanted = np.where(np.arange(9) < 6, order[:, 1], order[:, 0])
    queries[8], skip[8], wanted[8] = centres[29], -1, 29
    for block in (1, 7, 30, 1000):
        best, which = an.nearest_centres(queries, centres, block, skip=skip)
        np.testing.assert_array_equal(which, wanted)
        np.testing.assert_allclose(best, (queries * centres[wanted]).sum(1), atol=1e-6)


def test_of_two_equal_centres_the_first_is_nearest():
    # Catches: `>=` between blocks, by which agreement would depend on the block size.
    centres = np.tile(np.eye(3, dtype=np.float32), (4, 1))
    assert [an.nearest_centres(np.eye(3), centres, b)[1].tolist() for b in (1, 5, 12)] == [
        [0, 1, 2]
    ] * 3


def test_centroids_are_unit_means_of_unit_embeddings():
    # Catches: long embeddings weigh more, labels out of order, a mean that is not made unit.
    emb = np.array([[5.0, 0], [0, -2], [0, 1], [0, 9]])
    found = an.centroids(emb, np.array([1, 0, 1, 1]))
    np.testing.assert_allclose(found, [[0, -1], np.array([1, 2]) / np.sqrt(5)], atol=1e-6)


def test_the_snapping_row_of_three_pairs_by_hand():
    # Catches: sides swapped, shares counted against the other side's centre, ties counted.
    row = an.snapping(np.array([0.5, 0.2, 0.9]), np.array([0.6, 0.2, 0.1]), np.array([0.7, 0.3, 0]))
    assert row["A closer"] == pytest.approx(1 / 3)
    assert row["B closer"] == pytest.approx(2 / 3)
    assert (row["pair sim"], row["centre sim A"]) == pytest.approx((1.6 / 3, 0.3))


@pytest.mark.parametrize(
    ("n", "values"),
    [
        (85_742, (0.191, 0.268, 0.373, 0.511, 0.679, 0.851)),
        (1_448, (0.147, 0.207, 0.291, 0.404, 0.553, 0.730)),
    ],
)
def test_the_isotropic_null_has_the_values_of_the_methods(n, values):
    # Catches: (d−1)/2 against d/2, a cosine in [0, 1] instead of [−1, 1], n − 1 for n.
    found = [an.expected_maximum(n, d) for d in (512, 256, 128, 64, 32, 16)]
    assert found == pytest.approx(values, abs=0.003)


def test_the_isotropic_null_agrees_with_a_simulation():
    # Catches: a closed form that is right only in the limit of many centres.
    many = [an.nearest_centres(cloud(400, 5, i), cloud(7, 5, 100 + i))[0].mean() for i in range(60)]
    assert an.expected_maximum(7, 5) == pytest.approx(np.mean(many), abs=0.01)


def test_a_rotation_keeps_every_cosine_and_forgets_the_centres():
    # Catches: another rotation for each row, a matrix that stretches, no rotation at all.
    emb = cloud(300, 64)
    turned = an.random_rotation(emb, np.random.default_rng(0))
    np.testing.assert_allclose(turned @ turned.T, emb @ emb.T, atol=1e-5)
    snapped, _ = an.nearest_centres(emb, emb)
    free, _ = an.nearest_centres(turned, emb)
    assert snapped.min() == pytest.approx(1, abs=1e-5)
    assert free.mean() == pytest.approx(an.expected_maximum(300, 64), abs=0.02)


def test_the_gaussian_null_has_the_mean_and_covariance_of_the_embeddings():
    # Catches: standard deviations for variances, the mean left out, axes transposed.
    rng = np.random.default_rng(0)
    emb = 0.02 * rng.normal(size=(5000, 3)) @ np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0.2]])
    emb = emb + np.array(
        [0, 0, 1]
    )  # so narrow that making rows unit changes only the third direction
    draws = an.gaussian_like(emb, 50_000, rng)
    np.testing.assert_allclose(draws.mean(0)[:2], 0, atol=0.002)
    np.testing.assert_allclose(np.cov(draws.T)[:2, :2], np.cov(emb.T)[:2, :2], rtol=0.05)
    np.testing.assert_allclose(np.linalg.norm(draws, axis=1), 1, atol=1e-5)


def test_the_nearest_other_person_is_never_oneself():
    # Catches: one's own centroid in the race (cosine near 1), the wrong row masked.
    emb, ids = cloud(30, 5), np.array([7, 3, 9] * 10)
    own = {i: an.unit(emb[ids == i].mean(0)[None])[0] for i in (3, 7, 9)}
    wanted = [max(e @ own[j] for j in own if j != i) for e, i in zip(emb, ids)]
    np.testing.assert_allclose(an.nearest_others(emb, ids), wanted, atol=1e-6)


def test_thinning_draws_whole_new_labels_with_at_most_so_many_images():
    # Catches: labels of the order instead of the rows, always the first images, gaps in the labels.
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(9), [2, *[20] * 8]))
    drawn = [an.thinned(labels, 9, 4, np.random.default_rng(s)) for s in (0, 1)]
    for rows, new in drawn:
        assert sorted(np.bincount(new)) == [2, *[4] * 8]
        assert all(len(set(labels[rows[new == k]])) == 1 for k in range(9))
    assert set(drawn[0][0]) != set(drawn[1][0])


def test_agreement_stands_beside_what_popular_centres_give_by_chance():
    # Catches: chance taken as 1/N although one centre takes most images.
    rng = np.random.default_rng(0)
    a, b = rng.choice(3, (2, 20_000), p=(0.8, 0.1, 0.1))
    share, chance = an.agreement(a, b)
    assert chance == pytest.approx(0.66, abs=0.02)
    assert share == pytest.approx(chance, abs=0.02)
    assert an.agreement(a, a)[0] == 1


def test_the_odds_ratio_and_its_interval_are_those_of_scipy():
    # Catches: columns swapped (the inverse ratio), variance instead of its root.
    from scipy.stats.contingency import odds_ratio

    row = np.repeat([True, True, False, False], (30, 10, 20, 40))
    column = np.repeat([True, False, True, False], (30, 10, 20, 40))
    found = an.two_by_two(row, column)
    assert found.counts.tolist() == [[30, 10], [20, 40]]
    wanted = odds_ratio(found.counts, kind="sample")
    interval = wanted.confidence_interval(0.95)
    assert (found.odds_ratio, found.lo, found.hi) == pytest.approx(
        (wanted.statistic, interval.low, interval.high), rel=1e-4
    )
    assert not found.corrected


def test_people_widen_the_interval_of_an_odds_ratio():
    # Catches: pairs taken as independent where the same answer comes from the same people.
    row = np.repeat([True, True, False, False], (30, 10, 20, 40))
    column = np.repeat([True, False, True, False], (30, 10, 20, 40))
    alone, shared = (
        an.two_by_two(row, column, People(ids, ids, 100))
        for ids in (np.arange(100), np.repeat(np.arange(10), 10))
    )
    plain = an.two_by_two(row, column)
    assert (alone.lo, alone.hi) == pytest.approx((plain.lo, plain.hi))
    assert shared.lo < plain.lo < plain.odds_ratio < plain.hi < shared.hi


def test_an_empty_cell_is_corrected_and_says_so():
    # Catches: an infinite ratio, or a half added where no cell is empty.
    found = an.two_by_two(np.array([1, 1, 1, 0, 0]), np.array([1, 1, 1, 1, 0]))
    assert found.corrected
    assert found.odds_ratio == pytest.approx(3.5 * 1.5 / (0.5 * 1.5))


def test_the_interval_counts_people_and_not_pairs():
    # Catches: pairs drawn one by one, by which 100 copies of a pair look like 100 people.
    from scipy.stats import sem
    from scipy.stats import t as interval

    rng = np.random.default_rng(0)
    person = rng.normal(size=40)
    mean, lo, hi = an.mean_interval(np.repeat(person, 100), np.repeat(np.arange(40), 100))
    assert mean == pytest.approx(person.mean())
    assert (lo, hi) == pytest.approx(interval.interval(0.95, 39, mean, sem(person)))
    values = np.repeat([1.0, 0.0], [100, 20])  # one person with 100 pairs, twenty with one
    mean, _, hi = an.mean_interval(values, np.r_[np.zeros(100), 1 + np.arange(20)])
    assert mean == pytest.approx(100 / 120)
    assert hi > mean  # a mean of people's means would end near 3/21
    _, lo, hi = an.mean_interval(values > 0.5, np.r_[np.zeros(100), 1 + np.arange(20)])
    assert 0 < lo < mean < hi < 1  # a share


def test_alignment_and_uniformity_are_the_naive_sums():
    # Catches: a pair of an image with itself, distance for squared distance, blocks counted twice.
    x = cloud(60, 6)
    squared = np.array([[np.sum((a - b) ** 2) for b in x] for a in x], float)
    other = ~np.eye(60, dtype=bool)
    assert an.alignment(x[:-1], x[1:]) == pytest.approx(np.diag(squared, 1).mean(), rel=1e-5)
    wanted = np.log(np.exp(-2 * squared[other]).mean())
    assert [an.uniformity(x, block) for block in (7, 60, 100)] == pytest.approx([wanted] * 3, 1e-5)


def test_the_effective_dimension_of_k_equal_directions_is_k():
    # Catches: eigenvalues rising, log2 for log, a spectrum of the raw second moment.
    basis = np.zeros((4, 10))
    basis[np.arange(4), [1, 3, 5, 7]] = 1
    emb = np.r_[basis, -basis] + 50  # far from the origin: the mean is no direction
    shares = an.spectrum(emb)
    np.testing.assert_allclose(shares, [0.25] * 4 + [0] * 6, atol=1e-9)
    assert an.effective_dimension(shares) == pytest.approx((4, 4), rel=1e-6)
    ratio, entropy = an.effective_dimension(np.array([0.7, 0.2, 0.1]))
    assert ratio == pytest.approx(1 / 0.54)
    assert entropy == pytest.approx(0.7**-0.7 * 0.2**-0.2 * 0.1**-0.1)


def test_the_gap_and_the_global_threshold_of_a_handful_of_scores():
    # Catches: impostors among the positives, one impostor more than allowed, accepted ties.
    score = np.array([0.9, 0.7, 0.6, 0.5, 0.5, 0.1])
    same = np.array([True, True, False, False, False, False])
    assert an.similarity_gap(score, same) == pytest.approx((0.8, 0.425, 0.375))
    for far, accepted in ((0, 0), (0.25, 1), (0.5, 1), (0.75, 3)):
        assert (score[~same] > an.global_threshold(score, same, far)).sum() == accepted
