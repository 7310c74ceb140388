"""pkd: distil BERT-style classifiers from a cache of their teacher's outputs.

`pipeline.TeacherCache` is the public way to read a cache from other code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.store.reader import TeacherCache

__all__ = ["TeacherCache"]


def __getattr__(name: str) -> Any:
    """Load the public class when it is asked for: importing `pipeline` alone costs nothing."""
    if name == "TeacherCache":
        from pipeline.store.reader import TeacherCache

        return TeacherCache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
