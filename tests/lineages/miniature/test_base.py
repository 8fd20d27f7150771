"""The base model: what it is, and a cache that is whole or not used."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from divmon.lineages.miniature import base
from divmon.lineages.miniature.base import BaseConfig, base_model, is_cached
from divmon.lineages.miniature.data import base_rows
from divmon.lineages.miniature.tokenizer import train_tokenizer

TINY = BaseConfig(hidden_size=32, intermediate_size=32, num_attention_heads=2, steps=4, batch_size=4)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIVMON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def trained_now(config: BaseConfig = TINY, seed: int = 0) -> tuple[bool, Any]:
    """Whether it had to be trained, and the model."""
    steps: list[int] = []
    model, _ = base_model(seed, config=config, progress=lambda done, total, loss: steps.append(done))
    assert steps in ([], list(range(1, config.steps + 1)))
    return bool(steps), model


def same(one: Any, other: Any) -> bool:
    weights = one.state_dict(), other.state_dict()
    return weights[0].keys() == weights[1].keys() and all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_the_second_time_comes_from_the_cache(cache: Path) -> None:
    assert not is_cached(config=TINY)
    new, first = trained_now()
    assert new and is_cached(config=TINY)
    again, second = trained_now()
    assert not again and same(first, second)
    assert list(cache.iterdir()) == list(cache.glob("miniature-*")), "nothing half-made is left"


def test_seed_and_configuration_have_their_own_place() -> None:
    _, model = trained_now()
    new, other = trained_now(seed=1)
    assert new and not same(model, other)
    assert trained_now(BaseConfig(**{**vars(TINY), "wrong": 0.0}))[0]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "unfinished", "no json"])
def test_what_is_damaged_is_trained_again(cache: Path, damage: str) -> None:
    model = copy.deepcopy(trained_now()[1])  # loaded weights may still lie in the file that is damaged next
    folder = next(cache.glob("miniature-*"))
    weights, sums = folder / "model.safetensors", folder / base.CHECKSUMS
    data = weights.read_bytes()
    if damage == "truncated":
        weights.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":  # it would load without a word
        weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "missing":
        (folder / "tokenizer.json").unlink()
    elif damage == "unfinished":
        sums.unlink()
    else:
        sums.write_text("{")
    assert not is_cached(config=TINY)
    new, again = trained_now()
    assert new and same(model, again), "a seed gives the same model"
    assert is_cached(config=TINY)


def test_an_interrupted_training_leaves_nothing(cache: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base_model(config=TINY, progress=interrupt)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_costs_only_time(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_text("a file where a folder should be")
    assert trained_now()[0]
    assert "trained again next time" in caplog.text


def test_the_callers_generator_and_threads_are_left_alone() -> None:
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    trained_now()
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_the_shape_is_olmo_3_in_small() -> None:
    tokenizer = train_tokenizer((row["completion"] for row in base_rows(100, 0, 0.0)), 512)
    model = base._new_model(BaseConfig(), tokenizer)
    assert type(model).__name__ == "Olmo3ForCausalLM"
    assert set(model.config.layer_types) == {"sliding_attention", "full_attention"}
    assert 0.5e6 < model.num_parameters() < 1.5e6
    assert model.config.max_position_embeddings >= 1024


def test_it_learns() -> None:
    losses: list[float] = []
    base.train(BaseConfig(**{**vars(TINY), "steps": 40}), 0, lambda done, total, loss: losses.append(loss))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_targets_are_the_next_tokens_of_completions_only() -> None:
    input_BT, target_BT = base._padded([([5, 6, 7, 8], 2), ([5, 9, 4], 1)], pad=1)
    assert input_BT.tolist() == [[5, 6, 7], [5, 9, 1]]
    assert target_BT.tolist() == [[-1, 7, 8], [9, 4, -1]]


def test_batches_hold_every_example_once_and_little_padding() -> None:
    rng = random.Random(0)
    examples = [([i] * rng.randint(1, 50), 1) for i in range(200)]
    batches = list(base._batches(examples, 8, rng))
    assert sorted(ids[0] for batch in batches for ids, _ in batch) == list(range(200))
    padded = sum(max(len(ids) for ids, _ in batch) * len(batch) for batch in batches)
    assert padded < 1.2 * sum(len(ids) for ids, _ in examples)
