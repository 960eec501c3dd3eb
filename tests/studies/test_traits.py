"""Who is confused: rates by group, ratios on the log scale, twins beside their references."""

import numpy as np
import pandas as pd
import pytest

from facelib.config import make_config
from facelib.errors import UserError
from facelib.metrics.scores import make_scores
from facelib.rendered.dataset import AGAIN, ITSELF, STRANGER
from facelib.studies import traits
from facelib.studies.results import Result

PEOPLE = 80  # the first half is in group a
GROUPS = pd.DataFrame({"trait": np.repeat(["a", "b"], PEOPLE // 2)})


def wrong_in(pairs: int, rate: float) -> np.ndarray:
    return np.arange(pairs) % round(1 / rate) == 0


def made(a=0.2, b=0.05, same=0.1, other=0.02) -> pd.DataFrame:
    """Pairs of known rates: FNMR a and b by group, FMR inside a group and across groups."""
    person, half = np.arange(PEOPLE), PEOPLE // 2
    blocks = [(person[:half], 0, a, True), (person[half:], 0, b, True),
              (person[:half], 1, same, False), (person[half:], 1, same, False),
              (person, half, other, False)]  # fmt: skip
    frames = []
    for people, step, rate, genuine in blocks:
        one = np.repeat(people, 25)
        two = people[0] + (one - people[0] + step) % len(people)
        frame = {"id1": one, "id2": two, "wrong": wrong_in(len(one), rate), "same": genuine}
        frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def test_rates_are_those_of_each_group_and_impostors_of_two_groups_stand_apart():
    # Catches: impostor pairs counted in the group of one side, errors over all pairs.
    table = traits.group_rates(made(), GROUPS).droplevel("trait")
    rates = {("FNMR", "a"): 0.2, ("FNMR", "b"): 0.05, ("FMR", "a"): 0.1, ("FMR", "b"): 0.1,
             ("FMR", "different groups"): 0.02}  # fmt: skip
    assert table["value"].to_dict() == pytest.approx(rates)
    assert (table["lo"] < table["value"]).all() and (table["value"] < table["hi"]).all()


def test_ratios_are_of_rates_with_intervals_that_are_symmetric_on_the_log_scale():
    # Catches: differences for ratios, lower / higher, the arithmetic mean of the groups.
    found = traits.ratios(made(), GROUPS).set_index("rate")
    assert np.exp(found["log"]).to_dict() == pytest.approx({"FNMR": 4, "FMR": 1})
    assert found["comparison"]["FNMR"] == "a / b"
    assert found["significant"].to_dict() == {"FNMR": True, "FMR": False}
    assert (found["hi"] + found["lo"] - 2 * found["log"]).abs().max() < 1e-9
    table = traits.differentials(made(), GROUPS).loc["trait"]
    assert table.loc["FNMR", "max/min"].startswith("4.00 [")
    assert table.loc["FNMR", "max/geometric mean"].startswith("2.00 [")
    assert "(n.s., ≥" in table.loc["FMR", "max/min"]


def test_strangers_of_one_group_are_compared_with_those_of_two():
    # Catches: the groups of genuine pairs among them, shared traits counted from one side.
    found = traits.alike(made(), GROUPS)
    assert np.exp(found["log"]).to_list() == pytest.approx([5]) and found["significant"].all()
    assert traits.by_shared(made(), GROUPS)["value"].to_list() == pytest.approx([0.02, 0.1])


def test_fewer_than_three_errors_give_no_rate_and_are_in_no_family():
    # Catches: log 0, a ratio from one error, a family that counts what was not tested.
    pairs = made()
    few = pairs["same"] & (pairs["id1"] >= PEOPLE // 2)
    pairs.loc[few, "wrong"] = np.arange(few.sum()) < 2
    assert np.isnan(traits.group_rates(pairs, GROUPS).loc[("trait", "FNMR", "b"), "value"])
    assert set(traits.differentials(pairs, GROUPS).loc[("trait", "FNMR")]) == {"not estimable"}
    assert (traits.ratios(pairs, GROUPS)["family"] == 1).all()
    none = traits.ratios(pairs.assign(wrong=False), GROUPS)
    assert none["log"].isna().all() and not none["significant"].any()


def test_a_ratio_s_interval_counts_people_and_not_pairs():
    # Catches: pairs of one person taken as independent, which ten copies would show.
    genuine = made()[lambda f: f["same"]]
    label = GROUPS["trait"].loc[genuine["id1"]].to_numpy()
    worn = genuine["id1"].to_numpy() % np.where(label == "a", 5, 20) == 0  # the same people fail
    genuine = genuine.assign(wrong=worn)
    once = traits.log_contrast(genuine, label, {"a": 1, "b": -1})
    copies = pd.concat([genuine] * 10)
    ten = traits.log_contrast(copies, np.tile(label, 10), {"a": 1, "b": -1})
    assert (ten["lo"], ten["repeats"]) == (pytest.approx(once["lo"]), PEOPLE)
    # 8 and 2 people of 40 fail: the variance of a log rate is (1 − p) / (40 p)
    assert (once["log"] - once["lo"]) / 1.99 == pytest.approx(np.sqrt(0.8 / 8 + 0.95 / 2), rel=0.02)


@pytest.mark.parametrize("true", [0.05, 0.1])
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(true):
    # Catches: a variance without what a person's pairs share, an interval around the logarithm's
    # wrong group. 200 draws of people who fail more or less; 0.95 ± 0.04.
    rng, held = np.random.default_rng(0), 0
    person = np.repeat(np.arange(PEOPLE), 20)
    label = GROUPS["trait"].loc[person].to_numpy()
    for _ in range(200):
        odds = rng.beta(2, 2 / true - 2, PEOPLE) * np.where(GROUPS["trait"] == "a", 2, 1)
        part = pd.DataFrame({"id1": person, "id2": person})
        part["wrong"] = rng.random(len(person)) < odds[person]
        found = traits.log_contrast(part, label, {"a": 1, "b": -1})
        held += found["lo"] <= np.log(2) <= found["hi"]
    assert 0.91 <= held / 200 <= 0.99


class Scored(Result):
    """A run whose scores are given."""

    def scores(self, name):
        return self.report["benchmarks"][name]


def test_one_threshold_is_set_on_the_impostors_of_all_benchmarks():
    # Catches: a threshold for each benchmark, genuine pairs below it counted as right.
    rng, found = np.random.default_rng(0), {}
    for name, shift in (("lfw", 0.0), ("cfp_fp", 0.5)):
        same = np.arange(1000) % 2 == 0
        sides = {"id1": np.arange(1000) % 50, "id2": np.where(same, 0, 1) + np.arange(1000) % 50}
        found[name] = make_scores(
            np.clip(rng.normal(0.4 * same + shift, 0.1), -1, 1), same, **sides
        )
    pairs = traits.decided(Scored(None, None, {"benchmarks": found}, "run"))
    assert pairs["wrong"][~pairs["same"]].sum() == 10
    at = pairs["threshold"].iloc[0]
    assert (pairs["wrong"] == ((pairs["score"] > at) != pairs["same"])).all()


def twins(turned: dict[str, float], heads=4) -> pd.DataFrame:
    """Rows of `draw_twins` with an angle by kind; heads are 90 degrees apart."""
    rows = [{"head": h, "yaw": yaw, "what": what, "angle": 90 * h + angle + h % 2}
            for h in range(heads) for what, angle in turned.items() for yaw in (0, 35)]  # fmt: skip
    return pd.DataFrame(rows)


def cosines(monkeypatch, **turned) -> pd.DataFrame:
    shown = twins({ITSELF: 0, AGAIN: 5, STRANGER: 60, **turned})
    turn = np.radians(
        shown.pop("angle").to_numpy() - (shown["what"] == ITSELF) * (shown["head"] % 2)
    )
    emb = np.stack([np.cos(turn), np.sin(turn)], 1)
    monkeypatch.setattr(traits, "load_model", lambda _: (None, ""))
    monkeypatch.setattr(traits, "embed_images", lambda *_, **__: (7 * emb, None))
    return traits.twin_cosines(Result(None, make_config(), {}, ""), [b""] * len(emb), shown)


def test_a_twin_is_compared_with_its_own_head_and_strangers_with_the_next(monkeypatch):
    # Catches: the picture of another head or yaw as partner, ORDINARY of one person.
    found = cosines(monkeypatch, skin=20.0)
    means = found.groupby(["what", "head"])["cosine"].mean()
    assert means["skin"].to_list() == pytest.approx(np.cos(np.radians([20, 21, 20, 21])))
    assert means[traits.ORDINARY].to_list() == pytest.approx(np.cos(np.radians([96, 95, 96, 95])))
    assert len(found) == 4 * 2 * 4 and ITSELF not in set(found["what"])


def test_changes_are_told_as_a_share_of_the_way_to_another_person(monkeypatch):
    # Catches: the way from the other end, losses compared in the wrong order or unpaired.
    found = {"A": cosines(monkeypatch, skin=30.0), "B": cosines(monkeypatch, skin=10.0)}
    close, way = (
        frame.set_index(["label", "group"])["value"] for frame in traits.twin_frames(found)
    )
    assert close["skin", "A"] < close["skin", "B"] and set(way.index) == {
        ("skin", "A"),
        ("skin", "B"),
    }
    assert way["skin", "A"] == pytest.approx(27, abs=1)  # (1 − cos 30.5°) / (1 − cos 60.5°)
    [gap] = traits.way_gaps(found).to_dict("records")
    assert gap["difference"] > 20 and gap["significant"] and gap["comparison"] == "A less B"
    runs = {loss: made().assign(threshold=0.9) for loss in found}
    told = traits.accepted(found, runs)
    assert told.loc["skin", "A"].startswith("0 [") and told.loc["skin", "B"].startswith("100 [")
    lines = traits.sentences(runs, GROUPS, found)
    assert lines[0].startswith("A, groups: 1 of 2 ratios are significant: FNMR of a / b 4.00 [")
    assert "from 2.0 % where no trait is shared to 10.0 % where all are" in lines[1]
    assert lines[-1].startswith("losses: 1 of 1 differences")
    few = {loss: pairs.assign(wrong=False) for loss, pairs in runs.items()}
    assert "nan" not in "".join(traits.sentences(few, GROUPS, found))


def test_people_of_other_data_have_no_traits():
    # Catches: an obscure failure of the renderer.
    with pytest.raises(UserError, match="data='faces': traits are known of rendered people only"):
        traits.groups_of(make_config(data="faces"))
