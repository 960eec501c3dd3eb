"""The outline of a weights file: what torch reads, seen without torch."""

import pickletools

from torch import _weights_only_unpickler as own

from facelib.safety.outline import KNOWN, NAMES


def test_names_and_opcodes_are_those_of_torch():
    # Mutation: a name that torch loads and the outline refuses, or the other way round.
    assert [name for name in own._get_allowed_globals() if not NAMES.fullmatch(name)] == []
    for name in ("os.system", "posix.system", "builtins.eval", "torch.hub.load", "torch.load",
                 "torch._utils._import_dotted_name", "torch.serialization.load", "xtorch.int8",
                 "torch.serialization._get_layoutx", "collections.deque"):  # fmt: skip
        assert not NAMES.fullmatch(name), name
    codes = {one.name for one in pickletools.opcodes if hasattr(own, one.name)}
    assert codes == KNOWN
