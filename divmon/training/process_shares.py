"""Which process samples what: prompts split over the processes, and the first K samples of each before the others."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from divmon.sampling import Drawing, Request, TrainingEngine
from divmon.training.distributed import Disconnected, Processes

logger = logging.getLogger("divmon")


def share_of(requests: Sequence[Request], rank: int, count: int) -> list[Request]:
    """What one of `count` processes draws: whole prompts where there are enough of them, else parts of their samples.

    Parts are as few as give about the smallest largest share: each part is a prefill of its own.
    """
    prompts = len(requests)
    if prompts >= count or not requests:
        return list(requests[rank::count])
    most = max(request.num_samples for request in requests)

    def cost(parts: int) -> int:
        own = math.ceil(prompts * parts / count)
        return own * math.ceil(most / parts) + own

    parts = min(range(1, most + 1), key=cost)
    pieces = []
    for request in requests:
        cuts = [request.num_samples * i // parts for i in range(parts + 1)]
        pieces += [part_of(request, a, b) for a, b in itertools.pairwise(cuts) if a < b]
    return pieces[rank::count]


def part_of(request: Request, first: int, end: int) -> Request:
    """The samples from `first` up to `end` of a request."""
    return replace(request, first=request.first + first, num_samples=end - first)


class Spread:
    """A sampler that draws a share of the samples in each process; every process must call it.

    The samples are the same for any number of processes: each depends on its own prompt and number only. Of more than
    `num_samples` per prompt, as of a reference, these are drawn of every prompt first and the others after: where time
    runs out, prompts have fewer samples and none is missing.

    Args:
        around: what to be inside of while drawing (parameters gathered, say).
        num_samples: K.
    """

    def __init__(
        self,
        sampler: TrainingEngine,
        processes: Processes,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
        num_samples: int | None = None,
    ) -> None:
        self.sampler, self.processes, self.around, self.num_samples = sampler, processes, around, num_samples

    @property
    def name(self) -> str:
        return self.sampler.name

    @property
    def reason(self) -> str:
        return self.sampler.reason

    def rounds(self, requests: Sequence[Request]) -> list[list[Request]]:
        """What this process draws, one after the other: its share of the first K of each prompt, and of the others."""
        rank, count, first = self.processes.rank, self.processes.count, self.num_samples
        if not getattr(self.sampler, "in_parts", False):  # an engine of the trainer's has a schedule of its own
            return [list(requests[rank::count])]
        if first is None or all(request.num_samples <= first for request in requests):
            return [share_of(requests, rank, count)]
        firsts = [part_of(request, 0, min(first, request.num_samples)) for request in requests]
        others = [part_of(request, first, request.num_samples) for request in requests if request.num_samples > first]
        return [share_of(firsts, rank, count), share_of(others, rank, count)]

    def draw(
        self,
        requests: Sequence[Request],
        *,
        seed: int,
        step: int,
        progress: Callable[[int], None] = lambda samples: None,
    ) -> Drawing:
        """All samples in the main process, those of its own share in the others.

        Raises:
            Disconnected: a process did not come to the exchange.
        """
        together = self.processes
        rounds, draws, limit = self.rounds(requests), self._times(requests), getattr(self.sampler, "timeout", 0.0)
        drawn: list[Drawing] = []
        try:
            with self.around():
                if together.count > 1:  # the same in each process, so that all stay in step
                    self.sampler.prepare(requests)
                for i, share in enumerate(rounds):
                    with having(self.sampler, "timeout", limit * (draws - 1 if i else 1)):
                        drawn.append(
                            self.sampler.draw(
                                share, seed=seed, step=step, progress=lambda n: progress(n * together.count)
                            )
                        )
        except Disconnected:
            raise
        except Exception as error:
            if together.count == 1:
                raise
            reason = f"process {together.rank}: {type(error).__name__}: {error}"
            drawn += [Drawing(missing={r.key: reason for r in share}) for share in rounds[len(drawn) :]]
        return self._merged(requests, together.gather(drawn, draws))

    def _times(self, requests: Sequence[Request]) -> float:
        """How many times as many samples as an ordinary measurement's these are, and so how much more time they get."""
        most = max((request.num_samples for request in requests), default=1)
        return max(most / (self.num_samples or most), 1.0)

    def _merged(self, requests: Sequence[Request], parts: Sequence[Sequence[Drawing]]) -> Drawing:
        """One drawing of those of all processes; a prompt is missing where some of its first K are."""
        order = {request.key: place for place, request in enumerate(requests)}
        missing = {key: why for firsts, *_ in parts for key, why in firsts.missing.items()}
        fewer = {key: why for _, *others in parts for one in others for key, why in one.missing.items()}
        fewer = {key: why for key, why in fewer.items() if key not in missing}
        every = [one for part in parts for one in part]
        samples = [s for one in every for s in one.samples if (s.task, s.prompt_id) not in missing]
        samples.sort(key=lambda s: (order[s.task, s.prompt_id], s.index))
        if fewer:
            reason = next(iter(fewer.values()))
            logger.warning(
                "divmon: %d of %d prompts have fewer completions than asked for: %s", len(fewer), len(order), reason
            )
        return Drawing(samples, missing, sum(one.tokens for one in every), fewer)


@contextmanager
def having(sampler: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, a sampler that has an attribute of this name has this value there."""
    if not hasattr(sampler, name):
        yield
        return
    before = getattr(sampler, name)
    setattr(sampler, name, value)
    try:
        yield
    finally:
        setattr(sampler, name, before)
