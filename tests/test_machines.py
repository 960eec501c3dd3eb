"""Runs on more than one process and machine: shards, other numbers of processes, restarts."""

import os
import shutil
import subprocess
import sys
import time

import psutil
import pytest
import torch
import yaml

from facelib.config import make_config
from facelib.errors import UserError
from facelib.losses import build_loss
from facelib.paths import REPO
from facelib.runs.folder import create_run, load_run
from facelib.runs.launch import command, launch, start
from facelib.training.learner import Learner, build_learner, compile_backbone
from facelib.training.schedule import build_optimizer
from facelib.training.trained import load_model
from tests.training.test_train import largest_difference, tiny, weights

SLURM = REPO / "notebooks" / "slurm"
STILL = {"freeze_batchnorm": True, "lr": 0.02}  # batch statistics are those of a process


def loaded(run):
    return torch.load(run.path / "checkpoints" / "last.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"clip_norm": 0.1}, {"optimizer": "adamw", "lr": 0.001},
                                     {"loss": "hybrid", "sampled_centres": 12},
                                     {"chunk": 4, "centre_block": 5}])  # fmt: skip
def test_centres_on_two_processes_train_the_weights_of_one(tiny_records, runs_folder, changes):
    # Catches: a shard's gradient averaged over the ranks, embeddings' gradients too small by their
    # number, a norm that is clipped on each rank for itself, rows saved in another order.
    same = {"images_seen": 80, **STILL, **changes}
    one = launch(tiny(tiny_records, processes=1, **same))
    two = launch(tiny(tiny_records, processes=2, sharded=True, **same))
    assert largest_difference(weights(one), weights(two)) < 1e-6
    a, b = (loaded(run)["optimizer"]["state"] for run in (one, two))
    for key in a:
        for name, value in a[key].items():
            apart = (b[key][name].double() - value.double()).norm()
            assert apart <= 1e-5 * value.double().norm(), (key, name)
    assert loaded(one)["digest"] and load_model(two.path)[0]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"loss": "arcface", "sharded": True}, {"loss": "infonce"},
                                     {"loss": "infonce", "bank": "queue", "bank_slots": 30}],
                         ids=["sharded", "gathered", "queue"])  # fmt: skip
def test_a_checkpoint_of_two_processes_goes_on_with_one_and_with_three(
    tiny_records, runs_folder, tmp_path, monkeypatch, changes
):
    # Catches: shards that only their own number of ranks can read, a queue or a batch that is
    # another one on other ranks, the first half of the run trained again.
    same = {"global_batch": 24, "images_seen": 144, "save_every": 3, "width": 16, "image_size": 48,
            "elastic": True, **STILL, **changes}  # fmt: skip
    whole = launch(tiny(tiny_records, name="whole", processes=1, **same))
    run = create_run(tiny(tiny_records, name="killed", processes=2, **same))
    child = start(run)
    while not (run.path / "checkpoints" / "last.pt").is_file():
        assert child.poll() is None, (run.path / "train.log").read_text()
        time.sleep(0.005)
    child.kill()
    child.wait()
    half = loaded(run)
    assert half["step"] == 3
    way = distance(half["learner"], weights(whole))
    for processes in (1, 3):
        root = tmp_path / str(processes)
        # Files that are written at this moment have other names: .NAME.x.tmp.
        shutil.copytree(runs_folder, root, ignore=shutil.ignore_patterns(".*.tmp"))
        monkeypatch.setenv("FACELIB_RUNS", str(root))
        wait_until_dead(load_run(root / run.name))
        resumed = launch(load_run(root / run.name).config, processes=processes)
        assert resumed.state == "done" and resumed.status["facts"]["processes"] == processes
        # Sums are rounded apart, and PReLU's kink turns that into 1e-4 now and then: 0.2 % of the
        # way of the second half; without momentum it is 80 %.
        assert distance(weights(whole), weights(resumed)) < 1e-2 * way
        steps = resumed.metrics().dropna(subset=["loss"])["step"]
        assert steps.to_list() == [1, 2, 3, 4, 5, 6]


def distance(a, b):
    parts = ((a[k].double() - b[k].double()).norm() for k in a if a[k].is_floating_point())
    return torch.stack([*parts]).norm().item()


def wait_until_dead(run):
    end = time.monotonic() + 40
    while run.state == "running" and time.monotonic() < end:
        time.sleep(0.1)
    run.set_status(pid=-1)


def test_only_an_elastic_run_takes_another_number_of_processes(tiny_records, runs_folder):
    # Catches: batch statistics of other shares without a word; a batch that does not divide.
    with pytest.raises(UserError, match="any number with: .* --set elastic=true"):
        launch(tiny(tiny_records), processes=2)
    with pytest.raises(UserError, match="global_batch=16 does not divide into 3 process"):
        launch(tiny(tiny_records, elastic=True), processes=3)


@pytest.mark.slow
def test_torchrun_restarts_from_the_last_checkpoint(tiny_records, runs_folder):
    # Catches: a run that one dead process ends, or that begins anew.
    run = create_run(tiny(tiny_records, processes=2, elastic=True, images_seen=3200, save_every=5))
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "--max-restarts", "2", "-m", "facelib.training.train", str(run.path)]  # fmt: skip
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # as slurm.sh says
    launcher = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        while not (run.path / "checkpoints" / "last.pt").is_file():
            assert launcher.poll() is None
            time.sleep(0.05)
        workers = psutil.Process(launcher.pid).children()
        workers[-1].kill()
        output = launcher.communicate(timeout=240)[1]
    finally:
        launcher.kill()
    assert launcher.returncode == 0, output[-2000:]
    assert "resumed at step" in output
    assert run.state == "done"
    steps = [row for row in run.metrics()["step"].dropna()]
    assert steps == sorted(steps) and steps[-1] == 200


@pytest.mark.slow
def test_the_slurm_script_trains_a_run_and_asks_to_come_again_when_stopped(
    tiny_records, runs_folder, tmp_path
):
    # Catches: a script that cannot start, other settings than asked for, no second turn.
    tools = tmp_path / "bin"
    tools.mkdir()
    shims = {
        "srun": 'exec "$@"',
        "scontrol": f'echo "$@" >> {tmp_path}/asked; [ "$1" != show ] || echo localhost',
    }
    for name, body in shims.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "FACELIB_PYTHON": sys.executable,
        "SLURM_JOB_NUM_NODES": "1", "FACELIB_PER_NODE": "2", "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "localhost", "SLURM_SUBMIT_DIR": str(REPO),
    }  # fmt: skip
    cfg = tiny(tiny_records, elastic=True, processes=2, images_seen=160_000)
    settings = [f"{k}={v}" for k, v in cfg.to_dict().items() if k not in ("elastic", "processes")
                and v != getattr(make_config(), k)]  # fmt: skip
    job = subprocess.Popen(["bash", str(SLURM / "slurm.sh"), "smoke", *settings], cwd=REPO,
                           env=environment, stderr=subprocess.PIPE, text=True)  # fmt: skip
    try:
        run = None
        while run is None or run.status.get("step", 0) < 5:
            assert job.poll() is None, job.stderr.read()[-2000:]
            time.sleep(0.1)
            run = load_run("smoke") if list(runs_folder.glob("smoke*/config.json")) else None
        assert run.config.replace(name=cfg.name) == cfg
        launcher = next(p for p in psutil.Process(job.pid).children(recursive=True)
                        if "torch.distributed.run" in " ".join(p.cmdline()))  # fmt: skip
        launcher.terminate()  # what SLURM sends to the step before the time is up
        job.communicate(timeout=120)
    finally:
        job.kill()
    assert job.returncode == 0
    assert run.state == "stopped"
    asked = (tmp_path / "asked").read_text()
    assert asked.count(f"requeue {os.getpid()}") == 1
    # A turn that dies before it trains finds the status of this one: it must not come again.
    (tools / "srun").write_text("#!/bin/sh\nexit 3\n")
    again = subprocess.run(["bash", str(SLURM / "slurm.sh"), str(run.path)], cwd=REPO,
                           env=environment, timeout=60)  # fmt: skip
    assert again.returncode == 3
    assert (tmp_path / "asked").read_text().count("requeue") == 1


def test_the_accelerate_file_is_one_that_accelerate_reads():
    # Catches: a key that accelerate does not know, which ends the launch.
    from accelerate.commands.config.config_args import ClusterConfig

    content = yaml.safe_load((SLURM / "accelerate.yaml").read_text())
    config = ClusterConfig.from_yaml_file(yaml_file=str(SLURM / "accelerate.yaml"))
    assert (config.num_machines, config.num_processes) == (2, 16)
    assert set(content) <= set(ClusterConfig.__dataclass_fields__) | {"compute_environment"}


@pytest.mark.slow
def test_the_launcher_takes_the_number_it_is_told(tiny_records, runs_folder, tmp_path):
    # Catches: the configuration's number whatever --processes says.
    line, _ = command(tiny(tiny_records, elastic=True), tmp_path, processes=4)
    assert line[line.index("--num_processes") + 1] == "4"
    assert "accelerate" not in " ".join(command(tiny(tiny_records), tmp_path)[0])


@pytest.mark.slow
def test_a_compiled_backbone_gives_the_same_loss_and_names():
    # Catches: names of weights that a compiled module changes: such a checkpoint loads nowhere.
    cfg = make_config(loss="infonce", dim=4, compile="always")
    torch.manual_seed(0)
    plain = Learner(torch.nn.Linear(5, 4), build_loss(cfg, 6))
    images, labels = torch.randn(8, 5), torch.arange(4).repeat_interleave(2)
    expected, names = plain(images, labels)[0], list(plain.state_dict())
    assert compile_backbone(cfg, plain, torch.device("cpu"))
    found = plain(images, labels)[0]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert list(plain.state_dict()) == names


@pytest.mark.parametrize("width, size", [(4, 48), (8, 64), (15, 64)])
def test_a_narrow_network_trains_on_large_images(width: int, size: int):
    # Mutation: channels last, whose backward corrupts memory here; a child process would crash.
    code = (
        "import torch; from facelib.config import make_config;"
        "from facelib.data.feed import memory_format;"
        "from facelib.training.learner import build_learner;"
        f"cfg = make_config(width={width}, image_size={size}, dim=16);"
        f"images = torch.randn(8, 3, {size}, {size}).contiguous(memory_format=memory_format(cfg));"
        "learner = build_learner(cfg, 5);"
        "[learner(images, torch.arange(8) % 5)[0].backward() for _ in range(3)];"
        "assert all(p.grad.isfinite().all() for p in learner.parameters() if p.requires_grad)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO)


def test_fast_settings_leave_a_cpu_as_it_is():
    # Catches: compilation or fused kernels on the machine where the smoke runs are compared.
    cfg = make_config()
    learner = build_learner(cfg, 5)
    assert not compile_backbone(cfg, learner, torch.device("cpu"))
    assert not build_optimizer(cfg, list(learner.parameters())).defaults["fused"]
    assert learner.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    plain = build_learner(cfg.replace(channels_last=False), 5)
    assert plain.backbone.conv1.weight.is_contiguous()
