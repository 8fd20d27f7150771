"""Which samples are generated together: as many as the cache holds when it is fullest, which is before most rows have
generated all they may.

A row that ends hands its place in the cache to those that go on. So a batch is sized by the lengths that the same
prompts had before, where they are known, and not by their limits. Against taking the row of a new prompt into each
place that falls free (continuous batching) this keeps all rows at one position: no mask, and no reading of the longest
row's length for all. Where most completions end early it takes up to three times fewer steps than limits do.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from divmon.sampling import Key, Request
from divmon.sampling.devices import CHECK_EVERY
from divmon.sampling.shared_prefix import FEWEST, worth_sharing

logger = logging.getLogger("divmon")

SEEN = 64
"""Lengths that are remembered per prompt."""
LONGER = 1.1
"""Completions may have become longer by so much."""
TO_THE_LIMIT = 0.1
"""Of a prompt's samples, so many are expected to go to the limit, whatever was seen."""


@dataclass(frozen=True)
class Unit:
    """Samples `first .. first + count - 1` of a request: what batches are made of."""

    request: Request
    first: int
    count: int

    @property
    def indices(self) -> range:
        """The numbers of its samples."""
        return range(self.first, self.first + self.count)

    @property
    def limit(self) -> int:
        return self.request.decoding.max_new_tokens

    @property
    def row_tokens(self) -> int:
        """That the cache holds of one of them."""
        return len(self.request.prompt.input_ids) + self.limit

    def parts(self, most: int) -> list[Unit]:
        """A prompt whose samples do not fit a batch together is prefilled more than once."""
        most = max(1, most)
        starts = range(0, self.count, most)
        return [Unit(self.request, self.first + at, min(most, self.count - at)) for at in starts]


@dataclass
class Lengths:
    """How long completions were, by prompt and limit; new tokens."""

    seen: dict[tuple[Key, int], deque[int]] = field(default_factory=dict)

    def add(self, unit: Unit, lengths: Sequence[int]) -> None:
        self.seen.setdefault((unit.request.key, unit.limit), deque(maxlen=SEEN)).extend(lengths)

    def expected(self, unit: Unit) -> np.ndarray:
        """New tokens [count] for which its rows are in the cache, on the safe side."""
        limits = np.full(unit.count, unit.limit)
        known = self.seen.get((unit.request.key, unit.limit))
        if not known:
            return limits
        rows = np.quantile(known, (np.arange(unit.count) + 0.5) / unit.count) * LONGER + CHECK_EVERY
        rows[unit.count - int(np.ceil(unit.count * TO_THE_LIMIT)) :] = unit.limit
        return np.minimum(rows, limits)


@dataclass(frozen=True)
class Budget:
    """What a batch may take."""

    tokens: int
    """Of cache."""
    beside: int
    """What the logits of a row take, in tokens of cache."""
    rows: int
    width: float
    """Tokens of a row."""
    shared_width: float = 0
    """Tokens of a row up to which a long prompt is kept once for all its samples."""

    def shares(self, units: Sequence[Unit]) -> bool:
        """Whether the prompts of a batch are kept once for all their samples."""
        shortest = min(len(unit.request.prompt.input_ids) for unit in units)
        return worth_sharing(shortest, units[0].count) and width(units) <= self.shared_width

    def batches(self, units: Sequence[Unit], lengths: Lengths | None) -> Iterator[list[Unit]]:
        """Prompts of like length and number of samples together, as many as fit and as are worth it.

        Args:
            lengths: by which to size a batch, looked up when it is asked for; by limits where None.
        """
        units = [part for unit in units for part in unit.parts(self._most(unit))]
        batch: list[Unit] = []
        for unit in sorted(units, key=lambda u: (u.count, u.row_tokens)):
            together = [*batch, unit]
            count = unit.count * len(together)
            full = self._tokens(together, lengths) + self.beside * count > self.tokens or count > self.rows
            if batch and (full or width(together) > self.width or unit.count != batch[0].count):
                yield batch
                together = [unit]
            batch = together
        if batch:
            yield batch

    def cache(self, units: Sequence[Unit]) -> int:
        """Tokens for all rows of a batch: to their limits, or what there is; without prompts that are kept once."""
        count = sum(unit.count for unit in units)
        prompt = _prompt(units)
        once = prompt * len(units) if self.shares(units) else 0
        wide = width(units) - (prompt if once else 0)
        return max(min(wide * count, self.tokens - once - self.beside * count), wide)

    def _most(self, unit: Unit) -> int:
        """Samples of a prompt that fit a batch."""
        shared = (self.tokens - _prompt([unit])) // (unit.limit + self.beside)
        if shared >= FEWEST and self.shares([unit]):
            return min(self.rows, shared)
        return min(self.rows, self.tokens // (unit.row_tokens + self.beside))

    def _tokens(self, units: Sequence[Unit], lengths: Lengths | None) -> int:
        """That a batch holds at its fullest: of the i rows that last longest, each has its prompt and what the shortest
        of them has generated; of all rows to the limit where lengths are not to be counted on."""
        count = sum(unit.count for unit in units)
        prompt = _prompt(units)
        once, each = (prompt * len(units), 0) if self.shares(units) else (0, prompt)
        if lengths is None:
            return once + (each + max(unit.limit for unit in units)) * count
        longest_first = np.sort(np.concatenate([lengths.expected(unit) for unit in units]))[::-1]
        return once + int(np.ceil((np.arange(1, count + 1) * (each + longest_first)).max()))


def _prompt(units: Sequence[Unit]) -> int:
    """Tokens of the longest prompt."""
    return max(len(unit.request.prompt.input_ids) for unit in units)


def width(units: Sequence[Unit]) -> int:
    """Tokens of each row of a batch: all have room for the longest prompt and the longest completion."""
    return _prompt(units) + max(unit.limit for unit in units)


def halves(units: Sequence[Unit]) -> list[list[Unit]]:
    """A batch in two; none of a single sample."""
    if len(units) > 1:
        middle = len(units) // 2
        return [list(units[:middle]), list(units[middle:])]
    unit = units[0]
    return [] if unit.count == 1 else [[part] for part in unit.parts((unit.count + 1) // 2)]


@dataclass
class TooLarge:
    """The smallest sample that did not fit the memory by itself, which settles it for all as long."""

    tokens: float = math.inf

    def reason(self, units: Sequence[Unit], error: BaseException) -> str:
        """Of a batch that did not fit."""
        words = next(iter(str(error).splitlines()), "")
        if len(units) == units[0].count == 1:
            if self.tokens == math.inf:
                logger.warning(
                    "divmon: a single sample of %d tokens does not fit the memory, so prompts of that length are left"
                    " out of this measurement: %s",
                    units[0].row_tokens,
                    words,
                )
            self.tokens = min(self.tokens, units[0].row_tokens)
        return f"out of memory: {words} (a single sample does not fit)"

    def leave_out(self, units: list[Unit], missing: dict[Key, str]) -> list[Unit]:
        """The units that may fit; the others are missing."""
        reason = f"out of memory: a single sample of {self.tokens} tokens does not fit"
        missing |= {unit.request.key: reason for unit in units if unit.row_tokens >= self.tokens}
        return [unit for unit in units if unit.row_tokens < self.tokens]
