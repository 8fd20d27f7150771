"""What the files of metrics say of themselves, read without running them: importing them loads torch, five seconds."""

from __future__ import annotations

import ast
import functools
import inspect
from dataclasses import dataclass, field
from pathlib import Path

from divmon.scoring import metrics


@dataclass(frozen=True)
class MetricSource:
    """A metric's docstring, and by figure how it is averaged over prompts where that is not the mean."""

    doc: str = ""
    aggregate: dict[str, str] = field(default_factory=dict)


@functools.cache
def metric_sources() -> dict[str, MetricSource]:
    """By name; a metric that another package brings is loaded, since its source may be anywhere."""
    here = {path.stem: path for folder in metrics.__path__ for path in Path(folder).glob("*.py")}
    return {name: _read(here[name]) if name in here else _loaded(name) for name in metrics.available()}


def _read(path: Path) -> MetricSource:
    doc, aggregate = "", {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == path.stem:
            doc = ast.get_docstring(node) or ""
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "AGGREGATE" for target in targets):
                aggregate = ast.literal_eval(node.value)
    return MetricSource(doc, aggregate)


def _loaded(name: str) -> MetricSource:
    metric = metrics.load(name)
    return MetricSource(inspect.getdoc(metric.function) or "", dict(metric.aggregate))
