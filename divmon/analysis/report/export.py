"""Every table as CSV, and the charts of each task as PNG: the same figures as the page's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from divmon.analysis.report import chart_rows, charts, facts
from divmon.analysis.report.headline import headline
from divmon.analysis.report.wording import what
from divmon.storage.data_frames import write_csv

if TYPE_CHECKING:
    import pandas as pd

    from divmon.analysis.comparison.compare import Comparison

WIDTH, SCALE = 640, 2
"""Pixels of a chart, and how many of the file's make one."""


def csv(comparison: Comparison, folder: Path) -> list[Path]:
    """The frames of the comparison, and of its runs the changes, values by prompt and warnings."""
    import pandas as pd

    members = [member for runs in comparison.groups.values() for member in runs]
    frames = comparison.frames()
    for name in ("changes", "per_prompt"):
        frames[name] = pd.concat([_named(getattr(m.run, name), m.name) for m in members], ignore_index=True)
    found, _ = facts.alerts(members)
    rows = [{"run": run, **vars(alert), "new": alert.new} for run, own in found.items() for alert in own]
    frames["alerts"] = pd.DataFrame(rows, columns=None if rows else ["run", "kind", "task", "step", "since", "text"])
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, frame in frames.items():
        written.append(folder / f"{name}.csv")
        write_csv(frame, written[-1])
    return written


def png(comparison: Comparison, folder: Path) -> list[Path]:
    """The charts of the headline's metric, for each task that has them. Raises ModuleNotFoundError: the extra `report`
    is not installed."""
    try:
        import vl_convert
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pictures need vl-convert; run: pip install 'divmon[report]'") from error
    members = [member for runs in comparison.groups.values() for member in runs]
    found, _ = facts.alerts(members)
    metric = headline(comparison, found).metric
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, spec in pictures(comparison, chart_rows.rows(comparison, found), metric):
        file = re.sub(r"[^\w-]+", "_", name)
        written.append(folder / f"{file}.png")
        written[-1].write_bytes(vl_convert.vegalite_to_png(spec, scale=SCALE))
    return written


def pictures(
    comparison: Comparison, rows: dict[str, list[chart_rows.Row]], metric: str
) -> Iterator[tuple[str, charts.Spec]]:
    """Name and specification of every chart that has rows."""
    specs = charts.specs(list(comparison.groups))
    domains = chart_rows.domains(rows["parts"])
    stages = [row for row in rows["stages"] if row["metric"] == metric]
    if stages:
        title = f"{metric} that each stage left, mean over tasks"
        spec = charts.filled(specs["stages"], stages, metric=metric, order=chart_rows.ordered(stages))
        yield "stages", _picture(spec, title)
    for task in dict.fromkeys(row["task"] for row in rows["curve"]):
        own = {name: [r for r in all if r["task"] == task and r["metric"] == metric] for name, all in rows.items()}
        unit = what(metric, comparison.figures)[1] or "value"
        common: dict[str, Any] = {"metric": metric, "unit": unit, "ink": "black"}
        common |= {"axis": "step", "axis_title": chart_rows.AXES["step"]}
        common |= {"domain": domains.get(task, {}).get(metric, [0, 0])}
        title = f"{metric} of {task}"
        for name in ("curve", "change", "frontier"):
            if own[name]:
                yield f"{task}-{name}", _picture(charts.filled(specs[name], own[name], **common), title)
        for by in dict.fromkeys(row["by"] for row in own["difference"]):
            here = [row for row in own["difference"] if row["by"] == by]
            along = {"by": by, "by_title": chart_rows.AXES.get(by, "accuracy")}
            along["format"] = ".0%" if by == "accuracy" else "~s"
            yield (
                f"{task}-difference-by-{by}",
                _picture(charts.filled(specs["difference"], here, **common, **along), title),
            )
        for run in dict.fromkeys(row["run"] for row in own["parts"]):
            here = [row for row in own["parts"] if row["run"] == run]
            yield f"{task}-parts-{run}", _picture(charts.filled(specs["parts"], here, **common), f"{title}, {run}")


def _picture(spec: charts.Spec, title: str) -> charts.Spec:
    """The page has a legend of its own for the parts, and the width of the window."""
    legend = {"orient": "bottom", "direction": "vertical", "labelLimit": 0, "symbolType": "square"}
    return {**spec, "width": WIDTH, "title": title, "background": "white", "config": {"legend": legend}}


def _named(frame: pd.DataFrame, run: str) -> pd.DataFrame:
    frame = frame.copy()
    frame.insert(0, "run", run)
    return frame
