"""One source of a mixture: its figures, and the samples that are kept of it while its rows go by."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from divmon.training.composition.rows import TextRow

OPENING_WORDS = 3
PROMPTS, COMPLETIONS = 1024, 16
"""Of prompts that several rows answer: how many are looked at, and how many completions of each."""


@dataclass
class Source:
    """One source of a mixture."""

    name: str
    rows: int = 0
    tokens: int = 0
    """Of prompts and completions, without what a chat template adds; characters where there is no tokenizer."""
    completion_tokens: int = 0
    prompts: int = 0
    """Distinct ones."""
    within: dict[str, float] = field(default_factory=dict)
    """Each metric over a sample of its completions, taken as one set; NaN below two."""
    samples: int = 0
    """Completions in that set."""
    same_prompt: dict[str, float] = field(default_factory=dict)
    """Each metric over the completions of one prompt, a mean over the prompts that have several."""
    same_prompt_n: int = 0
    same_opening: float = math.nan
    """Share of pairs of completions that begin with the same three words, reasoning included."""


class Gathered:
    """What is kept of a source while its rows go by."""

    def __init__(self, name: str, num_samples: int, seed: int) -> None:
        self.source = Source(name)
        self.prompts_seen: set[bytes] = set()
        self._seed, self._num_samples = str(seed).encode(), num_samples
        self._kept: list[tuple[int, int, str]] = []
        """A heap of (-hash, -number, completion): the lowest hashes."""
        self._groups: dict[int, list[str]] = {}
        self._asked: dict[int, str] = {}
        self._highest: list[int] = []

    def add(self, row: TextRow, tokens: int, completion_tokens: int) -> None:
        source = self.source
        source.rows += 1
        source.tokens += tokens
        prompt = hashlib.blake2b(row.prompt.encode("utf-8", "surrogatepass"), digest_size=8, key=self._seed).digest()
        self.prompts_seen.add(prompt)
        if row.completion is None:
            return
        source.completion_tokens += completion_tokens
        text = hashlib.blake2b(row.text.encode("utf-8", "surrogatepass"), digest_size=8, key=self._seed).digest()
        item = (-int.from_bytes(text, "big"), -source.rows, row.completion)
        if len(self._kept) < self._num_samples:
            heapq.heappush(self._kept, item)
        else:
            heapq.heappushpop(self._kept, item)
        if row.prompt:
            self._group(int.from_bytes(prompt, "big"), row)

    def _group(self, prompt: int, row: TextRow) -> None:
        """Keeps the completions of the prompts with the lowest hashes."""
        assert row.completion is not None
        if prompt in self._groups:
            if len(self._groups[prompt]) < COMPLETIONS:
                self._groups[prompt].append(row.completion)
            return
        if len(self._groups) >= PROMPTS:
            if prompt > -self._highest[0]:
                return
            gone = -heapq.heappop(self._highest)
            del self._groups[gone], self._asked[gone]
        self._groups[prompt], self._asked[prompt] = [row.completion], row.prompt
        heapq.heappush(self._highest, -prompt)

    @property
    def samples(self) -> list[str]:
        return [text for *_, text in sorted(self._kept, reverse=True)]

    @property
    def groups(self) -> list[list[str]]:
        """Completions of prompts that have two or more, of at most as many prompts as there are samples."""
        several = [self._groups[prompt] for prompt in sorted(self._groups) if len(self._groups[prompt]) > 1]
        return several[: self._num_samples]


def rows_of_mixture(gathered: Iterable[Gathered], most: int = 512) -> list[tuple[str, str, str]]:
    """(source, prompt, completion) of the prompts with the lowest hashes, whatever source asks them: each source has
    its share of them, and a prompt has all its completions."""
    several = list(gathered)
    reach = min((-one._highest[0] for one in several if len(one._groups) >= PROMPTS), default=2**64)
    rows = [
        (prompt, one.source.name, one._asked[prompt], text)
        for one in several
        for prompt, texts in one._groups.items()
        if prompt <= reach
        for text in texts
    ]
    return [row[1:] for row in sorted(rows)[:most]]


def same_opening(texts: Sequence[str]) -> float:
    """Share of pairs that begin with the same words; NaN below two texts."""
    n = len(texts)
    if n < 2:
        return math.nan
    counts = Counter(" ".join(text.split()[:OPENING_WORDS]).lower() for text in texts)
    return sum(c * (c - 1) for c in counts.values()) / (n * (n - 1))
