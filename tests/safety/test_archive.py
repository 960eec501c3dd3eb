"""Weights files: data only, and every changed byte is noticed."""

import contextlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from facelib.errors import BadData, UserError
from facelib.models.initial import load_backbone
from facelib.models.iresnet import iresnet
from facelib.safety import archive
from facelib.safety.archive import check_digest, load_archive, tensors_digest
from facelib.safety.seal import seal_file
from facelib.training.checkpoint import _digest, load_checkpoint

FLIPS = 200


@pytest.fixture(scope="module")
def content() -> dict:
    """What a checkpoint of a tiny network holds."""
    torch.manual_seed(0)
    learner = torch.nn.Linear(7, 5).state_dict()
    return {
        "learner": learner, "optimizer": {"state": {}, "param_groups": []}, "scaler": None,
        "step": 3, "best": None, "losses": [1.5], "rng": [{"cpu": torch.get_rng_state()}],
        "digest": _digest(learner, ""), "base": "", "config": {},
    }  # fmt: skip


@pytest.fixture
def sealed(tmp_path: Path, content: dict) -> Path:
    torch.save(content, tmp_path / "last.pt")
    seal_file(tmp_path / "last.pt")
    return tmp_path / "last.pt"


def test_flipped_bytes_in_200_checkpoints_are_refused_200_times(sealed: Path):
    # Mutation: no digest of the whole file: flips between the entries, or in the end, pass.
    whole, rng = sealed.read_bytes(), np.random.default_rng(0)
    assert load_checkpoint(sealed)["step"] == 3
    refused = 0
    for place in rng.choice(len(whole), FLIPS, replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        sealed.write_bytes(damaged)
        with pytest.raises(BadData) as caught:
            load_checkpoint(sealed)
        refused += "\n" not in str(caught.value) and str(sealed) in str(caught.value)
    assert refused == FLIPS


def test_flipped_bytes_in_the_tensors_of_other_peoples_archives_are_refused(tmp_path, content):
    # Mutation: torch.load alone, which does not look at the checksums of its archive.
    path = tmp_path / "backbone.pth"
    torch.save(content["learner"], path)
    whole = path.read_bytes()
    weight = content["learner"]["weight"].numpy().tobytes()
    start = whole.index(weight)
    assert load_archive(path, "again")["weight"].shape == (5, 7)
    for place in range(start, start + len(weight), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BadData, match="is damaged .the archive's checksum differs"):
            load_archive(path, "again")


def test_a_checkpoint_saved_again_with_other_weights_is_refused(sealed: Path, content: dict):
    # Mutation: the digest of the weights not compared: an archive can be whole and still lie.
    other = {k: v + 1 for k, v in content["learner"].items()}
    torch.save(content | {"learner": other}, sealed)
    with pytest.raises(BadData, match="its weights have the digest"):
        load_checkpoint(sealed)


ODD = {
    "an empty dict": {},
    "a list": [1, 2],
    "a number": 3,
    "no learner": {"optimizer": {}, "step": 1, "rng": [], "digest": ""},
    "a learner of numbers": {"learner": {"a": 1}, "optimizer": {}, "rng": [], "step": 1,
                             "digest": ""},
    "a step of text": {"learner": {}, "optimizer": {}, "rng": [], "step": "1", "digest": ""},
    "a tensor larger than the file": {
        "learner": {"a": torch.zeros(1).expand(10**12)}, "optimizer": {}, "rng": [], "step": 1,
        "digest": "",
    },
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_checkpoints_of_odd_content_are_one_clear_error(tmp_path: Path, case: str):
    # Mutation: KeyError: 'learner'.
    torch.save(ODD[case], tmp_path / "last.pt")
    with pytest.raises(BadData, match="cannot be read as a checkpoint: ") as caught:
        load_checkpoint(tmp_path / "last.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("odd", [{}, {"learner": 3}, {"learner": {3: 4}}, {"a": 1}, [1], {1: 2}])
def test_init_files_of_odd_content_are_one_clear_error(tmp_path: Path, odd):
    # Mutation: AttributeError: 'int' object has no attribute 'items'.
    torch.save(odd, tmp_path / "init.pt")
    with pytest.raises(BadData) as caught:
        load_backbone(iresnet("iresnet18", image_size=16, width=4, dim=8), tmp_path / "init.pt")
    assert str(tmp_path / "init.pt") in str(caught.value) and "\n" not in str(caught.value)


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path("hostile-ran"),)


def test_nothing_in_a_weights_file_is_executed(tmp_path: Path, monkeypatch):
    # Mutation: weights_only=False.
    monkeypatch.chdir(tmp_path)
    torch.save({"learner": Hostile()}, "archive.pt")
    Path("old.pt").write_bytes(pickle.dumps(Hostile()))
    for name in ("archive.pt", "old.pt"):
        with pytest.raises(BadData, match="not a PyTorch weights file"):
            load_archive(name, "again")
    assert not Path("hostile-ran").exists()


def test_compressed_archives_are_refused_before_they_unfold(tmp_path: Path):
    # Mutation: testzip on entries that a few bytes blow up.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    (tmp_path / "x.pt").write_bytes(buffer.getvalue())
    with pytest.raises(BadData, match="data.pkl' is damaged"):
        load_archive(tmp_path / "x.pt", "again")


def test_a_changed_tensor_changes_the_digest_and_files_without_one_are_read():
    # Mutation: the digest over the bytes alone: shapes and names swapped unseen.
    a, b = torch.arange(6.0), torch.ones(2)
    one = tensors_digest({"a": a, "b": b})
    assert one == tensors_digest({"b": b, "a": a.clone()})
    others = ({"a": b, "b": a}, {"a": a.reshape(2, 3), "b": b}, {"a": a + 1e-7, "b": b})
    assert one not in {tensors_digest(other) for other in others}
    check_digest(Path("x"), {}, one, "again")
    with pytest.raises(BadData, match="x: damaged since it was written"):
        check_digest(Path("x"), {"digest": "0" * 64}, one, "again")


def test_a_torch_that_would_run_code_of_a_file_is_refused(tmp_path, monkeypatch):
    # Mutation: weights_only trusted where it does not keep its promise, as in an old conda one.
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    for version, right in (("2.9.1", False), ("2.5.0+cu121", False), ("2.10.0", True)):
        monkeypatch.setattr(torch, "__version__", version)
        with contextlib.nullcontext() if right else pytest.raises(UserError, match="2.10 or later"):
            load_archive(tmp_path / "a.pt", "again")


def test_weights_are_loaded_at_one_place():
    # Mutation: a loader beside the one that checks.
    package = Path(archive.__file__).parents[1]
    users = [p.name for p in package.rglob("*.py") if "torch.load(" in p.read_text()]
    assert users == ["archive.py"]
