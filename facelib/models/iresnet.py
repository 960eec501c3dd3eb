"""IResNet: the improved residual networks of ArcFace (arXiv 1801.07698 §3.2.1, arXiv 2004.04989).

Module and parameter names equal those of InsightFace's `recognition/arcface_torch` backbones, so
that its published `backbone.pth` files load with `load_state_dict(strict=True)` at width 64,
112×112 pixels and dim 512. Input (B, 3, S, S) RGB in [-1, 1]; output (B, dim), not normalised.

    stem 3×3 → 4 stages of [BN, 3×3, BN, PReLU, 3×3/stride, BN] + shortcut → BN → dropout → FC → BN

The first block of each stage halves the resolution, so that 112 pixels end as 7×7.
"""

import torch
from torch import nn

from facelib.errors import UserError

DEPTHS: dict[str, tuple[int, int, int, int]] = {
    "iresnet10": (1, 1, 1, 1),  # ours, for CPUs
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}
_EPS = 1e-5


class IBasicBlock(nn.Module):
    """BN → conv → BN → PReLU → conv(stride) → BN, plus the shortcut; no activation after it."""

    def __init__(self, inplanes: int, planes: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inplanes, eps=_EPS)
        self.conv1 = nn.Conv2d(inplanes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes, eps=_EPS)
        self.prelu = nn.PReLU(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes, eps=_EPS)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(x)) + shortcut


class IResNet(nn.Module):
    """The network.

    Args:
        depths: blocks in each of the four stages.
        width: channels of the first stage; the others have 2, 4 and 8 times as many.
        image_size: input pixels, any size from 16.
        dim: embedding size.
        dropout: probability before the last linear layer (source A: 0.4).
    """

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        width: int = 64,
        image_size: int = 112,
        dim: int = 512,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.inplanes = width
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=_EPS)
        self.prelu = nn.PReLU(width)
        self.layer1 = self._stage(width, depths[0])
        self.layer2 = self._stage(2 * width, depths[1])
        self.layer3 = self._stage(4 * width, depths[2])
        self.layer4 = self._stage(8 * width, depths[3])
        self.bn2 = nn.BatchNorm2d(8 * width, eps=_EPS)
        self.dropout = nn.Dropout(dropout)
        side = image_size
        for _ in range(4):
            side = (side + 1) // 2
        self.fc = nn.Linear(8 * width * side * side, dim)
        self.features = nn.BatchNorm1d(dim, eps=_EPS)
        nn.init.constant_(self.features.weight, 1.0)
        self.features.weight.requires_grad = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)

    def _stage(self, planes: int, blocks: int) -> nn.Sequential:
        downsample = nn.Sequential(
            nn.Conv2d(self.inplanes, planes, 1, stride=2, bias=False),
            nn.BatchNorm2d(planes, eps=_EPS),
        )
        layers = [IBasicBlock(self.inplanes, planes, 2, downsample)]
        self.inplanes = planes
        layers += [IBasicBlock(planes, planes, 1, None) for _ in range(blocks - 1)]
        return nn.Sequential(*layers)

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """Everything before the dropout: (B, 3, S, S) -> (B, 8·width·side²)."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.flatten(self.bn2(x), 1)

    def embed(self, h: torch.Tensor) -> torch.Tensor:
        """Dropout, linear layer and BatchNorm in fp32: (B, 8·width·side²) -> (B, dim)."""
        with torch.autocast(h.device.type, enabled=False):
            return self.features(self.fc(self.dropout(h.float())))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embed(self.trunk(x))


def iresnet(name: str, **settings: object) -> IResNet:
    """Build by name: `iresnet("iresnet50", dropout=0.4)` is source A's backbone."""
    if name not in DEPTHS:
        raise UserError(f"backbone {name!r}: allowed are {', '.join(DEPTHS)}")
    return IResNet(DEPTHS[name], **settings)
