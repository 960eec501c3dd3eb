"""The verb `cluster`: files of labelled embeddings, what is wrong with them, figures as JSON."""

import json

import numpy as np
import pytest

from facelib.__main__ import main
from facelib.evaluate.labelled import load_labelled
from facelib.formats.benchmarks import save_benchmark
from facelib.metrics.clustering import choose_eps, label_free_eps
from facelib.metrics.neighbours import neighbour_graph
from facelib.studies.labelled_runs import run_items
from tests.metrics.test_clustering import made_faces
from tests.studies.test_centres import runs  # noqa: F401 - a fixture

EMB, LABEL = made_faces(6, 8)
NAN = EMB.copy()
NAN[3, 1] = np.nan
ZERO = EMB.copy()
ZERO[5] = 0
BAD = {
    "no label": ({"emb": EMB}, "no array `label` (found emb)"),
    "no array at all": ({"x": EMB}, "no array `emb` and `label`"),
    "one dimension": ({"emb": EMB[:, 0], "label": LABEL}, "`emb` has shape (48,)"),
    "text embeddings": ({"emb": EMB.astype(str), "label": LABEL}, "wanted real numbers (N, d)"),
    "complex": ({"emb": EMB + 0j, "label": LABEL}, "complex"),
    "empty": ({"emb": EMB[:0], "label": LABEL[:0]}, "`emb` has shape (0, 32)"),
    "short labels": ({"emb": EMB, "label": LABEL[1:]}, "`label` has shape (47,)"),
    "labels in two columns": ({"emb": EMB, "label": np.c_[LABEL, LABEL]}, "(48, 2)"),
    "real labels": ({"emb": EMB, "label": LABEL / 2}, "wanted (48,) whole numbers or text"),
    "pickled labels": ({"emb": EMB, "label": LABEL.astype(object)}, "cannot be read as an .npz"),
    "NaN": ({"emb": NAN, "label": LABEL}, "1 of 48 rows of `emb` are not finite or all zero"),
    "a zero row": ({"emb": ZERO, "label": LABEL}, "first: row 5"),
    "one identity": ({"emb": EMB, "label": LABEL * 0}, "at least 2 identities"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_file_is_one_clear_line_and_exit_code_2(tmp_path, capsys, case):
    # Catches: a check removed, a traceback, the file's name left out.
    arrays, message = BAD[case]
    path = tmp_path / "emb.npz"
    np.savez(path, **arrays)
    assert main(["cluster", str(path), "--json"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(path) in error
    assert error.count("\n") == 1


def test_files_that_are_no_npz_and_wrong_options_are_refused(tmp_path, capsys):
    # Catches: eps checked after the work, a missing model named only after clustering.
    good, text = tmp_path / "good.npz", tmp_path / "text.npz"
    np.savez(good, emb=EMB, label=LABEL)
    text.write_text("emb,label\n")
    for arguments, message in (
        ([tmp_path / "none.npz"], "no such file"),
        ([text], "cannot be read as an .npz"),
        ([good, "--eps", "0"], "above 0 and below 2"),
        ([good, "--eps", "nan"], "above 0 and below 2"),
        (
            [good, "--lgcn", tmp_path / "none.safetensors"],
            "no such file; wanted a safetensors file",
        ),
        ([good, "--lgcn", good], "cannot be read as a safetensors file"),
        ([good, "--train-lgcn", tmp_path / "m", "--steps", "0"], "wanted at least 1"),
    ):
        assert main(["cluster", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err


def test_a_file_is_clustered_with_an_lgcn_that_another_file_trained(tmp_path, capsys):
    # Catches: --tune or --lgcn without effect, text labels refused, a key missing.
    test, train, model = (str(tmp_path / n) for n in ("a.npz", "b.npz", "m.safetensors"))
    np.savez(test, emb=EMB.astype(np.float64) * 3, label=LABEL.astype(str))
    emb, label = made_faces(12, 8, seed=1)
    np.savez(train, emb=emb, label=label)
    assert main(["cluster", train, "--train-lgcn", model, "--steps", "20"]) == 0
    capsys.readouterr()
    assert main(["cluster", test, "--json", "--lgcn", model, "--tune", train]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"kmeans", "dbscan", "lgcn"}
    for figures in report.values():
        assert {"bcubed_precision", "bcubed_recall", "bcubed_f", "nmi"} <= set(figures)
        assert figures["seconds"] > 0
    assert report["kmeans"]["clusters"] == 6
    assert report["dbscan"]["bcubed_f"] == pytest.approx(1)
    assert main(["cluster", test, "--eps", "0.25"]) == 0
    assert "given" in capsys.readouterr().out


def test_eps_is_chosen_on_the_other_people_where_a_file_of_them_is_given(tmp_path, capsys):
    # Catches: --tune without effect, or an eps tuned on the clustered file itself.
    test, tune = str(tmp_path / "a.npz"), str(tmp_path / "b.npz")
    (emb, label), (other, their) = made_faces(6, 8, spread=1.5, seed=2), made_faces(12, 8, seed=1)
    np.savez(test, emb=2 * emb, label=label)
    np.savez(tune, emb=3 * other, label=their)
    graph = neighbour_graph(emb)
    tuned, free = choose_eps(neighbour_graph(other), their), label_free_eps(graph)
    assert np.diff(sorted([tuned, free, choose_eps(graph, label)])).min() > 0.01
    wanted = {"held-out identities": tuned, "label-free": free}
    for extra, (rule, eps) in zip((["--tune", tune], []), wanted.items()):
        assert main(["cluster", test, "--json", *extra]) == 0
        report = json.loads(capsys.readouterr().out)["dbscan"]
        assert (report["eps_rule"], report["eps"]) == (rule, pytest.approx(eps, abs=1e-4))


def test_a_run_is_exported_with_each_image_once(runs, tmp_path, capsys):  # noqa: F811
    # Catches: labels of the wrong side, an image twice, validation people among the training.
    run = runs[0].result
    path = tmp_path / "emb.npz"
    for name in ("toy", "train"):
        command = ["cluster", str(path), "--export", run.folder.name, "--benchmark", name]
        assert main(command) == 0
        emb, label = load_labelled(path)
        if name == "toy":
            bench = run.benchmark("toy")
            own, person, images = run_items(run, "toy")
            np.testing.assert_array_equal(emb, own)
            np.testing.assert_array_equal(label, person)
            assert len(set(images)) == len(images) == len(bench.images)
            place = images.index(bench.images[bench.index2[7]])
            assert person[place] == bench.id2[7]
    np.testing.assert_allclose(emb, runs[0].train[0])
    assert main([*command[:-1], "lfw"]) == 2
    assert "the run has toy, train" in capsys.readouterr().err


def test_a_benchmark_that_was_evaluated_later_is_exported(runs, tmp_path, capsys):  # noqa: F811
    # Catches: a file that the run's settings do not name, found by eval and lost by cluster.
    run, other = runs[0].result, tmp_path / "other.bin"
    bench = run.benchmark("toy")
    sides = [[bench.images[i] for i in index] for index in (bench.index1, bench.index2)]
    save_benchmark(other, *sides, bench.same, fold=bench.fold)
    kept = (run.folder / "eval.json").read_bytes()
    try:
        assert main(["eval", run.folder.name, "--benchmarks", str(other)]) == 0
        command = ["cluster", str(tmp_path / "o.npz"), "--export", run.folder.name]
        assert main([*command, "--benchmark", "other"]) == 0
        other.unlink()
        capsys.readouterr()
        assert main([*command, "--benchmark", "other"]) == 2
        assert "evaluate it again: python -m facelib eval" in capsys.readouterr().err
    finally:
        (run.folder / "eval.json").write_bytes(kept)
