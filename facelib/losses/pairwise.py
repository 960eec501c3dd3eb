"""Losses on distances between images of a batch, or between images and running class centres."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from facelib.distributed import gather, gather_with_grad, rank
from facelib.losses.margin import ArcFace, LossOutput


def batch_cosines(
    z: torch.Tensor, labels: torch.Tensor, gathered: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cosines of the own images with the batch, and which of them share an identity.

    Args:
        z: (B, d) unnormalised. labels: (B,). gathered: columns from all R processes, with gradient.

    Returns:
        (cos, positive, negative): (B, R·B) float, bool, bool; the own column is neither.
    """
    f = F.normalize(z)  # (B, d)
    columns, classes = (gather_with_grad(f), gather(labels)) if gathered else (f, labels)
    own = torch.arange(len(f), device=f.device) + (rank() * len(f) if gathered else 0)
    same = labels[:, None] == classes  # (B, R·B)
    return f @ columns.T, same.scatter(1, own[:, None], False), ~same


class Triplet(nn.Module):
    r"""Triplet loss with semi-hard negatives (Schroff et al., FaceNet, arXiv 1503.03832, eq. 2-4).

    L = mean_{(a,p)} max(‖f_a − f_p‖² − ‖f_a − f_n‖² + m, 0)

    over all pairs (a, p) of two images of one identity. n is the closest negative that is farther
    from a than p is (eq. 4); where none is, the farthest negative. FaceNet names no such rule; this
    one is TensorFlow Addons', and it keeps pairs whose negatives are all too close in the loss.

    Args:
        m: margin of squared distances (FaceNet: 0.2).
        gather: negatives from all processes.

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: groups of K images.
    """

    def __init__(self, m: float = 0.2, gather: bool = True):
        super().__init__()
        self.m, self.gather = m, gather

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cos, positive, negative = batch_cosines(z, labels, self.gather)
        anchor, partner = positive.nonzero(as_tuple=True)  # T = B·(K − 1) pairs
        d_ap = 2 - 2 * cos[anchor, partner]  # (T,) squared distances of unit vectors
        d_an, allowed = 2 - 2 * cos[anchor], negative[anchor]  # (T, R·B)
        farther = d_an.masked_fill(~allowed | (d_an <= d_ap[:, None]), math.inf).amin(1)
        farthest = d_an.masked_fill(~allowed, -math.inf).amax(1)
        semi_hard = farther.isfinite()
        violation = d_ap - torch.where(semi_hard, farther, farthest) + self.m
        return violation.relu().mean(), {
            "positive_cosine": 1 - d_ap.mean() / 2,
            "active_triplets": (violation > 0).to(z.dtype).mean(),
            "semi_hard_triplets": semi_hard.to(z.dtype).mean(),
        }


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
