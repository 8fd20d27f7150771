"""The report of `divmon score` as tables for the terminal."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from divmon.loggers.terminal import Block, Table
from divmon.scoring.figure_registry import Registry
from divmon.types import TERMS

REASONS = 5
"""Shown of why outputs are ungraded, the commonest; the JSON has all."""


def tables(report: dict[str, Any]) -> list[Block]:
    """All of a report that a terminal has room for; of pass@k and the like only powers of two."""
    blocks: list[Block] = [_metrics(report)]
    if "changes" in report:
        blocks.append(_changes(report))
        blocks += [_decomposition(name, parts) for name, parts in report["decomposition"].items()]
    if report.get("paper"):
        blocks.append(_paper(report["paper"]))
    blocks += [f"note: {note}" for note in report["notes"]]
    return blocks


def verdict_line(found: dict[str, Any]) -> str:
    """Of the summary of verdicts: "7 of 9 outputs graded, 4 correct; ungraded: no gold answer (2)"."""
    total = found["graded"] + found["ungraded"]
    line = f"{found['graded']} of {total} outputs graded, {found['correct']} correct"
    reasons = [f"{reason} ({count})" for reason, count in found["reasons"].items()]
    more = [f"{len(reasons) - REASONS} other reasons"] if len(reasons) > REASONS else []
    return line + (f"; ungraded: {'; '.join(reasons[:REASONS] + more)}" if reasons else "")


def _metrics(report: dict[str, Any]) -> Table:
    rows = [
        [name, _mean(figure["mean"]), _interval(figure["ci95"]), str(figure["n"])]
        for name, figure in _shown(report["metrics"]).items()
    ]
    models = ", ".join(f"{cost.replace('_', ' ')} {name}" for cost, name in report["settings"]["models"].items())
    lines = [f"by {models}"] if models else []
    lines += [f"correctness: {verdict_line(report['correctness'])}"] if report.get("correctness") else []
    return Table(["metric", "mean", "95% interval", "prompts"], rows, after=lines)


def _changes(report: dict[str, Any]) -> Table:
    reference = report["reference"]
    title = f"change since {report['settings']['reference']}, on {reference['n_matched']} prompts of both"
    rows = [
        [name, _mean(c["reference"]), _mean(c["now"]), _signed(c["change"]), _interval(c["ci95"], "+"), str(c["n"])]
        for name, c in _shown(report["changes"]).items()
    ]
    graded = reference["correctness"]
    lines = [f"correctness of the reference: {verdict_line(graded)}"] if graded else []
    head = ["metric", "reference", "now", "change", "95% interval", "prompts"]
    return Table(head, rows, title=title, after=lines)


def _decomposition(metric: str, parts: dict[str, Any]) -> Table:
    title = (
        f"{metric}: from {_mean(parts['reference'])} to {_mean(parts['now'])} on {parts['n']} prompts with two graded"
        " outputs on both sides"
    )
    rows = [["change", _signed(parts["change"]), _interval(parts["ci95"]["change"], "+"), "", "", "", ""]]
    for term, label in TERMS.items():
        stratum = term.removeprefix("narrowing_")
        bracket = [_signed(parts["bracket"][f"{side}_weights"][term]) for side in ("reference", "present")]
        row = [f"= {label}" if len(rows) == 1 else f"+ {label}", _signed(parts[term])]
        row += [_interval(parts["ci95"][term], "+"), *bracket]
        if stratum in parts["seen"]:
            row += [_signed(parts["seen"][stratum]), _support(parts["support"][stratum], parts["labels"].get(stratum))]
        else:
            row += ["", ""]
        rows.append(row)
    pair = "a pair of correct answers, where both sides have one"
    rows.append(
        [pair, _signed(parts["correct_pair_change"]), _interval(parts["ci95"]["correct_pair_change"], "+"), *[""] * 4]
    )
    head = ["part", "change", "95% interval", "reference's weights", "present weights", "seen", "support"]
    return Table(head, rows, title=title)


def _support(support: float | None, label: str | None) -> str:
    share = "" if support is None else f"{100 * support:.0f}%"
    return ", ".join(part for part in (share, label) if part)


def _paper(view: dict[str, Any]) -> Table:
    names = {"d_all": "D, all", "d_correct": "D, correct", "v_all": "Vendi, all", "v_correct": "Vendi, correct"}
    rows = [
        [name, _mean(v["reference"]), str(v["n_reference"]), _mean(v["now"]), str(v["n_now"])]
        for key, name in names.items()
        for v in [view[key]]
    ]
    title = (
        "as the paper shows it, to compare with published numbers; its prompts with two correct answers are others on"
        " each side"
    )
    after = [f"loss of D correct over loss of D all: {_mean(view['residual_share'])}"]
    return Table(["figure", "reference", "prompts", "now", "prompts"], rows, title=title, after=after)


def _shown(figures: dict[str, Any]) -> dict[str, Any]:
    """Without what repeats: at k = 1 the accuracy or 1, and where no output was truncated the accuracy again."""
    repeats = (
        {"accuracy_no_answer_wrong"} if figures.get("accuracy_no_answer_wrong") == figures.get("accuracy") else set()
    )
    known = Registry()
    return {
        name: figure
        for name, figure in figures.items()
        if known.shown(name) and not name.endswith("_at1") and name not in repeats
    }


def _mean(value: float | None, sign: str = "") -> str:
    return "undefined" if value is None else f"{value:{sign}.4f}"


_signed = functools.partial(_mean, sign="+")


def _interval(bounds: Sequence[float | None], sign: str = "") -> str:
    low, high = bounds
    return "" if low is None or high is None else f"{low:{sign}.4f} to {high:{sign}.4f}"
