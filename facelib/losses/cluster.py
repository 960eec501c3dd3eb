"""Cluster-guided training: ArcFace, its margin and a contrast guided by a bank of class centres."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from facelib.distributed import gather
from facelib.losses.arcface import ArcFace
from facelib.losses.center import CenterLoss
from facelib.losses.parts.centres import sample_classes, seed_of_draw
from facelib.losses.parts.cluster_store import ClassRings, ClusterStore, RecentFeatures
from facelib.losses.parts.margin import LossOutput, margin_softmax
from facelib.losses.triplet import Triplet
from facelib.rows import ARC, LossRow, setting

ROW = LossRow(
    name="cluster",
    label="cluster-guided",
    layout="plain",
    head=True,
    takes=(*ARC, "tau", "gather"),
    settings={
        "cluster_margin": setting(
            1.0, "1 guides ArcFace's margin, 0 leaves it as it is", low=0, high=1
        ),
        "cluster_contrast": setting(1.0, "weight of CluCon, or of what replaces it; 0: off", low=0),
        "cluster_align": setting(0.5, "weight of CluAli; 0: off", low=0),
        "cluster_term": setting(
            "clucon",
            "CluCon, or what replaces it in the ablation",
            choices=("clucon", "center", "triplet"),
        ),
        "cluster_phi": setting(
            "literal",
            "CluCon's temperatures: pcl clips and rescales them, and gives classes with one "
            "feature the largest; tau0 learns one",
            choices=("literal", "pcl", "tau0"),
            revised=("pcl",),
        ),
        "cluster_lambda": setting(
            "literal",
            "margin's scale: clipped at the percentiles 10 and 90",
            choices=("literal", "clipped"),
        ),
        "cluster_floor": setting(0.5, "least lambda where it is clipped", low=0, high=1),
        "cluster_slots": setting(
            24, "recent features kept; 0.1 per class, as 8,192 for 85,742 classes", low=1
        ),
        "cluster_ring": setting(0, "features kept of each class; 0: one store for all", low=0),
        "cluster_classes": setting(2048, "M, classes drawn for CluCon and CluAli", low=2),
        "cluster_encoder": setting(
            0.99, "momentum of the encoder; 0.999 wants a longer run", low=0, below=1
        ),
        "cluster_centre": setting(0.9, "momentum of the centre bank", low=0, below=1),
    },
    groups_if={"cluster_term": "triplet"},
    source="arXiv 2312.04029",
)

SHARE_EVERY = 10  # training batches between two measurements of the gradient shares
MIN_TAU = 0.01  # of learned temperatures: CLIP's bound (arXiv 2103.00020)
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
SIZES = {"0": (0, 0), "1": (1, 1), "2": (2, 2), "3_4": (3, 4), "5_8": (5, 8), "9_up": (9, 2**62)}


def tightness_literal(phi: torch.Tensor) -> torch.Tensor:
    """λ(φ) = (φ − φ_min)/(φ_max − φ_min) over all classes, (N,); 1 where all are equal."""
    low, high = phi.min(), phi.max()
    return torch.where(high > low, (phi - low) / (high - low).clamp_min(1e-12), 1.0)


def tightness_clipped(phi: torch.Tensor, floor: float) -> torch.Tensor:
    """λ between the 10th and 90th percentile of φ, from `floor` to 1: no outlier sets the scale."""
    low, high = phi.quantile(0.1), phi.quantile(0.9)
    share = ((phi - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return torch.where(high > low, floor + (1 - floor) * share, 1.0)


def temperatures_pcl(phi: torch.Tensor, sizes: torch.Tensor, tau: float) -> torch.Tensor:
    """φ as in PCL's code (arXiv 2005.04966), (N,): one feature says nothing of a spread.

    Classes with |Q_k| ≤ 1 get the largest φ of the others; then φ is clipped to its 10th and 90th
    percentile, and its mean rescaled to τ. Where no class has two features, all are τ.
    """
    phi = torch.where(sizes > 1, phi, 0.0)
    phi = torch.where(sizes > 1, phi, phi.max()).clamp_min(1e-12)
    clipped = phi.clamp(phi.quantile(0.1), phi.quantile(0.9))
    return clipped * (tau / clipped.mean())


class ClusterGuided(nn.Module):
    r"""L = CG-ArcFace + w_c·CluCon + w_a·CluAli (arXiv 2312.04029; w_c = 1, w_a = 0.5).

    CG-ArcFace: ArcFace with the margin λ(φ_y)·m, so that tight classes get less.
    CluCon = −(1/B) Σ_i log( e^{f_i·C_{y_i}/φ_{y_i}} / Σ_{j=1..M} e^{f_i·C_j/φ_j} )
    CluAli = −(1/M) Σ_i log( e^{C_i·W_i/τ} / Σ_{j=1..M} e^{C_i·W_j/τ} ),  τ learned

    C (bank) and φ (concentration) come from the `store` and carry no gradient: CluCon trains the
    embedding, CluAli the classifier's centres W and τ only. M classes are drawn at each step, those
    of the joint batch among them. Before each training batch the trainer gives the momentum
    encoder's unit features of the same images to `remember`.

    Where the literal reading gives a signal that does not live, the labelled variants are:
    phi="pcl" (`temperatures_pcl`), phi="tau0" (one learned temperature instead of φ),
    tightness="clipped" (`tightness_clipped`), and a store of `ClassRings`.

    Args:
        arcface: the classifier (its m is the full margin). store: bank and concentration.
        margin_weight: 0 is plain ArcFace, 1 the literal λ(φ_y)·m; between them 1 − w·(1 − λ).
        contrast_weight, align_weight: w_c, w_a; a term with weight 0 is not computed.
        phi, tightness: "literal", or a variant. floor: least λ of "clipped". tau: first value of
            the learned temperatures (1/τ is a scale), and the mean of "pcl".
        sampled: M. seed: of the sampling. encoder_momentum: m_e, read by the trainer.
        instead: module (z, labels) -> (loss, logs) that takes CluCon's place.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain, or P × K.
    """

    def __init__(
        self,
        arcface: ArcFace,
        store: ClusterStore,
        margin_weight: float = 1.0,
        contrast_weight: float = 1.0,
        align_weight: float = 0.5,
        phi: str = "literal",
        tightness: str = "literal",
        floor: float = 0.5,
        tau: float = 0.07,
        sampled: int = 2048,
        seed: int = 0,
        encoder_momentum: float = 0.999,
        instead: nn.Module | None = None,
    ):
        super().__init__()
        self.arcface, self.store, self.instead = arcface, store, instead
        self.margin_weight, self.contrast_weight = margin_weight, contrast_weight
        self.align_weight, self.phi, self.tightness = align_weight, phi, tightness
        self.floor, self.tau, self.sampled, self.seed = floor, tau, sampled, seed
        self.encoder_momentum = encoder_momentum
        if align_weight:
            self.log_tau = nn.Parameter(torch.tensor(math.log(tau)))  # τ stays above 0
        if contrast_weight and phi == "tau0" and instead is None:
            self.log_tau0 = nn.Parameter(torch.tensor(math.log(tau)))
        self.register_buffer("shares", torch.zeros(2, 3))  # at z and W: of the terms, last measured

    @property
    def each_rank_keeps(self) -> list[str]:
        """Buffers that need no broadcast from the first rank."""
        return [f"store.{name}" for name, _ in self.store.named_buffers()]

    def remember(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Called by the trainer before a training batch, with the momentum encoder's (B, d)."""
        self.store.remember(F.normalize(features), labels)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Called by the trainer: learned temperatures stay at 0.01 or above, as in CLIP."""
        for name in ("log_tau", "log_tau0"):
            if hasattr(self, name):
                getattr(self, name).clamp_(min=math.log(MIN_TAU))

    def margins(self) -> torch.Tensor:
        """The margin of each class in radians, (N,)."""
        if self.tightness == "clipped":
            share = tightness_clipped(self.store.phi, self.floor)
        else:
            share = tightness_literal(self.store.phi)
        return self.arcface.m * (1 - self.margin_weight * (1 - share))

    def temperatures(self) -> torch.Tensor:
        """CluCon's temperature of each class, (N,)."""
        if self.phi == "tau0":
            return self.log_tau0.exp().expand(len(self.store.phi))
        if self.phi == "pcl":
            return temperatures_pcl(self.store.phi, self.store.sizes(), self.tau)
        return self.store.phi.clamp_min(1e-6)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cg, logs = self._classify(z, labels)
        terms = {"cg_arcface": cg}
        chosen = self._sample(labels)  # (M,)
        if self.contrast_weight:
            if self.instead is None:
                term, found = self._contrast(z, labels, chosen)
            else:
                term, found = self.instead(z, labels)
            terms["clucon"], logs = self.contrast_weight * term, {**logs, **found, "contrast": term}
        if self.align_weight:
            term = self._align(chosen)
            terms["cluali"] = self.align_weight * term
            logs |= {"align": term, "align_temperature": self.log_tau.exp()}
        if self.training and z.requires_grad and self.store.updates % SHARE_EVERY == 0:
            self._measure_shares(terms, z)
        return sum(terms.values()), {**logs, "cg_arcface": cg, **self._shares(terms)}

    def _sample(self, labels: torch.Tensor) -> torch.Tensor | None:
        """The step's classes (M,) of CluCon and CluAli; None where neither is computed."""
        if not self.align_weight and (self.instead is not None or not self.contrast_weight):
            return None
        seed = seed_of_draw(self.seed, self.store.updates)
        return sample_classes(gather(labels), len(self.store.bank), self.sampled, seed)

    def _classify(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """CG-ArcFace."""
        cos = self.arcface.cosines(z)  # (B, N)
        cos_y = cos.gather(1, labels[:, None]).squeeze(1)
        m = self.margins()[labels]
        loss, logs = margin_softmax(cos, self.arcface.margin(cos_y, m), labels, self.arcface.s)
        return loss, {**logs, "margin": m.mean()}

    def _contrast(self, z: torch.Tensor, labels: torch.Tensor, chosen: torch.Tensor) -> LossOutput:
        """CluCon. The temperature of a row is that of its own class, where logits are largest."""
        t = self.temperatures()[chosen]  # (M,)
        place = labels.new_zeros(len(self.store.bank))
        place[chosen] = torch.arange(len(chosen), device=labels.device)
        target = place[labels]
        logits = F.normalize(z) @ self.store.bank[chosen].T / t  # (B, M)
        log_p = logits.log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1).mean()
        return F.nll_loss(log_p, target), {
            "contrast_temperature": t[target].mean(),
            "contrast_entropy": entropy,
            "contrast_accuracy": (logits.argmax(1) == target).float().mean(),
        }

    def _align(self, chosen: torch.Tensor) -> torch.Tensor:
        """CluAli."""
        w = F.normalize(self.arcface.weight[chosen])
        logits = self.store.bank[chosen] @ w.T / self.log_tau.exp()  # (M, M)
        return F.cross_entropy(logits, torch.arange(len(chosen), device=chosen.device))

    def _measure_shares(self, terms: dict[str, torch.Tensor], z: torch.Tensor) -> None:
        """Norm of each weighted term's gradient at the embeddings z and at W, over the sum."""
        at = (z, self.arcface.weight)
        norms = torch.zeros_like(self.shares)
        for i, name in enumerate(("cg_arcface", "clucon", "cluali")):
            if name in terms:
                found = torch.autograd.grad(terms[name], at, retain_graph=True, allow_unused=True)
                for j, gradient in enumerate(found):
                    norms[j, i] = 0.0 if gradient is None else gradient.norm()
        self.shares.copy_(norms / norms.sum(1, keepdim=True).clamp_min(1e-30))

    def _shares(self, terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        logs = {"share_z_clucon": self.shares[0, 1].clone()} if "clucon" in terms else {}
        if "cluali" in terms:
            logs["share_w_cluali"] = self.shares[1, 2].clone()
        return logs

    @torch.no_grad()
    def diagnostics(self) -> dict[str, float]:
        """State of the store for a metrics line: the same on all ranks.

        queue_*: share of classes with that |Q_k|. phi_qXX, margin_qXX: quantiles over classes.
        bank_cosine: mean cosine of C_k and W_k over classes with C_k ≠ 0 (1 − it is the drift);
        bank_norm: their mean ‖C_k‖.
        """
        sizes = self.store.sizes()
        found = {
            f"queue_{name}": ((sizes >= low) & (sizes <= high)).float().mean()
            for name, (low, high) in SIZES.items()
        }
        at = torch.tensor(QUANTILES, dtype=self.store.phi.dtype, device=sizes.device)
        for name, values in (("phi", self.store.phi), ("margin", self.margins())):
            quantiles = values.quantile(at)
            found |= {f"{name}_q{round(100 * q)}": v for q, v in zip(QUANTILES, quantiles)}
        norm = self.store.bank.norm(dim=1)
        there = norm > 0
        cosine = F.cosine_similarity(self.store.bank, self.arcface.weight)
        found |= {"bank_cosine": cosine[there].mean(), "bank_norm": norm[there].mean()}
        return {name: value.item() for name, value in found.items()}


def build(cfg, classes: int, dim: int) -> ClusterGuided:
    """From a `Config`."""
    kind, slots = (ClassRings, cfg.cluster_ring) if cfg.cluster_ring else (
        RecentFeatures, cfg.cluster_slots
    )  # fmt: skip
    return ClusterGuided(
        ArcFace(classes, dim, cfg.s, cfg.m, cfg.gradient, cfg.branch),
        kind(classes, dim, slots=slots, momentum=cfg.cluster_centre),
        margin_weight=cfg.cluster_margin,
        contrast_weight=cfg.cluster_contrast,
        align_weight=cfg.cluster_align,
        phi=cfg.cluster_phi,
        tightness=cfg.cluster_lambda,
        floor=cfg.cluster_floor,
        tau=cfg.tau,
        sampled=cfg.cluster_classes,
        seed=cfg.seed,
        encoder_momentum=cfg.cluster_encoder,
        instead={
            "clucon": lambda: None,
            "center": lambda: CenterLoss(classes, dim),
            "triplet": lambda: Triplet(gather=cfg.gather),
        }[cfg.cluster_term](),
    )
