"""People held out of training: the second run differs in them alone, and the figures are theirs."""

import numpy as np
import pytest

from facelib.config import make_config
from facelib.data.feed import Feed
from facelib.errors import UserError
from facelib.metrics import geometry as an
from facelib.runs.launch import launch
from facelib.studies import centres as ce
from facelib.studies import strangers as st
from facelib.studies.results import evaluate
from tests.studies.test_results import toy_benchmark


@pytest.fixture(scope="module")
def trained(tiny_records, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RUNS", "DATA"):
            patch.setenv(f"FACELIB_{name}", str(tmp_path_factory.mktemp(name)))
        bench = tmp_path_factory.mktemp("bench") / "toy.bin"
        toy_benchmark(bench)
        sizes = {"width": 4, "image_size": 16, "dim": 8, "global_batch": 16, "images_seen": 960}
        cfg = make_config(data=str(tiny_records), benchmarks=str(bench), threads=1, **sizes)
        people = st.held_out_labels(cfg, 5)
        configs = cfg, st.without(cfg, people)
        yield [ce.Geometry(evaluate(launch(c), bootstrap=0)) for c in configs], people


def test_the_second_run_trains_on_the_same_people_but_those_held_out(trained):
    # Catches: held-out people still in training, validation drawn anew among fewer people.
    (full, heldout), people = trained
    feeds = [Feed(run.result.config, "cpu") for run in (full, heldout)]
    names = [{f.records.names[label] for label in f.records.labels[f.train]} for f in feeds]
    out = {feeds[0].records.names[label] for label in people}
    assert len(out) == 5
    assert out <= names[0]
    assert names[1] == names[0] - out


def test_the_run_without_people_has_one_name_on_every_machine(trained, tmp_path, monkeypatch):
    # Catches: a path of this machine in the run's digest, a list that changes under one name.
    (full, heldout), people = trained
    before = st.without(full.result.config, people)
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    there = st.without(full.result.config, people)
    assert there.run_name == before.run_name == heldout.result.config.run_name
    assert (tmp_path / there.exclude).is_file()
    assert st.without(full.result.config, people[:-1]).run_name != there.run_name


def test_people_already_excluded_stay_out_and_labels_mean_the_same_people(trained, tmp_path):
    # Catches: labels counted after the first exclusion, an exclusion list that is replaced.
    (full, _), _ = trained
    (tmp_path / "out.txt").write_text("person 0\nperson 1\n")
    cfg = full.result.config.replace(exclude=str(tmp_path / "out.txt"), val_fraction=0.0)
    names = ce.open_records(cfg).names
    fewer = ce.open_records(st.without(cfg, np.array([0, 3]))).names
    assert fewer == [n for n in names if n not in ("person 2", "person 5")]
    assert "person 0" not in fewer


def test_too_many_people_to_hold_out_are_refused(trained):
    # Catches: a run without training people, an error of numpy.
    cfg = trained[0][0].result.config
    for people in (1, 22):
        with pytest.raises(UserError, match="allowed are 2 … 21, since 23"):
            st.held_out_labels(cfg, people)


def test_the_own_centre_leaves_the_image_itself_out():
    # Catches: the image in its own mean (cosines near 1), a lone image at cosine 1.
    rng = np.random.default_rng(0)
    emb, person = an.unit(rng.normal(size=(7, 4))), np.array([0, 0, 0, 5, 5, 5, 9])
    found = st.own_centre(emb, person)
    for i in range(6):
        mean = emb[(person == person[i]) & (np.arange(7) != i)].mean(0)
        assert found[i] == pytest.approx(emb[i] @ mean / np.linalg.norm(mean), abs=1e-6)
    assert np.isnan(found[6])


def test_the_figures_of_four_images_by_hand():
    # Catches: the own centre among the others, sides swapped, ties and thresholds the wrong way.
    emb = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], np.float32)
    centres = np.array([[1, 0], [0, 1]], np.float32)
    of = st.Embedded(
        emb, np.array([3, 3, 4, 4]), *st.genuine_pairs(np.array([3, 3, 4, 4])), centres,
        own=np.array([0, 0, -1, -1]), threshold=0.8,
    )  # fmt: skip
    found = st.measure(of)
    assert found["own pairs"] == pytest.approx([0.8, 0.8])
    assert found["nearest other"] == pytest.approx([0, 1])  # person 3 is centre 0, so centre 1
    assert found["closer"].tolist() == [0, 1]
    assert found["same centre"].tolist() == [1, 1]
    assert found["verified"].sum() == (np.array([0.8, 0.8], np.float32) > 0.8).sum()
    a, b = st.genuine_pairs(np.array([1, 2, 1, 1]))
    assert list(zip(a.tolist(), b.tolist())) == [(0, 2), (0, 3), (2, 3)]


def test_the_groups_are_measured_against_people_whom_both_runs_know(trained):
    # Catches: held-out people among the centres, another group's images, one run for both sides.
    (full, heldout), people = trained
    groups = {g: st.embedded(full, heldout, people, "toy", g) for g in st.GROUPS}
    for a, b in groups.values():
        assert a.centres.shape == b.centres.shape == (18, 8)
        np.testing.assert_array_equal(a.person, b.person)
        assert np.abs(a.emb - b.emb).max() > 0.01
    out, kept, bench = (groups[g][0] for g in st.GROUPS)
    assert (len(out.emb), len(kept.emb)) == (30, 30)
    assert (out.own == -1).all()
    own = np.einsum("ud,ud->u", kept.emb, kept.centres[kept.own])
    others = np.einsum("ud,ud->u", kept.emb, kept.centres[kept.own - 1])
    assert own.mean() > others.mean() + 0.1
    assert len(bench.a) == 40
    assert not set(out.person) & set(kept.person)


def test_training_on_people_shows_in_the_change_of_the_held_out_people_only(trained):
    # Catches: columns swapped, the change of another group, an interval that leaves out its mean.
    (full, heldout), people = trained
    table = st.strangers_table(full, heldout, people, "toy")
    assert list(dict.fromkeys(table.index.get_level_values("figure"))) == list(st.FIGURES)
    np.testing.assert_allclose(table["change"], table["held out"] - table["trained on"], atol=1e-6)
    assert (table["lo"] <= table["change"]).all()
    assert (table["change"] <= table["hi"]).all()
    change = table["change"].xs(st.GROUPS[0], level="people")
    assert change["own pairs"] < 0


def test_the_grid_shows_held_out_people_above_people_whom_both_know(trained):
    # Catches: rows mixed up, a held-out person shown as the nearest other.
    (full, heldout), people = trained
    images, titles = st.nearest_faces(full, heldout, people, 3)
    records = ce.open_records(full.result.config)
    label = {records.jpeg(i): records.labels[i] for i in range(len(records))}
    shown = [label[image] for image in images]
    assert set(shown[:3]) <= set(people)
    assert len(set(shown[:3])) == 3
    assert not set(shown[3:]) & set(people)
    assert [title.rpartition(" ")[0] or title for title in titles] == (
        ["person"] * 3 + ["known"] * 3 + ["held out"] * 3
    )
    sides = st.embedded(full, heldout, people, "toy", st.GROUPS[0])
    frame = st.similarity_frame(dict(zip("ab", sides)))
    assert len(frame) == 2 * 2 * len(sides[0].a)
