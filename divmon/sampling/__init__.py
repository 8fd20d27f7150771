"""Requests in, samples out: what is asked of an engine, what it gives back, and the protocol of all engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from divmon.types import Decoding, RenderedPrompt, Sample

Key = tuple[str, str]
"""(task, prompt id)"""


@dataclass(frozen=True)
class Request:
    """`num_samples` completions of one prompt."""

    prompt: RenderedPrompt
    decoding: Decoding
    num_samples: int
    first: int = 0
    """The number of the first of them; others than 0 only for engines that are `in_parts`."""

    @property
    def key(self) -> Key:
        return self.prompt.task, self.prompt.id


@dataclass
class Drawing:
    """What came of the requests: samples by prompt and number, and why a prompt has none."""

    samples: list[Sample] = field(default_factory=list)
    missing: dict[Key, str] = field(default_factory=dict)
    tokens: int = 0
    """New tokens generated."""
    fewer: dict[Key, str] = field(default_factory=dict)
    """Why a prompt has fewer samples than were asked for, though not none."""
    stored_nll: dict[Key, tuple[float, float, float, float]] = field(default_factory=dict)
    """Of each prompt, as `divmon.scoring.metrics.INPUTS` has `stored_nll_PF`; empty where it was not measured."""


class Engine(Protocol):
    """Whatever generates samples: the model in this process, the trainer's vLLM, a server, samples stored before."""

    @property
    def name(self) -> str: ...

    @property
    def reason(self) -> str:
        """Why it samples the way it does, for the record."""

    def draw(
        self,
        requests: Sequence[Request],
        *,
        seed: int,
        step: int,
        progress: Callable[[int], None] = lambda samples: None,
    ) -> Drawing:
        """Samples every request; one that cannot be sampled is in `missing` with its reason, the others go on.

        Samples come in the order of the requests, by number within each; a prompt in `missing` has none.

        Args:
            seed, step: with task, prompt id and sample number, all that a sample's randomness depends on.
            progress: called with the number of samples that have just been finished.
        """


class TrainingEngine(Engine, Protocol):
    """An engine inside a training process: told which model is measured, and asked to prepare in all processes."""

    def use(self, model: Any) -> None:
        """Samples from this model from now on; nothing where the engine holds its own."""

    def prepare(self, requests: Sequence[Request]) -> None:
        """Does once what must be done before the first `draw`, in every process with the same requests."""

    def release(self) -> None:
        """Lets go of the model, whose memory may be needed."""
