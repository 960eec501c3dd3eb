"""Two spaces side by side: spread of classes, a linear map, and what repeats say of them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from facelib.config import make_config
from facelib.metrics.geometry import apply_linear, class_spread, fit_linear, unit
from facelib.metrics.scores import make_scores
from facelib.studies import spaces

RNG = np.random.default_rng(0)


def people(count, images, dim=16, within=0.3, seed=0):
    """Unit embeddings of `count` people with `images` pictures each, and their labels."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.normal(size=(count, dim)), images, axis=0)
    return unit(centres + within * rng.normal(size=centres.shape)), np.repeat(
        np.arange(count), images
    )


def test_class_spread_is_the_ratio_of_means_over_all_pairs_of_classes():
    # Catches: a wrong factor, means of the wrong labels.
    emb, labels = people(12, 40)
    order = RNG.permutation(len(emb))
    means = np.array([emb[labels == k].mean(0) for k in range(12)])
    within = np.array([emb[labels == k].var(0, ddof=1).sum() for k in range(12)])
    pairs = [(i, j) for i in range(12) for j in range(i)]
    apart = [((means[i] - means[j]) ** 2).sum() - (within[i] + within[j]) / 40 for i, j in pairs]
    ratio = np.mean([(within[i] + within[j]) / 2 for i, j in pairs]) / np.mean(apart)
    assert class_spread(emb[order], labels[order]) == pytest.approx(ratio, rel=1e-6)


def test_two_pictures_a_person_give_the_same_spread_as_many():
    # Catches: the bias of few images, which would make depth look tight.
    few, many = (class_spread(*people(3000, n, within=0.6)) for n in (2, 30))
    assert few == pytest.approx(many, rel=0.03)


def test_a_person_with_one_picture_does_not_count():
    emb, labels = people(30, 4)
    more = np.concatenate([emb, people(5, 1, seed=9)[0]]), np.append(labels, np.arange(30, 35))
    assert class_spread(*more) == pytest.approx(class_spread(emb, labels))


def test_a_linear_map_and_a_shift_are_found_again():
    a, weights, shift = RNG.normal(size=(200, 8)), RNG.normal(size=(8, 5)), RNG.normal(size=5)
    fitted = fit_linear(a, a @ weights + shift)
    new = RNG.normal(size=(20, 8))
    assert apply_linear(new, fitted) == pytest.approx(new @ weights + shift)


def run_of(turn, noise=0.0, **settings):
    """A run whose space is that of `people`, turned; test people are others."""
    train, test = people(60, 6, seed=1), people(20, 6, seed=2)
    rng = np.random.default_rng(5)
    i, j = rng.integers(120, size=(2, 400))
    same = test[1][i] == test[1][j]
    scores = make_scores(np.zeros(400), same, index1=i, index2=j, id1=test[1][i], id2=test[1][j])
    spread = [unit(x @ turn + noise * rng.normal(size=x.shape)) for x in (train[0], test[0])]
    report = {"benchmarks": {"cfp_fp": {"best": {"accuracy": 0.9}}}}
    result = SimpleNamespace(
        config=make_config("smoke", **settings), benchmarks=["cfp_fp"], rendered=True,
        report=report, scores=lambda name: scores,
    )  # fmt: skip
    return SimpleNamespace(
        result=result, train=(spread[0], train[1]), images=lambda name: spread[1]
    )


def test_a_turned_space_maps_onto_its_partner_and_a_scrambled_one_does_not():
    # Catches: a map in the wrong direction, partners of other seeds.
    turn = np.linalg.qr(RNG.normal(size=(16, 16)))[0]
    plain, turned = run_of(np.eye(16)), run_of(turn)
    for lines in spaces.measure([("arcface", plain), ("infonce", turned)]):
        assert lines[0]["explained"] == pytest.approx(1)
        assert lines[0]["mapped"] == pytest.approx(lines[0]["auc"])
    noisy = spaces.measure([("arcface", plain), ("infonce", run_of(turn, noise=1.0))])
    assert noisy[0][0]["mapped"] < noisy[0][0]["auc"] - 0.05 and noisy[0][0]["explained"] < 0.7
    for other in ({"seed": 3}, {"images_seen": 80_000}):
        alone = spaces.measure([("arcface", plain), ("infonce", run_of(turn, **other))])
        assert "mapped" not in alone[0][0]


def test_sentences_follow_a_record():
    rows = []
    for seed in range(5):
        for people_, shape in ((240, "240 × 36"), (720, "720 × 12"), (4320, "4,320 × 2")):
            for method in ("arcface", "infonce"):
                spread = (0.2 if method == "arcface" else 0.4) + RNG.normal() / 100
                rows.append({"seed": seed, "data_seed": seed, "people": people_, "shape": shape,
                             "method": method, "benchmark": "cfp_fp", "trained": spread,
                             "unseen": spread, "pull": 0.1 + RNG.normal() / 100, "mapped": 0.8,
                             "auc": 0.9 + RNG.normal() / 1000, "explained": 0.5,
                             "accuracy": 1 - spread})  # fmt: skip
    frame = pd.concat([pd.DataFrame(rows), pd.DataFrame(rows).assign(benchmark="cfp_ff")])
    found = spaces.gaps(frame, "cfp_fp").set_index("figure")
    spread = found.loc["spread of unseen people"]
    assert spread["significant"].all() and spread["difference"].mean() == pytest.approx(-20, abs=2)
    assert not found.loc["pull towards trained people", "significant"].any()
    assert (spaces.mapped_gaps(frame, "cfp_fp")["difference"] < -9).all()
    lines = spaces.sentences(frame, "cfp_fp")
    assert any("tightness of unseen people" in line and "+1.00" in line for line in lines)
