"""divmon: watch the output diversity of a language model while it is post-trained.

Importing it loads neither torch nor transformers: the names below bring what they need when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "DiversityCallback": "divmon.callback",
    "DiversityConfig": "divmon.training.config",
    "DiversityMonitor": "divmon.monitor",
    "Probe": "divmon.types",
    "Prompt": "divmon.types",
    "Think": "divmon.prompts.rendering",
    "compare": "divmon.analysis.comparison.compare",
    "read_run": "divmon.storage.writer",
    "sample": "divmon.sampling.engines.live",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'divmon' has no attribute {name!r}; there are {', '.join(__all__)}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
