"""divmon: monitor the output diversity of language models during post-training.

Importing it loads neither torch nor transformers: the names below bring what they need when they are first used.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
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
    "report": "divmon.analysis.report",
    "sample": "divmon.sampling.engines.live",
    "score": "divmon.analysis.score_files.score",
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
    "report",
    "sample",
    "score",
]

if TYPE_CHECKING:  # for editors and type checkers; the table above says the same at run time
    from divmon.analysis.comparison.compare import compare
    from divmon.analysis.report import report
    from divmon.analysis.score_files.score import score
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


# -- module paths of version 0.1, which work until 0.3

_RENAMED = """
    drawing=sampling samplers=sampling.engines serving=sampling.serving verifiers=grading.verifiers
    programs=grading.program_extraction judging=grading.grader isolation=grading.sandbox encode=scoring.encoders
    inputs=scoring.metric_inputs within=scoring.within_strata health=scoring.soundness paper=scoring.paper_view
    obtain=scoring.model_loading store=storage.writer reading=storage.reader frames=storage.data_frames
    pricing=training.cost processes=training.distributed asking=training.protocol sharding=training.sharded_models
    trainers=training.trainer_access engines=training.setup stacked=loggers.decomposition_chart plugins=options
    plain=types memory=undisturbed guard=undisturbed stats=scoring.intervals manifest=training.run_record
    attach=cli.attach demo=cli.demo schedule=training.schedule
"""
_MOVED = {
    **{name: f"scoring.{name}" for name in ("alerts", "decomposition", "metrics", "quality", "reference")},
    **{name: f"training.{name}" for name in ("budget", "composition", "config", "rewards", "rollouts")},
    **{name: f"analysis.{name}" for name in ("comparison", "curves")},
    **{name: f"prompts.{name}" for name in ("probes", "rendering", "tasks")},
    **{name: f"lineages.{name}" for name in ("miniature", "recipes", "replay", "watch")},
    **dict(pair.split("=") for pair in _RENAMED.split()),
}


class _Moved:
    """Finds a module by its path of version 0.1: the module of today, with one line that names its path."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        old, dot, below = rest.partition(".")
        if package != "divmon" or old not in _MOVED:
            return None
        new = f"divmon.{_MOVED[old]}{dot}{below}"
        warnings.warn(f"{name} has moved: import {new}", DeprecationWarning, stacklevel=2)
        return ModuleSpec(name, self, origin=new)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(str(spec.origin))
        spec.loader_state = module.__spec__  # which the import system puts `spec` in place of
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


sys.meta_path.insert(0, _Moved())  # type: ignore[arg-type]
