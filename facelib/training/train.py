"""The training loop, on 1 process, N processes or N nodes.

A run folder is trained by `python -m facelib.training.train RUN_DIR`.

One step: the sampler names the images of the joint batch, each rank takes its part, the learner
returns the loss, accelerate reduces the gradients, SGD steps with a rate that is a function of the
step. Everything random is a function of (seed, step) or saved in the checkpoint, so that a resumed
run continues bit for bit.
"""

import contextlib
import logging
import math
import os
import sys

from facelib.safety.mortal import (
    FIRST_PARENT,
    die_with_parent,
    end_at_once,
    make_workers_mortal,
)

if __name__ == "__main__":
    die_with_parent(FIRST_PARENT)  # before the imports, which take seconds; `main` looks again

import torch
from accelerate import Accelerator
from torch import nn

from facelib import distributed
from facelib.config import Config
from facelib.data.feed import Feed
from facelib.data.locate import training_files
from facelib.errors import BadRecord, UserError
from facelib.locks import bf16_units, keep_freed_memory
from facelib.models.foundation import STAND_IN, WEIGHTS_FOLDER, save_weights
from facelib.models.lora import count_parameters, save_adapters
from facelib.runs.files import write_json
from facelib.runs.folder import AlreadyTraining, Run, environment, hold, identify, load_run
from facelib.runs.origin import check_name, check_resume, record_origin
from facelib.safety.guard import explain
from facelib.training.checkpoint import load_checkpoint, restore, save_checkpoint, trained_state
from facelib.training.continued import continuation, earlier_run
from facelib.training.gradcache import backward_in_chunks, tell_of_batch_statistics
from facelib.training.interrupts import Stop, listen, signalled, take_time
from facelib.training.learner import Learner, build_learner, compile_backbone
from facelib.training.metrics_log import MetricsLog
from facelib.training.schedule import build_optimizer, learning_rate, total_steps
from facelib.training.shards import clip_gradients
from facelib.training.trained import load_model
from facelib.training.validate import validation_figures

log = logging.getLogger(__name__)


def make_accelerator(cfg: Config) -> Accelerator:
    """Device and process group. Checks what would otherwise go wrong silently."""
    here = ["fp32", *["bf16"] * bool(bf16_units())]
    if not torch.cuda.is_available() and cfg.precision not in here:
        raise UserError(
            f"precision={cfg.precision!r} needs CUDA (bf16 also runs on processors with "
            f"amx_bf16 or avx512_bf16); use precision={' or '.join(here)} on this machine"
        )
    mixed = {"fp32": "no"}.get(cfg.precision, cfg.precision)
    accelerator = Accelerator(mixed_precision=mixed, cpu=not torch.cuda.is_available())
    torch.set_num_threads(cfg.threads)  # whatever the machine offers: roundings depend on it
    if accelerator.num_processes != cfg.processes and not cfg.elastic:
        raise UserError(
            f"{accelerator.num_processes} process(es) run, the configuration says processes="
            f"{cfg.processes}; start it with: python -m facelib train --run RUN (or make the run "
            "with elastic=true, for any number of processes)"
        )
    if cfg.sync_batchnorm and accelerator.device.type != "cuda":
        raise UserError("sync_batchnorm=True needs CUDA; use sync_batchnorm=false on this machine")
    tf32 = cfg.tf32 and torch.cuda.is_available()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    return accelerator


class Trainer:
    """State of one run in one process: learner, optimiser, data, step."""

    def __init__(self, run: Run, feed: Feed, accelerator: Accelerator):
        cfg = self.cfg = run.config
        self.run, self.feed, self.accelerator = run, feed, accelerator
        self.steps = total_steps(cfg, feed.sampler.steps_per_epoch)
        learner = build_learner(cfg, feed.classes).to(accelerator.device)
        if cfg.sync_batchnorm:
            learner = nn.SyncBatchNorm.convert_sync_batchnorm(learner)
        compile_backbone(cfg, learner, accelerator.device)
        trainable = [p for p in learner.parameters() if p.requires_grad]
        optimizer = build_optimizer(cfg, trainable)
        self.learner, self.optimizer = accelerator.prepare(learner, optimizer)
        torch.manual_seed(cfg.seed + 1000 * distributed.rank())  # dropout differs between ranks
        self.step, self.best = 0, None
        self.metrics = MetricsLog(run.path, main=accelerator.is_main_process)
        self.recent: list[tuple[int, torch.Tensor]] = []

    @property
    def plain_learner(self) -> Learner:
        """The learner without the DDP wrapper."""
        return self.accelerator.unwrap_model(self.learner)

    def resume(self) -> None:
        """Continue from checkpoints/last.pt if there is one."""
        path = self.run.path / "checkpoints" / "last.pt"
        if path.is_file():
            self.step, self.best = restore(load_checkpoint(path), self)
            log.info("resumed at step %d of %d", self.step, self.steps)
        elif self.cfg.continues:
            before = earlier_run(self.cfg, self.run.path.parent)
            self.step, _ = restore(load_checkpoint(before / "checkpoints" / "last.pt"), self)
            log.info("%s", continuation(self.cfg, before.name, self.step, self.steps))
        self.metrics.cut_after(self.step)  # a kill before the first checkpoint leaves lines too

    def train_step(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """One optimiser step on this rank's part of the joint batch; returns what to log."""
        cfg, accelerator = self.cfg, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(cfg, self.step, self.steps)
        totals: dict[str, torch.Tensor] = {}
        for micro in range(cfg.accumulate):
            own = slice(micro * len(images) // cfg.accumulate,
                        (micro + 1) * len(images) // cfg.accumulate)  # fmt: skip
            last = micro == cfg.accumulate - 1
            loss, logs = self._backward(images[own], labels[own], sync=last)
            for name, value in {"loss": loss, **logs}.items():
                totals[name] = totals.get(name, 0) + value.detach() / cfg.accumulate
        limit = cfg.clip_norm or math.inf
        totals["grad_norm"] = clip_gradients(accelerator, self.learner, limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.plain_learner.after_step(self.step / self.steps)
        return totals

    def _backward(self, images: torch.Tensor, labels: torch.Tensor, sync: bool):
        """Add the gradient of one micro-batch; returns (loss, logs)."""
        cfg, accelerator, learner = self.cfg, self.accelerator, self.learner
        if cfg.chunk:
            part = (images, labels, cfg.chunk, 1 / cfg.accumulate)
            return backward_in_chunks(accelerator, learner, *part, sync, cfg.anchors)
        with contextlib.nullcontext() if sync else accelerator.no_sync(learner):
            loss, logs = learner(images, labels)
            accelerator.backward(loss / cfg.accumulate)
        return loss, logs

    def fit(self) -> None:
        """Train to the end; raises Stop on a signal, UserError on a loss that is not finite."""
        cfg = self.cfg
        eval_every = cfg.eval_every or math.ceil(self.steps / 4)
        save_every = cfg.save_every or math.ceil(self.steps / 10)
        # Looking at the loss waits for the GPU, so there it is looked at now and then.
        check_every = 1 if self._slow_steps else math.gcd(cfg.log_every, 10)
        self._set_mode()
        if cfg.chunk and self.accelerator.is_main_process:
            tell_of_batch_statistics(self.plain_learner, cfg.chunk)
        self.metrics.start(self.step, self.steps, cfg.global_batch)
        for images, labels in self.feed.batches(self.step, self.steps):
            values = self.train_step(images, labels)
            self.recent.append((self.step, values["loss"]))
            final, stop = self.step == self.steps, False
            if final or any(self.step % n == 0 for n in (check_every, eval_every, save_every)):
                stop = self._check(values)  # before a save: weights after a bad loss are never kept
            if final or self.step % eval_every == 0:
                self._validate()  # also before a stop: the resumed run begins after this step
            if final or stop or self.step % save_every == 0:
                self.save()
            if stop and not final:
                raise Stop
        self.metrics.close()

    def _set_mode(self) -> None:
        self.learner.train()
        if self.cfg.freeze_batchnorm:
            for module in self.learner.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _check(self, values: dict[str, torch.Tensor]) -> bool:
        """At a log tick: finite loss, one metrics line. Returns whether all ranks agree to stop."""
        for step, loss in self.recent:
            if not torch.isfinite(loss):
                self._dump(step)
        self.recent.clear()
        tick = self.step == self.steps or self.step % self.cfg.log_every == 0
        if tick:
            means = distributed.mean_over_ranks(values) | self.plain_learner.diagnostics()
            lr = self.optimizer.param_groups[0]["lr"]
            self.metrics.write(self.step, {**means, "lr": lr, "epoch": self.feed.epoch(self.step)})
            if self.accelerator.is_main_process:
                self.run.set_status(step=self.step)
        # Several ranks must agree to stop at one step; asking costs a reduction.
        often = distributed.world_size() == 1 or self._slow_steps
        if (often or self.step % math.gcd(self.cfg.log_every, 10) == 0) and self._stop_wanted():
            take_time()
            return True
        return False

    @property
    def _slow_steps(self) -> bool:
        """Is a look at the device after every step cheap beside the step? The same on all ranks."""
        cfg = self.cfg
        return self.accelerator.device.type == "cpu" or cfg.chunk > 0 or cfg.accumulate > 1

    def _stop_wanted(self) -> bool:
        wanted = torch.tensor(float(signalled()), device=self.accelerator.device)
        return distributed.mean_over_ranks({"stop": wanted})["stop"] > 0

    def _dump(self, step: int) -> None:
        """Keep what is needed to replay the step that went wrong, then stop."""
        path = self.run.path / f"dump-step{step}-rank{distributed.rank()}.pt"
        torch.save(
            {
                "step": step,
                "losses": [(s, v.item()) for s, v in self.recent],
                "indices": self.feed.sampler.indices(step - 1),
                "learner": trained_state(self.plain_learner),
            },
            path,
        )
        raise UserError(
            f"the loss of step {step} is not finite; dump: {path}; lower lr (now {self.cfg.lr}) or "
            "raise warmup, then start a new run; the last checkpoint is untouched"
        )

    def _validate(self) -> None:
        """Figures on the validation images; keeps the best checkpoint if `select` asks for one."""
        figures = validation_figures(self)
        self._set_mode()
        self.metrics.write_validation(self.step, figures)
        select = self.cfg.select
        if select == "last":
            return
        value = self.metrics.mean_loss() if select == "train_loss" else figures[select]
        score = value if select == "val_auc" else -value
        if self.best is None or score > self.best:
            self.best = score
            save_checkpoint(self, "best.pt")

    def save(self) -> None:
        """Write checkpoints/last.pt."""
        save_checkpoint(self, "last.pt")


def train(run: Run) -> None:
    """Train a run to its end in this process (one of `cfg.processes`)."""
    accelerator = make_accelerator(run.config)
    main = accelerator.is_main_process
    # An elastic run may have started on another number: the batch must divide by today's. A run
    # that met a bad record goes on without it: up to there skip_bad changes nothing.
    run = Run(run.path, run.config.replace(
        processes=accelerator.num_processes,
        skip_bad=run.config.skip_bad or run.status.get("skip_bad", False),
    ))  # fmt: skip
    with hold(run.path) if main else contextlib.nullcontext():
        with distributed.main_first():  # the first makes the rendered faces, the others find them
            feed = Feed(run.config, accelerator.device)
        trainer = Trainer(run, feed, accelerator)
        again = (run.path / "checkpoints" / "last.pt").is_file()
        trainer.resume()
        if main or again:
            (check_resume if again else record_origin)(run, training_files(run.config))
        if main:
            write_json(run.path / "env.json", environment())
            trained, parameters = count_parameters(trainer.plain_learner)
            facts = {**feed.facts, "parameters": parameters, "trained_parameters": trained}
            facts["processes"] = accelerator.num_processes
            # Torchrun, also inside accelerate, would start a rank anew: it is who must be stopped.
            leader = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else os.getpid()
            run.set_status(state="running", steps=trainer.steps, step=trainer.step, facts=facts,
                           **identify(leader))  # fmt: skip
            log.info("%s: %d steps; %s", run.name, trainer.steps, facts)
        trainer.fit()
        if main:
            if run.config.lora_rank:
                save_adapters(load_model(run)[0], run.path / "adapters")
            elif run.config.backbone == STAND_IN:
                save_weights(load_model(run)[0], run.path / WEIGHTS_FOLDER)
            run.set_status(state="done", step=trainer.step)
        accelerator.wait_for_everyone()  # a rank that ends first has the launcher stop the others


def main(arguments: list[str]) -> int:
    """Entry of the subprocess. Exit codes: 0 done, 2 wrong input, 130 stopped with a checkpoint."""
    die_with_parent(FIRST_PARENT)
    make_workers_mortal()
    keep_freed_memory()
    listen()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run = load_run(arguments[0])
    code, message = 0, ""
    try:
        check_name(run)
        train(run)
    except Stop:
        code, message = 130, "stopped on request; the checkpoint is saved"
        run.set_status(state="stopped", message=message)
        log.info(message)
    except AlreadyTraining as error:
        log.error("error: %s", error)
        return 2  # the status file belongs to the process that trains
    except Exception as error:
        message = explain(error, run.path)
        if message is None:
            code, message = 1, f"{type(error).__name__}: {error}"
            log.exception("failed")
        else:
            code = 2
            if isinstance(error, BadRecord):
                again = f"python -m facelib train --run {run.ref} --skip-bad"
                message += f"; go on without such records: {again}"
            log.error("error: %s", message)
        with contextlib.suppress(OSError):  # of a wrong setting or file the message says what to do
            resumable = not isinstance(error, UserError)
            run.set_status(state="failed", message=message, resumable=resumable)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return code


if __name__ == "__main__":
    end_at_once(main(sys.argv[1:]))
