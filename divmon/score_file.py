"""`divmon score FILE.jsonl`: the scores of completions that exist already."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from divmon import __version__
from divmon.output_rows import Row, read_rows

if TYPE_CHECKING:
    from divmon.scoring import Scored, Scorer

OK, NOTHING, PARTLY = 0, 2, 3
CODE_TASKS = ("humaneval", "mbpp", "cruxeval")

_DESCRIPTION = """Scores the diversity of completions that exist already.

FILE.jsonl holds one prompt a line:
  {"id"?, "prompt", "outputs": [...], "correct"?: [true|false|null, ...], "task"?, "gold"?}
"prompt" is text or a list of messages. In "outputs" null stands for a completion without an answer, in "correct" for
one that could not be judged. The number of outputs may differ; without an id, line 7 is called "line-7". Rows of the
tasks humaneval, mbpp and cruxeval are code; so are rows without a task when a metric of programs is named."""

_EPILOG = """A table goes to the terminal; --out writes JSON beside it:
  {"n_prompts", "metrics": {name: {"mean", "ci95": [low, high], "n"}}, "per_prompt": [{"id", name: value or null}], ...}
The interval is the 95 percent interval over prompts, n the prompts where the metric is defined; null is undefined.

exit code: 0 all was scored; 2 wrong usage, or nothing could be scored; 3 some rows or metrics were left out, each named
with its reason on stderr, and the rest was scored."""


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    given = _parser().parse_args(argv)
    try:
        rows, problems = read_rows(Path(given.file))
        if given.out not in (None, "-") and not Path(given.out).parent.is_dir():
            raise ValueError(f"--out: there is no folder {Path(given.out).parent}")
        if given.out and Path(given.out).is_dir():
            raise ValueError(f"--out: {given.out} is a folder, expected a file's name")
    except (OSError, ValueError) as error:
        return _fail(str(error))
    for line, reason in problems:
        print(f"{given.file}:{line}: {reason}", file=sys.stderr)
    if not rows:
        return _fail(f"{given.file}: nothing to score, {len(problems)} bad rows and no good one")

    try:
        categories = _categories(rows, given.metrics)
        scorer = _scorer(given, categories)
    except (ValueError, RuntimeError) as error:
        return _fail(str(error))
    print(f"{len(rows)} prompts, {sum(len(row.outputs) for row in rows)} outputs ...", file=sys.stderr)
    scored = score_rows(rows, scorer, categories)
    report = _report(rows, scored) | {
        "bad_rows": [{"line": line, "reason": reason} for line, reason in problems],
        "left_out": {name.removeprefix("file/"): reason for name, reason in scored.left_out.items()},
        "settings": {"models": scorer.encoders(), **vars(given), "divmon": __version__},
    }
    text = json.dumps(report, allow_nan=False, ensure_ascii=False, indent=1)
    print(_table(report), file=sys.stderr if given.out == "-" else sys.stdout)
    if given.out == "-":
        print(text)
    elif given.out:
        Path(given.out).write_text(text + "\n", encoding="utf-8")
    if not scored.scores:
        return _fail("no metric could be computed")
    return PARTLY if problems or scored.left_out else OK


def score_rows(rows: Sequence[Row], scorer: Scorer, categories: Sequence[str]) -> Scored:
    """Scores all rows as one task, named "file"."""
    from divmon.scoring import Outputs

    correct = [row.correct or [None] * len(row.outputs) for row in rows]
    return scorer.score(
        [Outputs("file", [str(row.id) for row in rows], categories, [row.outputs for row in rows], correct=correct)]
    )


def _categories(rows: Sequence[Row], names: str) -> list[str]:
    from divmon import metrics

    named = [name.strip() for name in names.split(",") if name.strip() not in ("", "auto")]
    programs = [name for name in named if metrics.load(name).reads_programs]
    is_code = [row.task in CODE_TASKS or (row.task is None and bool(programs)) for row in rows]
    if programs and not any(is_code):
        raise ValueError(
            f"{', '.join(programs)} asked for, but no row is code; rows of the tasks {', '.join(CODE_TASKS)} and rows"
            " without a task are"
        )
    return ["code" if code else "other" for code in is_code]


def _scorer(given: argparse.Namespace, categories: Sequence[str]) -> Scorer:
    import torch

    from divmon.encode import MNLI
    from divmon.scoring import Scorer

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


def _report(rows: Sequence[Row], scored: Scored) -> dict[str, Any]:
    per_prompt: list[dict[str, Any]] = [{"id": row.id} for row in rows]
    for score in scored.scores:
        for entry, value in zip(per_prompt, score.values, strict=False):  # an across-prompt figure has no values
            entry[score.metric] = _number(value)
    if any(row.correct is not None for row in rows):
        for entry, row in zip(per_prompt, rows, strict=True):
            judged = [verdict for verdict in row.correct or [] if verdict is not None]
            entry["k_correct"] = sum(judged) if judged else None
    return {
        "n_prompts": len(rows),
        "metrics": {
            s.metric: {"mean": _number(s.mean), "ci95": [_number(s.low), _number(s.high)], "n": s.n}
            for s in scored.scores
        },
        "per_prompt": per_prompt,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _table(report: dict[str, Any]) -> str:
    lines = [f"{'metric':24}{'mean':>10}  {'95% interval':22}{'prompts':>7}"]
    for name, figure in report["metrics"].items():
        low, high = figure["ci95"]
        mean = "undefined" if figure["mean"] is None else f"{figure['mean']:.4f}"
        interval = "" if low is None else f"{low:.4f} to {high:.4f}"
        lines.append(f"{name:24}{mean:>10}  {interval:22}{figure['n']:>7}")
    models = ", ".join(f"{cost.replace('_', ' ')} {name}" for cost, name in report["settings"]["models"].items())
    return "\n".join(lines + ([f"by {models}"] if models else []))


def _fail(message: str) -> int:
    print(f"divmon score: {message}", file=sys.stderr)
    return NOTHING


def _parser() -> argparse.ArgumentParser:
    from divmon.metrics import available

    parser = argparse.ArgumentParser(
        prog="divmon score",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", metavar="FILE.jsonl")
    add(
        "--metrics",
        default="auto",
        metavar="NAMES",
        help=f"auto (all but nli, those of programs where there is code), or some of {','.join(available())}, or"
        " file.py:function; separated by commas",
    )
    add(
        "--embedder",
        default="auto",
        metavar="NAME",
        help="hub id or folder of the text encoder, or minilm, the small one of divmon[demo]; auto (the default) takes"
        " all-mpnet-base-v2 where it can be had, else minilm",
    )
    add("--ead-vocab-size", type=_whole_number, default=50257, metavar="V", help="tokenizer's size for EAD (50257)")
    add(
        "--nli-model",
        metavar="NAME",
        help="hub id or folder of the NLI classifier (roberta-large-mnli); naming one adds nli to auto",
    )
    add(
        "--nli-sentences",
        type=lambda text: None if text == "all" else _whole_number(text),
        default=3,
        metavar="N|all",
        help="aligned sentences drawn for each pair of outputs (3, as in the paper)",
    )
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...; a GPU where there is one, if not told")
    add("--out", metavar="FILE.json", help="write JSON there; - writes it to stdout and the table to stderr")
    return parser


def _whole_number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)
