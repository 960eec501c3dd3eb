"""SogCLR: a contrastive loss whose sum over negatives is remembered from step to step."""

import math

import torch
from torch import nn

from facelib.distributed import gather
from facelib.errors import UserError
from facelib.losses.parts.margin import LossOutput
from facelib.losses.parts.pairs import rows_and_columns
from facelib.rows import LossRow, setting

ROW = LossRow(
    name="sogclr",
    label="SogCLR",
    layout="pairs",
    head=False,
    takes=("tau", "gather"),
    settings={
        "sogclr_gamma": setting(
            0.9, "weight of the batch in the running mean; 1: the batch alone", above=0, high=1
        ),
    },
    published={"tau": 0.1},
    source="Yuan et al., ICML 2022, arXiv 2202.12387, algorithm 1; code Optimization-AI/SogCLR",
)


class SogCLR(nn.Module):
    r"""Global contrastive loss by running means of the negatives' sum (Yuan et al., 2202.12387).

    L = mean_i ( log u_i − f_i·f_{p(i)}/τ ),  u_i = (1 − γ)·u_{y_i} + γ·g_i
    g_i = mean_j e^{f_i·f_j/τ} over the 2P − 2 images of other identities,  ∂ log u_i := ∂g_i / u_i

    p(i) is the other image of the identity. The running mean stands for the mean over the whole
    data set, so that a small batch has the gradient of a large one: it carries none itself, and the
    positive is not in it. u_y becomes the mean of its two images' u_i after each training batch; it
    is kept as a logarithm. At first sight u_i = g_i. In eval mode u_i = g_i and no state moves.

    Deviations, labelled: (1) the paper keeps one u for each image, which it sees as two
    augmentations; here the two views are two images of a person and u is kept for each identity.
    (2) The authors' code has τ·(…), summed over both views; without that factor of 2τ the scale is
    InfoNCE's and learning rates carry over. (3) A new identity starts at g_i also where others of
    its batch have a u already.

    Args:
        classes: N. tau: temperature. gamma: γ. gather: negatives from all processes.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) in training -> scalar. Batch layout: pairs.
    """

    def __init__(self, classes: int, tau: float = 0.1, gamma: float = 0.9, gather: bool = True):
        super().__init__()
        self.tau, self.gamma, self.gather = tau, gamma, gather
        self.register_buffer("log_u", torch.full((classes,), -math.inf))  # −∞: not seen yet

    @property
    def each_rank_keeps(self) -> list[str]:
        """Equal on all ranks: needs no broadcast from the first."""
        return ["log_u"]

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        f, columns, own, _ = rows_and_columns(z, labels, self.gather)
        if len(columns) < 4:
            raise UserError("loss='sogclr': a batch of one identity has no negatives; allowed are "
                            "batches of 4 images or more, for example global_batch=4")  # fmt: skip
        pair = torch.stack([own, own ^ 1], 1)  # (B, 2): the image itself and its partner
        cos = f @ columns.T  # (B, R·B)
        positive, others = cos.gather(1, pair[:, 1:]).squeeze(1), len(columns) - 2
        logits = (cos / self.tau).scatter(1, pair, -math.inf)
        log_g = logits.logsumexp(1) - math.log(others)  # (B,)
        log_u = self._follow(log_g.detach(), labels) if self.training else log_g.detach()
        share = (log_g.detach() - log_u).exp()  # g/u, so that the gradient of the next line is ∂g/u
        loss = (log_u + share * (log_g - log_g.detach()) - positive / self.tau).mean()
        with torch.no_grad():
            negative = cos.scatter(1, pair, 0.0).sum(1) / others
        return loss, {
            "positive_cosine": positive.mean(),
            "negative_cosine": negative.mean(),
            "train_accuracy": (positive / self.tau > logits.amax(1)).float().mean(),
            "batch_share": share.mean(),
        }

    @torch.no_grad()
    def _follow(self, log_g: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """log u_i of this rank's images, (B,); stores that of all ranks' identities."""
        old, kept = self.log_u[labels], -math.inf if self.gamma == 1 else math.log1p(-self.gamma)
        moved = torch.logaddexp(old + kept, log_g + math.log(self.gamma))
        log_u = torch.where(old == -math.inf, log_g, moved)
        both = log_u.unflatten(0, (-1, 2)).logsumexp(1) - math.log(2)  # the mean of two views
        self.log_u[gather(labels[::2])] = gather(both).to(self.log_u.dtype)
        return log_u


def build(cfg, classes: int, dim: int) -> SogCLR:
    """From a `Config`."""
    return SogCLR(classes, cfg.tau, cfg.sogclr_gamma, cfg.gather)
