"""A key-value cache with room for what is to come: a step writes one token in place.

transformers' dynamic cache concatenates at every step, so it copies everything drawn so far for each token. Here each
layer is given its final length once, when a prompt's cache is handed to its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer


def growing_cache(config: Any, capacity: int, tokens: int | None = None) -> DynamicCache:
    """A cache for this model with room for `capacity` tokens a row, and for `tokens` in all, where they are fewer: each
    row then gets its share of them, and a larger one as rows leave.

    Layers of kinds other than full and sliding attention (linear attention, quantised, indexed) stay as they are. So
    do windows shorter than half the capacity: keeping all tokens would cost more memory than copying saves time.
    """
    cache = _GrowingCache(config=config)
    cache.layers = [_with_room(layer, capacity, tokens) for layer in cache.layers]
    return cache


def _with_room(layer: Any, capacity: int, tokens: int | None) -> Any:
    if type(layer) is DynamicLayer:
        return GrowingLayer(Room(capacity, tokens))
    if type(layer) is DynamicSlidingWindowLayer and capacity <= 2 * layer.sliding_window:
        return GrowingSlidingLayer(Room(capacity, tokens), layer.sliding_window)
    return layer


class Room:
    """Tensors [rows, heads, width, dim], in use the first `rows` rows and the first `length` tokens of them.

    Args:
        capacity: of a row at most.
        tokens: of all rows; as many as they may come to where None.
    """

    def __init__(self, capacity: int, tokens: int | None = None) -> None:
        self.capacity, self.tokens, self.rows, self.length = capacity, tokens, 0, 0
        self.rooms: list[torch.Tensor] = []

    @property
    def width(self) -> int:
        """Tokens that a row may have as it is."""
        return self.rooms[0].shape[-2]

    def write(self, states: tuple[torch.Tensor, torch.Tensor]) -> None:
        if not self.rooms:
            # The prompt, before its samples part: as it is, for it is about to be repeated into a larger room.
            self.rooms = list(states)
            self.rows, self.length = len(states[0]), states[0].shape[-2]
            return
        end = self.length + states[0].shape[-2]
        if end > self.width:
            self.widen(self.rows, end)
        for room, state in zip(self.rooms, states, strict=True):
            room[: self.rows, :, self.length : end] = state
        self.length = end

    def written(self, start: int = 0) -> list[torch.Tensor]:
        return [room[: self.rows, :, start : self.length] for room in self.rooms]

    def repeat(self, times: int) -> None:
        """Each row `times` times, in a room of the final length, or as wide as there is room for."""
        parts = self._empty(self.rows * times)
        for room, part in zip(self.rooms, parts, strict=True):
            room.unflatten(0, (-1, times))[..., : self.length, :] = part.unsqueeze(1)

    def part(self, times: int) -> list[torch.Tensor]:
        """Gives the prompts' keys and values away, and makes room for what each of their samples generates."""
        self.capacity -= self.length
        parts = self._empty(self.rows * times, empty=True)
        self.length = 0
        return parts

    def _empty(self, rows: int, empty: bool = False) -> list[torch.Tensor]:
        """Rooms for so many rows in place of those that were, which are returned."""
        parts, width = self.written(), self._share(rows, 1 if empty else self.length + 1)
        for i, part in enumerate(parts):
            memory = part.new_empty(max(self.tokens or 0, rows * width) * part[0, :, 0].numel())
            self.rooms[i] = _laid_out(memory, part, rows, width)
        self.rows = rows
        return parts

    def widen(self, rows: int, needed: int) -> None:
        """Lays the first `rows` rows out anew, each with its share of the same memory.

        Raises:
            MemoryError: which is less than `needed` tokens, as fewer rows have ended than was expected.
        """
        width = self._share(rows, needed)
        for i, room in enumerate(self.rooms):
            held = room[:rows, :, : self.length].clone()
            memory = room if self.tokens is not None else room.new_empty(rows * width * held[0, :, 0].numel())
            self.rooms[i] = _laid_out(memory, room, rows, width)
            self.rooms[i][:, :, : self.length] = held

    def _share(self, rows: int, needed: int) -> int:
        if self.tokens is None:
            if needed > self.capacity:  # more of a prompt than its ids, as soft prompts bring
                self.capacity = 2 * needed
            return self.capacity
        width = min(self.capacity, self.tokens // rows)
        if width < needed:
            raise MemoryError(f"{rows} rows of {needed} tokens are more than the {self.tokens} that the cache may hold")
        return width

    @staticmethod
    def select_in_all(rooms: Sequence[Room], rows: torch.Tensor) -> None:
        """Row i becomes what row `rows[i]` was, for at most as many rows as there are; only those that move are copied.

        Which do is asked of the device once, and not of each layer's. A room stays as large as it was: its peak was at
        the start, and a smaller one would be a copy of all.
        """
        to = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(-1)
        come = rows[to]
        for room in rooms:
            room.rows = len(rows)
            for states in room.rooms if len(to) else ():
                there, here = to.to(states.device), come.to(states.device)
                states[there, :, : room.length] = states[here, :, : room.length]


def _laid_out(memory: torch.Tensor, like: torch.Tensor, rows: int, width: int) -> torch.Tensor:
    """A room [rows, heads, width, dim] at the beginning of what lies behind `memory`."""
    heads, dim = like.shape[1], like.shape[-1]
    strides = (heads * width * dim, width * dim, dim, 1)
    return memory.as_strided((rows, heads, width, dim), strides, 0)


class _GrowingCache(DynamicCache):
    """Rows leave all layers at once."""

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        roomy = [layer for layer in self.layers if isinstance(layer, Roomy)]
        Room.select_in_all([layer.room for layer in roomy], indices)
        layers: list[Any] = self.layers
        for layer in layers:
            if isinstance(layer, Roomy):
                layer._show()
            else:
                layer.batch_select_indices(indices)


class Roomy:
    """What both kinds of layer do when a prompt's samples part, and when finished rows leave."""

    room: Room
    keys: torch.Tensor | None
    values: torch.Tensor | None
    window: int | None = None
    """Tokens that the next one may look back on; all where None."""

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.room.repeat(repeats)
        self._show()

    def part(self, samples: int) -> list[torch.Tensor]:
        """Gives the prompts' keys and values away; from here on it holds what each of their samples generates."""
        prompts = self.room.part(samples)
        self._show()
        return prompts

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        Room.select_in_all([self.room], indices)
        self._show()

    def _seen_from(self, length: int) -> int:
        """The first of `length` written tokens that the next one looks back on."""
        return 0 if self.window is None else max(length - self.window, 0)

    def _show(self) -> None:
        self.keys, self.values = self.room.written(self._seen_from(self.room.length))


class GrowingLayer(Roomy, DynamicLayer):
    """Full attention."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self.room = room

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.room.write((key_states, value_states))
        self._show()
        keys, values = self.room.written()
        return keys, values


class GrowingSlidingLayer(Roomy, DynamicSlidingWindowLayer):
    """Sliding attention: all tokens are kept, the window's are shown."""

    def __init__(self, room: Room, sliding_window: int) -> None:
        super().__init__(sliding_window=sliding_window)
        self.room = room
        self.window = sliding_window - 1

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.room.length
        self.room.write((key_states, value_states))
        self.cumulative_length += key_states.shape[-2]
        self._show()
        keys, values = self.room.written(self._seen_from(before))
        return keys, values
