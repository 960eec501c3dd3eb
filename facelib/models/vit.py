"""The vision transformer that InsightFace trains for faces (`arcface_torch/backbones/vit.py`).

Module and parameter names equal those of that file, so that its checkpoints load with
`load_backbone`; input (B, 3, 112, 112) RGB in [-1, 1], patches of 9 pixels (144 tokens; the last
four rows and columns of pixels are not seen), dim 512. Output (B, dim), not normalised.

    patches + positions → [LN, attention, LN, ReLU6 MLP] × depth → LN → all tokens side by side
    → linear → BN → linear → BN

There is no class token. In training a share of the tokens is left out, and `mask_token` takes
their places after the last block (arXiv 2111.06377); whole blocks are dropped at random per image,
later ones more often (arXiv 1603.09382).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Size:
    """Width of a token, blocks, heads of attention, pixels of a patch."""

    width: int
    depth: int
    heads: int = 8
    patch: int = 9


SIZES = {
    "vit_t": Size(256, 12),
    "vit_s": Size(512, 12),
    "vit_b": Size(512, 24),
    "vit_mini": Size(64, 4, heads=4, patch=8),  # ours, for CPUs
}


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens (B, N, width)."""

    def __init__(self, patch: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention, softmax in fp32; queries, keys and values have no bias."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images, tokens, width = x.shape
        qkv = self.qkv(x).view(images, tokens, 3, self.heads, width // self.heads)
        with torch.autocast(x.device.type, enabled=False):
            q, k, v = qkv.permute(2, 0, 3, 1, 4).float()  # (B, heads, N, width / heads) each
            x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(images, tokens, width))


class Mlp(nn.Module):
    """Two linear layers, four times as wide inside, ReLU6 between them."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu6(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each after a LayerNorm and beside a shortcut."""

    def __init__(self, size: Size, drop_path: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.attn, self.mlp = Attention(size.width, size.heads), Mlp(size.width)
        self.drop_path = drop_path

    def _kept(self, x: torch.Tensor) -> torch.Tensor:
        """In training, zero for a share `drop_path` of the images, the others made up for it."""
        if not (self.training and self.drop_path):
            return x
        keep = 1 - self.drop_path
        return x * (x.new_empty(len(x), 1, 1).bernoulli_(keep) / keep)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self._kept(self.attn(self.norm1(x)))
        return x + self._kept(self.mlp(self.norm2(x)))


class FaceViT(nn.Module):
    """The network.

    Args:
        size: see `SIZES`. image_size: input pixels. dim: embedding size.
        mask_ratio: share of the tokens that is left out in training.
        drop_path: share of images that skip the last block in training; linear from 0 at the first.
        recompute: keep the inputs of blocks only, and compute them again in the backward pass.
    """

    def __init__(
        self,
        size: Size,
        image_size: int = 112,
        dim: int = 512,
        mask_ratio: float = 0.1,
        drop_path: float = 0.1,
        recompute: bool = False,
    ):
        super().__init__()
        tokens, width = (image_size // size.patch) ** 2, size.width
        self.mask_ratio, self.recompute = mask_ratio, recompute
        self.patch_embed = PatchEmbed(size.patch, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        # Without masking it has no gradient, for which DDP would wait.
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width), requires_grad=mask_ratio > 0)
        drops = [drop_path * i / (size.depth - 1) for i in range(size.depth)]
        self.blocks = nn.ModuleList(Block(size, drop) for drop in drops)
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(width * tokens, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, dim, bias=False),
            nn.BatchNorm1d(dim, eps=2e-5),
        )
        nn.init.normal_(self.mask_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x) + self.pos_embed  # (B, N, width)
        places = None
        if self.training and self.mask_ratio:
            places = torch.rand(x.shape[:2], device=x.device).argsort(1)
            places = places[:, : int(x.shape[1] * (1 - self.mask_ratio))]
            places = places[..., None].expand(-1, -1, x.shape[2])  # (B, kept, width)
            x = x.gather(1, places)
        for block in self.blocks:
            again = self.recompute and self.training
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        with torch.autocast(x.device.type, enabled=False):
            x = self.norm(x.float())
            if places is not None:
                masked = self.mask_token.expand(len(x), self.pos_embed.shape[1], -1)
                x = masked.scatter(1, places, x)
            return self.feature(x.flatten(1))
