"""Stamps of derived files: what they came from, and that they are as written."""

import numpy as np
import pytest

from facelib.digests import check_stamps, content_digest, stamped
from facelib.errors import BadData


def test_a_stamped_file_is_refused_once_altered_or_of_another_source(tmp_path):
    # Mutations: the key or an array left out of the digest; types, shapes, 0-d arrays ignored.
    np.savez(tmp_path / "a.npz", **stamped({"a": np.arange(6.0).reshape(2, 3)}, "source"))
    kept = dict(np.load(tmp_path / "a.npz"))
    check_stamps(kept, "source", "a.npz", "again")
    check_stamps(kept, None, "a.npz", "again")
    with pytest.raises(BadData, match=r"a\.npz: was made from something else .*; again"):
        check_stamps(kept, "other", "a.npz", "again")
    for change in (
        {"a": kept["a"] + 1e-9},
        {"a": kept["a"].reshape(3, 2)},
        {"a": kept["a"].view(np.int64)},
        {"key": np.array("other")},
        {"b": np.zeros(0)},
    ):
        with pytest.raises(BadData, match="was altered after it was written"):
            check_stamps(kept | change, None, "a.npz", "again")


def test_a_file_without_stamps_is_of_an_earlier_version():
    # Mutation: records and runs of before refused.
    check_stamps({"figures": {}}, "source", "old.json", "again")


def test_the_order_of_bytes_in_memory_does_not_count():
    # Mutation: a transposed array hashed as it lies in memory.
    a = np.arange(6).reshape(2, 3)
    assert content_digest({"a": a}) == content_digest({"a": np.asfortranarray(a)})
    assert content_digest({"a": a[:, ::2]}) == content_digest({"a": a[:, ::2].copy()})
