"""Maps of embeddings: who is on them, and that neighbours stay neighbours."""

import numpy as np
import pytest

from facelib.metrics import geometry as an
from facelib.metrics.scores import make_scores
from facelib.studies import maps


def crowd(people=4, each=8):
    """Tight, well separated people: (emb, scores with every image in some pair)."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(people), each)
    emb = an.unit(rng.normal(size=(people, 16))[person] + 0.05 * rng.normal(size=(len(person), 16)))
    n = len(person)
    a, b = np.arange(0, n, 2), np.roll(np.arange(1, n, 2), 1)  # each image on one side only,
    a, b = np.r_[a, a[:1]], np.r_[b, b[:1]]  # two of them in two pairs
    cosine = np.einsum("pd,pd->p", emb[a], emb[b])
    same, sides = person[a] == person[b], {"id1": person[a], "id2": person[b]}
    return emb, make_scores(cosine, same, **sides, index1=a, index2=b)


def test_the_map_takes_each_image_once_with_its_own_person():
    # Catches: persons of side 1 given to images of side 2, an image drawn twice.
    _, scores = crowd()
    frame = maps.people_of(scores, 3)
    assert frame["image"].tolist() == list(range(24))  # equal counts: lower identity
    assert frame["person"].tolist() == [0] * 8 + [1] * 8 + [2] * 8


@pytest.mark.slow
def test_people_stay_together_on_the_map_and_the_map_stays_the_same():
    # Catches: distances for neighbours mixed up, places in another order, a free seed.
    emb, scores = crowd()
    frame = maps.map_frame(scores, emb, 4)
    on_map, inside = maps.separation(frame, emb)
    assert inside == 1
    assert on_map > 0.9
    again = maps.map_frame(scores, emb, 4)
    np.testing.assert_array_equal(frame[["x", "y"]], again[["x", "y"]])


def test_a_map_of_noise_is_not_called_separated():
    # Catches: an image counted as its own neighbour, the map's share given for the embedding.
    emb, scores = crowd()
    rng = np.random.default_rng(1)
    frame = maps.people_of(scores, 4).assign(x=rng.normal(size=32), y=rng.normal(size=32))
    on_map, inside = maps.separation(frame, emb)
    assert on_map < 0.6
    assert inside == 1
