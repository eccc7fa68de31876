"""Bodies of ledger entries as properties of a table's entity, which takes 64 KiB each and 1 MiB in all."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

TEXT = 30_000
"""Characters of a body that is stored as it is; two bytes each, so that it can be read in any table browser."""
CHUNK = 60_000
CHUNKS = 14
"""A longer one is compressed, and cut into so many pieces of so many bytes per entity."""


def pack(body: str) -> list[dict[str, Any]]:
    """The properties that hold an ASCII ``body``: one dict per entity that it takes."""
    if len(body) <= TEXT:
        return [{"body": body}]
    data = zlib.compress(body.encode())
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    return [
        {f"z{number:02}": chunk for number, chunk in enumerate(chunks[start : start + CHUNKS])}
        for start in range(0, len(chunks), CHUNKS)
    ]


def unpack(entities: Sequence[Mapping[str, Any]]) -> str:
    """The body that the entities hold, in their order."""
    if "body" in entities[0]:
        return str(entities[0]["body"])
    chunks = [
        entity[name] for entity in entities for name in sorted(entity) if name.startswith("z") and name[1:].isdigit()
    ]
    return zlib.decompress(b"".join(chunks)).decode()
