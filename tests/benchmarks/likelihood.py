"""What the model's own probabilities cost: recorded while sampling, and of stored completions.

    python tests/benchmarks/likelihood.py [--rounds 7] > tests/results/likelihood.txt
    python tests/benchmarks/likelihood.py --run 300 >> tests/results/likelihood.txt

- recorded: CPU seconds that noting a step's tokens takes more with the record than without, over those of the whole
  `Sampler.draw` without it, the two in turn; K = 16, of which 2 are recorded, in float32. Bound: 0.05. Noting is timed
  by itself, for on a shared machine two whole draws differ by more than the record costs.
- stored: CPU seconds of the forward over a stored completion per prompt that a measurement makes (three times that
  where a reference model is at hand), over those of the draw. Between measurements it is the same forward, and 1
  percent of the training at most, as the schedule thins it.
- run: SFT of the miniature model for so many steps with the callback's defaults (64 prompts, K 16, reference 64): the
  share of the time, measurements left aside, that scoring stored completions between them took. Bound: 0.01.

One thread; a ratio is the median over rounds of the ratio within one, its range behind it.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from machine import head
from sampling_work import Work, tokenizer

import divmon.sampling.engines.live as live
from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.likelihood import MOST_TOKENS, TEXTS, text_nll
from divmon.sampling.sampler import Sampler
from divmon.types import Decoding, Prompt

spent: list[float] = []
WORKS = (
    Work("Llama", "5M", 32, 32, 4, peaked=True, temperature=0.6, top_p=0.95),
    Work("Llama", "5M", 32, 32, 4, peaked=True),
    Work("Llama", "5M", 32, 32, 2, vocabulary=100_278, peaked=True, temperature=0.6, top_p=0.95),
    Work("Llama", "70M", 32, 24, 2, vocabulary=49_152, peaked=True, temperature=0.6, top_p=0.95),
)


def seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def said(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):6.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"


def timed(record: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The engine's noting of a step, with its time added up."""

    def note(*args: object) -> torch.Tensor:
        began = time.process_time()
        tokens = record(*args)
        spent.append(time.process_time() - began)
        return tokens

    return note


def measure(work: Work, rounds: int) -> str:
    model, renderer = work.model("cpu"), Renderer(tokenizer(work.vocabulary), chat=False)
    decoding = Decoding(work.new, work.temperature, work.top_p)
    requests = [Request(renderer.render("t", Prompt(str(i), t)), decoding, 16) for i, t in enumerate(work.texts())]
    answer = tuple(range(5, 5 + min(work.new, MOST_TOKENS)))
    rows = [(tuple(request.prompt.input_ids), answer) for request in requests for _ in range(TEXTS)]
    recorded, stored = [], []
    for i in range(rounds + 1):
        draw, noting = {}, {}
        for on in (False, True) if i % 2 else (True, False):
            sampler = Sampler(model, renderer, how="live", likelihood=on)
            spent.clear()
            draw[on] = seconds(functools.partial(sampler.draw, requests, seed=0, step=i))
            noting[on] = sum(spent)
        texts = seconds(functools.partial(text_nll, model, rows))
        if i:  # the first warms up
            recorded.append((noting[True] - noting[False]) / draw[False])
            stored.append(texts / draw[False])
    return f"{work.name} {work.vocabulary:>8} {work.temperature:>5} {work.top_p:>5}   {said(recorded)}   {said(stored)}"


def in_a_run(steps: int) -> str:
    """What scoring between measurements takes of a run with the defaults."""
    from overhead import trainer

    from divmon import DiversityCallback, read_run
    from divmon.lineages.miniature.data import probe
    from divmon.storage.reader import BETWEEN

    callback = DiversityCallback(probe(64), progress=False)
    with tempfile.TemporaryDirectory() as folder:
        trained = trainer(folder, steps, [callback])
        began = time.perf_counter()
        trained.train()
        elapsed = time.perf_counter() - began
        run = read_run(folder)
        looks = len(run.steps)  # read before the folder is gone
        taken = read_run(run.folder / BETWEEN).steps
    assert callback._run is not None
    monitor, between = callback._run.live.seconds, callback._run._between.seconds
    training = elapsed - monitor
    return (
        f"run of {steps} steps: training {training:.0f} s, {looks} measurements {monitor - between:.0f} s,"
        f" stored completions between them {between:.2f} s at steps {', '.join(map(str, taken))}:"
        f" {100 * between / (training + between):.2f} % of the run without its measurements"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--run", type=int, metavar="STEPS")
    given = parser.parse_args()
    rounds = given.rounds
    torch.set_num_threads(1)
    print(head("torch", "transformers"))
    if given.run:
        print(in_a_run(given.run))
        return
    live.Rows.record = timed(live.Rows.record)  # type: ignore[method-assign]
    print(
        f"{'model':10} {'prompt/new':>12} {'vocab':>8} {'temp':>5} {'top-p':>5}   recorded / draw         stored / draw"
    )
    for work in WORKS:
        print(measure(work, rounds), flush=True)


if __name__ == "__main__":
    main()
