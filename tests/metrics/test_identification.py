"""MegaFace: feature files, rank-1 and TAR@FAR against loops and against answers known ahead."""

import json

import numpy as np
import pytest

from facelib.__main__ import main
from facelib.errors import BadData, UserError
from facelib.metrics import identification
from facelib.metrics.features import CV_32F, HEADER, open_features, read_feature
from facelib.metrics.identification import LargestScores, identify, mate_pairs
from facelib.metrics.scores import far_name
from facelib.metrics.verification import tar_at_far


def write_features(path, emb, **arrays):
    np.savez(path, emb=emb.astype(np.float32), **arrays)
    return path


def example(tmp_path, probes=60, people=12, strangers=900, dim=6, seed=0):
    """Opened (probes, distractors) of random features, and their unit arrays."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(people, size=probes)
    a = rng.normal(size=(people, dim))[labels] + 0.6 * rng.normal(size=(probes, dim))
    b = rng.normal(size=(strangers, dim))
    np.save(tmp_path / "b.npy", b.astype(np.float32))
    opened = (
        open_features(write_features(tmp_path / "a.npz", a, label=labels)),
        open_features(tmp_path / "b.npy"),
    )
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    return opened, unit, labels


def test_rank1_and_tar_equal_loops_over_every_pair(tmp_path, monkeypatch):
    # Catches: a probe as its own mate, distractors of one block only, a FAR over mate pairs.
    monkeypatch.setattr(identification, "BLOCK", 128)
    monkeypatch.setattr(identification, "FARS", (1e-4, 1e-2))
    opened, (a, b), labels = example(tmp_path)
    hits, genuine = {10: [], 100: [], 900: []}, []
    for i in range(len(a)):
        for j in range(len(a)):
            if i != j and labels[i] == labels[j]:
                genuine.append(a[i] @ a[j])
                for size, list_ in hits.items():
                    list_.append(a[i] @ a[j] > (b[:size] @ a[i]).max())
    found = identify(*opened)
    assert found["mate_pairs"] == len(genuine)
    for size, list_ in hits.items():
        assert found["rank1"][str(size)] == pytest.approx(np.mean(list_))
    used = [i for i in range(len(a)) if (labels == labels[i]).sum() > 1]
    score = np.r_[genuine, (a[used] @ b.T).ravel()]
    expected = tar_at_far(score, np.arange(len(score)) < len(genuine), (1e-4, 1e-2))
    assert found["tar_at_far"] == pytest.approx({far_name(k): v for k, v in expected.items()})


def test_perfect_features_find_everybody_and_a_tie_is_a_miss(tmp_path):
    # Catches: ≥ instead of >: a distractor that equals the mate is as good as the mate.
    eye = np.eye(4).repeat(2, 0)
    probes = open_features(write_features(tmp_path / "a.npz", eye, label=np.arange(8) // 2))
    strangers = open_features(write_features(tmp_path / "b.npz", -np.ones((50, 4))))
    found = identify(probes, strangers)
    assert (found["rank1"]["50"], found["people"], found["mate_pairs"]) == (1.0, 4, 8)
    assert found["tar_at_far"]["1e-6"] is None
    twin = open_features(write_features(tmp_path / "c.npz", np.eye(4)[:1]))
    assert identify(probes, twin)["rank1"]["1"] == 0.75


def test_the_largest_scores_are_kept_whatever_the_blocks(tmp_path):
    # Catches: a bound that rises too early and loses scores; ties at the bound.
    import torch

    rng = np.random.default_rng(1)
    scores = rng.normal(size=20_000).astype(np.float32).round(3)
    for parts in (1, 7, 400):
        largest = LargestScores(50)
        for block in np.array_split(scores, parts):
            largest.add(torch.from_numpy(block))
        assert (largest.sorted()[:50] == np.sort(scores)[::-1][:50]).all()


def test_every_image_of_a_person_is_the_mate_of_each_other_one():
    # Catches: unordered pairs, people with one image.
    probe, mate = mate_pairs(np.array([5, 3, 5, 5, 9]))
    assert sorted(zip(probe.tolist(), mate.tolist())) == [
        (0, 2), (0, 3), (2, 0), (2, 3), (3, 0), (3, 2)
    ]  # fmt: skip


def write_list(folder, emb, ids=None, suffix="_r50.bin"):
    """The devkit's list and one feature file an image."""
    paths = [f"{i % 3}/{i}.jpg" for i in range(len(emb))]
    for path, row in zip(paths, emb.astype("<f4")):
        file = folder / (path + suffix)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(HEADER.pack(len(row), 1, 4, CV_32F) + row.tobytes())
    content = {"path": paths} | ({} if ids is None else {"id": ids})
    (folder / "list.json_1000_1").write_text(json.dumps(content))
    return folder / "list.json_1000_1"


def test_devkit_lists_and_feature_files_give_the_figures_of_arrays(tmp_path, capsys):
    # Catches: header fields read in another order, labels sorted differently from the features.
    opened, (a, b), labels = example(tmp_path, strangers=40)
    (tmp_path / "p").mkdir(), (tmp_path / "d").mkdir()
    people = [f"person {9 - label:02d}" for label in labels]
    arguments = [
        "megaface", str(write_list(tmp_path / "p", a, people)), str(write_list(tmp_path / "d", b)),
        "--probe-folder", str(tmp_path / "p"), "--distractor-folder", str(tmp_path / "d"),
        "--suffix", "_r50.bin", "--json",
    ]  # fmt: skip
    assert main(arguments) == 0
    found, expected = json.loads(capsys.readouterr().out), identify(*opened)
    assert found["rank1"] == pytest.approx(expected["rank1"])
    assert main([*arguments[:3], "--json"]) == 2
    assert "say where its feature files are" in capsys.readouterr().err
    assert (
        main(["megaface", str(tmp_path / "a.npz"), str(tmp_path / "b.npy"), "--limit", "10"]) == 0
    )
    assert "distractors: 10" in capsys.readouterr().out


def test_damaged_or_wrong_features_are_one_clear_error(tmp_path):
    # Catches: a truncated file read as a shorter feature, zeros divided, unlabelled probes.
    good = HEADER.pack(4, 1, 4, CV_32F) + np.ones(4, "<f4").tobytes()
    for content in (good[:-1], good + b"x", good[:7], HEADER.pack(4, 1, 8, 6) + bytes(16)):
        (tmp_path / "x.bin").write_bytes(content)
        with pytest.raises(BadData, match=r"wanted \(d, 1, 4, 5\)"):
            read_feature(tmp_path / "x.bin")
    (tmp_path / "x.bin").write_bytes(good)
    assert read_feature(tmp_path / "x.bin").tolist() == [1, 1, 1, 1]
    opened, _, _ = example(tmp_path)
    with pytest.raises(UserError, match="probes need labels"):
        identify(opened[1], opened[1])
    zeros = open_features(write_features(tmp_path / "z.npz", np.zeros((3, 6))))
    with pytest.raises(UserError, match="feature 0 is not finite or all zero"):
        identify(opened[0], zeros)
    other = open_features(write_features(tmp_path / "o.npz", np.ones((3, 7))))
    with pytest.raises(UserError, match="probes have 6 numbers, distractors 7"):
        identify(opened[0], other)
    alone = open_features(write_features(tmp_path / "s.npz", np.ones((3, 6)), label=np.arange(3)))
    with pytest.raises(UserError, match="nobody has two images"):
        identify(alone, opened[1])


def test_open_set_rates_equal_a_loop_over_searches(tmp_path):
    # Catches: the mate as its own rival, strangers in the share, a threshold that all may pass.
    opened, (a, b), labels = example(tmp_path)
    used = [i for i in range(len(a)) if (labels == labels[i]).sum() > 1]
    best = (a @ b.T).max(1)
    threshold = np.sort(best[used])[::-1][int(0.1 * len(used))]
    hits = [
        a[i] @ a[j] > max(best[i], threshold)
        for i in used for j in used if i != j and labels[i] == labels[j]
    ]  # fmt: skip
    rates = identify(*opened)["tpir_at_fpir"]
    assert rates["1e-1"] == pytest.approx(np.mean(hits))
    assert rates["1e-2"] is None  # 60 searches


def test_half_of_a_labelled_sets_people_are_strangers(tmp_path, capsys):
    # Catches: an enrolled image searched for itself, a stranger enrolled, a verb without this way.
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 5)
    near = np.eye(40)[labels] + 0.01 * rng.normal(size=(200, 40))
    write_features(tmp_path / "a.npz", near, label=labels)
    assert main(["megaface", str(tmp_path / "a.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["enrolled"], found["searches"], found["searches_of_strangers"]) == (20, 80, 100)
    assert found["rank1"] == 1.0
    assert found["tpir_at_fpir"] == {"1e-1": 1.0, "1e-2": 1.0, "1e-3": None}
    assert main(["megaface", str(tmp_path / "a.npz"), "--limit", "9"]) == 2
    assert "are of distractors" in capsys.readouterr().err
    write_features(tmp_path / "b.npz", near[:5], label=labels[:5])
    assert main(["megaface", str(tmp_path / "b.npz")]) == 2
    assert "nobody to enrol" in capsys.readouterr().err
