"""The miniature base model: the architecture of Olmo 3 in small, trained in about a minute and kept in a cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from divmon.lineages.miniature import lineages
from divmon.lineages.miniature.data import Row, base_rows
from divmon.lineages.miniature.tokenizer import train_tokenizer

logger = logging.getLogger("divmon")

SHAPED_BY = ("problems", "styles", "stories", "data", "lineages", "tokenizer", "base")
"""Modules of this folder whose code decides what the model becomes: a change in one makes a new base model."""

ATTENTION = "eager"
"""Faster than sdpa on a CPU at this size."""

CHECKSUMS = "sha256.json"
"""In a cached model's folder: the file that says what the others hold."""

Progress = Callable[[int, int, float], None]
"""Called after each step with steps done, steps in all, and the loss (nats a token)."""


@dataclass(frozen=True)
class BaseConfig:
    """All that shapes a base model but its seed."""

    world: Literal["word_problems", "lineages"] = "word_problems"
    """What it reads: word problems as plain text, as the demo has them, or those and stories, also as conversations."""

    hidden_size: int = 128
    intermediate_size: int = 384
    num_attention_heads: int = 4
    layer_types: tuple[str, ...] = ("sliding_attention", "sliding_attention", "full_attention")
    sliding_window: int = 32
    """Tokens; shorter than most examples, so that the two kinds of layer differ."""
    vocab_size: int = 512
    """At most; the world has fewer words than that."""
    steps: int = 800
    batch_size: int = 16
    """Examples a step. Small: for the same tokens, many small steps teach this model more than few large ones."""
    learning_rate: float = 3e-3
    wrong: float = 0.25
    """Share of wrong solutions in what it reads, 0 to 1."""


LINEAGES = BaseConfig(
    world="lineages", hidden_size=160, intermediate_size=480, num_attention_heads=5, vocab_size=1024, steps=850
)
"""The base of `divmon replay --scale miniature`."""


def base_model(
    seed: int = 0, *, config: BaseConfig | None = None, progress: Progress = lambda done, steps, loss: None
) -> tuple[Any, Any]:
    """The base model and its tokenizer, from the cache or trained now.

    The cache is `$DIVMON_CACHE`, else `~/.cache/divmon`. What lies there is used only if it is whole and was made by
    this code, these versions, this configuration and this seed; else the model is trained again.

    Args:
        seed: of data, weights and order. The same seed gives the same model on the same kind of machine.
        progress: called while training; never where the cache has the model.

    Returns:
        An `Olmo3ForCausalLM` in evaluation mode, float32 on the CPU, and a `PreTrainedTokenizerFast`.
    """
    config = config or BaseConfig()
    folder = _place(seed, config)
    if not _is_whole(folder):
        model, tokenizer = train(config, seed, progress)
        try:
            _keep(folder, model, tokenizer)
        except OSError as error:
            logger.warning("divmon: could not keep the base model, it will be trained again next time: %s", error)
            return model, tokenizer
    return _load(folder)


def base_folder(
    seed: int = 0, *, config: BaseConfig | None = None, progress: Progress = lambda done, steps, loss: None
) -> Path:
    """The cached base model's folder, as `from_pretrained` takes it; trained first where it is not there.

    Raises:
        OSError: it cannot be kept.
    """
    config = config or BaseConfig()
    folder = _place(seed, config)
    if not _is_whole(folder):
        _keep(folder, *train(config, seed, progress))
    return folder


def is_cached(seed: int = 0, config: BaseConfig | None = None) -> bool:
    """Whether `base_model` would come at once."""
    return _is_whole(_place(seed, config or BaseConfig()))


def _place(seed: int, config: BaseConfig) -> Path:
    return cache_folder() / f"miniature-{_fingerprint(config, seed)}"


def cache_folder() -> Path:
    return Path(os.environ.get("DIVMON_CACHE") or Path.home() / ".cache" / "divmon")


def train(config: BaseConfig, seed: int, progress: Progress) -> tuple[Any, Any]:
    """Trains from scratch; torch's generator and number of threads are left as they were."""
    read = lineages.base_rows if config.world == "lineages" else base_rows
    rows = read(config.steps * config.batch_size, seed, config.wrong)
    texts = [row["prompt"] + row["completion"] for row in rows[:2000]]
    if config.world == "lineages":
        texts += ["<think>\n</think>\n\n"] * len(texts)  # whole tokens, though the base never reads them
    tokenizer = train_tokenizer(texts, config.vocab_size)
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        model = _new_model(config, tokenizer)
        _fit(model, tokenizer, rows, config, seed, progress)
    return model.eval(), tokenizer


def _new_model(config: BaseConfig, tokenizer: Any) -> Any:
    from transformers import AutoModelForCausalLM, Olmo3Config

    shape = Olmo3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=len(config.layer_types),
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_attention_heads,
        max_position_embeddings=2048,
        sliding_window=config.sliding_window,
        layer_types=list(config.layer_types),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = AutoModelForCausalLM.from_config(shape, attn_implementation=ATTENTION)
    # Olmo 3 normalises what each layer adds, to size 1: at the usual 0.02 a token's identity drowns in it, and
    # copying numbers takes many times the examples to learn.
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=1.0)
    return model


def _fit(model: Any, tokenizer: Any, rows: list[Row], config: BaseConfig, seed: int, progress: Progress) -> None:
    """One pass over the rows; the loss is on completions only."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    examples = _encode(tokenizer, rows)
    for step, batch in enumerate(_batches(examples, config.batch_size, random.Random(seed))):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min((step + 1) / 20, 1.0) * (1 - step / config.steps)
        input_BT, target_BT = _padded(batch, tokenizer.pad_token_id)
        hidden_BTD = model.model(input_ids=input_BT, use_cache=False).last_hidden_state
        answer_BT = target_BT >= 0  # the vocabulary is asked only where there is something to predict
        loss = cross_entropy(model.lm_head(hidden_BTD[answer_BT]), target_BT[answer_BT])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        progress(step + 1, config.steps, loss.item())


def _encode(tokenizer: Any, rows: list[Row]) -> list[tuple[list[int], int]]:
    """(token ids of an example, how many of them are its prompt)."""
    prompts = tokenizer([row["prompt"] for row in rows]).input_ids
    completions = tokenizer([row["completion"] + tokenizer.eos_token for row in rows]).input_ids
    return [(prompt + completion, len(prompt)) for prompt, completion in zip(prompts, completions, strict=True)]


def _batches(
    examples: list[tuple[list[int], int]], size: int, rng: random.Random
) -> Iterator[list[tuple[list[int], int]]]:
    """Batches of examples of like length, so that little is padding, in an order that does not follow length."""
    window = 16 * size
    for start in range(0, len(examples), window):
        by_length = sorted(examples[start : start + window], key=lambda example: len(example[0]))
        batches = [by_length[i : i + size] for i in range(0, len(by_length), size)]
        rng.shuffle(batches)
        yield from batches


def _padded(batch: list[tuple[list[int], int]], pad: int) -> tuple[Tensor, Tensor]:
    """Inputs [B, T] padded on the right, and the next token [B, T] where it belongs to a completion, else -1."""
    width = max(len(ids) for ids, _ in batch) - 1
    input_BT = torch.full((len(batch), width), pad)
    target_BT = torch.full((len(batch), width), -1)
    for i, (ids, n_prompt) in enumerate(batch):
        input_BT[i, : len(ids) - 1] = torch.tensor(ids[:-1])
        target_BT[i, n_prompt - 1 : len(ids) - 1] = torch.tensor(ids[n_prompt:])
    return input_BT, target_BT


@contextmanager
def _one_thread() -> Iterator[None]:
    """On shared cores two threads are slower than one, and sums in one thread repeat bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fingerprint(config: BaseConfig, seed: int) -> str:
    """A hash of everything that shapes the model: code, configuration, seed and versions."""
    import tokenizers
    import transformers

    shapes = [asdict(config), seed, torch.__version__, transformers.__version__, tokenizers.__version__]
    code = [Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8") for name in SHAPED_BY]
    return hashlib.sha256(json.dumps([shapes, code]).encode()).hexdigest()[:16]


def _keep(folder: Path, model: Any, tokenizer: Any) -> None:
    """Puts the model in place whole or not at all, whoever else does the same at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
        new = Path(made) / "new"
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        (new / CHECKSUMS).write_text(json.dumps(_checksums(new), indent=1))
        if _is_whole(folder):  # another process was quicker
            return
        if folder.exists():
            shutil.move(folder, Path(made) / "old")
        new.rename(folder)


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.iterdir() if file.name != CHECKSUMS)
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _is_whole(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / CHECKSUMS).read_text()) == _checksums(folder))
    except (OSError, ValueError):
        return False


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoTokenizer, Olmo3ForCausalLM

    model = Olmo3ForCausalLM.from_pretrained(folder, attn_implementation=ATTENTION, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)
