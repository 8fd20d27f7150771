"""divmon.score: the scores of completions that exist already, and what changed since others.

scores = divmon.score("now.jsonl", reference="before.jsonl", task="gsm8k")
print(scores)                                                            # what `divmon score` prints
scores.metrics.loc["sbert"], scores.per_prompt, scores.changes
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from divmon import __version__
from divmon.analysis.score_files.comparison import compare, listed, match
from divmon.analysis.score_files.correctness import summary, task_of
from divmon.analysis.score_files.score_options import Settings, SettingsDict
from divmon.analysis.score_files.scored import Side, report, sides
from divmon.analysis.score_files.tables import tables
from divmon.loggers.terminal import Block
from divmon.prompts import tasks
from divmon.prompts.rows.completions import Columns, Completions, Row, read_completions
from divmon.scoring.segmentation import SEGMENTATION

if TYPE_CHECKING:
    from typing import Unpack

    import pandas as pd

    from divmon.analysis.score_files.comparison import Match
    from divmon.scoring.scorer import Scorer

logger = logging.getLogger("divmon")

SAID = 3
"""Bad rows of a file that are said; the others are counted."""


class _Report(dict[str, Any]):
    """A part of the report; its names of version 0.1 work, with a DeprecationWarning."""

    OLD: ClassVar = {"verdicts": "correctness", "judged": "graded", "not_judged": "ungraded", "k_judged": "k_graded"}

    def __missing__(self, key: str) -> Any:
        new = self.OLD[key]
        warnings.warn(f"{key!r} of the report is {new!r} since 0.2", DeprecationWarning, stacklevel=2)
        return self[new]


@dataclass(frozen=True)
class Scores:
    """The scores of completions, and what changed since others; prints as `divmon score` prints it."""

    report: dict[str, Any]
    """All of it, ready for JSON, as `divmon score --out` writes it."""
    partial: bool
    """Rows, prompts or metrics were left out, or a task could grade nothing."""

    @property
    def metrics(self) -> pd.DataFrame:
        """[metric] -> mean, low, high and n: over prompts, with the 95 percent interval."""
        return _frame(self.report["metrics"])

    @property
    def changes(self) -> pd.DataFrame:
        """[metric] -> reference, now, change, low, high and n, paired by prompt; empty without a reference."""
        return _frame(self.report.get("changes", {}))

    @property
    def per_prompt(self) -> pd.DataFrame:
        """[id] -> the figures of each prompt, and what was graded."""
        import pandas as pd

        return pd.DataFrame(self.report["per_prompt"]).set_index("id")

    def blocks(self) -> list[Block]:
        """Texts and tables for a terminal."""
        return tables(self.report)

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.blocks()))


def score(completions: Any, reference: Any = None, **settings: Unpack[SettingsDict]) -> Scores:
    """Scores completions that exist already; with a reference also what changed since, paired by prompt.

    >>> rows = [{"prompt": "2 + 2?", "outputs": ["4", "four"]}, {"prompt": "Hi", "outputs": ["Hello", "Hello"]}]
    >>> divmon.score(rows, metrics="distinct_n,duplicates").metrics.loc["duplicates", "mean"]  # doctest: +SKIP
    0.5

    Args:
        completions: a file (JSON, JSONL, CSV, Parquet, compressed or not; the outputs of lm-evaluation-harness,
            lighteval, inspect_ai, evalplus and of batches), a folder saved by `datasets`, a `datasets.Dataset`, a
            pandas frame, or a list of {"prompt", "outputs", "id"?, "correct"?, "task"?, "gold"?}.
        reference: the same of an earlier model on the same prompts, matched by id.
        settings: those of `Settings`, each with its default.

    Raises:
        OSError: a file cannot be read.
        ValueError: a setting is wrong, nothing can be scored or compared; the message says what to do.
    """
    return scored(completions, reference, Settings(**settings))


def scored(
    completions: Any,
    reference: Any,
    settings: Settings,
    say: Callable[[str], None] = logger.warning,
    loud: bool = False,
) -> Scores:
    """As `score`.

    Args:
        say: told what is left out, line by line.
        loud: also said is how much there is to do.
    """
    now = _read(completions, settings, say)
    before = None if reference is None else _read(reference, settings, say)
    names = [_name(source) for source in (completions, reference)]
    found = None if before is None else _match(now.rows, before.rows, names, say)
    categories = _categories(now.rows, settings)
    scorer = _scorer(settings, categories)
    files = [(names[0], now.rows, categories)]
    if before is not None and found is not None:
        matched = [before.rows[p] for p in found.reference]
        files.append((names[1], matched, [categories[p] for p in found.now]))
    if loud:
        counts = (f"{len(rows)} prompts, {sum(len(row.outputs) for row in rows)} outputs" for _, rows, _ in files)
        say("; ".join(counts) + " ...")
    both = sides(files, scorer, settings)
    if not both[0].scored.scores:
        raise ValueError("no metric could be computed")
    whole = report(both[0]) | {"bad_rows": _problems(now)}
    whole["notes"] = [*_alone(now.rows), *_ungraded(now.rows, both[0]), *whole["notes"]]
    if before is not None and found is not None:
        of_reference = report(both[1]) | {"n_prompts": len(before.rows), "bad_rows": _problems(before)}
        whole = _compared(whole, of_reference, both, found, scorer)
    of = None if before is None else names[1]
    told = {"models": scorer.encoders(), "file": names[0], "reference": of, **asdict(settings)}
    whole["settings"] = told | {"format": now.format, "words": SEGMENTATION, "divmon": __version__}
    partial = bool(now.problems or (before and before.problems)) or _is_partial(both, found, settings.task, say)
    return Scores(_with_old_names(whole), partial)


def _with_old_names(report: dict[str, Any]) -> _Report:
    for part in (report, report.get("reference", {})):
        part["per_prompt"] = [_Report(row) for row in part.get("per_prompt", ())]
        part["correctness"] = part.get("correctness") and _Report(part["correctness"])
    return _Report(report)


def _name(source: Any) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else type(source).__name__


def _read(source: Any, settings: Settings, say: Callable[[str], None]) -> Completions:
    """The good rows, of which there is one at least; of the bad ones the first are said."""
    columns = Columns(settings.prompt_column, settings.output_column, settings.group_by)
    found = read_completions(source, columns, settings.tags(), settings.requests)
    for line, reason in found.problems[:SAID]:
        say(f"{_name(source)}:{line}: {reason}")
    if len(found.problems) > SAID:
        say(f"{_name(source)}: and {len(found.problems) - SAID:,} more bad rows, {len(found.rows):,} good ones")
    if not found.rows:
        bad = len(found.problems)
        rows = f"{bad} bad row{'' if bad == 1 else 's'} and no good one" if bad else "it holds no rows"
        raise ValueError(f"{_name(source)}: nothing to score, {rows}")
    return found


def _problems(found: Completions) -> list[dict[str, Any]]:
    return [{"line": line, "reason": reason} for line, reason in found.problems]


def _match(now: Sequence[Row], before: Sequence[Row], names: Sequence[str], say: Callable[[str], None]) -> Match:
    found = match(now, before)
    for name, ids in zip(names, (found.only_now, found.only_reference), strict=True):
        if ids:
            say(f"{name}: {len(ids)} prompts are in this file only and left out of the comparison: {listed(ids)}")
    return found


def _compared(
    found: dict[str, Any], of_reference: dict[str, Any], sides: Sequence[Side], match: Match, scorer: Scorer
) -> dict[str, Any]:
    now, reference = sides
    compared = compare(now, reference, match, scorer)
    ids = {"n_matched": len(match.now), "only_now": match.only_now, "only_reference": match.only_reference}
    notes = [*found["notes"], *of_reference.pop("notes"), *compared["notes"]]
    return found | {"reference": of_reference | ids} | compared | {"notes": notes}


def _is_partial(sides: Sequence[Side], match: Match | None, task: str | None, say: Callable[[str], None]) -> bool:
    """Whether something was left out; what has not been said yet is said."""
    unjudged = [side for side in sides if task and not side.judged]
    for side in unjudged:
        say(f"{side.name}: task {task} could grade nothing: {'; '.join(summary(side.verdicts or [])['reasons'])}")
    only = match is not None and bool(match.only_now or match.only_reference)
    return only or bool(unjudged) or any(side.left_out for side in sides)


def _alone(rows: Sequence[Row]) -> list[str]:
    """Why figures are undefined: diversity is of several outputs."""
    alone = sum(len(row.outputs) < 2 for row in rows)
    if not alone:
        return []
    whose = "every prompt has" if alone == len(rows) else f"{alone} of {len(rows)} prompts have"
    return [
        f"{whose} a single output, and diversity is of several outputs of one prompt; --group-by COLUMN puts rows of"
        " one prompt together"
    ]


def _ungraded(rows: Sequence[Row], side: Side) -> list[str]:
    """What to do where there are reference answers and nothing grades by them."""
    gold = sum(row.gold is not None for row in rows)
    if not gold or side.verdicts is not None:
        return []
    return [
        f"{gold} of {len(rows)} rows have a reference answer, and nothing grades by it: name the task, with --task NAME"
        " (divmon.score(..., task=NAME)) or as 'task' in the rows; divmon tasks lists them"
    ]


def _categories(rows: Sequence[Row], settings: Settings) -> list[str]:
    from divmon.scoring import metrics

    named = [name.strip() for name in settings.metrics.split(",") if name.strip() not in ("", "auto")]
    programs = [name for name in named if metrics.load(name).reads_programs]
    code = tasks.groups()["code"]
    names = [task_of(row, settings.task) or row.task for row in rows]
    is_code = [name in code or (name is None and bool(programs)) for name in names]
    if programs and not any(is_code):
        raise ValueError(
            f"{', '.join(programs)} asked for, but no row is code; rows of the tasks {', '.join(code)} and rows without"
            " a task are"
        )
    return ["code" if code else "other" for code in is_code]


def _scorer(settings: Settings, categories: Sequence[str]) -> Scorer:
    import torch

    from divmon.sampling.serving.judge import Judge
    from divmon.scoring.encoders import MNLI
    from divmon.scoring.scorer import Scorer

    if settings.device is not None:
        try:
            torch.empty(0, device=settings.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device {settings.device}: {str(error).splitlines()[0]}") from None
    return Scorer(
        "auto,nli" if settings.metrics == "auto" and settings.nli_model else settings.metrics,
        categories=set(categories),
        embedder=settings.embedder,
        nli_model=settings.nli_model or MNLI,
        nli_sentences=settings.nli_sentences,
        judge=settings.judge and Judge(settings.judge),
        device=settings.device,
        vocab_size=settings.ead_vocab_size,
    )


def _frame(named: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Figures by metric, the interval in two columns."""
    import pandas as pd

    rows = {}
    for name, figure in named.items():
        low, high = figure["ci95"]
        rows[name] = {key: value for key, value in figure.items() if key not in ("ci95", "n")}
        rows[name] |= {"low": low, "high": high, "n": figure["n"]}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")
