"""Losses on distances between images of a batch, or between images and running class centres."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from facelib.distributed import gather, gather_with_grad, rank
from facelib.losses.chunked import log_sum_exp_of_others, mean_cosines
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
    f, columns, own, classes = _rows_and_columns(z, labels, gathered)
    same = labels[:, None] == classes  # (B, R·B)
    return f @ columns.T, same.scatter(1, own[:, None], False), ~same


def _rows_and_columns(z: torch.Tensor, labels: torch.Tensor, gathered: bool):
    """Unit rows (B, d) and columns (R·B, d), each row's own column (B,), the columns' labels."""
    f = F.normalize(z)
    columns, classes = (gather_with_grad(f), gather(labels)) if gathered else (f, labels)
    own = torch.arange(len(f), device=f.device) + (rank() * len(f) if gathered else 0)
    return f, columns, own, classes


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


class SupCon(nn.Module):
    r"""Supervised contrastive loss (Khosla et al., arXiv 2004.11362, eq. 2): K images a person.

    L = −mean_i 1/|P(i)| Σ_{p∈P(i)} log( e^{f_i·f_p/τ} / Σ_{j≠i} e^{f_i·f_j/τ} )

    P(i) are the other images of i's identity. With two images an identity it is InfoNCE.

    Args:
        tau: temperature, 0.07 in the authors' code. gather: columns from all processes.
        block: 0 computes all cosines at once; N computes the same by blocks of N × N.

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: groups of K images.
    """

    def __init__(self, tau: float = 0.07, gather: bool = True, block: int = 0):
        super().__init__()
        self.tau, self.gather, self.block = tau, gather, block

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        if self.block:
            return _by_blocks(self, z, labels, decoupled=False)
        cos, positive, negative = batch_cosines(z, labels, self.gather)
        logits = cos / self.tau
        columns = positive | negative  # all but the own one
        log_p = logits - logits.masked_fill(~columns, -math.inf).logsumexp(1, keepdim=True)
        loss = -mean_where(log_p, positive).mean()
        return loss, _cosine_means(cos, positive, negative)


class DCL(nn.Module):
    r"""Decoupled contrastive loss (Yeh et al., arXiv 2110.06848): no positive in the denominator.

    L = mean_i ( −1/|P(i)| Σ_{p∈P(i)} f_i·f_p/τ + log Σ_{n∈N(i)} e^{f_i·f_n/τ} )

    P(i) are the other images of i's identity, N(i) all images of others. Two images an identity is
    the paper's case; L may be negative. Without the positive in the sum, the gradient does not
    fade for pairs that are close already, so that small batches lose less.

    Args and shapes as in SupCon. Batch layout: groups of K images.
    """

    def __init__(self, tau: float = 0.07, gather: bool = True, block: int = 0):
        super().__init__()
        self.tau, self.gather, self.block = tau, gather, block

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        if self.block:
            return _by_blocks(self, z, labels, decoupled=True)
        cos, positive, negative = batch_cosines(z, labels, self.gather)
        logits = cos / self.tau
        repulsion = logits.masked_fill(~negative, -math.inf).logsumexp(1)  # (B,)
        loss = (repulsion - mean_where(logits, positive)).mean()
        return loss, _cosine_means(cos, positive, negative)


def _by_blocks(
    loss: SupCon | DCL, z: torch.Tensor, labels: torch.Tensor, decoupled: bool
) -> LossOutput:
    """SupCon, or DCL, without the (B, R·B) matrix: the same value and figures."""
    f, columns, own, classes = _rows_and_columns(z, labels, loss.gather)
    ids = classes if decoupled else torch.arange(len(columns), device=z.device)
    below, _ = log_sum_exp_of_others(f, columns, ids[own], ids, 1 / loss.tau, loss.block)
    positive, negative = mean_cosines(f, columns, own, classes)
    return (below - positive / loss.tau).mean(), {
        "positive_cosine": positive.detach().mean(),
        "negative_cosine": negative.mean(),
    }


def mean_where(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the True columns of each row, (B, C) -> (B,)."""
    return (values * mask).sum(1) / mask.sum(1)


def _cosine_means(cos: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> dict:
    return {
        "positive_cosine": mean_where(cos.detach(), positive).mean(),
        "negative_cosine": mean_where(cos.detach(), negative).mean(),
    }


def circle(
    cos: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, s: float, m: float
) -> torch.Tensor:
    r"""Circle loss of each row (Sun et al., arXiv 2002.10857, eq. 4 to 8): (B, C) -> (B,).

    L_i = log( 1 + Σ_n e^{s·α_n (c_n − m)} · Σ_p e^{−s·α_p (c_p − 1 + m)} )
    α_p = max(1 + m − c_p, 0),  α_n = max(c_n + m, 0),  without gradient

    Args:
        cos: (B, C). positive, negative: bool (B, C), at least one of each in a row.
        s: scale, the paper's γ. m: relaxation; the aim is c_p > 1 − m and c_n < m.
    """
    still = cos.detach()
    pull = -s * (1 + m - still).relu() * (cos - 1 + m)
    push = s * (still + m).relu() * (cos - m)
    pull = pull.masked_fill(~positive, -math.inf).logsumexp(1)
    push = push.masked_fill(~negative, -math.inf).logsumexp(1)
    return F.softplus(pull + push)


class Circle(ArcFace):
    r"""Circle loss between images and class centres: one positive, N − 1 negatives (see `circle`).

    Args: classes, dim as in ArcFace. s: 256 and m: 0.25 for faces in the paper.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(self, classes: int, dim: int, s: float = 256.0, m: float = 0.25):
        super().__init__(classes, dim, s, m)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cos = self.cosines(z)  # (B, N)
        own = F.one_hot(labels, cos.shape[1]).bool()
        loss = circle(cos, own, ~own, self.s, self.m).mean()
        accuracy = (cos.argmax(1) == labels).to(cos.dtype).mean()
        return loss, {"target_cosine": cos[own].mean(), "train_accuracy": accuracy}


class CirclePairs(nn.Module):
    r"""Circle loss between the images of a batch (see `circle`).

    Args: s: 80 and m: 0.4 for image retrieval in the paper. gather: columns from all processes.

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: groups of K images.
    """

    def __init__(self, s: float = 80.0, m: float = 0.4, gather: bool = True):
        super().__init__()
        self.s, self.m, self.gather = s, m, gather

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cos, positive, negative = batch_cosines(z, labels, self.gather)
        loss = circle(cos, positive, negative, self.s, self.m).mean()
        return loss, _cosine_means(cos, positive, negative)
