"""`divmon data`: what a mixture is made of, before anyone trains on it."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from divmon.cli.command import argument, command, flag
from divmon.loggers.terminal import Table, show

OK, HOMOGENEOUS, WRONG = 0, 1, 2

_EPILOG = """DATASET is a file (JSON, JSONL, CSV, TSV, Parquet, Arrow, also compressed), a saved data set's folder, a
hub id, or name=FILE; several are one mixture, each a source of its own unless --source-column names the sources.

columns: sbert and the others are of completions of different prompts, so they also follow the prompts; 'same prompt
sbert' is of completions of one prompt, where rows have any; 'same opening' is the share of pairs of completions that
begin with the same three words.

exit code: 0 all is well; 1 one or two homogeneous sources dominate; 2 the data cannot be read."""


@dataclass
class Flags:
    """Counts the rows and tokens of each source of a mixture, exactly, and scores how diverse a sample of each source's
    completions is: within the source, across sources, and among completions of the same prompt."""

    dataset: list[str] = argument("DATASET", many=True)
    """A file, a hub id, or name=FILE."""
    source_column: str | None = None
    """The column that says where a row comes from."""
    split: str = "train"
    """Split of a hub id."""
    tokenizer: str | None = flag(metavar="NAME")
    """Counts tokens; characters are counted without it."""
    samples: int = 64
    """Completions of a source that its figures are computed on."""
    metrics: str = "auto"
    """As the callback's option."""
    embedder: str = flag("auto", metavar="NAME")
    """Text encoder: a hub id or a folder."""
    seed: int = 0
    """Seed of the sample."""
    json: Path | None = flag(metavar="FILE")
    """Write all of it there."""


@command("divmon data", epilog=_EPILOG)
def main(given: Flags) -> int:
    """Runs the command and returns its exit code."""
    composition = _compose(given)
    show(*report(composition), gap="\n\n")
    if given.json:
        from divmon.types import plain, strict_json

        given.json.write_bytes(strict_json(plain(composition.as_dict()), indent=1) + b"\n")
    return HOMOGENEOUS if composition.warning() else OK


def report(composition: Any) -> list[str | Table]:
    """What a person reads: the table, distances across sources, and the warning."""
    sources = len(composition.sources)
    blocks: list[str | Table] = [
        f"{composition.rows:,} rows of {composition.prompts:,} prompts, {composition.tokens:,} {composition.unit},"
        f" {sources} source{'' if sources == 1 else 's'}, fingerprint {composition.fingerprint[:12]}",
        composition.table(),
    ]
    if len(composition.across) > 1:
        blocks.append(_across(composition))
    if composition.predictors:
        blocks.append(_predictors(composition.predictors))
    if composition.left_out:
        blocks.append("\n".join(f"left out: {name}: {reason}" for name, reason in composition.left_out.items()))
    warning = composition.warning()
    return [*blocks, f"warning: {warning}"] if warning else blocks


def _across(composition: Any) -> Table:
    names = list(composition.across)
    shown = names[:8]
    rows = [[f"{i} {a}", *(f"{composition.across[a][b]:.3f}" for b in shown)] for i, a in enumerate(shown, 1)]
    more = len(names) - len(shown)
    title = f"across sources (SBERT, {composition.encoder}; sampled evenly {composition.even:.3f})"
    after = [f"and {more} smaller source{'' if more == 1 else 's'}: --json holds them"] if more else []
    return Table(["", *map(str, range(1, len(shown) + 1))], rows, title=title, after=after)


def _predictors(of: dict[str, float]) -> str:
    """What the data say of the whole mixture, and what they do not."""
    from divmon.training.composition.predictors import EVIDENCE

    same = of["same_prompt"]
    apart = "-" if same is None or math.isnan(same) else f"{same:.3f}"
    return (
        f"the mixture (SBERT of {of['rows']} rows): completions of the same or near prompts {of['conditional']:.3f},"
        f" of the same prompt {apart}, of one source {of['within_source']:.3f}; entropy of the sources"
        f" {of['teacher_entropy']:.2f} nats; form {of['form']:.3f}, form_decoded {of['form_decoded']:.3f}\n{EVIDENCE}"
    )


def _compose(given: Flags) -> Any:
    import datasets

    from divmon.loggers.console import progress_bar
    from divmon.scoring.model_loading import Unavailable
    from divmon.training.composition import compose
    from divmon.training.composition.rows import parts_of

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()  # debris in a log file
    tokenizer = None
    if given.tokenizer:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(given.tokenizer)
    parts = []
    for dataset in given.dataset:
        name, equals, path = dataset.partition("=")
        parts += parts_of({name: path} if equals else {Path(dataset).stem: dataset}, given.source_column, given.split)
    settings: dict[str, Any] = {"metrics": given.metrics, "num_samples": given.samples, "predict": True}
    settings |= {"embedder": given.embedder, "seed": given.seed}
    try:
        with progress_bar("divmon data", sum(map(len, parts))) as done:
            return compose(parts, tokenizer=tokenizer, progress=done, **settings)
    except Unavailable as error:
        raise ValueError(f"{error}; --metrics ead,distinct_n,compression needs no encoder") from None
