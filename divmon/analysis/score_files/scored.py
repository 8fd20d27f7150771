"""Rows of completions -> verdicts -> scores -> their part of the report of `divmon score`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from divmon.analysis.score_files.correctness import any_judged, corrects, judge_rows, quality_scores, reasons, summary
from divmon.analysis.score_files.score_options import Settings
from divmon.pipeline import asked
from divmon.prompts.rows.completions import Row
from divmon.scoring.metric_inputs import Outputs
from divmon.scoring.scorer import Scored, Scorer
from divmon.types import TRUNCATED_LIMIT, Prompt, Score, Verdict

TASK = "file"
"""All rows of a file are scored as one task of this name."""


@dataclass
class Side:
    """One file's rows with all that was found of them."""

    name: str
    """The file's."""
    rows: Sequence[Row]
    verdicts: list[list[Verdict]] | None
    scored: Scored
    scores: list[Score]
    """Of diversity and of quality."""
    num_samples: int
    """K: figures that depend on the number of outputs took the first K."""

    @property
    def judged(self) -> bool:
        return any_judged(self.verdicts)

    @property
    def left_out(self) -> dict[str, str]:
        """The metrics that failed, with the reason."""
        return {name.removeprefix(f"{TASK}/"): reason for name, reason in self.scored.left_out.items()}


def sides(files: Sequence[tuple[str, Sequence[Row], Sequence[str]]], scorer: Scorer, given: Settings) -> list[Side]:
    """Judges and scores the rows of one file, or of two that will be compared.

    Two are scored alike: where one has no verdicts, metrics get none on either side, since those of correct answers
    alone would not compare.
    """
    verdicts = [
        judge_rows(rows, given.task, allow_unsandboxed_code=given.allow_unsandboxed_code) for _, rows, _ in files
    ]
    judged = all(map(any_judged, verdicts))
    num_samples = min(max(len(row.outputs) for row in rows) for _, rows, _ in files)
    found = []
    for (name, rows, categories), verdicts_P in zip(files, verdicts, strict=True):
        correct = corrects(verdicts_P) if verdicts_P and judged else None
        contents = [row.prompt if isinstance(row.prompt, str) else tuple(row.prompt) for row in rows]
        prompts = [asked(Prompt("", content)) for content in contents]
        ids, texts = [str(row.id) for row in rows], [row.outputs for row in rows]
        outputs = Outputs(TASK, ids, categories, texts, correct, prompts=prompts if all(prompts) else None)
        scored = scorer.score([outputs], num_samples, distances=judged and len(files) > 1, at_ends=False)
        quality = quality_scores(TASK, rows, verdicts_P, num_samples) if verdicts_P and any_judged(verdicts_P) else []
        scores = scorer.figures.bounded([*scored.scores, *quality])
        found.append(Side(name, rows, verdicts_P, scored, scores, num_samples))
    return found


def report(side: Side) -> dict[str, Any]:
    """Means, values by prompt, verdicts and notes of one file, ready for JSON."""
    found: dict[str, Any] = {
        "n_prompts": len(side.rows),
        "metrics": {
            s.metric: {"mean": _number(s.mean), "ci95": [_number(s.low), _number(s.high)], "n": s.n}
            for s in side.scores
        },
        "correctness": None if side.verdicts is None else summary(side.verdicts),
        "per_prompt": _per_prompt(side),
        "left_out": side.left_out,
        "notes": [],
    }
    texts = [text for row in side.rows for text in row.outputs]
    no_answer = texts.count(None) / len(texts)
    if no_answer > TRUNCATED_LIMIT:
        found["notes"] += [
            f"{side.name} is NOT COMPARABLE: {100 * no_answer:.0f} % of its outputs are null, without an answer"
        ]
    return found


def _per_prompt(side: Side) -> list[dict[str, Any]]:
    """By prompt; the figures of quality all follow from k_correct and k_graded, so they are left to the means."""
    entries: list[dict[str, Any]] = [{"id": row.id} for row in side.rows]
    for score in side.scored.scores:
        for entry, value in zip(entries, score.values, strict=False):  # an across-prompt figure has no values
            entry[score.metric] = _number(value)
    for entry, verdicts in zip(entries, side.verdicts or [], strict=False):
        graded = [verdict.correct for verdict in verdicts if verdict.correct is not None]
        entry["correct"] = [verdict.correct for verdict in verdicts]
        entry |= {"k_correct": sum(graded) if graded else None, "k_graded": len(graded)}
        entry["ungraded"] = reasons(verdicts)
    return entries


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
