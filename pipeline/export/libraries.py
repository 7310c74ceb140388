"""The optional libraries of an export, their versions, and how quiet they are."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec

from pipeline.errors import ExportError

LIBRARIES = ("onnx", "onnxruntime", "onnxscript")
TALKATIVE = ("torch.onnx", "root")


def require_onnx(*names: str) -> None:
    """Refuse to start without the libraries of the extra `onnx`.

    Args:
        names: those that are needed; all of them by default.

    Raises:
        ExportError: one is missing (names it and the extra).
    """
    missing = [name for name in names or LIBRARIES if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"ONNX needs {', '.join(missing)}, not installed here: `pip install 'pkd[onnx]'` "
            "(in a clone, `pip install -e '.[onnx]'`)."
        )


def onnx_versions() -> dict[str, str]:
    """Version of each library, and of torch and transformers."""
    return {name: version(name).split("+")[0] for name in (*LIBRARIES, "torch", "transformers")}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the exporter and the quantiser say to their developers off a person's screen."""
    loggers = [logging.getLogger(None if name == "root" else name) for name in TALKATIVE]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
