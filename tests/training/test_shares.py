"""Which process draws which samples, and that a deadline costs precision and no prompt. Engines here draw at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from divmon.sampling import Drawing, Request
from divmon.training.distributed import Processes
from divmon.training.process_shares import Spread, share_of
from divmon.types import Decoding, RenderedPrompt, Sample

DECODING = Decoding(max_new_tokens=8, temperature=1.0, top_p=1.0, stop=())
TOO_LATE = "not drawn in time"


class Engine:
    """Draws `rows` samples before its time is over, the prompts one after the other."""

    name, reason, in_parts = "engine", "", True

    def __init__(self, rows: float = float("inf"), timeout: float = 10.0) -> None:
        self.rows, self.timeout, self.limits = rows, timeout, list[float]()

    def use(self, model: Any) -> None: ...
    def prepare(self, requests: Sequence[Request]) -> None: ...
    def release(self) -> None: ...

    def draw(self, requests: Sequence[Request], *, seed: int, step: int, progress: Any = None) -> Drawing:
        drawing = Drawing()
        self.limits.append(self.timeout)
        for request in requests:
            self.rows -= request.num_samples
            if self.rows < 0:
                drawing.missing[request.key] = TOO_LATE
                continue
            for index in range(request.first, request.first + request.num_samples):
                drawing.samples.append(Sample(*request.key, index, "text", "eos", 1))
        return drawing


def requests(prompts: int, samples: int) -> list[Request]:
    return [Request(RenderedPrompt("task", f"p{i}", "text", [1], False), DECODING, samples) for i in range(prompts)]


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 60))
def test_every_sample_is_drawn_by_one_process(prompts: int, samples: int, count: int) -> None:
    asked = requests(prompts, samples)
    drawn = [
        (request.key, index)
        for rank in range(count)
        for request in share_of(asked, rank, count)
        for index in range(request.first, request.first + request.num_samples)
    ]
    assert sorted(drawn) == [(r.key, k) for r in sorted(asked, key=lambda r: r.key) for k in range(samples)]


def test_a_reference_of_64_on_256_processes_is_16_samples_each() -> None:
    processes = Processes(alone=True)
    processes.count = 256
    rows = []
    for processes.rank in range(256):
        rounds = Spread(Engine(), processes, num_samples=16).rounds(requests(64, 64))
        rows.append(sum(request.num_samples for share in rounds for request in share))
    assert set(rows) == {16}, "192 of them had none, and 64 had 64"


def test_a_deadline_costs_the_reference_precision_and_no_prompt() -> None:
    engine = Engine(rows=8 * 16 + 2 * 48)
    drawing = Spread(engine, Processes(alone=True), num_samples=16).draw(requests(8, 64), seed=0, step=0)
    assert not drawing.missing, "prompts without a reference leave every later comparison"
    found = [sum(s.prompt_id == f"p{i}" for s in drawing.samples) for i in range(8)]
    assert found == [64, 64, *[16] * 6]
    assert drawing.fewer == {("task", f"p{i}"): TOO_LATE for i in range(2, 8)}
    assert [(s.prompt_id, s.index) for s in drawing.samples] == sorted((s.prompt_id, s.index) for s in drawing.samples)


def test_the_time_limit_grows_with_the_reference() -> None:
    engine = Engine(timeout=10.0)
    spread = Spread(engine, Processes(alone=True), num_samples=16)
    spread.draw(requests(2, 64), seed=0, step=0)
    spread.draw(requests(2, 16), seed=0, step=10)
    assert engine.limits == [10.0, 30.0, 10.0] and engine.timeout == 10.0


def test_an_engine_of_the_trainers_is_asked_once_and_for_whole_prompts() -> None:
    engine = Engine()
    engine.in_parts = False
    drawing = Spread(engine, Processes(alone=True), num_samples=16).draw(requests(2, 64), seed=0, step=0)
    assert len(engine.limits) == 1 and len(drawing.samples) == 128
