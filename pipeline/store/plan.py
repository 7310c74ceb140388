"""What a build is to write, and which of several workers writes what."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from pipeline.digests import digest_json
from pipeline.store.shards import Layout


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build writes. Two builds with equal plans write the same bytes."""

    identity: dict[str, Any]
    """Teacher, tokenizer, data and every option that changes values; its digest is the cache_id."""
    layout: Layout
    batch_tokens: int
    reuse: str | None = None
    """content_digest of the cache whose rows are taken over."""

    @property
    def cache_id(self) -> str:
        """sha256 of the identity."""
        return digest_json(self.identity)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        content = asdict(self)
        for name in ("layers", "out_of_fold"):
            content["layout"][name] = list(content["layout"][name])
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        lists = {name: tuple(content["layout"][name]) for name in ("layers", "out_of_fold")}
        layout = content["layout"] | lists
        return cls(**(content | {"layout": Layout(**layout)}))


@dataclass(frozen=True)
class Share:
    """Which shards one of several workers writes: every `count`-th, from `index`."""

    index: int = 0
    count: int = 1

    def holds(self, number: int) -> bool:
        """Whether a shard is this worker's; shards are numbered through all splits."""
        return number % self.count == self.index
