"""Every error that a person is meant to read: what, expected, found, and the next command."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PipelineError(Exception):
    """Base of all errors with a message for people; commands print it and exit 1."""


class ParamsError(PipelineError):
    """A value in `params.yaml` or a combination of options that cannot work."""


class DataError(PipelineError):
    """Input data that is missing, malformed or of another task."""


class ModelError(PipelineError):
    """A model or tokenizer that is missing or does not fit."""


class ExportError(PipelineError):
    """A model that cannot be exported, or whose export does not compute what the model computes."""


class TeacherRefusedError(PipelineError):
    """A teacher that would give useless targets: at chance, or with permuted labels."""


class CacheError(PipelineError):
    """A teacher cache that is missing, incomplete or unreadable."""


class CacheCorruptError(CacheError):
    """Bytes of a cache differ from what its manifest says."""


class CacheMismatchError(CacheError):
    """A sound cache that does not fit what is asked of it."""


class HubError(PipelineError):
    """The Hugging Face Hub refuses, or does not answer."""


class BusyError(PipelineError):
    """Another process is making the same output."""


class OutputExistsError(PipelineError):
    """The output is there already, and came from other inputs or parameters."""


class TrainingError(PipelineError):
    """Training cannot go on (a loss that is not finite, no usable rows)."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return " Did you mean `x`?" for the nearest known name, or "" when none is near."""
    near = difflib.get_close_matches(wrong, list(known), n=1)
    return f" Did you mean `{near[0]}`?" if near else ""
