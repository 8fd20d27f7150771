"""The models that metrics compute with, each loaded on first use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from divmon.scoring.encoders import MNLI, UNIXCODER, CodeEncoder, NLIClassifier, TextEncoder
from divmon.scoring.model_loading import Unavailable
from divmon.undisturbed import release_memory

KEPT_BYTES = 64 << 20
"""Of embeddings kept from one snapshot to the next: some 40,000 texts of the small encoder."""


class Judge(Protocol):
    """What puts answers into classes; `divmon.sampling.serving.judge.Judge` is one."""

    @property
    def name(self) -> str:
        """What decides its answers."""

    def record(self) -> dict[str, Any]:
        """What it is, for a run's record."""

    def load(self) -> None:
        """Raises RuntimeError where it cannot be asked."""

    def classes(self, prompts: Sequence[str], answers: Sequence[Sequence[str | None]]) -> list[list[int | None]]:
        """Of each prompt's answers the number of their class; None where they have none."""


@dataclass
class Resources:
    """What metrics compute with. Models are loaded on first use, or by `load`, and kept."""

    embedder: str = "auto"
    code_embedder: str = UNIXCODER
    nli_model: str = MNLI
    nli_sentences: int | None = 3
    """Aligned sentences sampled for each pair of texts; None for all."""
    device: str | torch.device | None = None
    encoder_device: str = "model"
    """Where models are: "model", on `device`; "cpu"; "offload", on `device` only while measuring; "auto", offload on a
    GPU and model on a CPU."""
    max_memory_gb: float | None = None
    """That a batch of texts may take while a model reads it (10^9 bytes)."""
    vocab_size: int = 50257
    """Of the model's tokenizer, for EAD."""
    seed: int = 0
    judge: Judge | None = None
    """What puts answers into classes by their approach."""

    def __post_init__(self) -> None:
        where = ("cpu" if self.encoder_device == "cpu" else self.device, self.max_memory_gb)
        self.models: dict[str, TextEncoder | NLIClassifier] = {
            "encoder": TextEncoder(self.embedder, *where),
            "code_encoder": CodeEncoder(self.code_embedder, *where),
            "nli": NLIClassifier(self.nli_model, *where),
        }
        self._known: dict[str, dict[str, Tensor]] = {}
        """By cost, the embeddings of texts that were read, the oldest first."""
        self._chosen = {
            "encoder": self.embedder != "auto",
            "code_encoder": self.code_embedder != UNIXCODER,
            "nli": self.nli_model != MNLI,
            "judge": self.judge is not None,
        }

    def load(self, cost: str) -> None:
        """Loads what a metric of this cost needs.

        Raises:
            Unavailable: it cannot be had.
        """
        if cost == "judge":
            self._try_judge()
        if cost in self.models:
            self.models[cost].load()

    def _try_judge(self) -> None:
        if self.judge is None:
            raise Unavailable("no judge is named: give judge='MODEL@URL', an OpenAI-compatible endpoint")
        try:
            self.judge.load()
        except RuntimeError as error:
            raise Unavailable(str(error)) from error

    def encode(self, cost: str, texts: Sequence[str]) -> Tensor:
        """Unit float32 embeddings [N, D] on the encoder's device; a text that comes again, in a later snapshot too, is
        not read again."""
        encoder = self.models[cost]
        assert isinstance(encoder, TextEncoder)
        if not texts:
            return encoder.encode([])
        known = self._known.setdefault(cost, {})
        fresh = [text for text in dict.fromkeys(texts) if text not in known]
        if fresh:
            known.update(zip(fresh, encoder.encode(fresh).cpu().unbind(), strict=True))
        rows = torch.stack([known[text] for text in texts])
        for text in list(known)[: max(0, len(known) - KEPT_BYTES // (4 * rows.shape[1]))]:
            del known[text]
        return rows.to(encoder.device)

    def release(self) -> None:
        """Where models are loaded only while measuring: gives their memory back."""
        on_cpu = self.models["encoder"].device.type == "cpu"
        if self.encoder_device == "offload" or (self.encoder_device == "auto" and not on_cpu):
            for model in self.models.values():
                model.release()
            release_memory()

    def is_chosen(self, cost: str) -> bool:
        """The user named this model, so that its absence is an error and no reason to leave a metric out."""
        return self._chosen.get(cost, False)
