"""The hardest pairs of several runs."""

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
import matplotlib.pyplot as plt

from facelib.metrics.scores import make_scores
from facelib.studies import hardest


class Result:
    """A result of one benchmark with given cosines; pairs and pictures are the same for all."""

    def __init__(self, label, cosines):
        same = np.arange(40) % 2 == 0
        number = np.arange(40) // 2  # of the pair among those of its kind
        self.label = label
        self._scores = make_scores(cosines, same, index1=number % 5, index2=5 + number + 20 * ~same)
        self.images = [np.full((8, 8, 3), i, np.uint8) for i in range(45)]

    def scores(self, name):
        return self._scores

    def benchmark(self, name):
        return self


def results():
    rising = np.linspace(-0.5, 0.5, 40)
    turned = rising.copy()
    turned[::2] = rising[::2][::-1]  # other genuine pairs are hard, the impostors are the same
    return [Result("A", rising), Result("B", turned), Result("C", rising / 2)]


def test_runs_share_the_pairs_of_the_same_rank_whatever_their_scale():
    # Catches: cosines compared instead of ranks, a pair known by one of its images only.
    table = hardest.shared_hardest(results(), "toy", k=5)["shared"]
    assert table[hardest.GENUINE].to_dict() == {("A", "B"): 0, ("A", "C"): 5, ("B", "C"): 0}
    assert (table[hardest.IMPOSTOR] == 5).all()
    whole = hardest.shared_hardest(results(), "toy", k=5)
    assert whole["by chance"].tolist() == pytest.approx([25 / 20] * 6)
    assert whole["all"].tolist() == [0] * 3 + [5] * 3


def test_each_run_has_a_row_of_its_hardest_pairs_and_common_ones_have_a_star():
    # Catches: one run's pairs in all rows, a star for pairs of one run only.
    for kind, starred in ((hardest.GENUINE, 0), (hardest.IMPOSTOR, 9)):
        figure = hardest.hardest_by_run(results(), "toy", kind, k=3, size=8)
        titles = [ax.get_title() for ax in figure.axes]
        assert len(titles) == 9
        assert sum(title.endswith("*") for title in titles) == starred
        plt.close(figure)
    lowest = [ax.get_title() for ax in hardest.hardest_by_run(results(), "t", kind, 3, 8).axes]
    assert lowest[0].startswith("cos 0.50")
    plt.close("all")
