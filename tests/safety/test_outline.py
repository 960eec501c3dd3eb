"""The outline of a weights file: what torch reads, seen without torch."""

import pickletools
import subprocess
import sys

import pytest
import torch
from torch import _weights_only_unpickler as own

from facelib.errors import BadData
from facelib.safety.archive import check_archive
from facelib.safety.outline import KNOWN, NAMES, Tensor, flat


def test_names_and_opcodes_are_those_of_torch():
    # Mutation: a name that torch loads and the outline refuses, or the other way round.
    assert [name for name in own._get_allowed_globals() if not NAMES.fullmatch(name)] == []
    for name in ("os.system", "posix.system", "builtins.eval", "torch.hub.load", "torch.load",
                 "torch._utils._import_dotted_name", "torch.serialization.load", "xtorch.int8",
                 "torch.serialization._get_layoutx", "collections.deque"):  # fmt: skip
        assert not NAMES.fullmatch(name), name
    codes = {one.name for one in pickletools.opcodes if hasattr(own, one.name)}
    assert codes == KNOWN


KINDS = {
    "views": lambda: torch.arange(10.0)[2:8:2], "turned": lambda: torch.ones(2, 3).T,
    "spread": lambda: torch.zeros(1).expand(5), "empty": lambda: torch.zeros(0, 3),
    "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "half": lambda: torch.ones(2).bfloat16(), "complex": lambda: torch.ones(2) * 1j,
    "sparse": lambda: torch.eye(3).to_sparse(),
    "values": lambda: [1.5, None, (1, 2), {3}, 1j, b"x", torch.float32, torch.Size([2]), "é"],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("old", [False, True])
def test_whatever_torch_saves_and_loads_has_an_outline(tmp_path, kind, old):
    # Mutation: a rule of the outline that a sound file of somebody else's breaks.
    value = KINDS[kind]()
    torch.save({"a": {"b": value}}, tmp_path / "x.pt", _use_new_zipfile_serialization=not old)
    found = dict(flat(check_archive(tmp_path / "x.pt", "again"), Tensor))
    assert list(found) == (["a.b"] if isinstance(value, torch.Tensor) else [])
    if kind not in ("values", "sparse"):
        assert found["a.b"].shape == tuple(value.shape)


def test_dicts_inside_each_other_a_thousand_times_are_looked_at_once():
    # Mutation: every path to a name: 1000⁵ of them, and no end.
    inner = {"x": 1}
    for _ in range(5):
        inner = dict.fromkeys(range(1000), inner)
    assert list(flat(inner, Tensor)) == []


def test_a_look_at_weights_imports_no_torch(tmp_path):
    # Mutation: an import of torch in a module that a command loads first.
    (tmp_path / "x.pt").write_bytes(b"PK")
    code = (
        "import sys, facelib.cli.main, facelib.data.people, facelib.data.split\n"
        "from facelib.runs.weights import check_init\nfrom facelib.config import make_config\n"
        f"try:\n    check_init(make_config(init={str(tmp_path / 'x.pt')!r}))\n"
        "except Exception as error:\n    print(type(error).__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == f"{BadData.__name__} False", done.stderr
