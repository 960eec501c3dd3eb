"""L-GCN: subgraphs and network against literal restatements, merging, training, the saved file."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from facelib.errors import BadData, UserError
from facelib.metrics import lgcn as lg
from facelib.metrics.clustering import bcubed
from facelib.metrics.neighbours import neighbour_graph
from tests.metrics.test_clustering import made_faces


def literal_subgraph(x, neighbour, pivot, settings):
    """Section 3.2 with Python sets: nodes, features, D⁻¹A."""
    first, second = settings.hops
    hop1 = neighbour[pivot, :first].tolist()
    nodes = {pivot, *hop1}
    for h in hop1:
        nodes |= set(neighbour[h, :second].tolist())
    nodes = sorted(nodes)
    a = np.zeros((len(nodes),) * 2)
    for i, node in enumerate(nodes):
        for other in neighbour[node, : settings.active].tolist():
            if other in nodes:
                j = nodes.index(other)
                a[i, j] = a[j, i] = 1
    return nodes, x[nodes] - x[pivot], a / a.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def small():
    emb, labels = made_faces(8, 9, dim=16, spread=1.0)
    return emb, labels, neighbour_graph(emb, 12), lg.LinkSettings(16, (8, 6), (6, 3), 3)


def subgraphs(small, pivots):
    emb, _, graph, settings = small
    return lg.pivot_subgraphs(
        torch.from_numpy(emb), torch.from_numpy(graph.neighbour), torch.tensor(pivots), settings
    )


def test_a_subgraph_holds_each_node_once_with_its_links_both_ways(small):
    # Catches: nodes twice, links one way, links of filling nodes, features not of the pivot.
    emb, _, graph, settings = small
    found = subgraphs(small, [0, 5, 71])
    for b, pivot in enumerate([0, 5, 71]):
        nodes, features, mean = literal_subgraph(emb, graph.neighbour, pivot, settings)
        n = len(nodes)
        assert found.node[b][found.filled[b]].tolist() == nodes
        np.testing.assert_allclose(found.features[b, :n], features, atol=1e-6)
        np.testing.assert_allclose(found.mean[b, :n, :n], mean, atol=1e-6)
        assert not found.mean[b, n:].any()
        assert not found.features[b, n:].any()
        assert found.node[b][found.place[b]].tolist() == graph.neighbour[pivot, :6].tolist()


def test_the_network_is_the_papers_formula_and_ignores_filling(small):
    # Catches: own and neighbours' weights exchanged, filling nodes in the batch statistics.
    emb, _, graph, settings = small
    torch.manual_seed(0)
    net = lg.LinkNetwork(settings)
    net.norm.momentum = None
    graphs = subgraphs(small, [3, 40])
    net(graphs)  # batch statistics, over the nodes that exist
    rows = np.concatenate([literal_subgraph(emb, graph.neighbour, p, settings)[1] for p in (3, 40)])
    np.testing.assert_allclose(net.norm.running_mean, rows.mean(0), atol=1e-6)
    net.eval()
    nodes, x, mean = literal_subgraph(emb, graph.neighbour, 40, settings)
    x = (x - rows.mean(0)) / np.sqrt(rows.var(0, ddof=1) + net.norm.eps)
    for layer in net.layers:
        both = np.concatenate([x, mean @ x], axis=1)
        x = np.maximum(both @ layer.weight.detach().numpy() + layer.bias.detach().numpy(), 0)
    hop1 = torch.from_numpy(x[[nodes.index(h) for h in graph.neighbour[40, :6]]]).float()
    np.testing.assert_allclose(
        net(graphs)[1].detach(), net.classifier(hop1)[:, 0].detach(), atol=1e-5
    )


def test_merging_keeps_small_components_and_cuts_large_ones_further():
    # Catches: edges cut in final components, one direction's score taken for the mean.
    # 0–1–2 and 3–4–5 are joined by the weak edge 2–3; 6–7 are weakly linked, but small.
    neighbour = np.array([[1], [2], [1], [2], [3], [4], [7], [6]])
    probability = np.array([0.9, 0.95, 0.85, 0.4, 0.9, 0.9, 0.3, 0.3])[:, None]
    clusters = lg.merge_links(neighbour, probability, max_size=3)
    assert bcubed(np.array([0, 0, 0, 1, 1, 1, 2, 2]), clusters)[2] == 1
    whole = lg.merge_links(neighbour, probability, max_size=6)
    assert bcubed(np.array([0, 0, 0, 0, 0, 0, 2, 2]), whole)[2] == 1
    # 1→2 and 2→1 are one edge of mean 0.5; two directions at 0.9 and 0.1 would keep it at 0.9
    pair = np.array([[1], [0], [1], [2]]), np.array([[0.9], [0.1], [0.9], [0.9]])
    assert len(np.unique(lg.merge_links(*pair, max_size=3))) == 2


def test_certain_links_end_even_if_the_component_stays_too_large():
    # Catches: a threshold that rises for ever.
    ring = (np.arange(10)[:, None] + 1) % 10
    assert len(np.unique(lg.merge_links(ring, np.ones((10, 1)), max_size=3))) == 1


def test_training_repeats_itself(small):
    # Catches: an unseeded draw, a network left in train mode.
    emb, labels, graph, _ = small
    a, b = (lg.train_links(emb, labels, graph, steps=4, widths=(8,), hops=(6, 3)) for _ in "ab")
    assert a.settings.max_size == 18
    found = lg.predict_links(a, emb, graph)
    np.testing.assert_array_equal(found, lg.predict_links(b, emb, graph))
    np.testing.assert_allclose(found, lg.predict_links(a, emb, graph, batch=40), atol=1e-6)


def test_a_trained_network_tells_links_of_other_people_better_than_the_cosine():
    # Catches: labels of the wrong nodes, scores that go to other neighbours.
    torch.set_num_threads(1)
    train, test = (made_faces(60, 12, dim=8, spread=0.5, seed=seed) for seed in (1, 2))
    setting = {"widths": (32, 16), "hops": (10, 3), "active": 3}
    net = lg.train_links(*train, steps=300, batch=16, lr=1e-2, **setting)
    emb, people = test
    graph = neighbour_graph(emb, 10)
    same = (people[graph.neighbour] == people[:, None]).ravel()
    cosine = roc_auc_score(same, graph.cosine.ravel())
    assert roc_auc_score(same, lg.predict_links(net, emb, graph).ravel()) > cosine + 0.04


def test_a_saved_network_predicts_the_same(small, tmp_path):
    # Catches: settings or running statistics that are not in the file.
    emb, labels, graph, _ = small
    net = lg.train_links(emb, labels, graph, steps=3, widths=(8,), hops=(6, 3))
    lg.save_links(net, tmp_path / "a.safetensors")
    back = lg.load_links(tmp_path / "a.safetensors")
    assert back.settings == net.settings
    expected = lg.predict_links(net, emb, graph)
    np.testing.assert_array_equal(lg.predict_links(back, emb, graph), expected)
    assert lg.lgcn(back, emb, graph).shape == (72,)
    with pytest.raises(UserError, match="trained on 16 dimensions, the embeddings have 8"):
        lg.predict_links(back, emb[:, :8], graph)
    with pytest.raises(UserError, match="give at least 7"):
        lg.predict_links(back, emb[:6], graph)


def test_what_is_no_saved_network_is_refused_in_one_line(tmp_path):
    # Catches: pickle loading, a traceback of safetensors.
    path = tmp_path / "x.safetensors"
    with pytest.raises(BadData, match="no such L-GCN"):
        lg.load_links(path)
    path.write_bytes(b"\x80\x04junk of another format")
    with pytest.raises(BadData, match="not a saved L-GCN"):
        lg.load_links(path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(BadData, match="not a saved L-GCN"):
        lg.load_links(path)
