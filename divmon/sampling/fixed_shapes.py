"""Forwards of one token at fixed shapes, which a CUDA graph replays: one launch in place of some fifteen hundred.

A forward of one token is so little work for a GPU that to launch its operations takes longer than to run them. Rows and
cache length are rounded up, and a graph is captured for each shape that comes and checked against the operations one by
one. What lies beyond a row's tokens is masked. Rows only leave and the cache only grows, so no shape comes back.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from divmon.sampling.kv_cache import GrowingLayer, GrowingSlidingLayer, Room
from divmon.sampling.shared_prefix import SharedPrefix, attended

FEWEST_ROWS = 16
"""Sizes are this times a power of two."""
LENGTHS = 64
"""The cache is read up to a multiple of this: what is masked is read too."""
WORTH_CAPTURING = 16
"""Steps at one shape. A capture takes the time of some four forwards."""
TOLERANCE = 2e-2
"""Of the spread of the logits: by how much those of a graph may differ from those of its operations one by one."""


class Unfit(RuntimeError):
    """Why forwards cannot be made at fixed shapes."""


class FixedForward:
    """The cache of a batch after its prefill, forwarded at fixed shapes.

    Args:
        model: called with ids, masks of four dimensions, positions and a cache.
        cache: of `growing_cache`, its rows repeated; taken over.
        arguments: of every forward, besides.
        lengths_R1: tokens before the next one; the same for all rows but where they are kept apart.
        shared: the prompts that are kept apart, so that the cache is empty.

    Raises:
        Unfit: the model or its cache is not made for it.
    """

    def __init__(
        self,
        model: Any,
        cache: DynamicCache,
        arguments: dict[str, Any],
        lengths_R1: torch.Tensor,
        shared: SharedPrefix | None = None,
    ) -> None:
        layers = [layer for layer in cache.layers if isinstance(layer, GrowingLayer | GrowingSlidingLayer)]
        if other := {type(layer).__name__ for layer in cache.layers} - {type(layer).__name__ for layer in layers}:
            raise Unfit(f"no CUDA graphs: its cache has layers of another kind ({', '.join(sorted(other))})")
        self.model, self.arguments, self.shared = model, arguments, shared
        self.rooms = [layer.room for layer in layers]
        self.windows = [layer.window for layer in layers]
        rows, device, self.length = len(lengths_R1), lengths_R1.device, self.rooms[0].length
        self.before = lengths_R1 - self.length
        """Tokens that are not in the cache."""
        self._clear()
        self.ids = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.shape = (rows, self.capacity)
        self.cache = DynamicCache()
        self.cache.layers = [_FixedLayer(self, room) for room in self.rooms]
        self.graph: tuple[tuple[int, int], Any, torch.Tensor] | None = None
        """The shape that was captured, the graph, and where it leaves the logits."""
        self.note = ""
        if device.type == "cuda":
            self.length += 1
            self.shape = self._size(rows)
            self._capture()
            self.length -= 1
        if self.note:
            raise Unfit(self.note)

    def __call__(self, token_r: torch.Tensor) -> torch.Tensor:
        """The logits [rows, vocabulary] after one more token in each running row."""
        count = len(token_r)
        if self.length == self.capacity:
            self._widen(count)
        self.ids[:count, 0] = token_r
        self.position.fill_(self.length)
        self.length += 1
        self.shape = self._size(count)
        known = self.graph is not None and self.graph[0] == self.shape
        left = self.shape[1] - self.length
        if not known and token_r.device.type == "cuda" and not self.note and left >= WORTH_CAPTURING:
            self._capture()
        if self.graph is None or self.graph[0] != self.shape:
            return self._forward()[:count]
        _, graph, logits = self.graph
        graph.replay()
        return logits[:count]

    def select(self, keep: torch.Tensor) -> None:
        """Row i becomes what row `keep[i]` was."""
        for room in self.rooms:
            room.length = self.length
        Room.select_in_all(self.rooms, keep)
        self.before[: len(keep)] = self.before[keep]
        if self.shared is not None:
            self.shared.select(keep)

    def _widen(self, count: int) -> None:
        """More tokens for each of the rows that are left; what was captured has the old places."""
        self.graph, self.ids = None, self.ids[:count]
        for room in self.rooms:
            room.length = self.length
            room.widen(count, self.length + 1)
        self._clear()

    def _clear(self) -> None:
        self.capacity = min(room.width for room in self.rooms)
        for room in self.rooms:
            for states in room.rooms:
                states[..., self.length :, :].zero_()  # masked, but not a number times zero is not a number

    def _size(self, count: int) -> tuple[int, int]:
        """Rows and length of the next forward, rounded up."""
        rows = FEWEST_ROWS
        while rows < count:
            rows *= 2
        return min(rows, len(self.ids)), min(-(-self.length // LENGTHS) * LENGTHS, self.capacity)

    def _forward(self) -> torch.Tensor:
        rows, length = self.shape
        at = torch.arange(length, device=self.position.device)
        masks = {window: self._mask(at, window) for window in set(self.windows)}
        kinds = {
            "full_attention" if window is None else "sliding_attention": masks[window] for window in set(self.windows)
        }
        layer_types = getattr(self.model.config.get_text_config(), "layer_types", None)
        mask = kinds if layer_types and len(set(layer_types)) > 1 else masks[self.windows[0]]
        given = {
            "input_ids": self.ids[:rows],
            "attention_mask": mask,
            "position_ids": self.position + self.before[:rows],
        }
        with attended(self.shared) as more:
            out = self.model(**given, past_key_values=self.cache, use_cache=True, **self.arguments, **more)
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def _mask(self, at_L: torch.Tensor, window: int | None) -> torch.Tensor:
        seen = at_L <= self.position
        if window is not None:
            seen &= at_L >= self.position - window
        return seen.view(1, 1, 1, -1)

    def _capture(self) -> None:
        """A graph for the shape at hand. What fails leaves the operations one by one, with the reason in `note`."""
        try:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                expected = self._forward()
            torch.cuda.current_stream().wait_stream(aside)
            self.graph = None  # its memory goes to the next
            graph = torch.cuda.CUDAGraph()
            # By default a capture makes calls of other threads fail, such as a data loader's that pins memory.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                logits = self._forward()
            graph.replay()
            difference = (logits - expected).abs().max() / (expected.amax() - expected.mean()).clamp(min=1e-6)
            if not bool(difference < TOLERANCE):
                raise Unfit(f"a replay's logits differ by {float(difference):.2g} of their spread")
            self.graph = self.shape, graph, logits
        except Exception as error:  # whatever a capture does not allow
            self.note = f"no CUDA graph of {self.shape}: {type(error).__name__}: {error}".splitlines()[0]


class _FixedLayer(DynamicLayer):
    """Writes a token at a place that the device knows, and shows as much of the room as the forward's shape says."""

    def __init__(self, forward: FixedForward, room: Room) -> None:
        super().__init__()
        self.forward, self.room, self.is_initialized = forward, room, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows, length = self.forward.shape
        shown = [states[:rows] for states in self.room.rooms]
        for states, new in zip(shown, (key_states, value_states), strict=True):
            states.index_copy_(2, self.forward.position, new)
        keys, values = (states[:, :, :length] for states in shown)
        return keys, values

    def get_seq_length(self) -> int:
        return self.forward.length - 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.forward.shape[1], 0
