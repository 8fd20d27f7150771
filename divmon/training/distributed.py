"""The processes of a run: what they tell one another, with one decision for all.

All talk goes over one process group of our own on gloo, so that it neither mixes with the training's nor needs a
device, and each wait has an end: a process that does not come costs the measurements, never the run.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")

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

    def wait(self, value: T | None = None) -> T | None:
        """Until the main process has come here too: the value that it brings; one's own where the processes have lost
        each other."""
        import torch.distributed as dist

        box = [value]
        if not self.lost:
            self._talk(lambda: dist.broadcast_object_list(box, src=0, group=self._group), SCORING)
        return box[0]

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
