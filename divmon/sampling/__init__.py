"""What is drawn and by whom: requests in, samples out, and the one protocol of everything that draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from divmon.types import Decoding, RenderedPrompt, Sample

Key = tuple[str, str]
"""(task, prompt id)"""


@dataclass(frozen=True)
class Request:
    """`num_samples` completions of one prompt."""

    prompt: RenderedPrompt
    decoding: Decoding
    num_samples: int

    @property
    def key(self) -> Key:
        return self.prompt.task, self.prompt.id


@dataclass
class Drawing:
    """What came of the requests: samples by prompt and number, and why any prompt has none."""

    samples: list[Sample] = field(default_factory=list)
    missing: dict[Key, str] = field(default_factory=dict)
    tokens: int = 0
    """New tokens drawn."""


class Engine(Protocol):
    """Whatever draws samples: the model in this process, the trainer's vLLM, a server, samples stored before."""

    @property
    def name(self) -> str: ...

    @property
    def reason(self) -> str:
        """Why it draws the way it does, for the record."""

    def draw(
        self,
        requests: Sequence[Request],
        *,
        seed: int,
        step: int,
        progress: Callable[[int], None] = lambda samples: None,
    ) -> Drawing:
        """Draws every request; one that cannot be drawn is in `missing` with its reason, the others go on.

        Samples come in the order of the requests, by number within each; a prompt in `missing` has none.

        Args:
            seed, step: with task, prompt id and sample number, all that a sample's randomness depends on.
            progress: called with the number of samples that have just been finished.
        """
