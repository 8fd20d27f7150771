"""The processes of a run: prompts split over them, samples gathered in the main one, one decision for all.

All talk goes over process groups of our own on gloo, so that it neither mixes with the training's nor needs a device,
and each wait has an end: a process that does not come costs the measurements, never the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

from divmon.sampling import Drawing, Request, TrainingEngine

T = TypeVar("T")

MEETING = timedelta(seconds=300)
"""For all processes to come to the first meeting."""
SLACK = 120.0
"""Seconds that processes may lie apart when they come to measure, over the time that drawing may take."""
SCORING = timedelta(hours=3)
"""For the main process to judge, score and store while the others wait."""


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
        self._groups: list[Any] = []
        if self.count == 1:
            return
        try:
            meeting = dist.new_group(backend="gloo", timeout=MEETING)
            times = (timedelta(seconds=patience + SLACK), SCORING)
            self._groups = [dist.new_group(backend="gloo", timeout=time) for time in times]
            # Not before: a process still on its way into the meeting would find its connection closed.
            dist.destroy_process_group(meeting)
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
        self._talk(lambda: dist.broadcast_object_list(box, src=0, group=self._groups[0]))
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

    def gather(self, value: T) -> list[T]:
        """Each process's value by rank, in the main one; elsewhere its own alone."""
        import torch.distributed as dist

        values: list[Any] = [value] * self.count
        into = values if self.is_main else None
        self._talk(lambda: dist.gather_object(value, into, dst=0, group=self._groups[0]))
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
        self._talk(lambda: dist.all_gather_object(said, own, group=self._groups[0]))
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
        self._talk(lambda: dist.all_reduce(box, op=dist.ReduceOp.MAX, group=self._groups[0]))
        return int(box)

    def wait(self) -> None:
        """Until the main process has come here too; nothing where the processes have lost each other."""
        import torch.distributed as dist

        if not self.lost:
            self._talk(lambda: dist.broadcast_object_list([None], src=0, group=self._groups[1]))

    def part(self) -> None:
        """Ends the meeting; the others find out when they next talk."""
        import torch.distributed as dist

        groups, self._groups = self._groups, []
        for group in groups:
            dist.destroy_process_group(group)

    def _talk(self, exchange: Callable[[], Any]) -> None:
        """Raises Disconnected where some process did not come in time, now and for ever after."""
        if self.count == 1:
            return
        if not self.lost:
            try:
                exchange()
                return
            except Exception as error:
                self.lost = (str(error).splitlines() or [type(error).__name__])[0]
                self.part()  # so that those who wait for this process need not wait to the end
        raise Disconnected(f"the processes could not measure together, so measuring ends here ({self.lost})")


class Spread:
    """A sampler that draws a share of the prompts in each process; every process must call it.

    The samples are the same for any number of processes: each depends on its own prompt and number only.
    """

    def __init__(
        self,
        sampler: TrainingEngine,
        processes: Processes,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`around` is what to be inside of while drawing (parameters gathered, say)."""
        self.sampler, self.processes, self.around = sampler, processes, around

    @property
    def name(self) -> str:
        return self.sampler.name

    @property
    def reason(self) -> str:
        return self.sampler.reason

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
        if together.count == 1:
            with self.around():
                return self.sampler.draw(requests, seed=seed, step=step, progress=progress)
        share = requests[together.rank :: together.count]
        try:
            with self.around():
                self.sampler.prepare(requests)  # the same in each process, so that all stay in step
                drawing = self.sampler.draw(
                    share, seed=seed, step=step, progress=lambda n: progress(n * together.count)
                )
        except Disconnected:
            raise
        except Exception as error:
            reason = f"process {together.rank}: {type(error).__name__}: {error}"
            drawing = Drawing(missing={request.key: reason for request in share})
        parts = together.gather(drawing)
        order = {request.key: place for place, request in enumerate(requests)}
        samples = [sample for part in parts for sample in part.samples]
        samples.sort(key=lambda s: (order[s.task, s.prompt_id], s.index))
        missing = {key: reason for part in parts for key, reason in part.missing.items()}
        return Drawing(samples, missing, sum(part.tokens for part in parts))
