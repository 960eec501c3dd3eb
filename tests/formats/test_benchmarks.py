"""Benchmarks: pairs, folds and identities survive the trip through `.bin` and sidecar."""

from pathlib import Path

import numpy as np
import pytest

from facelib.errors import BadData, UserError
from facelib.formats.benchmarks import (
    connected_components,
    contiguous_folds,
    load_benchmark,
    save_benchmark,
    sidecar_path,
)
from facelib.formats.bins import write_bin

A, B, C, D = b"image a", b"image b", b"image c", b"image d"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "toy.bin"
    save_benchmark(
        path, [A, B, A, D], [B, A, C, C], [1, 1, 0, 0], fold=[0, 1, 0, 1],
        id1=[5, 5, 5, 9], id2=[5, 5, 7, 7], yaw1=[0, 1, 2, 3], yaw2=[90, 80, 70, -60.5],
    )  # fmt: skip
    return path


def test_a_benchmark_comes_back_with_unique_images(saved: Path):
    # Mutation: the sides of a pair swapped, or images counted once a pair.
    bench = load_benchmark(saved)
    assert bench.name == "toy" and bench.images == [A, B, C, D] and bench.folds == 2
    assert [bench.images[i] for i in bench.index1] == [A, B, A, D]
    assert [bench.images[i] for i in bench.index2] == [B, A, C, C]
    assert bench.same.tolist() == [True, True, False, False]
    assert bench.fold.tolist() == [0, 1, 0, 1]
    assert bench.id1.tolist() == [5, 5, 5, 9] and bench.id2.tolist() == [5, 5, 7, 7]
    assert bench.yaw2.dtype == np.float32 and bench.yaw2.tolist() == [90, 80, 70, -60.5]


def test_without_a_sidecar_folds_are_tenths_and_identities_come_from_genuine_pairs(tmp_path):
    # Mutation: identities by pair instead of by connected component.
    pairs = [(A, B, True), (B, C, True), (A, D, False)] + [(D, D, True)] * 20
    sides = [side for pair in pairs for side in pair[:2]]
    write_bin(tmp_path / "x.bin", sides, [pair[2] for pair in pairs])
    bench = load_benchmark(tmp_path / "x.bin")
    assert np.bincount(bench.fold).tolist() == [3, 3, 3] + [2] * 7
    assert bench.id1[0] == bench.id2[0] == bench.id2[1] != bench.id2[2]
    assert bench.yaw1 is None


def test_contiguous_folds_are_those_of_scikit_learn():
    # Mutation: the surplus given to the last folds.
    from sklearn.model_selection import KFold

    for pairs in (10, 23, 6000):
        expected = np.empty(pairs, int)
        for k, (_, test) in enumerate(KFold(10).split(np.zeros(pairs))):
            expected[test] = k
        assert np.array_equal(contiguous_folds(pairs), expected)


def test_components_are_numbered_in_order_of_their_first_node():
    edges = np.array([[4, 3], [1, 4], [0, 2]])
    assert connected_components(6, *edges.T).tolist() == [0, 1, 0, 1, 1, 2]


def test_the_digest_sees_pixels_pairs_and_folds(tmp_path: Path):
    # Mutation: a digest over the images alone, so that cached scores outlive a new protocol.
    variants = [
        ([A, C], [B, D], [1, 0], [0, 1]),
        ([A, C], [B, B], [1, 0], [0, 1]),
        ([A, C], [D, B], [1, 0], [0, 1]),
        ([A, C], [B, D], [0, 1], [0, 1]),
        ([A, C], [B, D], [1, 0], [1, 0]),
    ]
    digests = set()
    for images1, images2, same, fold in variants:
        save_benchmark(tmp_path / "x.bin", images1, images2, same, fold=fold)
        digests.add(load_benchmark(tmp_path / "x.bin").digest)
    assert len(digests) == len(variants)


def test_a_sidecar_of_another_benchmark_is_refused(saved: Path, tmp_path: Path):
    # A kill between the two files must not pair old folds with new images.
    save_benchmark(tmp_path / "y.bin", [A] * 4, [B] * 4, [1, 1, 0, 0])
    sidecar_path(tmp_path / "y.bin").replace(sidecar_path(saved))
    with pytest.raises(BadData, match=r"written for another \.bin"):
        load_benchmark(saved)


def test_a_damaged_sidecar_is_refused(saved: Path):
    side = sidecar_path(saved)
    side.write_bytes(side.read_bytes()[:100])
    with pytest.raises(BadData, match="cannot be read as a sidecar"):
        load_benchmark(saved)
    np.savez(side, fold=np.zeros(3, int))
    with pytest.raises(BadData, match=r"fold has shape \(3,\), wanted \(4,\)"):
        load_benchmark(saved)
    np.savez(side, fold=np.array([{}] * 4, dtype=object))
    with pytest.raises(BadData, match="cannot be read as a sidecar"):
        load_benchmark(saved)


def test_columns_of_another_length_are_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(UserError, match=r"2 pairs, but \{'images2': 1, 'fold': 3\}"):
        save_benchmark(tmp_path / "x.bin", [A, B], [C], [1, 0], fold=[0, 1, 2])
    assert list(tmp_path.iterdir()) == []


def test_folds_of_one_kind_of_pair_are_said(tmp_path: Path, caplog):
    # Mutation: silence, where InsightFace's tenths of a sorted list hold one kind each.
    write_bin(tmp_path / "x.bin", [A, B] * 40, [True] * 20 + [False] * 20)
    load_benchmark(tmp_path / "x.bin")
    assert "10 of its 10 folds hold pairs of one kind" in caplog.text
    caplog.clear()
    write_bin(tmp_path / "x.bin", [A, B] * 40, [True, False] * 20)
    load_benchmark(tmp_path / "x.bin")
    assert caplog.text == ""
