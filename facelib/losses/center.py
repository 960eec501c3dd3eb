"""Center loss: a softmax, and the distance of embeddings to running class centres."""

import torch
import torch.nn.functional as F
from torch import nn

from facelib.distributed import gather
from facelib.losses.arcface import ArcFace
from facelib.losses.arcface import build as build_arcface
from facelib.losses.parts.margin import LossOutput
from facelib.rows import ARC, CENTRES, LossRow, setting

ROW = LossRow(
    name="center",
    label="Softmax + center loss",
    layout="plain",
    head=True,
    takes=(*ARC, *CENTRES),
    settings={
        "center_weight": setting(1.0, "weight of the centre loss beside the softmax", low=0),
        "center_alpha": setting(0.5, "rate at which its centres move", low=0),
    },
    published={"m": 0.0},
    source="Wen et al., ECCV 2016, eq. 2 to 5",
)


class CenterLoss(nn.Module):
    r"""Distance of embeddings to running class centres (Wen et al., ECCV 2016, eq. 2-4).

    L = mean_i ‖f_i − c_{y_i}‖²,  c_k ← c_k − α · Σ_{i: y_i=k} (c_k − f_i) / (1 + n_k)

    The centres are a buffer: they move after each training batch, by the images of all processes,
    and carry no gradient. f is the unit embedding and L a mean; the paper has ½ Σ over unnormalised
    features, so that its weight (0.003) does not carry over. Alone, L is least where all embeddings
    are equal: use it beside a classifier (`CenterSoftmax`).

    Args:
        classes: N, number of identities. dim: d, embedding size. alpha: rate of the centres (0.5).

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: plain.
    """

    def __init__(self, classes: int, dim: int, alpha: float = 0.5):
        super().__init__()
        self.alpha = alpha
        self.register_buffer("centres", torch.zeros(classes, dim))  # (N, d)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        f = F.normalize(z)
        loss = (f - self.centres[labels]).square().sum(1).mean()
        if self.training:
            self._move(gather(f.detach()), gather(labels))
        return loss, {"centre_distance": loss.sqrt()}

    def _move(self, f: torch.Tensor, labels: torch.Tensor) -> None:
        """Equation 4 on the joint batch: f (R·B, d), labels (R·B,)."""
        present, place, count = labels.unique(return_inverse=True, return_counts=True)
        total = f.new_zeros(len(present), f.shape[1]).index_add_(0, place, f)
        old, count = self.centres[present], count[:, None]
        self.centres[present] = old - self.alpha * (count * old - total) / (1 + count)


class CenterSoftmax(nn.Module):
    r"""L = classifier + weight · CenterLoss (Wen et al., ECCV 2016, eq. 5).

    The classifier is `ArcFace`; with m = 0 it is the paper's softmax, over cosines.

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: plain.
    """

    def __init__(self, classifier: ArcFace, center: CenterLoss, weight: float = 1.0):
        super().__init__()
        self.classifier, self.center, self.weight = classifier, center, weight

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        softmax, logs = self.classifier(z, labels)
        center, center_logs = self.center(z, labels)
        loss = softmax + self.weight * center
        return loss, {**logs, **center_logs, "classifier": softmax, "center": center}


def build(cfg, classes: int, dim: int) -> CenterSoftmax:
    """From a `Config`."""
    center = CenterLoss(classes, dim, cfg.center_alpha)
    return CenterSoftmax(build_arcface(cfg, classes, dim), center, cfg.center_weight)
