"""`divmon score FILE`: the scores of completions that exist already, and what changed since another file."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from divmon.analysis.score_files.score_options import Settings
from divmon.cli.command import argument, command, flag, warn
from divmon.cli.flags import whole_number
from divmon.loggers.terminal import show, show_json

OK, PARTLY = 0, 3

_EPILOG = """A table goes to the terminal; --out writes JSON beside it:
  {"n_prompts", "metrics": {name: {"mean", "ci95": [low, high], "n"}}, "per_prompt": [{"id", name: value or null}], ...}
The interval is the 95 percent interval over prompts, n the prompts where the metric is defined; null is undefined.
Graded, there are accuracy, pass@k and the like among the metrics, "correctness": {"graded", "correct", "ungraded",
"reasons"}, and for each prompt "correct", "k_correct", "k_graded" and "ungraded": {reason: outputs}.
With --reference:
  "reference"      the same of its prompts that match, "n_matched", the ids "only_now" and "only_reference"
  "changes"        {metric: {"reference", "now", "change", "ci95", "n"}}, paired by prompt
  "decomposition"  {metric: {"change", "quality_control", "narrowing_correct", ...}} of each metric of pairs
  "paper"          the same as the paper shows it; null without sbert
Figures that depend on the number of outputs take the first K of each prompt, the most that both files have.

exit code: 0 all was done; 2 wrong usage, or nothing could be scored or compared; 3 some rows or metrics were left out,
or --task could grade nothing, each named with its reason on stderr, and the rest was done."""


def _sentences(text: str) -> int | None:
    return None if text == "all" else whole_number(text)


@dataclass
class Flags(Settings):
    """Scores the diversity of completions that exist already.

    FILE.jsonl holds one prompt a line:
      {"id"?, "prompt", "outputs": [...], "correct"?: [true|false|null, ...], "task"?, "gold"?, "row"?}
    "prompt" is text or a list of messages. In "outputs" null stands for a completion without an answer, in "correct"
    for one that is ungradable. The number of outputs may differ; without an id, line 7 is called "line-7". Rows
    of the tasks humaneval, mbpp and cruxeval are code; so are rows without a task when a metric of programs is named.

    Correctness: "correct" is taken as it is, before any verifier. Rows without it are graded where they or --task name
    a task with a verifier, by "gold", the right answer, or by "row", the row of the task's data set, for tasks whose
    gold is more than a text (humaneval, mbpp, ifeval, truthfulqa).

    With --reference a loss of diversity is split into quality control (wrong answers removed) and narrowing."""

    file: str = argument("FILE")
    """The completions."""
    reference: str | None = flag(metavar="BEFORE")
    """Outputs of an earlier model on the same prompts, matched by id: adds the paired changes since and, with
    correctness, the decomposition."""
    nli_sentences: int | None = flag(3, read=_sentences, metavar="N|all")
    """Aligned sentences sampled for each pair of outputs; 3, as in the paper."""
    out: str | None = flag(metavar="FILE.json")
    """Write JSON there; - writes it to stdout and the table to stderr."""


@command("divmon score", epilog=_EPILOG)
def main(given: Flags) -> int:
    """Runs the command and returns its exit code."""
    _check(given.out)
    from divmon.analysis.score_files.score import scored

    settings = Settings(**{field.name: getattr(given, field.name) for field in fields(Settings)})
    scores = scored(given.file, given.reference, settings, warn, loud=True)
    text = json.dumps(scores.report, allow_nan=False, ensure_ascii=False, indent=1)
    show(*scores.blocks(), file=sys.stderr if given.out == "-" else sys.stdout, gap="\n\n")
    if given.out == "-":
        show_json(text)
    elif given.out:
        Path(given.out).write_text(text + "\n", encoding="utf-8")
    return PARTLY if scores.partial else OK


def _check(out: str | None) -> None:
    if out not in (None, "-") and not Path(str(out)).parent.is_dir():
        raise ValueError(f"--out: there is no folder {Path(str(out)).parent}")
    if out and Path(out).is_dir():
        raise ValueError(f"--out: {out} is a folder, expected a file's name")
