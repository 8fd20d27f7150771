"""divmon: watch the output diversity of a language model while it is post-trained.

Importing it loads neither torch nor transformers: the names below bring what they need when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

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
__all__ = [
    "DiversityCallback",
    "DiversityConfig",
    "DiversityMonitor",
    "Probe",
    "Prompt",
    "Think",
    "compare",
    "read_run",
    "sample",
]

if TYPE_CHECKING:  # for editors and type checkers; the table above says the same at run time
    from divmon.analysis.comparison.compare import compare
    from divmon.callback import DiversityCallback
    from divmon.monitor import DiversityMonitor
    from divmon.prompts.rendering import Think
    from divmon.sampling.engines.live import sample
    from divmon.storage.writer import read_run
    from divmon.training.config import DiversityConfig
    from divmon.types import Probe, Prompt
else:

    def __getattr__(name: str) -> Any:
        if name not in _WHERE:
            raise AttributeError(f"module 'divmon' has no attribute {name!r}; there are {', '.join(__all__)}")
        return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
