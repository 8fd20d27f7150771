"""`divmon data`: what a mixture is made of, before anyone trains on it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OK, HOMOGENEOUS, WRONG = 0, 1, 2

_DESCRIPTION = """Counts the rows and tokens of each source of a mixture, exactly, and scores how diverse a sample of
each source's completions is: within the source, across sources, and among completions of the same prompt."""

_EPILOG = """DATASET is a file (.jsonl, .json, .parquet, .csv), a hub id, or name=FILE; several are one mixture, each a
source of its own unless --source-column names the sources.

columns: sbert and the others are of completions of different prompts, so they also follow the prompts; 'same prompt
sbert' is of completions of one prompt, where rows have any; 'same opening' is the share of pairs of completions that
begin with the same three words.

exit code: 0 all is well; 1 one or two homogeneous sources dominate; 2 the data cannot be read."""


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    given = _parser().parse_args(argv)
    try:
        composition = _compose(given)
    except (OSError, ValueError) as error:
        print(f"divmon data: {error}", file=sys.stderr)
        return WRONG
    print(report(composition))
    if given.json:
        from divmon.types import plain, strict_json

        Path(given.json).write_bytes(strict_json(plain(composition.as_dict()), indent=1) + b"\n")
    return HOMOGENEOUS if composition.warning() else OK


def report(composition: Any) -> str:
    """What a person reads: the table, distances across sources, and the warning."""
    lines = [
        f"{composition.rows:,} rows of {composition.prompts:,} prompts, {composition.tokens:,} {composition.unit},"
        f" {len(composition.sources)} sources, fingerprint {composition.fingerprint[:12]}",
        "",
        composition.table(),
    ]
    if len(composition.across) > 1:
        names = list(composition.across)
        shown = names[:8]
        lines += ["", f"across sources (SBERT, {composition.encoder}; drawn evenly {composition.even:.3f}):"]
        width = max(map(len, names))
        lines += [" " * width + "".join(f"{i:>8}" for i in range(1, len(shown) + 1))]
        for i, a in enumerate(shown, 1):
            lines.append(f"{a:{width}}" + "".join(f"{composition.across[a][b]:8.3f}" for b in shown) + f"   {i}")
        if len(names) > len(shown):
            lines.append(f"and {len(names) - len(shown)} smaller sources: --json holds them")
    for name, reason in composition.left_out.items():
        lines.append(f"left out: {name}: {reason}")
    warning = composition.warning()
    return "\n".join(lines + (["", f"warning: {warning}"] if warning else []))


def _compose(given: argparse.Namespace) -> Any:
    from divmon.loggers.console import progress_bar
    from divmon.scoring.model_loading import Unavailable
    from divmon.training.composition import compose
    from divmon.training.composition.rows import parts_of

    tokenizer = None
    if given.tokenizer:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(given.tokenizer)
    parts = []
    for dataset in given.dataset:
        name, equals, path = dataset.partition("=")
        parts += parts_of({name: path} if equals else {Path(dataset).stem: dataset}, given.source_column, given.split)
    settings = {"metrics": given.metrics, "num_samples": given.samples, "embedder": given.embedder, "seed": given.seed}
    try:
        with progress_bar("divmon data", sum(map(len, parts))) as done:
            return compose(parts, tokenizer=tokenizer, progress=done, **settings)
    except Unavailable as error:
        raise ValueError(f"{error}; --metrics ead,distinct_n,compression needs no encoder") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="divmon data",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("dataset", nargs="+", metavar="DATASET", help="a file, a hub id, or name=FILE")
    add("--source-column", help="the column that says where a row comes from")
    add("--split", default="train", help="of a hub id (%(default)s)")
    add("--tokenizer", help="counts tokens; characters are counted without it")
    add(
        "--samples", type=int, default=64, help="completions of a source that its figures are computed on (%(default)s)"
    )
    add("--metrics", default="auto", help="as the callback's option (%(default)s)")
    add("--embedder", default="auto", help="text encoder (%(default)s)")
    add("--seed", type=int, default=0, help="of the sample (%(default)s)")
    add("--json", metavar="FILE", help="write all of it there")
    return parser
