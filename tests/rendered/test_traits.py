"""Traits of rendered people: they are those of the pictures, and one changes at a time."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from facelib.errors import UserError
from facelib.rendered import synthetic
from facelib.rendered.dataset import RenderedSpec, draw_twins, person_traits
from facelib.rendered.heads import load_assets
from facelib.rendered.people import Person, reshape
from facelib.rendered.traits import AGAIN, ITSELF, STRANGER, changed

SPEC = RenderedSpec(identities=2, images=2, test_identities=20, size=32, seed=3, nuisance=0.2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def people(root):
    assets = load_assets(root)
    return [synthetic.person_of(assets, SPEC, synthetic.TEST, i) for i in range(20)]


def test_the_darker_a_person_is_told_to_be_the_darker_the_cheeks_drawn(root):
    # Catches: traits of training people, in another order, or indexed from 0.
    told = person_traits(SPEC, root)["melanin"]
    cheeks = []
    for i in range(10):
        shown = synthetic.draw_identity(SPEC, synthetic.TEST, i, root)[: synthetic.FRONTAL]
        cheeks.append(np.mean([picture.image[18:23, 8:24] for picture in shown]))
    assert spearmanr(told.loc[2:11], cheeks).statistic < -0.85


def test_the_traits_told_are_those_of_the_person_who_is_drawn(root, people, monkeypatch):
    # Catches: a person sampled twice in two ways; the planted pictures of somebody else.
    told, drawn = person_traits(SPEC, root), []
    monkeypatch.setattr(synthetic, "build_model", lambda assets, person: drawn.append(person))
    monkeypatch.setattr(synthetic, "render", lambda *_: None)
    for split in (synthetic.TEST, synthetic.PLANTED):
        synthetic.draw_identity(SPEC, split, 4, root)
    row = told.loc[SPEC.identities + 4]
    for person in drawn:
        assert [*person.ancestry, person.age, person.melanin] == pytest.approx(
            [*row[["african", "asian", "caucasian"]], row["age"], row["melanin"]]
        )
        assert row["sex"] == ("male" if person.male else "female")
    assert len(drawn) == 2 and told["sex"].nunique() == 2


TOUCHED = {
    ITSELF: set(), "ancestry": {"positions"}, "sex": {"positions"}, "age": {"positions", "age"},
    "skin": {"melanin", "skin"}, "hair": {"hairstyle"}, "glasses": {"glasses"}, "beard": {"beard"},
}  # fmt: skip


def test_a_twin_differs_in_its_one_trait_and_in_nothing_else(root, people):
    # Catches: a second trait that moves along, a change that changes nothing.
    seen = set()
    for person in people[:6]:
        for what, twin in changed(load_assets(root), person).items():
            same = (np.array_equal(getattr(person, f.name), getattr(twin, f.name))
                    for f in fields(Person))  # fmt: skip
            moved = {f.name for f, kept in zip(fields(Person), same) if not kept}
            assert moved == TOUCHED[what]
            seen.add(what)
    assert seen == set(TOUCHED)


def test_a_change_of_shape_goes_back_to_where_it_came_from(root, people):
    # Catches: a head sampled anew, which loses the shape axes that make a person.
    person, assets = people[0], load_assets(root)
    there = replace(reshape(assets, person, age=0.9), age=0.9)
    back = reshape(assets, there, age=person.age)
    assert np.abs(back.positions - person.positions).max() < 1e-5
    assert np.abs(there.positions - person.positions).max() > 0.01


def test_twins_share_a_scene_and_others_stand_beside_them(root):
    # Catches: a scene drawn anew for each twin, the references left out.
    jpegs, rows = draw_twins(SPEC, heads=2, yaws=(0,), root=root)
    assert len(jpegs) == len(rows) and set(rows["what"]) >= {ITSELF, "skin", AGAIN, STRANGER}
    people = {what: jpegs[i] for i, what in rows[rows["head"] == 0]["what"].items()}
    assert len(set(people.values())) == len(people)
    again, _ = draw_twins(SPEC, heads=2, yaws=(0,), root=root)
    assert again == jpegs
    with pytest.raises(UserError, match="heads=21 .* from 2 to 20"):
        draw_twins(SPEC, heads=21, root=root)
