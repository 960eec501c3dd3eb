"""Losses against numbers that their authors' own code gave for one small input.

Made once in float64 (torch 2.14.1): each class below with s = 16 on `Z`, its centres set to `W`,
`cross_entropy` of its logits where it returns logits, then backward to `Z`. One angle passes π with
a margin of 0.5, a second with MagFace's, and a third cosine is below 0. Repository, commit, file:

SV-X     xiaoboCASIA/SV-X-Softmax 89b536d fc_layers.py: FC("MV-AM", 0.35, t=0.2), of MV-Softmax
FaceX    JDAI-CV/FaceX-Zoo 16b793a head/MV_Softmax.py: MV_Softmax(is_am=1, 0.35, mv_weight=1.12)
MagFace  IrvingMeng/MagFace 99bae61 models/magface.py: MagLinear + MagLoss + 35 g, input 20·Z
Elastic  fdbtrs/ElasticFace 5496ec0 utils/losses.py: ElasticArcFace(m=0.5, std=0)
R        ydwen/opensphere a679e82 opensphere/module/head/sphereface.py: SphereFace(m=1.7)
Insight  deepinsight/insightface 7fadd42 recognition/arcface_torch/losses.py: ArcFace(margin=0.5)
A        enazari/ArcFace-vs-InfoNCE 0499ac3 src/losses/infonce.py: ArcFaceInfoNCELoss, source A
PCL      salesforce/PCL 964da1f main_pcl.py: run_kmeans, with a clustering that is given
"""

import pytest
import torch
import torch.nn.functional as F

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.cluster import temperatures_pcl
from facelib.losses.parts.cluster_store import ClassRings


def table(rows, cols, step):
    return torch.sin(1 + step * torch.arange(rows * cols, dtype=torch.float64)).view(rows, cols)


Z, W, LABELS = table(6, 4, 0.7), table(5, 4, 1.3), torch.tensor([0, 1, 2, 3, 4, 0])
Z[3], Z[4], Z[5] = 0.9 * Z[3] - W[3], 0.3 * Z[4] - 5 * W[4], 0.2 * Z[5] + 3 * W[0]


def ours(name, scale=1.0, **settings):
    """(loss, norm of its gradient at the input) of `build_loss` with `settings`, on Z and W."""
    loss = build_loss(make_config(loss=name, s=16.0, dim=4, **settings), 5).double()
    loss.weight.data = W.clone()
    z = Z.clone().requires_grad_()
    value = loss(scale * z, LABELS)[0]
    value.backward()
    return value.item(), z.grad.norm().item()


AUTHORS = {  # name of the numbers -> (loss, gradient's norm)
    "SV-X, easy_margin=False": (22.795065554957, 4.532874400989),
    "SV-X": (19.995065554961, 4.532874400944),
    "FaceX": (18.157063112048, 4.366697185752),
    "MagFace": (17.163524069152, 4.289351018719),
    "MagFace, easy_margin=False": (20.380669432515, 3.858199599323),
    "Elastic": (17.055395022657, 3.743877375456),
    "R": (25.100412828548, 4.123775691551),
    "Insight": (17.055395022657, 4.123101597565),
}


@pytest.mark.parametrize(
    ("name", "settings", "numbers"),
    [
        ("mv_softmax", {}, "SV-X, easy_margin=False"),
        ("magface", {"scale": 20.0}, "MagFace"),
        ("magface", {"scale": 20.0, "branch": "hard"}, "MagFace, easy_margin=False"),
        ("elasticface", {"elastic_sigma": 0.0}, "Elastic"),
        ("arcface", {"m": 0.5, "branch": "none"}, "Elastic"),
        ("sphereface", {}, "R"),
        ("arcface", {"m": 0.5, "branch": "none", "gradient": "straight_through"}, "Insight"),
    ],
)
def test_a_loss_with_its_published_settings_is_its_authors(name, settings, numbers):
    # Catches: t = 1.12 for 1.2, MagFace or ElasticFace with ArcFace's branch, SphereFace-R or
    # InsightFace with the exact gradient.
    assert ours(name, **settings) == pytest.approx(AUTHORS[numbers], rel=1e-6)


def test_variants_of_the_same_value_have_another_gradient():
    # Catches: a detached factor that is not, or one in the variant called exact.
    assert AUTHORS["Elastic"][0] == AUTHORS["Insight"][0]
    value, norm = ours("sphereface", gradient="exact")
    assert value == pytest.approx(AUTHORS["R"][0])
    assert norm > 1.4 * AUTHORS["R"][1]


def test_straight_through_has_insightface_s_value_up_to_pi_and_another_beyond():
    # Catches: a docstring that calls the two equal everywhere.
    value, _ = ours("arcface", m=0.5, gradient="straight_through")
    assert value > AUTHORS["Insight"][0] + 0.5
    near = build_loss(make_config(loss="arcface", m=0.5, dim=4), 5).double()
    theta = torch.tensor([0.3, 1.0, 2.5], dtype=torch.float64)
    assert torch.allclose(near.margin(theta.cos()), (theta + 0.5).cos())


def test_mv_softmax_is_told_apart_from_the_two_codes_beside_it():
    # Catches: FaceX-Zoo's weight under the authors' name; where they leave margins out.
    cos = (F.normalize(Z) @ F.normalize(W).T).gather(1, LABELS[:, None]).squeeze(1)
    given, zoo = ours("mv_softmax")[0], ours("mv_softmax", mv_t=1.12)[0]
    no_margin = 16 * 0.35 * (cos <= 0).sum().item() / len(Z)
    assert given - AUTHORS["SV-X"][0] == pytest.approx(no_margin, abs=1e-3)
    assert zoo - AUTHORS["FaceX"][0] == pytest.approx(no_margin, abs=1e-3)  # no cosine in 0..m here
    assert make_config(loss="mv_softmax").mv_t == 1.2


def test_source_a_s_hybrid_validates_on_its_arcface_term():
    # Catches: a checkpoint that is chosen by the sum.
    cfg = make_config("ms1m-hybrid", dim=4, s=16.0, m=0.2)
    assert (cfg.select, cfg.hybrid_val) == ("val_loss", "arcface")
    loss, labels = build_loss(cfg, 5).double(), torch.tensor([0, 0, 1, 1, 2, 2])
    loss.arcface.weight.data = W.clone()
    assert loss(Z, labels)[0].item() == pytest.approx(21.32561256993933)  # A, training
    assert loss.eval()(Z, labels)[0].item() == pytest.approx(13.258731117052973)  # A, validation
    loss.val = "sum"
    assert loss(Z, labels)[0].item() == pytest.approx(21.32561256993933)


def test_pcl_s_temperatures_are_its_authors():
    # Catches: classes with one feature that keep a φ of their own, the largest after the clipping.
    apart = [
        (0.10, 0.30, 0.26),
        (0.95,),
        (0.02, 0.04),
        (),
        (0.9, 0.7, 0.8, 0.6),
        (0.2, 0.2),
        (0.33,),
        (0.15, 0.05, 0.4, 0.3, 0.2),
    ]  # distances to the centre of each cluster
    theirs = [0.0332579923, 0.110195683, 0.0232502878, 0.110195683, 0.110195683, 0.0312084399,
              0.110195683, 0.0315005482]  # fmt: skip
    sizes = torch.tensor([len(row) for row in apart])
    total = torch.tensor([sum(row) for row in apart], dtype=torch.float64)
    phi = ClassRings(8, 4)._concentration(total, sizes).nan_to_num(0.9)  # the literal φ
    assert temperatures_pcl(phi, sizes, 0.07).tolist() == pytest.approx(theirs, rel=1e-6)
    assert temperatures_pcl(phi, sizes.clamp(max=1), 0.07).tolist() == pytest.approx([0.07] * 8)
