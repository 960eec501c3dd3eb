"""L-GCN: face clustering by predicted links (Wang et al. 2019, arXiv 1903.11306).

Around each item, the pivot, an instance pivot subgraph is drawn from the nearest-neighbour graph
(section 3.2): its `hops[0]` neighbours, and `hops[1]` neighbours of each of those. A node's feature
is x − x_pivot; each node is linked with its first `active` neighbours that are in the subgraph,
both ways. Layers of graph convolution with mean aggregation (3.3)

    F(X, A) = ReLU([X ‖ G X] W + b),   G = D⁻¹ A

end in the probability, for each neighbour of the pivot, that both are one person; only these get a
loss. Links of all subgraphs are then merged (3.4): an edge's score is the mean of its two
directions, connected components of at most `max_size` items are final, the edges below a rising
threshold are cut in the larger ones, and so on until none is larger.

Differences from the published code: nodes that only fill a subgraph up to a fixed size are left out
of the input's batch statistics; the widths are a setting; Adam instead of SGD, which needs fewer
steps.
"""

import json
import logging
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import nn
from torch.nn import functional as F

from facelib.errors import BadData, UserError
from facelib.metrics.neighbours import Graph, neighbour_graph
from facelib.paths import atomic_file
from facelib.safety.archive import check_digest, tensors_digest

log = logging.getLogger(__name__)

PAPER_WIDTHS = (512, 512, 256, 256)
STEP = 0.6  # of the threshold: t ← t + 0.6·(1 − t), as in the published code
MAX_ROUNDS = 40  # of the threshold; 1 − t is then below float precision


@dataclass(frozen=True)
class LinkSettings:
    """What a trained network needs to be used again; saved beside its weights.

    Attributes:
        dim: of the embeddings.
        widths: output width of each graph convolution (the paper's: `PAPER_WIDTHS`).
        hops: neighbours of the pivot, and of each of those.
        active: links of each node.
        max_size: items of a final cluster, at most.
    """

    dim: int
    widths: tuple[int, ...] = (64, 64, 32, 32)
    hops: tuple[int, int] = (20, 5)
    active: int = 5
    max_size: int = 900


@dataclass(frozen=True, eq=False)
class Subgraphs:
    """B instance pivot subgraphs of up to S nodes.

    Attributes:
        node: (B, S) items, ascending; the number of items where there is no node.
        filled: (B, S) bool.
        features: (B, S, d), x_node − x_pivot; 0 where there is no node.
        mean: (B, S, S), G = D⁻¹ A.
        neighbour: (B, k) items of the first hop; place: (B, k), where they stand in `node`.
    """

    node: torch.Tensor
    filled: torch.Tensor
    features: torch.Tensor
    mean: torch.Tensor
    neighbour: torch.Tensor
    place: torch.Tensor


def pivot_subgraphs(
    x: torch.Tensor, neighbour: torch.Tensor, pivots: torch.Tensor, settings: LinkSettings
) -> Subgraphs:
    """Subgraphs of some pivots (B,), from unit rows x (N, d) and their neighbours (N, K).

    Nodes that are reached twice are there once; S is the largest number of nodes among the B.
    """
    items, (first, second) = len(x), settings.hops
    hop1 = neighbour[pivots, :first]  # (B, k)
    hop2 = neighbour[hop1, :second].flatten(1)
    node = torch.cat([pivots[:, None], hop1, hop2], dim=1).sort(dim=1).values
    again = torch.zeros_like(node, dtype=torch.bool)
    again[:, 1:] = node[:, 1:] == node[:, :-1]
    node = node.masked_fill(again, items).sort(dim=1).values
    node = node[:, : int((node < items).sum(1).max())].contiguous()  # (B, S)
    filled = node < items
    inside = node.clamp(max=items - 1)
    features = (x[inside] - x[pivots][:, None]) * filled[..., None]
    target = neighbour[inside, : settings.active]  # (B, S, a)
    place = torch.searchsorted(node, target.flatten(1)).clamp_(max=node.shape[1] - 1)
    found = (node.gather(1, place) == target.flatten(1)).view_as(target) & filled[..., None]
    links = torch.zeros(*node.shape, node.shape[1], dtype=x.dtype)
    # A link that was not found writes its 0 to the diagonal, which stays 0.
    own = torch.arange(node.shape[1])[None, :, None].expand_as(target)
    links.scatter_(2, torch.where(found, place.view_as(target), own), found.to(x.dtype))
    links = torch.maximum(links, links.mT)
    mean = links / links.sum(2, keepdim=True).clamp(min=1)
    return Subgraphs(node, filled, features, mean, hop1, torch.searchsorted(node, hop1))


class GraphConvolution(nn.Module):
    """ReLU([X ‖ G X] W + b); X (B, S, in), G (B, S, S) -> (B, S, out)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2 * inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        own, others = self.weight.chunk(2)
        return F.relu(x @ own + mean @ (x @ others) + self.bias)  # G (X W₂) = (G X) W₂


class LinkNetwork(nn.Module):
    """Graph convolutions, then two linear layers: logits of "one person" for the first hop."""

    def __init__(self, settings: LinkSettings):
        super().__init__()
        self.settings = settings
        sizes = (settings.dim, *settings.widths)
        self.norm = nn.BatchNorm1d(settings.dim, affine=False)
        self.layers = nn.ModuleList(GraphConvolution(*pair) for pair in pairwise(sizes))
        self.classifier = nn.Sequential(
            nn.Linear(sizes[-1], sizes[-1]), nn.PReLU(sizes[-1]), nn.Linear(sizes[-1], 1)
        )

    def forward(self, graphs: Subgraphs) -> torch.Tensor:
        """(B, k) logits of the pivots' neighbours."""
        x = torch.zeros_like(graphs.features)
        x[graphs.filled] = self.norm(graphs.features[graphs.filled])
        for layer in self.layers:
            x = layer(x, graphs.mean)
        hop1 = x.gather(1, graphs.place[..., None].expand(-1, -1, x.shape[2]))
        return self.classifier(hop1.flatten(0, 1)).view(graphs.place.shape)


def train_links(
    emb: np.ndarray,
    labels: np.ndarray,
    graph: Graph | None = None,
    steps: int = 1000,
    batch: int = 16,
    lr: float = 1e-2,
    seed: int = 0,
    **settings: object,
) -> LinkNetwork:
    """Train on labelled unit embeddings (N, d) of identities that will not be clustered.

    Args:
        labels: (N,) identities.
        graph: nearest neighbours of emb, found here if not given.
        steps, batch: pivots seen are their product.
        lr: highest rate of Adam; it falls to 0 along a half cosine.
        settings: of `LinkSettings`. `max_size` is twice the largest identity unless given.

    Returns:
        The network in eval mode.
    """
    largest = int(np.unique(labels, return_counts=True)[1].max())
    chosen = LinkSettings(emb.shape[1], **{"max_size": 2 * largest, **settings})
    _check_items(len(emb), chosen)
    x, neighbour = _tensors(emb, graph or neighbour_graph(emb, chosen.hops[0]))
    person = torch.from_numpy(np.unique(labels, return_inverse=True)[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = LinkNetwork(chosen)
        optimizer = torch.optim.Adam(net.parameters(), lr)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            pivots = torch.randint(len(x), (batch,))
            graphs = pivot_subgraphs(x, neighbour, pivots, chosen)
            same = (person[graphs.neighbour] == person[pivots][:, None]).float()
            loss = F.binary_cross_entropy_with_logits(net(graphs), same)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()
            if step % 250 == 249:
                log.info("L-GCN: step %d of %d, loss %.3f", step + 1, steps, loss.item())
    return net.eval()


@torch.inference_mode()
def predict_links(net: LinkNetwork, emb: np.ndarray, graph: Graph, batch: int = 64) -> np.ndarray:
    """Probability (N, k) that an item and each of its first k = hops[0] neighbours are one person.

    Raises:
        UserError: embeddings of another dimension than the network's, or too few of them.
    """
    if emb.shape[1] != net.settings.dim:
        raise UserError(
            f"the L-GCN was trained on {net.settings.dim} dimensions, the embeddings have "
            f"{emb.shape[1]}: train one on embeddings of the same network"
        )
    _check_items(len(emb), net.settings)
    x, neighbour = _tensors(emb, graph)
    parts = [
        torch.sigmoid(net(pivot_subgraphs(x, neighbour, pivots, net.settings)))
        for pivots in torch.arange(len(x)).split(batch)
    ]
    return torch.cat(parts).numpy()


def merge_links(
    neighbour: np.ndarray, probability: np.ndarray, max_size: int, step: float = STEP
) -> np.ndarray:
    """Clusters (N,) from directed links: neighbour (N, k), probability (N, k). Section 3.4.

    The threshold starts at the lowest score, so that nothing is cut, and grows by
    t ← t + step·(1 − t) for the items in components larger than `max_size`.
    """
    items = len(neighbour)
    a = np.repeat(np.arange(items), neighbour.shape[1])
    b = neighbour.ravel()
    edge, which = np.unique(np.minimum(a, b) * items + np.maximum(a, b), return_inverse=True)
    score = np.bincount(which, probability.ravel()) / np.bincount(which)
    a, b = np.divmod(edge, items)
    cluster = np.zeros(items, np.int64)
    open_ = np.ones(items, bool)
    threshold = score.min()
    for number in range(MAX_ROUNDS):
        kept = (score >= threshold) & open_[a] & open_[b]
        links = coo_matrix((np.ones(kept.sum(), bool), (a[kept], b[kept])), shape=(items, items))
        found = connected_components(links, directed=False)[1]
        cluster[open_] = (number + 1) * items + found[open_]  # no number of an earlier round
        open_ &= np.bincount(found)[found] > max_size
        if not open_.any():
            break
        threshold += step * (1 - threshold)
    return np.unique(cluster, return_inverse=True)[1]


def lgcn(net: LinkNetwork, emb: np.ndarray, graph: Graph) -> np.ndarray:
    """Clusters (N,) of unit embeddings (N, d); graph with at least hops[0] neighbours."""
    first = net.settings.hops[0]
    probability = predict_links(net, emb, graph)
    return merge_links(graph.neighbour[:, :first], probability, net.settings.max_size)


def save_links(net: LinkNetwork, path: Path) -> None:
    """Write a network and its settings, whole or not at all (safetensors: no code in the file)."""
    from safetensors.torch import save_file

    weights, settings = net.state_dict(), json.dumps(asdict(net.settings))
    with atomic_file(Path(path)) as temporary:
        header = {"lgcn": settings, "digest": tensors_digest(weights, settings)}
        save_file(weights, temporary, header)


def load_links(path: Path) -> LinkNetwork:
    """Read what `save_links` wrote; eval mode.

    Raises:
        BadData: no such file, another format, or weights that do not fit the settings.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise BadData(f"{path}: no such L-GCN; make one with: python -m facelib cluster TRAIN.npz "
                      "--train-lgcn MODEL.safetensors")  # fmt: skip
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            kept = json.loads(header["lgcn"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        check_digest(path, header, tensors_digest(weights, header["lgcn"]), "train it again")
        net = LinkNetwork(LinkSettings(**{k: tuple(v) if isinstance(v, list) else v
                                          for k, v in kept.items()}))  # fmt: skip
        net.load_state_dict(weights)
    except (
        SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError,
        OSError, MemoryError,
    ) as error:  # fmt: skip
        reason = str(error).partition("\n")[0]
        raise BadData(f"{path}: not a saved L-GCN ({reason}); wanted the .safetensors that "
                      "--train-lgcn writes") from error  # fmt: skip
    return net.eval()


def _check_items(items: int, settings: LinkSettings) -> None:
    if items <= settings.hops[0]:
        raise UserError(
            f"{items} items: L-GCN looks at {settings.hops[0]} neighbours of each, so give at "
            f"least {settings.hops[0] + 1}"
        )


def _tensors(emb: np.ndarray, graph: Graph) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(np.ascontiguousarray(emb, dtype=np.float32))
    return x, torch.from_numpy(np.ascontiguousarray(graph.neighbour))
