"""Breadth against depth: what a row trains, and what the differences of a record mean."""

import numpy as np
import pandas as pd
import pytest

from facelib.config import make_config
from facelib.errors import UserError
from facelib.studies import breadth

SHAPES = ((240, 36), (720, 12), (2160, 4), (4320, 2))


def made(flip=0.0, noise=0.1, repeats=6):
    """A record: ArcFace less InfoNCE falls by `flip` points from the first shape to the last."""
    rng, rows = np.random.default_rng(0), []
    for seed in range(repeats):
        people_of_seed = rng.normal()  # shared by methods: pairing takes it out
        for place, (people, images) in enumerate(SHAPES):
            for method in ("arcface", "softmax", "infonce"):
                for name in ("lfw", "cfp_ff", "cfp_fp"):
                    value = 80 + 3 * place + people_of_seed + noise * rng.normal()
                    value += (method == "arcface") * (2 - flip * place / 3)
                    row = (seed, seed, method, people, images, name, value / 100)
                    rows.append(row)
    columns = ["seed", "data_seed", "method", "people", "data_images", "benchmark", "best.accuracy"]
    frame = pd.DataFrame(rows, columns=columns)
    shape = [f"{p:,} × {k}" for p, k in zip(frame["people"], frame["data_images"])]
    return frame.assign(
        shape=shape, images_seen=60_000, **{"strict.accuracy": frame["best.accuracy"]}
    )


def test_a_row_changes_the_loss_and_the_shape_and_nothing_else():
    # Catches: a rate, a scale or a margin that comes along with the method.
    base = make_config("smoke", images_seen=60_000, lr=0.2, seed=3)
    rows = {m: breadth.row_config(m, "720x12", base) for m in breadth.METHODS}
    assert {(c.data_identities, c.data_images) for c in rows.values()} == {(720, 12)}
    assert {(c.lr, c.seed, c.images_seen) for c in rows.values()} == {(0.2, 3, 60_000)}
    assert rows["softmax"].s == pytest.approx(1 / base.tau, rel=1e-5) and rows["softmax"].m == 0
    assert (rows["arcface"].s, rows["arcface"].m) == (base.s, base.m)
    assert breadth.row_config("arcface", "250x24", make_config("smoke")) == make_config("smoke")


def test_of_real_files_so_many_are_drawn():
    row = breadth.row_config("infonce", "5000x20", make_config("ms1m-arcface", data="/data/ms1m"))
    assert (row.data, row.subset, row.loss) == ("/data/ms1m", "5000x20", "infonce")


@pytest.mark.parametrize("shape", ["240", "240x1", "x5", "axb", "240x-2", ""])
def test_a_shape_that_is_none_is_named(shape):
    with pytest.raises(UserError, match="240x72"):
        breadth.row_config("arcface", shape, make_config("smoke"))


def test_an_unknown_method_names_the_known():
    with pytest.raises(UserError, match="arcface, softmax, .*infonce"):
        breadth.row_config("coreface", "240x36", make_config("smoke"))


def test_a_flip_of_known_size_is_found_in_its_part_and_nowhere_else():
    # Catches: differences of unpaired repeats, a wrong sign, shapes out of order.
    gaps = breadth.flip_gaps(made(flip=3.0)).set_index("comparison")
    whole, part = "ArcFace − InfoNCE", "ArcFace − centres, no margin, InfoNCE's scale"
    for name in (whole, part):
        assert gaps.loc[name, "difference"].to_numpy() == pytest.approx(-3, abs=0.3)
        assert gaps.loc[name, "significant"].all()
    assert not gaps.loc["centres, no margin, InfoNCE's scale − InfoNCE", "significant"].any()
    assert set(gaps["family"]) == {12}


def test_the_verdict_follows_the_repeats():
    assert "that the order depends on it is not shown" in breadth.verdict(made())
    assert "favour InfoNCE" in breadth.verdict(made(flip=3.0))
    assert "favour ArcFace" in breadth.verdict(made(flip=-3.0))


def test_order_gaps_are_one_family_over_shapes_poses_and_protocols():
    gaps = breadth.order_gaps(made(flip=3.0))
    assert len(gaps) == 16 and set(gaps["family"]) == {16}
    first, last = (gaps[gaps["people"] == p]["difference"].mean() for p in (240, 4320))
    assert first == pytest.approx(2, abs=0.2) and last == pytest.approx(-1, abs=0.2)


def test_breadth_is_the_last_shape_less_the_first():
    gaps = breadth.breadth_gaps(made())
    assert len(gaps) == 12 and gaps["difference"].to_numpy() == pytest.approx(9, abs=0.3)


def test_a_repeat_that_lacks_a_shape_does_not_count_there():
    frame = made()
    frame = frame[(frame["seed"] > 0) | (frame["people"] < 4320)]
    gaps = breadth.order_gaps(frame).set_index("people")["repeats"]
    assert set(gaps.loc[240]) == {6} and set(gaps.loc[4320]) == {5}


def test_longer_runs_stand_beside_the_short_ones_and_never_among_them():
    # Catches: runs of two lengths averaged, a gain of the wrong sign.
    short = made(flip=3.0)
    longer = short[short["people"] == 4320].assign(images_seen=240_000)
    longer = longer.assign(**{"best.accuracy": longer["best.accuracy"] + 0.05})
    both = pd.concat([short, longer])
    found = breadth.length_gaps(*breadth.split_lengths(both))
    best = found[found["protocol"] == "best threshold"]
    assert best["difference"].to_numpy() == pytest.approx(5) and set(found["family"]) == {12}
    assert breadth.verdict(both) == breadth.verdict(short)
    lines = breadth.sentences(both)
    assert sum("240,000 images seen instead of 60,000" in line for line in lines) == 6
    assert "within each question (12, 16, 12, 12, 4 comparisons)" in lines[-1]
    assert lines[1:9] == breadth.sentences(short)[1:9]
