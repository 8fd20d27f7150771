"""The folder's two kinds: each file is a batch decoder or an engine, and nothing else."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

from divmon.sampling import Engine
from divmon.sampling import engines as samplers
from divmon.sampling.sampler import Sampler

FILES = sorted(module.name for module in pkgutil.iter_modules(samplers.__path__))


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_a_decoder_or_an_engine(name: str) -> None:
    module = importlib.import_module(f"divmon.sampling.engines.{name}")
    decode = getattr(module, name, None)
    if decode is not None:
        assert list(inspect.signature(decode).parameters) == ["model", "batch"]
        return
    own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    (engine,) = [c for c in own if not c.__name__.startswith("_")]
    holds_the_protocol(engine)


def test_the_sampler_in_this_process_is_an_engine() -> None:
    holds_the_protocol(Sampler)


def holds_the_protocol(engine: type) -> None:
    ours, theirs = inspect.signature(engine.draw), inspect.signature(Engine.draw)
    assert list(ours.parameters) == list(theirs.parameters)
    assert ours.return_annotation == theirs.return_annotation == "Drawing"
    source = inspect.getsource(engine)
    assert "name" in vars(engine) or "self.name = " in source
    assert "reason" in vars(engine) or "self.reason = " in source
