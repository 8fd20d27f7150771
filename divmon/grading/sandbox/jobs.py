"""What is to be graded, and what it may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    cpu_s: int = 8
    """Seconds of CPU time. A gold program of MBPP takes 3 on a slow core: the machine's speed must not decide."""
    wall_s: float = 30.0
    """Seconds on the clock: more, for the cores may be busy with training. What then still computes is ungradable."""
    memory_bytes: int = 512 << 20
    file_bytes: int = 32 << 20
    """All that it may write, to /tmp in memory."""
    answer_bytes: int = 4 << 20
    """Of one value that it returns."""

    @property
    def all_bytes(self) -> int:
        """Memory of every kind: its own, its files, and what the kernel keeps for both."""
        return self.memory_bytes + self.file_bytes + (64 << 20)


@dataclass(frozen=True)
class Submission:
    """A program and the tests it must pass."""

    program: str
    tests: str
    """Source that raises unless the program is right. Names that it does not define are the program's."""
    prelude: str = ""
    """Trusted source run before the tests, in their process."""
    names: tuple[str, ...] = ()
    """Names that are the program's even where a builtin or the prelude has one of that name."""
    open_ended: bool = False
    """The program may end in the middle of a statement, or in prose: its longest part that compiles is taken."""
    any_name: bool = False
    """The program was not told what to call its function: where it lacks the one of `names`, its last function at the
    top level is called by that name."""


@dataclass(frozen=True)
class Literal:
    """An answer that must be a literal of the expected value."""

    answers: tuple[str, ...]
    """Readings of it; the first that is a literal counts."""
    expected: str


Job = Submission | Literal
