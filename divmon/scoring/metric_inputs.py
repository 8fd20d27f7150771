"""What metrics compute with: the samples of a task, and every input that a metric may name."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from divmon.grading.program_extraction import extract
from divmon.scoring.metrics import INPUTS, Metric
from divmon.scoring.resources import Resources

OF_THE_MODEL = ("likelihood_PKF", "stored_nll_PF")
"""Inputs that only a model in this process gives."""

EMBEDDED = ("embeddings_PKD", "prompt_embeddings_PD", "code_embeddings_PKD")
"""Inputs that an encoder gives."""


@dataclass
class Outputs:
    """The samples of one task.

    Raises:
        ValueError: the parts do not fit one another.
    """

    task: str
    prompt_ids: Sequence[str]
    categories: Sequence[str]
    texts: Sequence[Sequence[str | None]]
    """For each prompt its answers, of which there may be more or fewer; None where there is no answer."""
    correct: Sequence[Sequence[bool | None]] | None = None
    """Parallel to `texts`: whether each is correct, None where ungraded or ungradable."""
    lengths: Sequence[Sequence[int | None]] | None = None
    """Parallel to `texts`: new tokens."""
    likelihoods: Sequence[Sequence[Sequence[float] | None]] | None = None
    """Parallel to `texts`: a `divmon.types.Likelihood` of each, None where not recorded."""
    answers: Sequence[Sequence[str | None]] | None = None
    """Parallel to `texts`: final answers that the verifier found."""
    prompts: Sequence[str] | None = None
    """For each prompt its text."""
    stored_nll: Sequence[Sequence[float]] | None = None
    """For each prompt four numbers, as `stored_nll_PF` has them."""

    def __post_init__(self) -> None:
        if not len(self.prompt_ids) == len(self.categories) == len(self.texts):
            raise ValueError(
                f"task '{self.task}': expected ids, categories and texts of as many prompts, got"
                f" {len(self.prompt_ids)}, {len(self.categories)} and {len(self.texts)}"
            )
        parallel = {
            "correct": self.correct,
            "lengths": self.lengths,
            "likelihoods": self.likelihoods,
            "answers": self.answers,
        }
        for name, rows in parallel.items():
            if rows is not None and [len(row) for row in rows] != [len(row) for row in self.texts]:
                raise ValueError(f"task '{self.task}': '{name}' must have one entry for each text")


class Inputs:
    """What metrics may ask for of one task (`divmon.scoring.metrics.INPUTS`), each computed on first asking.

    Args:
        classified: pairs that the NLI classifier has seen in this snapshot, of other tasks too.
    """

    def __init__(
        self,
        outputs: Outputs,
        resources: Resources,
        num_samples: int | None,
        classified: dict[tuple[str, str], Tensor] | None = None,
    ) -> None:
        self.outputs = outputs
        self.resources = resources
        self.width = max((len(texts) for texts in outputs.texts), default=0)
        self.num_samples = self.width if num_samples is None else num_samples
        self.has_code = "code" in outputs.categories
        self.has_prose = any(category != "code" for category in outputs.categories)
        self.vocab_size = resources.vocab_size
        self.nli_sentences = resources.nli_sentences
        self.seed = resources.seed
        self._classified = {} if classified is None else classified
        # Float64 does not exist on Apple's GPUs, so there metrics compute on the CPU.
        device = resources.models["encoder"].device
        self._device = torch.device("cpu") if device.type == "mps" else device

    def given(self, metric: Metric, function: Callable[..., Any] | None = None) -> dict[str, Any]:
        """The arguments of a metric, or of its `pairwise`; only one that uses all samples sees more than the first K.

        Raises:
            ValueError: an input it requires is not there.
        """
        parameters = inspect.signature(function or metric.function).parameters.values()
        found = {p.name: getattr(self, p.name) for p in parameters if p.name in INPUTS}
        found = {name: value for name, value in found.items() if value is not None}
        missing = [p.name for p in parameters if p.default is p.empty and p.name not in found]
        if missing:
            raise ValueError(f"it needs {', '.join(missing)}, which these outputs do not have")
        return found if metric.uses_all_samples else {n: _cut(n, value, self.num_samples) for n, value in found.items()}

    def hold_on_cpu(self, metrics: Sequence[Metric]) -> None:
        """Computes what these metrics ask of encoders, and holds it on the CPU, where all else is computed from now on.

        Raises:
            Exception: what an encoder raised.
        """
        asked = {name for metric in metrics if self.concern(metric) for name in metric.takes}
        found = {name: getattr(self, name) for name in EMBEDDED if name in asked}
        vars(self).update({name: rows if rows is None else rows.cpu() for name, rows in found.items()})
        for name in ("mask_PK", "program_mask_PK"):
            vars(self).pop(name, None)
        self._device = torch.device("cpu")

    def concern(self, metric: Metric) -> bool:
        """A metric of programs has nothing to say of prose, nor one of prose of programs, nor one of the model's own
        probabilities where these did not come with its samples."""
        if any(getattr(self, name) is None for name in OF_THE_MODEL if name in metric.needs):
            return False
        return (self.has_code or not metric.reads_programs) and (self.has_prose or "prose_PK" not in metric.needs)

    @functools.cached_property
    def texts_PK(self) -> list[list[str | None]]:
        return self._padded(self.outputs.texts)

    @functools.cached_property
    def mask_PK(self) -> Tensor:
        return self._mask(self.texts_PK)

    @functools.cached_property
    def embeddings_PKD(self) -> Tensor:
        return self._embedded("encoder")

    @functools.cached_property
    def prompt_embeddings_PD(self) -> Tensor | None:
        prompts = self.outputs.prompts
        return None if prompts is None else self.resources.encode("encoder", prompts).to(self._device)

    @functools.cached_property
    def answers_PK(self) -> list[list[str | None]] | None:
        rows = self.outputs.answers
        if rows is None or all(answer is None for row in rows for answer in row):
            return None
        return self._padded(rows)

    @functools.cached_property
    def prose_PK(self) -> list[list[str | None]]:
        rows = zip(self.texts_PK, self.outputs.categories, strict=True)
        return [texts if category != "code" else [None] * self.width for texts, category in rows]

    @functools.cached_property
    def programs_PK(self) -> list[list[str | None]]:
        rows = zip(self.texts_PK, self.outputs.categories, strict=True)
        return [
            [None if text is None or category != "code" else program(text) for text in texts]
            for texts, category in rows
        ]

    @functools.cached_property
    def program_mask_PK(self) -> Tensor:
        return self._mask(self.programs_PK)

    @functools.cached_property
    def code_embeddings_PKD(self) -> Tensor:
        return self._embedded("code_encoder")

    @functools.cached_property
    def correct_PK(self) -> Tensor | None:
        verdicts = self.outputs.correct
        if verdicts is None or all(verdict is None for row in verdicts for verdict in row):
            return None
        return torch.tensor([[v is True for v in row] for row in self._padded(verdicts)], device=self._device)

    @functools.cached_property
    def lengths_PK(self) -> Tensor | None:
        if self.outputs.lengths is None:
            return None
        rows = [[torch.nan if n is None else n for n in row] for row in self._padded(self.outputs.lengths)]
        return torch.tensor(rows, dtype=torch.float64)

    @functools.cached_property
    def likelihood_PKF(self) -> Tensor | None:
        rows = self.outputs.likelihoods
        if rows is None or not any(one is not None for row in rows for one in row):
            return None
        nothing = (torch.nan,) * 4
        padded = [[nothing if one is None else tuple(one) for one in row] for row in self._padded(rows)]
        return torch.tensor(padded, dtype=torch.float64)

    @functools.cached_property
    def stored_nll_PF(self) -> Tensor | None:
        rows = self.outputs.stored_nll
        return None if rows is None else torch.tensor([list(row) for row in rows], dtype=torch.float64)

    @functools.cached_property
    def judged_PK(self) -> list[list[int | None]] | None:
        prompts, judge, correct = self.outputs.prompts, self.resources.judge, self.correct_PK
        if prompts is None or judge is None:
            return None
        right = None if correct is None else correct.tolist()
        return judge.classes(
            prompts,
            [
                [t if k < self.num_samples and (right is None or right[p][k]) else None for k, t in enumerate(texts)]
                for p, texts in enumerate(self.texts_PK)
            ],
        )

    @functools.cached_property
    def classify_nli(self) -> Callable[[Sequence[tuple[str, str]]], Tensor]:
        """The classifier, which sees each distinct pair once, however many figures ask."""
        known = self._classified

        def classify(pairs: Sequence[tuple[str, str]]) -> Tensor:
            fresh = [pair for pair in dict.fromkeys(pairs) if pair not in known]
            if fresh:
                known.update(zip(fresh, self.resources.models["nli"](fresh), strict=True))  # type: ignore[operator]
            return torch.stack([known[pair] for pair in pairs]) if pairs else torch.empty(0, 3, dtype=torch.float64)

        return classify

    def _padded(self, rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
        return [[*row, *[None] * (self.width - len(row))] for row in rows]

    def _mask(self, texts_PK: list[list[str | None]]) -> Tensor:
        return torch.tensor([[text is not None for text in texts] for texts in texts_PK], device=self._device)

    def read_by(self, cost: str) -> list[str]:
        """The texts that an encoder is given."""
        texts_PK = self.texts_PK if cost == "encoder" else self.programs_PK
        return [text for texts in texts_PK for text in texts if text is not None]

    def place(self, cost: str, rows: Tensor) -> Tensor:
        """Embeddings of `read_by(cost)` in their places [P, K, D], zero elsewhere."""
        mask_PK = self.mask_PK if cost == "encoder" else self.program_mask_PK
        rows = rows.to(self._device)
        embeddings_PKD = rows.new_zeros(*mask_PK.shape, rows.shape[-1])
        embeddings_PKD[mask_PK] = rows
        return embeddings_PKD

    def _embedded(self, cost: str) -> Tensor:
        return self.place(cost, self.resources.encode(cost, self.read_by(cost)))


def embed_together(tasks: Sequence[Inputs], metrics: Sequence[Metric]) -> None:
    """Embeds the texts of all tasks of a snapshot at once: each distinct one once, in batches of like length.

    Where that fails each task asks for its own later, so that an unreadable text costs no other task its figures.
    """
    for cost, name in (("encoder", "embeddings_PKD"), ("code_encoder", "code_embeddings_PKD")):
        concerned, _ = _asked_by(tasks, metrics, name)
        if len(concerned) > 1:
            resources = concerned[0].resources
            with contextlib.suppress(Exception):
                texts = [task.read_by(cost) for task in concerned]
                rows = resources.encode(cost, [text for own in texts for text in own]).split(list(map(len, texts)))
                for task, own_rows in zip(concerned, rows, strict=True):
                    vars(task)[name] = task.place(cost, own_rows)  # where its cached property looks first


def classify_together(tasks: Sequence[Inputs], metrics: Sequence[Metric]) -> None:
    """Classifies the pairs of sentences of all tasks of a snapshot at once, in batches of like length.

    Each metric is run once with a classifier that only notes what it is asked. Where that fails, or a metric asks for
    more the second time, the task's own asking makes up for it.
    """
    concerned, asking = _asked_by(tasks, metrics, "classify_nli")
    if len(concerned) > 1:
        asked: dict[tuple[str, str], None] = {}

        def note(pairs: Sequence[tuple[str, str]]) -> Tensor:
            asked.update(dict.fromkeys(pairs))
            return torch.zeros(len(pairs), 3, dtype=torch.float64)

        with contextlib.suppress(Exception):
            for task in concerned:
                for metric in asking:
                    metric.function(**task.given(metric) | {"classify_nli": note})
            concerned[0].classify_nli(list(asked))


def _asked_by(tasks: Sequence[Inputs], metrics: Sequence[Metric], name: str) -> tuple[list[Inputs], list[Metric]]:
    """The tasks of which some metric asks for this input, and those metrics."""
    asking = [metric for metric in metrics if name in metric.takes]
    return [task for task in tasks if any(task.concern(metric) for metric in asking)], asking


def program(text: str) -> str | None:
    """The code of an answer, as it is taken out to be graded; None where there is none.

    >>> program("Sure:\\n```python\\nx = 1\\n```\\nDone.")
    'x = 1'
    """
    found = extract(text)
    return found.written.strip("\n") if found else None


def _cut(name: str, value: Any, num_samples: int) -> Any:
    """The first K samples of an input that has samples."""
    if not name.endswith(("_PK", "_PKD")):
        return value
    return [row[:num_samples] for row in value] if isinstance(value, list) else value[:, :num_samples]
