"""What the training data is made of: shares of each source, exactly, and how diverse each source's completions are.

composition = compose(dataset, source_column="source", tokenizer=tokenizer)
print(composition.table())
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from divmon.loggers.terminal import Table
from divmon.training.composition.predictors import predictors
from divmon.training.composition.rows import Part, TextRow, parts_of
from divmon.training.composition.sources import OPENING_WORDS, Gathered, Source, rows_of_mixture, same_opening

DOMINANT = 0.5
"""Share of the tokens above which one or two sources dominate a mixture."""
HOMOGENEOUS, ALIKE = 0.75, 0.5
"""A source is homogeneous where its completions are at most the one share as far apart as those of all sources, drawn
evenly; or where at least the other share of pairs of them begins with the same words."""
BATCH = 512

Progress = Callable[[int], None]
"""Called with the number of rows that have been read since the last call."""


@dataclass
class Composition:
    """A mixture and its sources, the largest first."""

    rows: int
    prompts: int
    """Distinct ones, over all sources."""
    tokens: int
    unit: str
    """"tokens" or, without a tokenizer, "characters"."""
    fingerprint: str
    """Of the rows and their sources, whatever their order."""
    sources: list[Source]
    across: dict[str, dict[str, float]] = field(default_factory=dict)
    """SBERT: mean cosine distance of a completion of the one and a completion of the other source."""
    even: float = math.nan
    """SBERT of a mixture that draws each source equally often: what `within` is held against."""
    encoder: str | None = None
    tokenizer: str | None = None
    seed: int = 0
    predictors: dict[str, float] = field(default_factory=dict)
    """Of the mixture as a whole: `divmon.training.composition.predictors`, where they were asked for."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Metrics that could not be computed, with the reason."""

    def share(self, source: Source, of: str = "tokens") -> float:
        """Exact share of the rows or tokens, 0 to 1."""
        return getattr(source, of) / max(getattr(self, of), 1)

    def consumed(self, epochs: float) -> dict[str, Any]:
        """Rows of each source that training has used after so many epochs: the expectation for shuffled data."""
        return {"expected": True, "epochs": epochs, "rows": {s.name: round(epochs * s.rows, 1) for s in self.sources}}

    def homogeneous(self, source: Source) -> str | None:
        """Why the source counts as homogeneous; None where it does not."""
        apart = source.within.get("sbert", math.nan)
        if len(self.sources) > 1 and apart <= HOMOGENEOUS * self.even:
            return f"its completions are {apart / self.even:.0%} as far apart (SBERT {apart:.3f}) as the mixture's"
        if source.same_opening >= ALIKE:
            return f"{source.same_opening:.0%} of pairs of its completions begin with the same {OPENING_WORDS} words"
        return None

    def warning(self) -> str | None:
        """A line where one or two homogeneous sources dominate the mixture; None where they do not."""
        for leading in (self.sources[:1], self.sources[:2]):
            share = sum(self.share(source) for source in leading)
            reasons = [self.homogeneous(source) for source in leading]
            if share > DOMINANT and all(reasons):
                named = "; ".join(f"{s.name}: {why}" for s, why in zip(leading, reasons, strict=True))
                return f"{share:.0%} of the {self.unit} come of {len(leading)} homogeneous source(s): {named}"
        return None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for the manifest."""
        return {**asdict(self), "warning": self.warning()}

    @classmethod
    def read(cls, path: str | Path) -> Composition:
        """One that `divmon data --json` wrote.

        Raises:
            ValueError: the file holds none.
            OSError: it cannot be read.
        """
        try:
            facts = json.loads(Path(path).read_bytes())
            facts.pop("warning")
            sources = [Source(**_numbers(source)) for source in facts.pop("sources")]
            across = {a: _numbers(row) for a, row in facts.pop("across").items()}
            return cls(sources=sources, across=across, **_numbers(facts))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} holds no composition, as `divmon data --json` writes it: {error!r}") from None

    def hparams(self) -> dict[str, float | str]:
        """For TensorBoard: the share of each source of the tokens, and the fingerprint."""
        shares = {f"data/{source.name}": self.share(source) for source in self.sources}
        return {**shares, "data_fingerprint": self.fingerprint[:12]}

    def table(self) -> Table:
        """One line a source, with shares and figures; `print` shows it aligned."""
        shown = [name for name in WITHIN if any(name in source.within for source in self.sources)]
        ends = ("rows per prompt", *shown, "same prompt sbert", "same opening")
        rows = [
            [
                source.name,
                f"{source.rows:,}",
                f"{self.share(source, 'rows'):.1%}",
                f"{source.tokens:,}",
                f"{self.share(source):.1%}",
                f"{source.rows / max(source.prompts, 1):.2f}",
                *(_figure(source.within.get(name, math.nan)) for name in shown),
                _figure(source.same_prompt.get("sbert", math.nan)),
                _figure(source.same_opening),
            ]
            for source in self.sources
        ]
        return Table(["source", "rows", "share", self.unit, "share", *ends], rows)

    def markdown(self) -> str:
        """The same table for TensorBoard."""
        table = self.table()
        rows = [[str(cell).replace("|", "\\|") for cell in row] for row in table.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in [table.head, ["--"] * len(table.head), *rows])


WITHIN = ("sbert", "vendi_at4", "ead", "compression")
"""Figures of a source's completions in the table, those that there are."""


def compose(
    data: Any,
    *,
    source_column: str | None = None,
    tokenizer: Any = None,
    metrics: str | list[str] = "auto",
    num_samples: int = 64,
    embedder: str = "auto",
    device: str | None = None,
    scorer: Any = None,
    seed: int = 0,
    predict: bool = False,
    progress: Progress = lambda rows: None,
) -> Composition:
    """Reads all rows once, and scores a sample of each source's completions.

    Rows and tokens are counted exactly. The samples are those rows whose text has the lowest hash, so they do not
    depend on the order of the rows.

    Args:
        data: as `divmon.training.composition.rows.parts_of` takes it.
        tokenizer: counts the tokens; characters are counted where None.
        metrics: as the option of the callback; figures across prompts are left out.
        num_samples: completions a source that its figures are computed on.
        embedder, device: of the text encoder.
        predict: also compute what might tell the diversity that training leaves, with the encoder.
        scorer: a `divmon.scoring.scorer.Scorer` whose metrics and models are used, in place of those named.

    Raises:
        ValueError: the data are of a form that is not known.
    """
    parts = data if isinstance(data, list) and data and isinstance(data[0], Part) else parts_of(data, source_column)
    gathered: dict[str, Gathered] = {}
    fingerprint = 0
    for rows in _batches(parts):
        fingerprint += _gather(gathered, rows, tokenizer, num_samples, seed)
        progress(len(rows))
    sources = sorted((one.source for one in gathered.values()), key=lambda source: (-source.tokens, source.name))
    for one in gathered.values():
        one.source.prompts = len(one.prompts_seen)
    composition = Composition(
        rows=sum(source.rows for source in sources),
        prompts=len(set().union(*(one.prompts_seen for one in gathered.values()))),
        tokens=sum(source.tokens for source in sources),
        unit="characters" if tokenizer is None else "tokens",
        fingerprint=f"{fingerprint % 2**128:032x}",
        sources=sources,
        tokenizer=tokenizer and (getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__),
        seed=seed,
    )
    if scorer is None:
        from divmon.scoring.scorer import Scorer

        vocab_size = len(tokenizer) if tokenizer is not None else 50257
        scorer = Scorer(metrics, embedder=embedder, device=device, vocab_size=vocab_size, seed=seed)
    _score(composition, gathered, scorer)
    whole = rows_of_mixture(gathered.values()) if predict and composition.encoder else []
    sampled = [(name, asked, said) for name, asked, text in whole if (said := _answer(text)) is not None]
    if len(sampled) > 1:
        composition.predictors = predictors(sampled, scorer.resources.models["encoder"].encode).as_dict()
    return composition


def _gather(gathered: dict[str, Gathered], rows: Sequence[TextRow], tokenizer: Any, num_samples: int, seed: int) -> int:
    """Adds rows to their sources; gives the sum of their hashes, which is the same in any order of the rows."""
    counts = _lengths([row.text for row in rows], tokenizer)
    answers, total = _lengths([row.completion or "" for row in rows], tokenizer), 0
    for row, tokens, answer in zip(rows, counts, answers, strict=True):
        text = f"{row.source}\0{row.prompt}\0{row.text}".encode("utf-8", "surrogatepass")
        total += int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")
        gathered.setdefault(row.source, Gathered(row.source, num_samples, seed)).add(row, tokens, answer)
    return total


def _batches(parts: Sequence[Part]) -> Iterator[list[TextRow]]:
    batch: list[TextRow] = []
    for part in parts:
        for row in part.texts():
            batch.append(row)
            if len(batch) == BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _lengths(texts: list[str], tokenizer: Any) -> list[int]:
    if tokenizer is None:
        return [len(text) for text in texts]
    encoded = tokenizer(texts, add_special_tokens=False, truncation=False, padding=False)["input_ids"]
    return [len(ids) for ids in encoded]


def _score(composition: Composition, gathered: dict[str, Gathered], scorer: Any) -> None:
    """The figures of each source, and how far sources are apart."""
    from divmon.scoring.metric_inputs import Outputs
    from divmon.scoring.scorer import score

    answers = {name: [_answer(text) for text in one.samples] for name, one in gathered.items()}
    metrics = [
        m for m in scorer.metrics if not m.across_prompts and not m.reads_programs and "lengths_PK" not in m.needs
    ]
    for source in composition.sources:
        one, texts = gathered[source.name], answers[source.name]
        source.samples = len(texts)
        source.same_opening = same_opening(one.samples)
        groups = [[_answer(text) for text in group] for group in one.groups]
        source.same_prompt_n = len(groups)
        for into, sets in ((source.within, [texts]), (source.same_prompt, groups)):
            if not sets or not sets[0]:
                continue
            ids = [str(i) for i in range(len(sets))]
            scored = score([Outputs(source.name, ids, ["other"] * len(sets), sets)], metrics, scorer.resources)
            into.update({score.metric: score.mean for score in scored.scores})
            composition.left_out.update(scored.left_out)
    if any(metric.cost == "encoder" for metric in metrics):
        encoder = scorer.resources.models["encoder"]
        composition.encoder = encoder.name
        _across(composition, {name: texts for name, texts in answers.items() if len(texts) > 1}, encoder)


def _across(composition: Composition, answers: dict[str, list[str | None]], encoder: Any) -> None:
    means = {}
    for name, texts in answers.items():
        answered = [text for text in texts if text is not None]
        if len(answered) > 1:
            means[name] = encoder.encode(answered).double().mean(0)
    within = {source.name: source.within.get("sbert", math.nan) for source in composition.sources}
    composition.across = {a: {b: within[a] if a == b else float(1 - means[a] @ means[b]) for b in means} for a in means}
    pairs = [distance for row in composition.across.values() for distance in row.values()]
    composition.even = sum(pairs) / len(pairs) if pairs else math.nan


def _numbers(facts: dict[str, Any]) -> dict[str, Any]:
    """Strict JSON has no NaN: what was undefined is null there."""
    optional = ("encoder", "tokenizer")
    return {
        name: _numbers(value)
        if isinstance(value, dict)
        else math.nan
        if value is None and name not in optional
        else value
        for name, value in facts.items()
    }


def _answer(text: str) -> str | None:
    """A completion without its reasoning, which is what the metrics are about; None where it never ends."""
    from divmon.prompts.rendering import Think, split_reasoning

    answer, _, answered = split_reasoning(text, Think(), in_reasoning=False)
    return answer if answered else None


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
