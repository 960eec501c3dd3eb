"""The one digest behind names, cache keys and stamps: the first hex digits of a SHA-256.

A file that is computed from others carries two: `key`, of all that decides its content (weights,
data, settings, code), and `digest`, of the content itself. Who can, makes a file anew that was made
from something else or altered since; who only reads it, refuses it. A file without them is of an
earlier version, and taken as it is.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from facelib.errors import BadData

Part = Any  # str, bytes or an array; not named, so that a missing numpy is one line, not a trace


def digest(*parts: Part, digits: int = 16) -> str:
    """First hex digits over the parts, joined: texts as UTF-8, arrays by their bytes in C order."""
    return digest_stream(parts, digits)


def digest_stream(parts: Iterable[Part], digits: int = 16) -> str:
    """`digest` of parts that are made one after the other, too large to hold together."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode()
        if hasattr(part, "tobytes"):
            part = part.data if part.flags.c_contiguous else part.tobytes()
        found.update(part)
    return found.hexdigest()[:digits]


def digest_values(values: object, digits: int = 16) -> str:
    """First hex digits over anything that JSON can hold; the order of keys does not matter."""
    return digest(json.dumps(values, sort_keys=True, default=str), digits=digits)


def content_digest(content: Mapping[str, Any]) -> str:
    """Digest of named values: arrays by type, shape and bytes, others as JSON; not of `digest`."""

    def parts() -> Iterable[Part]:
        for name in sorted(set(content) - {"digest"}):
            value = content[name]
            if getattr(value, "shape", None) == ():
                value = value.item()
            if hasattr(value, "tobytes"):
                yield f"{name} {value.dtype} {value.shape} "
                yield value
            else:
                yield f"{name} {json.dumps(value, sort_keys=True)} "

    return digest_stream(parts())


def stamped(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The content of a derived file with its stamps.

    Args:
        key: digest of what it came from.
    """
    found = {**content, "key": key}
    return {**found, "digest": content_digest(found)}


def check_stamps(content: Mapping[str, Any], key: str | None, where: object, again: str) -> None:
    """Raise unless a derived file came from `key` (None: whatever it was) and is as written.

    Args:
        content: its values; 0-dimensional arrays count as texts.
        where: what to call it. again: the command that makes it anew.

    Raises:
        BadData: made from something else, or altered since it was written.
    """
    if key is not None and str(content.get("key", key)) != key:
        raise BadData(f"{where}: was made from something else than is there now; {again}")
    if "digest" in content and str(content["digest"]) != content_digest(content):
        raise BadData(f"{where}: was altered after it was written; {again}")
