"""`divmon score FILE.jsonl`: the scores of completions that exist already, and what changed since another file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from divmon import __version__
from divmon.analysis.score_files.correctness import judged_tasks, summary, task_of
from divmon.cli.command import argument, command, flag
from divmon.cli.flags import whole_number
from divmon.loggers.terminal import show, show_json
from divmon.prompts import tasks
from divmon.storage.completion_files import Row, read_rows

if TYPE_CHECKING:
    from divmon.analysis.score_files.comparison import Match
    from divmon.analysis.score_files.scored import Side
    from divmon.scoring.scorer import Scorer

OK, PARTLY = 0, 3

_EPILOG = """A table goes to the terminal; --out writes JSON beside it:
  {"n_prompts", "metrics": {name: {"mean", "ci95": [low, high], "n"}}, "per_prompt": [{"id", name: value or null}], ...}
The interval is the 95 percent interval over prompts, n the prompts where the metric is defined; null is undefined.
With verdicts there are accuracy, pass@k and the like among the metrics, "verdicts": {"judged", "correct", "not_judged",
"reasons"}, and for each prompt "correct", "k_correct", "k_judged" and "not_judged": {reason: outputs}.
With --reference:
  "reference"      the same of its prompts that match, "n_matched", the ids "only_now" and "only_reference"
  "changes"        {metric: {"reference", "now", "change", "ci95", "n"}}, paired by prompt
  "decomposition"  {metric: {"change", "quality_control", "narrowing_correct", ...}} of each metric of pairs
  "paper"          the same as the paper shows it; null without sbert
Figures that depend on the number of outputs take the first K of each prompt, the most that both files have.

exit code: 0 all was done; 2 wrong usage, or nothing could be scored or compared; 3 some rows or metrics were left out,
or --task could judge nothing, each named with its reason on stderr, and the rest was done."""


def _sentences(text: str) -> int | None:
    return None if text == "all" else whole_number(text)


@dataclass
class Flags:
    """Scores the diversity of completions that exist already.

    FILE.jsonl holds one prompt a line:
      {"id"?, "prompt", "outputs": [...], "correct"?: [true|false|null, ...], "task"?, "gold"?, "row"?}
    "prompt" is text or a list of messages. In "outputs" null stands for a completion without an answer, in "correct"
    for one that could not be judged. The number of outputs may differ; without an id, line 7 is called "line-7". Rows
    of the tasks humaneval, mbpp and cruxeval are code; so are rows without a task when a metric of programs is named.

    Verdicts: "correct" is taken as it is, and wins over judging. Rows without it are judged where they or --task name a
    task with a verifier, by "gold", the right answer, or by "row", the row of the task's data set, for tasks whose gold
    is more than a text (humaneval, mbpp, ifeval, truthfulqa).

    With --reference a loss of diversity is split into quality control (wrong answers removed) and narrowing."""

    file: str = argument("FILE")
    """The completions."""
    task: str | None = flag(metavar="NAME")
    """Grade the outputs as answers to this task, except those of rows that bring 'correct' or name another task; the
    names are listed by divmon tasks."""
    allow_unsandboxed_code: bool = False
    """Run generated programs even where bubblewrap cannot contain them: they run as you, with your files
    and network."""
    reference: str | None = flag(metavar="BEFORE")
    """Outputs of an earlier model on the same prompts, matched by id: adds the paired changes since and, with
    correctness, the decomposition."""
    metrics: str = flag("auto", metavar="NAMES")
    """auto (all but nli, those of programs where there is code), or names with commas, or file.py:function."""
    embedder: str = flag("auto", metavar="NAME")
    """Text encoder: a hub id or a folder, or minilm, the small one of divmon[demo]; auto takes all-mpnet-base-v2 where
    it can be had, else minilm."""
    ead_vocab_size: int = flag(50257, read=whole_number, metavar="V")
    """The tokenizer's size, for EAD."""
    nli_model: str | None = flag(metavar="NAME")
    """Hub id or folder of the NLI classifier (roberta-large-mnli); naming one adds nli to auto."""
    nli_sentences: int | None = flag(3, read=_sentences, metavar="N|all")
    """Aligned sentences sampled for each pair of outputs; 3, as in the paper."""
    device: str | None = flag(metavar="NAME")
    """cpu, cuda, cuda:1, ...; a GPU where there is one, if not told."""
    out: str | None = flag(metavar="FILE.json")
    """Write JSON there; - writes it to stdout and the table to stderr."""


@command("divmon score", epilog=_EPILOG)
def main(given: Flags) -> int:
    """Runs the command and returns its exit code."""
    _check(given)
    rows, problems = _read(given.file)
    before, before_problems = _read(given.reference) if given.reference else ([], [])
    match = _match(rows, before, given) if given.reference else None
    categories = _categories(rows, given)
    scorer = _scorer(given, categories)

    from divmon.analysis.score_files.scored import report, sides

    files = [(given.file, rows, categories)]
    if match is not None and given.reference is not None:
        matched = [before[p] for p in match.reference]
        files.append((given.reference, matched, [categories[p] for p in match.now]))
    _say("; ".join(f"{len(r)} prompts, {sum(len(row.outputs) for row in r)} outputs" for _, r, _ in files) + " ...")
    scored = sides(files, scorer, given)
    found = report(scored[0]) | {"bad_rows": problems}
    if match is not None:
        of_reference = report(scored[1]) | {"n_prompts": len(before), "bad_rows": before_problems}
        found = _compared(found, of_reference, scored, match, scorer)
    _write(found | {"settings": {"models": scorer.encoders(), **vars(given), "divmon": __version__}}, given.out)
    if not scored[0].scored.scores:
        raise ValueError("no metric could be computed")
    return PARTLY if problems or before_problems or _is_partial(scored, match, given.task) else OK


def _check(given: Flags) -> None:
    if given.out not in (None, "-") and not Path(given.out).parent.is_dir():
        raise ValueError(f"--out: there is no folder {Path(given.out).parent}")
    if given.out and Path(given.out).is_dir():
        raise ValueError(f"--out: {given.out} is a folder, expected a file's name")
    if given.task and given.task not in judged_tasks():
        what = f"nothing judges the task {given.task!r}" if given.task in tasks.available() else "no such task"
        raise ValueError(f"--task {given.task}: {what}; there are {', '.join(judged_tasks())}")


def _read(file: str) -> tuple[list[Row], list[dict[str, Any]]]:
    """The good rows, of which there is one at least, and the bad ones, which are named."""
    rows, problems = read_rows(Path(file))
    for line, reason in problems:
        _say(f"{file}:{line}: {reason}")
    if not rows:
        raise ValueError(f"{file}: nothing to score, {len(problems)} bad rows and no good one")
    return rows, [{"line": line, "reason": reason} for line, reason in problems]


def _match(rows: Sequence[Row], before: Sequence[Row], given: Flags) -> Match:
    from divmon.analysis.score_files.comparison import listed, match

    found = match(rows, before)
    for file, ids in ((given.file, found.only_now), (given.reference, found.only_reference)):
        if ids:
            _say(f"{file}: {len(ids)} prompts are in this file only and left out of the comparison: {listed(ids)}")
    return found


def _compared(
    found: dict[str, Any], of_reference: dict[str, Any], sides: Sequence[Side], match: Match, scorer: Scorer
) -> dict[str, Any]:
    """The report with the comparison."""
    from divmon.analysis.score_files.comparison import compare

    now, reference = sides
    compared = compare(now, reference, match, scorer)
    ids = {"n_matched": len(match.now), "only_now": match.only_now, "only_reference": match.only_reference}
    notes = [*found["notes"], *of_reference.pop("notes"), *compared["notes"]]
    return found | {"reference": of_reference | ids} | compared | {"notes": notes}


def _is_partial(sides: Sequence[Side], match: Match | None, task: str | None) -> bool:
    """Whether something was left out; what has not been said yet is said."""
    unjudged = [side for side in sides if task and not side.judged]
    for side in unjudged:
        _say(f"{side.name}: --task {task} could judge nothing: {'; '.join(summary(side.verdicts or [])['reasons'])}")
    only = match is not None and bool(match.only_now or match.only_reference)
    return only or bool(unjudged) or any(side.left_out for side in sides)


def _write(report: dict[str, Any], out: str | None) -> None:
    from divmon.analysis.score_files.tables import tables

    text = json.dumps(report, allow_nan=False, ensure_ascii=False, indent=1)
    show(*tables(report), file=sys.stderr if out == "-" else sys.stdout, gap="\n\n")
    if out == "-":
        show_json(text)
    elif out:
        Path(out).write_text(text + "\n", encoding="utf-8")


def _categories(rows: Sequence[Row], given: Flags) -> list[str]:
    from divmon.scoring import metrics

    named = [name.strip() for name in given.metrics.split(",") if name.strip() not in ("", "auto")]
    programs = [name for name in named if metrics.load(name).reads_programs]
    code = tasks.groups()["code"]
    names = [task_of(row, given.task) or row.task for row in rows]
    is_code = [name in code or (name is None and bool(programs)) for name in names]
    if programs and not any(is_code):
        raise ValueError(
            f"{', '.join(programs)} asked for, but no row is code; rows of the tasks {', '.join(code)} and rows without"
            " a task are"
        )
    return ["code" if code else "other" for code in is_code]


def _scorer(given: Flags, categories: Sequence[str]) -> Scorer:
    import torch

    from divmon.scoring.encoders import MNLI
    from divmon.scoring.scorer import Scorer

    if given.device is not None:
        try:
            torch.empty(0, device=given.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"--device {given.device}: {str(error).splitlines()[0]}") from None
    names = "auto,nli" if given.metrics == "auto" and given.nli_model else given.metrics
    return Scorer(
        names,
        categories=set(categories),
        embedder=given.embedder,
        nli_model=given.nli_model or MNLI,
        nli_sentences=given.nli_sentences,
        device=given.device,
        vocab_size=given.ead_vocab_size,
    )


def _say(message: str) -> None:
    show(message, file=sys.stderr)
