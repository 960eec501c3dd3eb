"""The one digest behind names, cache keys and stamps: the first hex digits of a SHA-256."""

import hashlib
import json
from collections.abc import Iterable

import numpy as np

Part = str | bytes | np.ndarray


def digest(*parts: Part, digits: int = 16) -> str:
    """First hex digits over the parts, joined: texts as UTF-8, arrays by their bytes in C order."""
    return digest_stream(parts, digits)


def digest_stream(parts: Iterable[Part], digits: int = 16) -> str:
    """`digest` of parts that are made one after the other, too large to hold together."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            part = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
        found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()[:digits]


def digest_values(values: object, digits: int = 16) -> str:
    """First hex digits over anything that JSON can hold; the order of keys does not matter."""
    return digest(json.dumps(values, sort_keys=True, default=str), digits=digits)
