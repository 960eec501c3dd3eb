"""Cosines between the images of a batch, and means over them."""

import torch
import torch.nn.functional as F

from facelib.distributed import gather, gather_with_grad, rank


def batch_cosines(
    z: torch.Tensor, labels: torch.Tensor, gathered: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cosines of the own images with the batch, and which of them share an identity.

    Args:
        z: (B, d) unnormalised. labels: (B,). gathered: columns from all R processes, with gradient.

    Returns:
        (cos, positive, negative): (B, R·B) float, bool, bool; the own column is neither.
    """
    f, columns, own, classes = rows_and_columns(z, labels, gathered)
    same = labels[:, None] == classes  # (B, R·B)
    return f @ columns.T, same.scatter(1, own[:, None], False), ~same


def rows_and_columns(z: torch.Tensor, labels: torch.Tensor, gathered: bool):
    """Unit rows (B, d) and columns (R·B, d), each row's own column (B,), the columns' labels."""
    f = F.normalize(z)
    columns, classes = (gather_with_grad(f), gather(labels)) if gathered else (f, labels)
    own = torch.arange(len(f), device=f.device) + (rank() * len(f) if gathered else 0)
    return f, columns, own, classes


def mean_where(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the True columns of each row, (B, C) -> (B,)."""
    return (values * mask).sum(1) / mask.sum(1)


def cosine_means(cos: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> dict:
    """Mean cosines of both kinds of pairs, for logs."""
    return {
        "positive_cosine": mean_where(cos.detach(), positive).mean(),
        "negative_cosine": mean_where(cos.detach(), negative).mean(),
    }
