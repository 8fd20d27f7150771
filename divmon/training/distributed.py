"""The processes of a run: prompts split over them, samples gathered in the main one, one decision for all.

All talk goes over one process group of our own on gloo, so that it neither mixes with the training's nor needs a
device, and each wait has an end: a process that does not come costs the measurements, never the run.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from divmon.sampling import Drawing, Request, TrainingEngine

T = TypeVar("T")
logger = logging.getLogger("divmon")

MEETING = timedelta(seconds=300)
"""For all processes to come to the first meeting."""
SLACK = 120.0
"""Seconds that processes may lie apart when they come to measure, over the time that drawing may take."""
SCORING = timedelta(hours=3)
"""For the main process to grade, score and store while the others wait."""


class Disconnected(RuntimeError):
    """Some process did not come, so measuring together is over; training goes on."""


class Processes:
    """This process among those of the run; alone where there is one.

    Args:
        patience: seconds to wait for one another while drawing.
        alone: leave the others out, whatever there are.

    Raises:
        RuntimeError: the other processes did not come to the first meeting.
    """

    def __init__(self, patience: float = 3600.0, *, alone: bool = False) -> None:
        import torch.distributed as dist

        together = dist.is_available() and dist.is_initialized() and not alone
        self.rank = dist.get_rank() if together else 0
        self.count = dist.get_world_size() if together else 1
        self.lost = ""
        """Why the processes no longer measure together."""
        self._patience = timedelta(seconds=patience + SLACK)
        self._group: Any = None
        if self.count == 1:
            return
        try:
            # One for all waits: each connects every process with every other, by a socket each.
            self._group = dist.new_group(backend="gloo", timeout=MEETING)
        except Exception as error:
            raise RuntimeError(
                f"this is process {self.rank} of {self.count}, and the others did not come to measure with it within"
                f" {MEETING.total_seconds():.0f} s: give the callback to every process (or call measure in every one),"
                f" or set processes='main' ({error})"
            ) from error

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def tell(self, value: T) -> T:
        """The main process's value, in all."""
        import torch.distributed as dist

        box = [value]
        self._talk(lambda: dist.broadcast_object_list(box, src=0, group=self._group))
        return box[0]

    def decide(self, choose: Callable[[], T], otherwise: T) -> T:
        """What the main process chooses, in all.

        Where choosing fails there, its error is raised there, and the others get `otherwise` rather than wait for it.
        """
        if not self.is_main:
            return self.tell(otherwise)
        try:
            chosen = choose()
        except Exception:
            self.tell(otherwise)
            raise
        return self.tell(chosen)

    def gather(self, value: T, draws: float = 1.0) -> list[T]:
        """Each process's value by rank, in the main one; elsewhere its own alone.

        Args:
            draws: how many times as long as an ordinary measurement's the drawing before it may take.
        """
        import torch.distributed as dist

        values: list[Any] = [value] * self.count
        into = values if self.is_main else None
        self._talk(lambda: dist.gather_object(value, into, dst=0, group=self._group), self._patience * draws)
        return values if self.is_main else [value]

    def all_or_none(self, action: Callable[[], None]) -> None:
        """What every process does to be able to measure; where it fails in one, it has failed in all.

        Raises:
            Exception: what failed here.
            RuntimeError: what failed in another process, with its rank; or one did not come.
        """
        import torch.distributed as dist

        wrong: Exception | None = None
        try:
            action()
        except Exception as error:
            wrong = error
        said = [""] * self.count
        own = "" if wrong is None else f"{type(wrong).__name__}: {wrong}"
        self._talk(lambda: dist.all_gather_object(said, own, group=self._group))
        if wrong is not None:
            raise wrong
        for rank, line in enumerate(said):
            if line:
                raise RuntimeError(f"process {rank} cannot measure, so none does: {line}")

    def largest(self, value: int) -> int:
        """The largest of the processes' values, in all."""
        import torch
        import torch.distributed as dist

        box = torch.tensor([value], dtype=torch.long)
        self._talk(lambda: dist.all_reduce(box, op=dist.ReduceOp.MAX, group=self._group))
        return int(box)

    def wait(self) -> None:
        """Until the main process has come here too; nothing where the processes have lost each other."""
        import torch.distributed as dist

        if not self.lost:
            self._talk(lambda: dist.broadcast_object_list([None], src=0, group=self._group), SCORING)

    def part(self) -> None:
        """Ends the meeting; the others find out when they next talk."""
        import torch.distributed as dist

        group, self._group = self._group, None
        if group is not None:
            dist.destroy_process_group(group)

    def _talk(self, exchange: Callable[[], Any], patience: timedelta | None = None) -> None:
        """Raises Disconnected where some process did not come in time, now and for ever after.

        Args:
            patience: how long to wait for the others; as long as an ordinary measurement may draw where None.
        """
        if self.count == 1:
            return
        if not self.lost:
            try:
                # The collectives of objects take no time limit of their own; that of the group holds from here on.
                from torch.distributed.distributed_c10d import _set_pg_timeout

                _set_pg_timeout(patience or self._patience, self._group)
                exchange()
                return
            except Exception as error:
                self.lost = (str(error).splitlines() or [type(error).__name__])[0]
                self.part()  # so that those who wait for this process need not wait to the end
        raise Disconnected(f"the processes could not measure together, so measuring ends here ({self.lost})")


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
        rounds, draws = self.rounds(requests), self._times(requests)
        drawn: list[Drawing] = []
        try:
            with self.around():
                if together.count > 1:  # the same in each process, so that all stay in step
                    self.sampler.prepare(requests)
                for i, share in enumerate(rounds):
                    with _time_limit(self.sampler, draws - 1 if i else 1.0):
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
def _time_limit(sampler: Any, times: float) -> Iterator[None]:
    """Inside, a sampler that has a time limit has so many times that limit."""
    before = getattr(sampler, "timeout", None)
    if before is None or times == 1.0:
        yield
        return
    sampler.timeout = before * times
    try:
        yield
    finally:
        sampler.timeout = before
