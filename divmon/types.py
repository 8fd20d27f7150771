"""The nouns, in the order of the flow: Prompt, Decoding, Probe, Sample, Verdict, Score, Snapshot.

    prompts -> samples -> verdicts -> scores -> snapshot

Plain data, without torch: the store writes exactly these, and every other file of divmon speaks in them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Message = dict[str, Any]
"""One turn of a conversation: {"role": "system" | "user" | "assistant", "content": str}."""

Finish = Literal["eos", "stop", "length", "unknown"]
"""Why a sample ended: the model closed it, a stop string did, or the token limit did; a record of its text alone does
not tell."""

TRUNCATED_LIMIT = 0.1
"""Above this share of completions without an answer, a task's figures are not comparable (contract 3)."""

TRUNCATED = "truncated before its answer"
"""The reason of the verdict None on a completion that reached the token limit before it answered."""

UNCLOSED = "ended inside its reasoning, without an answer"
"""The reason of the verdict None on a completion that ended by itself before it answered."""

OLD_FIGURES = {
    "length_limit": "clipped_ratio",
    "no_signal": "frac_reward_zero_std",
    "accuracy_cut_off_wrong": "accuracy_no_answer_wrong",
}
"""Names of figures until version 0.2, and since."""

TERMS = {
    "quality_control": "quality control",
    "narrowing_correct": "narrowing among correct answers",
    "narrowing_wrong": "change among wrong answers",
    "narrowing_cross": "change among wrong answers (against correct ones)",
}
"""The parts of a change and what each may be called: only what correct answers lose is called narrowing, since a change
among wrong answers may be cleaner errors. It is narrowing as the encoder sees it: of wordings at least as much as of
approaches (`divmon.scoring.metrics.approach` looks at the latter)."""

Category = Literal["summarization", "code", "reasoning", "instruction", "creative", "values", "other"]


@dataclass(frozen=True)
class Prompt:
    """What the model is asked.

    `content` is text, a conversation, or token ids taken as they are (rows that a trainer has already tokenized).
    """

    id: str
    content: str | tuple[Message, ...] | tuple[int, ...]
    gold: str | None = None
    row: dict[str, Any] | None = None
    """The upstream data set's row, for verifiers whose gold is more than a string."""
    category: Category = "other"


@dataclass(frozen=True)
class Decoding:
    """How completions are drawn; compared before any two snapshots are."""

    max_new_tokens: int = 512
    temperature: float = 0.6
    top_p: float = 0.95
    stop: tuple[str, ...] = ()
    """Strings that end a completion and are cut from it."""


@dataclass(frozen=True)
class Probe:
    """A fixed set of prompts of one task with the limits it is decoded under: what is measured again and again."""

    name: str
    prompts: tuple[Prompt, ...]
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    """Strings that end an answer and are cut from it; one string or several."""
    verifier: str | None = None
    """Name of the rule that judges its answers; None where there is none."""
    source: str = ""
    """Where the prompts came from, for the record: a hub id, a file, "package"."""
    chat_stop: tuple[str, ...] | None = None
    """The same where prompts go through a chat template; `stop` where None. The package's tasks have none there, for
    the end-of-turn token ends an answer."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", _strings(self.stop))
        if self.chat_stop is not None:
            object.__setattr__(self, "chat_stop", _strings(self.chat_stop))
        if not self.prompts:
            raise ValueError(f"probe '{self.name}' has no prompts; give at least one")
        seen: set[str] = set()
        for prompt in self.prompts:
            for text in (self.name, prompt.id, prompt.category):
                if any("\ud800" <= character <= "\udfff" for character in text or ""):
                    raise ValueError(f"probe {self.name!r}: {text!r} holds half a character; read its file as UTF-8")
            if prompt.id in seen:
                raise ValueError(
                    f"probe '{self.name}' has two prompts with the id {prompt.id!r}; ids tell prompts apart between"
                    " snapshots, so each must be used once"
                )
            seen.add(prompt.id)

    def stops(self, chat: bool) -> tuple[str, ...]:
        """The stop strings of a prompt in chat or in plain text."""
        return self.stop if self.chat_stop is None or not chat else self.chat_stop


def _strings(value: str | Iterable[str]) -> tuple[str, ...]:
    """One stop string or several as a tuple.

    Raises:
        ValueError: one is no text, or empty, which would end every answer before it begins.
    """
    stops = (value,) if isinstance(value, str) else tuple(value)
    for stop in stops:
        if not isinstance(stop, str) or not stop:
            raise ValueError(f"expected stop strings to be texts of at least one character, got {stop!r}")
    return stops


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as the model sees it: after the chat template, with its special tokens."""

    task: str
    id: str
    text: str
    input_ids: tuple[int, ...]
    in_reasoning: bool = False
    """The prompt leaves a reasoning block open, so that a completion begins inside it."""


@dataclass(frozen=True)
class Verdict:
    """Correct, wrong, or None for ungradable, which is not wrong."""

    correct: bool | None
    reason: str = ""
    answer: str | None = None
    """The final answer found in the text, in a form that equal answers share (for majority votes); None: none found."""


class Likelihood(NamedTuple):
    """Of one completion, means over its new tokens at temperature 1 and before top-p."""

    entropy: float
    """Nats."""
    forking: float
    """Share of tokens whose entropy is above `divmon.sampling.likelihood.FORKING`."""
    top1: float
    """Probability of the likeliest token."""
    nll: float
    """Negative log-likelihood of the token that was drawn, nats."""


@dataclass(frozen=True)
class Sample:
    """One completion: its text, how it ended, and whether it is correct."""

    task: str
    prompt_id: str
    index: int
    """0 .. N-1 among the samples of the prompt."""
    text: str
    """The answer: the completion without its reasoning. Empty where the reasoning was never closed."""
    finish: Finish
    n_tokens: int | None
    """New tokens, the closing one included; None where only the text was recorded."""
    reasoning: str | None = None
    """The text of the reasoning block; None where there was none."""
    answered: bool = True
    """False where the completion ended inside its reasoning: there is no answer to score or grade."""
    verdict: Verdict | None = None
    """What its verifier says; None where nothing grades its task."""
    likelihood: Likelihood | None = field(default=None, compare=False)
    """How sure the model was of its tokens; None where that was not recorded. The same sample has the same but for
    rounding, which depends on its batch."""

    @property
    def correct(self) -> bool | None:
        """None where it is ungradable, or where nothing grades its task."""
        return None if self.verdict is None else self.verdict.correct

    @property
    def final_answer(self) -> str | None:
        """What its verifier took as the answer; None where there is none."""
        return None if self.verdict is None else self.verdict.answer


@dataclass(frozen=True)
class Score:
    """One metric of one task in one snapshot.

    `low` and `high` bound the 95 percent interval over prompts; NaN where there is none. A mean of nothing is NaN.
    """

    task: str
    metric: str
    mean: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    """Prompts behind the mean."""
    values: tuple[float, ...] = ()
    """Per prompt, in the probe's order, NaN where undefined; empty for an across-prompt figure."""


@dataclass(frozen=True)
class Change:
    """The paired change of a metric since the reference, on the same prompts: now minus reference."""

    task: str
    metric: str
    reference: float
    now: float
    change: float
    low: float
    high: float
    n: int
    """Prompts defined on both sides."""


@dataclass(frozen=True)
class Figure:
    """What a number of a snapshot is. Metrics declare it (`divmon.scoring.metrics`), the run's manifest keeps it."""

    meaning: str = ""
    range: tuple[float | str | None, float | str | None] = (None, None)
    """Text where the run decides a bound ("K"), None where there is none."""
    diverse: Literal["higher", "lower", ""] = "higher"
    """Which way is more diverse; "" where it measures no diversity. Comparisons show what is "higher"."""
    better: Literal["higher", "lower", ""] = ""
    """Which way is better, of a figure of quality."""
    headline: float | None = None
    """Place on the console's line and in TensorBoard's first charts, the lowest first: sbert 10, ead 60, accuracy 200;
    None: not there."""
    rank: float | None = None
    """Place in frontier, stages and report, on the same scale; that of `headline` where None."""
    aggregate: Literal["mean", "harmonic_mean"] = "mean"
    """How values by prompt are averaged."""
    pairwise: bool = False
    """The mean of its metric's `pairwise`: the decomposition splits its change, and alerts test the first measured."""
    cosine: bool = False
    """Those distances are 1 minus a cosine, from which the paper's own view takes its Vendi score."""
    graded: bool = False
    """It depends on which completions are correct."""
    size: int = 0
    """k, of a figure that there is at every k up to K: the powers of two are shown."""
    metric: str = ""
    """The metric that gives it, "" where none does. This and what follows is filled in when the metric is loaded."""
    source: str = ""
    needs: tuple[str, ...] = ()
    """What it depends on besides decoding and K: "verifier", "vocab_size", "encoder", "code_encoder", "nli"."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most it can be, as far as it says; infinite where it does not."""
        low, high = (bound if isinstance(bound, int | float) else None for bound in self.range)
        return -math.inf if low is None else low, math.inf if high is None else high

    @property
    def change_bounds(self) -> tuple[float, float]:
        """The same of its change: no figure falls by more than from its most to its least."""
        least, most = self.bounds
        return least - most, most - least


@dataclass
class Snapshot:
    """All that one measurement saw, complete or not at all.

    `missing` names what could not be drawn: (task, prompt id) -> reason. `provenance` is what took effect (contract 7):
    decoding per task, seed, num_samples, model, tokenizer, encoder, sampler, seconds by phase, tokens drawn, versions.
    """

    step: int
    samples: list[Sample]
    scores: list[Score] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    decomposition: dict[str, dict[str, Any]] = field(default_factory=dict)
    """task -> pairwise metric -> `divmon.scoring.decomposition.Decomposition.as_dict()`, where there are verdicts."""
    missing: dict[tuple[str, str], str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict, compare=False, repr=False)
    """What its scores are, by name."""

    def score(self, task: str, metric: str) -> Score:
        """The score of that name.

        Raises:
            KeyError: there is none; the message lists those there are.
        """
        if metric in OLD_FIGURES:
            new = OLD_FIGURES[metric]
            warnings.warn(f"the figure {metric!r} is named {new!r} since 0.2", DeprecationWarning, stacklevel=2)
            metric = new
        for score in self.scores:
            if score.task == task and score.metric == metric:
                return score
        there = sorted(f"{s.task}/{s.metric}" for s in self.scores)
        raise KeyError(f"no score '{task}/{metric}' at step {self.step}; there are {', '.join(there)}")

    def replace(self, **changes: Any) -> Snapshot:
        return dataclasses.replace(self, **changes)


# -- the same as strict JSON, for the store, the command line and child processes


def plain(value: Any) -> Any:
    """`value` in the terms of strict JSON, so that no stray type can cost a run its snapshot.

    NaN becomes None, an infinity text, numpy's and torch's numbers Python's, a dataclass a dictionary; what JSON has no
    word for becomes its `str`, without the memory address that would differ between two runs.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value), key=str)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(fields(value))
    if hasattr(value, "tolist"):  # numpy and torch: a number for what has no dimension, else lists
        return plain(value.tolist())
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, shallow: `dataclasses.asdict` copies every value, which takes ten times as long."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def strict_json(value: Any, indent: int | None = None) -> bytes:
    """Strict JSON in ASCII: a lone surrogate that a tokenizer let through has no UTF-8, but has an escape."""
    return json.dumps(value, allow_nan=False, indent=indent, separators=None if indent else (",", ":")).encode()
