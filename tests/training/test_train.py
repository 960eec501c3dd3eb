"""The loop: real subprocesses on tiny records. Resume, signals, bad states."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facelib.config import make_config
from facelib.errors import UserError
from facelib.locks import bf16_units
from facelib.runs.folder import create_run, load_run, read_lines
from facelib.runs.launch import launch, start
from facelib.training import train as training
from facelib.training.checkpoint import load_checkpoint
from facelib.training.learner import build_learner
from facelib.training.train import Trainer, make_accelerator, train
from facelib.training.trained import load_model


def tiny(records, **changes):
    settings = {
        "data": str(records), "benchmarks": "", "width": 4, "image_size": 16, "dim": 8,
        "global_batch": 16, "images_seen": 96, "val_fraction": 0.25, "log_every": 1, "threads": 1,
        **changes,
    }  # fmt: skip
    return make_config(**settings)


def weights(run):
    state = torch.load(run.path / "checkpoints" / "last.pt", weights_only=True)
    return state["learner"]


def largest_difference(a, b):
    return max((a[k].double() - b[k].double()).abs().max().item() for k in a)


def test_a_run_learns_and_leaves_its_files(tiny_records, runs_folder):
    # Catches: gradients that do not reach the weights, missing records of the run.
    run = launch(tiny(tiny_records, loss="infonce", images_seen=1600))
    assert run.state == "done"
    metrics = run.metrics()
    losses = metrics["loss"].dropna()
    assert losses.iloc[-10:].mean() < losses.iloc[:10].mean() - 0.3
    assert metrics["val_auc"].dropna().iloc[-1] > 0.9
    assert {"images_per_s", "eta_s", "peak_memory_mb", "lr", "grad_norm"} <= set(metrics)
    assert json.loads((run.path / "env.json").read_text())["packages"]["torch"]
    assert run.status["facts"]["negatives_per_anchor"] == 14
    model, digest = load_model(run.path)
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 8)
    assert len(digest) == 16


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        *({"loss": n} for n in ("arcface", "infonce", "hybrid", "coreface", "cluster")),
        {"loss": "coreface", "chunk": 8},
        {"loss": "infonce", "bank": "queue", "bank_slots": 60},
        {"loss": "hybrid", "bank": "identity", "bank_centre": 0.5},
        {"loss": "arcface", "sampled_centres": 10, "global_batch": 8, "images_seen": 48},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_kill_9_and_resume_equals_an_uninterrupted_run_bit_for_bit(
    tiny_records, runs_folder, changes
):
    # Catches: RNG, momentum, sampler position, BatchNorm statistics, a loss's state, or the count
    # of a memory or of drawn centres not restored.
    slow = {"global_batch": 24, "images_seen": 144, "save_every": 3, "dropout": 0.3,
            "width": 16, "image_size": 48, "backbone": "iresnet18", **changes}  # fmt: skip
    whole = launch(tiny(tiny_records, name="whole", **slow))
    run = create_run(tiny(tiny_records, name="killed", **slow))
    child = start(run)
    while not (run.path / "checkpoints" / "last.pt").is_file():
        assert child.poll() is None
        time.sleep(0.005)
    child.kill()
    child.wait()
    assert run.state == "died"
    assert torch.load(run.path / "checkpoints" / "last.pt", weights_only=True)["step"] == 3
    resumed = launch(run.config)
    assert largest_difference(weights(whole), weights(resumed)) == 0
    steps = [row["step"] for row in read_lines(resumed.path / "metrics.jsonl") if "loss" in row]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_run_that_was_killed_before_its_first_checkpoint_logs_each_step_once(
    tiny_records, runs_folder
):
    # Catches: lines of the killed attempt kept beside those of the next.
    run = create_run(tiny(tiny_records))
    row = {"step": 1, "loss": 1.0, "images_per_s": 1.0, "eta_s": 1.0, "peak_memory_mb": 1.0}
    lines = "".join(json.dumps(row | {"step": step}) + "\n" for step in (1, 2))
    (run.path / "metrics.jsonl").write_text(lines)
    train(run)
    steps = [r["step"] for r in read_lines(run.path / "metrics.jsonl") if "loss" in r]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_two_views_cost_one_trunk_pass_and_differ_by_their_dropout_alone(tiny_records):
    # Catches: the whole network run twice, one mask for both views, views not stacked one by one.
    learner = build_learner(tiny(tiny_records, loss="coreface", dropout=0.4), 24)
    passes = []
    learner.backbone.layer4.register_forward_hook(lambda *_: passes.append(1))
    images, labels = torch.randn(6, 3, 16, 16), torch.arange(6)
    first, second = learner.embed(images).chunk(2)
    assert len(passes) == 1
    assert not torch.allclose(first, second)
    first, second = learner.eval().embed(images).chunk(2)
    assert torch.equal(first, second)
    assert torch.equal(first, learner.backbone(images))
    _, logs = learner(images, labels)
    assert logs["view_cosine"].item() == pytest.approx(1)


@pytest.mark.slow
def test_a_loss_is_told_how_far_the_run_is(tiny_records, runs_folder):
    # Catches: a contrastive term that never starts: until then the control's figures are the same.
    same = {"loss": "coreface", "dropout": 0.4, "coreface_warmup": 0.5}
    both = [launch(tiny(tiny_records, coreface_weight=w, **same)) for w in (0.0, 0.05)]
    control, found = (run.metrics().dropna(subset=["loss"]) for run in both)
    parted = (control["grad_norm"] != found["grad_norm"]).to_list()
    assert parted == [False] * 3 + [True] * 3
    assert weights(both[1])["criterion.progress"] == 1


def test_the_momentum_encoder_follows_the_backbone_and_feeds_the_memory(tiny_records):
    # Catches: an encoder that is trained or stands still, features of the wrong network or images,
    # a memory that is filled in evaluation, an encoder for losses that want none.
    learner = build_learner(tiny(tiny_records, loss="cluster", cluster_encoder=0.5), 24).train()
    images, labels = torch.randn(6, 3, 16, 16), torch.arange(6)
    learner(images, labels)[0].backward()
    stored = learner.criterion.store.features[:6]
    wanted = torch.nn.functional.normalize(learner.encoder(images))
    assert torch.allclose(stored, wanted, atol=1e-6)
    before = learner.encoder.network.fc.weight.clone()
    assert learner.encoder.network.fc.weight.grad is None
    learner.backbone.fc.weight.data += 1
    learner.after_step(0.5)
    assert torch.allclose(learner.encoder.network.fc.weight, before + 0.5, atol=1e-6)
    learner.eval()(images, labels)
    assert learner.criterion.store.seen == 6
    assert build_learner(tiny(tiny_records), 24).encoder is None


@pytest.mark.slow
def test_a_cluster_guided_run_keeps_its_diagnostics_in_each_metrics_line(tiny_records, runs_folder):
    # Catches: diagnostics that are computed and lost, or not at the log ticks.
    metrics = launch(tiny(tiny_records, loss="cluster", images_seen=320)).metrics()
    rows = metrics.dropna(subset=["loss"])
    wanted = {"queue_0", "queue_9_up", "phi_q50", "margin_q90", "bank_cosine", "contrast_entropy",
              "contrast_temperature", "share_z_clucon", "share_w_cluali"}  # fmt: skip
    assert wanted <= set(rows)
    assert rows[sorted(wanted)].notna().all().all()
    assert rows["share_z_clucon"].iloc[8] == 0 < rows["share_z_clucon"].iloc[9]


@pytest.mark.slow
def test_validation_by_loss_takes_chunks_too(tiny_records, runs_folder):
    # Catches: a validation that embeds the whole batch at once, or only its first chunk.
    same = {"loss": "infonce", "select": "val_loss", "split": "within",
            "val_fraction": 0.5, "freeze_batchnorm": True, "lr": 0.02}  # fmt: skip
    whole, parts = (launch(tiny(tiny_records, chunk=n, **same)) for n in (0, 4))
    a, b = (run.metrics()["val_loss"].dropna().to_numpy() for run in (whole, parts))
    assert np.abs(a - b).max() < 1e-5


@pytest.mark.slow
def test_accumulated_micro_batches_equal_one_batch_for_a_classifier(tiny_records, runs_folder):
    # Catches: a gradient that is summed instead of averaged over micro-batches.
    same = {"images_seen": 80, "freeze_batchnorm": True, "lr": 0.02}
    one = launch(tiny(tiny_records, accumulate=1, **same))
    two = launch(tiny(tiny_records, accumulate=2, **same))
    assert largest_difference(weights(one), weights(two)) < 1e-6


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_with_a_dump(tiny_records, runs_folder):
    # Catches: training on with NaN weights, or overwriting the last good checkpoint.
    with pytest.raises(UserError, match="is not finite; dump: .*lower lr"):
        launch(tiny(tiny_records, lr=1e30, clip_norm=0.0, warmup=0.0))
    run = load_run("smoke-arcface")
    assert run.state == "failed"
    dump = torch.load(next(run.path.glob("dump-*.pt")), weights_only=False)
    assert len(dump["indices"]) == 16


@pytest.mark.slow
def test_half_precision_without_cuda_is_refused(tiny_records, runs_folder):
    # Catches: bf16 on a CPU, which is 17 times slower.
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UserError, match="precision='fp16' needs CUDA"):
        launch(tiny(tiny_records, precision="fp16"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="with CUDA bf16 is always there")
def test_bf16_on_a_cpu_needs_its_units(tiny_records, monkeypatch):
    # Catches: bf16 where it is emulated, many times slower; fp16 advised by its side.
    for units, precision, message in (
        ([], "bf16", "'bf16' needs CUDA .*avx512_bf16.; use precision=fp32 on this machine"),
        (["amx_bf16"], "fp16", "'fp16' needs CUDA .*; use precision=fp32 or bf16 on this machine"),
    ):
        monkeypatch.setattr(training, "bf16_units", lambda units=units: units)
        with pytest.raises(UserError, match=message):
            make_accelerator(tiny(tiny_records, precision=precision))


@pytest.mark.slow
@pytest.mark.skipif(not bf16_units(), reason="this processor has no bf16 units")
def test_a_run_in_bf16_learns_as_one_in_fp32(tiny_records, runs_folder):
    # Catches: a loss in bf16, weights kept in it, fp32 run under the name of bf16.
    runs = [launch(tiny(tiny_records, precision=p, images_seen=320)) for p in ("fp32", "bf16")]
    a, b = (run.metrics()["loss"].dropna().to_numpy() for run in runs)
    assert runs[0].name != runs[1].name
    assert 0 < np.abs(b / a - 1)[:2].max() < 0.03  # later, small differences grow
    assert all(losses[-5:].mean() < 0.6 * losses[:5].mean() for losses in (a, b))
    assert all(weight.dtype != torch.bfloat16 for weight in weights(runs[1]).values())


def test_a_hybrid_is_selected_by_what_hybrid_val_names(tiny_records, runs_folder):
    # Catches: a validation that takes the training loss whatever is asked for.
    values = {}
    for val, weight in (("arcface", 5.0), ("sum", 5.0), ("sum", 0.0)):
        run = create_run(tiny(tiny_records, loss="hybrid", hybrid_val=val, images_seen=16,
                              contrastive_weight=weight, lr=0.0, select="val_loss", split="within",
                              val_fraction=0.5, freeze_batchnorm=True))  # fmt: skip
        train(run)
        values[val, weight] = run.metrics()["val_loss"].dropna().iloc[-1]
    assert values["arcface", 5.0] == pytest.approx(values["sum", 0.0])
    assert values["sum", 5.0] > values["arcface", 5.0] + 1


@pytest.mark.slow
def test_the_best_checkpoint_is_kept_on_request(tiny_records, runs_folder):
    # Catches: evaluation of the last weights where the config selects the best.
    run = launch(tiny(tiny_records, select="val_auc", images_seen=320, eval_every=5))
    figures = run.metrics()["val_auc"].dropna()
    best = torch.load(run.path / "checkpoints" / "best.pt", weights_only=True)
    assert best["best"] == pytest.approx(figures.max())
    assert best["step"] == run.metrics().loc[figures.idxmax(), "step"]
    assert load_model(run.path)[1] == best["digest"]
    with pytest.raises(UserError, match="without a class centre .*split=within"):
        launch(tiny(tiny_records, select="val_loss"))
    within = launch(tiny(tiny_records, select="val_loss", split="within"))
    assert within.metrics()["val_loss"].dropna().between(0, 100).all()


@pytest.mark.slow
def test_a_full_disk_is_one_clear_error_and_keeps_the_checkpoint(
    tiny_records, runs_folder, monkeypatch
):
    # Catches: half a checkpoint under its final name; torch's "unexpected pos" shown to a person.
    from facelib.training import checkpoint

    run = launch(tiny(tiny_records))
    before = (run.path / "checkpoints" / "last.pt").read_bytes()

    def full(content, path):
        path.write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1 vs 2")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), is_main_process=True, scaler=None, wait_for_everyone=id
    )
    trainer = SimpleNamespace(
        accelerator=accelerator, plain_learner=torch.nn.Linear(1, 1), optimizer=torch.nn.Module(),
        step=1, best=None, cfg=run.config, run=run, metrics=SimpleNamespace(losses=[]),
    )  # fmt: skip
    with pytest.raises(UserError, match="MB of disk are free.*free space, then go on"):
        checkpoint.save_checkpoint(trainer, "last.pt")
    assert (run.path / "checkpoints" / "last.pt").read_bytes() == before
    assert not list((run.path / "checkpoints").glob(".last*"))


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


@pytest.mark.parametrize("select", ["last", "val_auc", "val_loss", "train_loss"])
@pytest.mark.parametrize("killed_at", [2, 5, 7, 10])
def test_every_select_resumes_bit_for_bit(
    tiny_records, runs_folder, monkeypatch, select, killed_at
):
    # Catches: losses since the last validation forgotten, so that another best.pt is kept.
    settings = {"select": select, "split": "within", "images_seen": 192, "val_fraction": 0.4,
                "eval_every": 4, "save_every": 3, "lr": 0.5}  # fmt: skip
    whole = create_run(tiny(tiny_records, name="whole", **settings))
    train(whole)
    run = create_run(tiny(tiny_records, name="killed", **settings))
    step = Trainer.train_step

    def dies(trainer, *batch):
        if trainer.step + 1 == killed_at:
            raise Killed
        return step(trainer, *batch)

    monkeypatch.setattr(Trainer, "train_step", dies)
    with pytest.raises(Killed):
        train(run)
    monkeypatch.setattr(Trainer, "train_step", step)
    train(run)
    for name in ("last.pt",) if select == "last" else ("last.pt", "best.pt"):
        a, b = (load_checkpoint(r.path / "checkpoints" / name) for r in (whole, run))
        assert (a["digest"], a["step"], a["best"]) == (b["digest"], b["step"], b["best"])
    steps = [row["step"] for row in read_lines(run.path / "metrics.jsonl") if "loss" in row]
    assert steps == list(range(1, 13))


def test_a_stop_at_a_validation_step_validates_before_it_saves(
    tiny_records, runs_folder, monkeypatch
):
    # Catches: the resumed run begins after the step, so that its validation never takes place.
    from facelib.training import train as module

    settings = {"select": "val_auc", "images_seen": 128, "eval_every": 4, "save_every": 8}
    run = create_run(tiny(tiny_records, **settings))
    monkeypatch.setattr(Trainer, "_stop_wanted", lambda trainer: trainer.step == 4)
    with pytest.raises(module.Stop):
        train(run)
    monkeypatch.setattr(Trainer, "_stop_wanted", lambda trainer: False)
    train(run)
    rows = read_lines(run.path / "metrics.jsonl")
    assert [row["step"] for row in rows if "val_auc" in row] == [4, 8]
