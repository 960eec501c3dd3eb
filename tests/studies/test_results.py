"""From a run to the tables and pictures of a notebook, on tiny records and a toy benchmark."""

import itertools

import cv2
import numpy as np
import pytest
import torch

from facelib.config import make_config
from facelib.formats.benchmarks import save_benchmark
from facelib.runs.launch import launch
from facelib.studies.results import (
    Pixels,
    accuracy_frame,
    differences,
    evaluate,
    finished,
    finished_reports,
    floors,
    side_by_side,
)
from facelib.studies.source_a import NO_WEIGHTS, SOURCE_A, results_table
from facelib.training.plan import describe_plan, plan


def toy_benchmark(path, people=20, per_fold=2):
    """Genuine and impostor pairs of blotchy pictures; the yaws are made up."""
    rng = np.random.default_rng(1)
    faces = rng.integers(0, 255, (people, 4, 4, 3), np.uint8)

    def picture(person):
        noisy = np.clip(faces[person] + rng.normal(0, 30, (4, 4, 3)), 0, 255).astype(np.uint8)
        return cv2.imencode(".jpg", cv2.resize(noisy, (32, 32)))[1].tobytes()

    rows = []
    for fold in range(10):
        own = [2 * fold, 2 * fold + 1]
        rows += [(p, p, fold) for p in own * per_fold]
        rows += [(own[0], own[1], fold)] * (2 * per_fold)
    a, b, fold = np.array(rows).T
    yaw = rng.uniform(-90, 90, (2, len(a))).astype(np.float32)
    save_benchmark(
        path, [picture(p) for p in a], [picture(p) for p in b], a == b,
        fold=fold, id1=a, id2=b, yaw1=yaw[0], yaw2=yaw[1],
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny_records, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        bench = tmp_path_factory.mktemp("bench") / "toy.bin"
        toy_benchmark(bench)
        sizes = {"width": 4, "image_size": 16, "dim": 8, "global_batch": 16, "images_seen": 640}
        common = {"data": str(tiny_records), "benchmarks": str(bench), "threads": 1, **sizes}
        configs = [make_config(loss=loss, **common) for loss in ("arcface", "infonce")]
        yield [evaluate(launch(cfg), bootstrap=50) for cfg in configs], configs


def test_a_result_gives_tables_scores_pictures_and_pose(trained):
    # Catches: figures of another benchmark, thresholds in distances instead of cosines.
    (result, _), _ = trained
    assert result.benchmarks == ["toy"]
    assert list(result.table().index) == ["toy"]
    assert len(result.scores("toy").score) == 80
    assert len(result.benchmark("toy").images) == 160
    assert -1 <= result.thresholds("toy")["best"] <= 1
    assert (result.pose("toy")["pairs"] >= 20).all()  # 40 genuine pairs, one bin of many
    assert "- toy: best threshold" in result.summary()


def test_the_floors_are_other_models_than_the_trained_one(trained):
    # Catches: an evaluation that ignores the weights; floors made from the trained checkpoint.
    (result, _), (cfg, _) = trained
    found = floors(cfg)
    assert list(found) == ["raw pixels", "random network"]
    table = side_by_side([result, *found.values()])
    assert list(table.index.get_level_values("loss")) == ["ArcFace", "raw pixels", "random network"]
    figures = result.report["benchmarks"]["toy"]
    assert figures["best"]["accuracy"] >= 0.8
    scores = [r.scores("toy").score for r in (result, *found.values())]
    assert all(np.abs(a - b).max() > 0.05 for a, b in itertools.combinations(scores, 2))
    assert Pixels()(torch.full((2, 3, 4, 4), 7.0)).abs().max() == 0  # brightness is taken out


def test_two_results_are_compared_pair_by_pair(trained):
    # Catches: swapped signs, differences in fractions shown as points.
    (arc, nce), _ = trained
    table = differences(nce, arc, bootstrap=50)
    gap = accuracy_frame([nce, arc]).set_index("group")["value"]
    shown = float(table.loc["toy", "best: difference"].split()[0])
    assert shown == pytest.approx(100 * (gap["InfoNCE"] - gap["ArcFace"]), abs=0.06)
    assert table.index.name == "InfoNCE − ArcFace"


def test_the_results_table_has_every_published_row_and_says_what_was_not_run(trained):
    # Catches: a dropped row, or a made-up figure where nothing ran.
    (result, _), _ = trained
    report = {"benchmarks": {"lfw": result.report["benchmarks"]["toy"]}}
    table = results_table({"arcface": report}, "toy faces")
    assert len(table) == 3 * len(SOURCE_A)
    assert table.loc[("ArcFace R50", "LFW"), "setting here"] == "toy faces"
    assert table.loc[("InfoNCE R50", "LFW"), "here strict"] == "not run on this machine yet"
    assert table.loc[("CLIP ViT-B/32 + LoRA", "CFP-FP"), "here strict"] == NO_WEIGHTS
    assert table.loc[("ArcFace R50", "CFP-FP"), "published strict"] == "95.84"
    more = results_table({"infonce-lora-generic-vit": report}, "toy faces").iloc[len(table) :]
    assert set(more.index.get_level_values(0)) == {"stand-in (generic ViT) + LoRA"}
    assert more["published strict"].eq("no such row").all()


def test_only_finished_runs_are_found(trained):
    # Catches: a results notebook that starts a training.
    _, (cfg, _) = trained
    assert finished(cfg) is not None
    assert finished(cfg.replace(seed=99)) is None
    assert list(finished_reports([cfg, cfg.replace(seed=99, loss="hybrid")])) == [cfg.loss]


def test_the_plan_states_steps_negatives_and_time(trained):
    # Catches: estimates that miss the batch, or paths of this machine in a notebook's output.
    _, (_, cfg) = trained
    found = plan(cfg)
    assert found["steps"] == 40
    assert found["negatives_per_anchor"] == 14
    assert found["minutes"] > 0
    assert "/" not in describe_plan(found)
