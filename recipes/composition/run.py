"""Trains the miniature on each mixture and measures what is left: one line of results.jsonl a training, resumable.

    python recipes/composition/run.py --until 22:00
    python recipes/composition/run.py --round 2

Run again it goes on with what is missing. README.md says what is expected of each round; it was committed before the
round's first run.
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import json
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from divmon.lineages.miniature import base, data
from divmon.lineages.miniature.problems import draw_problem
from divmon.lineages.miniature.styles import solve
from divmon.types import plain

HERE = Path(__file__).parent
TEACHERS = ("first_then", "algebra", "checked", "backwards", "numbered", "questions", "equations", "table")
"""Styles of the miniature, each a teacher; the first four leave a choice of words, which `freedom` 0 takes away."""
SEEDS = {1: (0, 1, 2), 2: (0, 1)}
"""Of each round's trainings."""
BASE = {1: 0, 2: 1}
"""Which base model a round trains."""
RESULTS = {1: HERE / "results.jsonl", 2: HERE / "results2.jsonl"}
STEPS, TOKENS, LEARNING_RATE = 30, 480, 1e-3
"""Of each training; completion tokens of a step, at least."""
PROMPTS, SAMPLES = 32, 8
SAMPLED_ROWS = 256
"""Of a mixture, for its predictors."""


@dataclass(frozen=True)
class Mixture:
    """What is varied."""

    teachers: int
    largest: float
    """Share of the first teacher's rows; the others have equal shares of the rest."""
    freedom: int
    """1: a teacher chooses its words anew in each solution; 0: it always uses the same."""
    solutions: int
    """Of each problem."""
    first: int = 0
    """Which teacher is the first."""

    @property
    def name(self) -> str:
        return f"t{self.teachers}-l{self.largest:.2f}-f{self.freedom}-s{self.solutions}-o{self.first}"


def mixtures(round_: int = 1) -> list[Mixture]:
    """All 32 of the first round, those of one teacher with two different ones; all 48 of the second.

    The second has other numbers, shares, solutions and teachers, so that no mixture stands in both.
    """
    found = []
    if round_ == 2:
        choice = random.Random(2)
        for freedom, solutions in itertools.product((0, 1), (1, 2, 8)):
            for teachers, share in ((1, 1.0), (2, 0.5), (2, 0.65), (3, 1 / 3), (3, 0.9), (5, 0.2), (5, 0.65), (8, 0.5)):
                found.append(Mixture(teachers, share, freedom, solutions, first=choice.randrange(2, len(TEACHERS))))
        return found
    for freedom, solutions in itertools.product((0, 1), (1, 4)):
        found += [Mixture(1, 1.0, freedom, solutions, first) for first in (0, 1)]
        for teachers in (2, 4, 8):
            found += [Mixture(teachers, share, freedom, solutions) for share in (1 / teachers, 0.8)]
    return found


def rows(mixture: Mixture, seed: int) -> Iterator[dict[str, str]]:
    """Prompt, completion and source, without end."""
    rng = random.Random(f"composition {mixture.name} {seed}")
    names = [TEACHERS[(mixture.first + i) % len(TEACHERS)] for i in range(mixture.teachers)]
    rest = (1 - mixture.largest) / max(mixture.teachers - 1, 1)
    weights = [mixture.largest, *[rest] * (mixture.teachers - 1)]
    while True:
        problem = draw_problem(rng)
        for _ in range(mixture.solutions):
            (style,) = rng.choices(names, weights)
            words = rng if mixture.freedom else random.Random(style)
            yield {"prompt": problem.prompt, "completion": solve(problem, style, words), "source": style}


def batches(mixture: Mixture, seed: int, tokenizer: Any, steps: int = STEPS) -> list[list[tuple[list[int], int]]]:
    """Token ids and the length of the prompt of each row, as many rows a step as have `TOKENS` completion tokens.

    A problem's solutions are spread over the training, as a shuffled data set has them.
    """
    kept, total = [], 0
    for row in rows(mixture, seed):
        prompt = tokenizer(row["prompt"]).input_ids
        completion = tokenizer(row["completion"] + tokenizer.eos_token).input_ids
        kept.append((prompt + completion, len(prompt)))
        total += len(completion)
        if total >= steps * TOKENS:
            break
    random.Random(f"order {seed}").shuffle(kept)
    made: list[list[tuple[list[int], int]]] = [[]]
    count = 0
    for ids, of_prompt in kept:
        if count >= TOKENS and len(made) < steps:
            made.append([])
            count = 0
        made[-1].append((ids, of_prompt))
        count += len(ids) - of_prompt
    return made


def train(model: Any, tokenizer: Any, examples: list[list[tuple[list[int], int]]]) -> None:
    """One pass, loss on completions, the learning rate falling to 0."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    for step, batch in enumerate(examples):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / len(examples))
        input_BT, target_BT = base._padded(batch, tokenizer.pad_token_id)
        logits = model(input_ids=input_BT, use_cache=False).logits
        loss = cross_entropy(logits[target_BT >= 0], target_BT[target_BT >= 0])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def measure(model: Any, tokenizer: Any, seed: int, prompts: int = PROMPTS) -> dict[str, float]:
    """Mean figures over problems that no training has seen."""
    from divmon.monitor import DiversityMonitor

    asked = data.probe(prompts, 0)
    options = {"num_samples": SAMPLES, "reference_samples": SAMPLES, "metrics": "sbert,ead", "embedder": "minilm"}
    with tempfile.TemporaryDirectory() as folder:
        monitor = DiversityMonitor(
            asked, **options, seed=seed, alerts=None, loggers=[], progress=False, output_dir=f"{folder}/_divmon"
        )
        snapshot = monitor.measure(model, tokenizer)
        monitor.close()
    wanted = ("accuracy", "sbert", "sbert_correct", "ead", "no_answer")
    return {score.metric: score.mean for score in snapshot.scores if score.metric in wanted}


@functools.cache
def encoder() -> Any:
    """Loaded once."""
    from divmon.scoring.encoders import TextEncoder

    return TextEncoder("minilm", device="cpu").load()


def predict(mixture: Mixture, seed: int) -> dict[str, Any]:
    """What the data alone say."""
    from divmon.training.composition.predictors import predictors

    sample = [(r["source"], r["prompt"], r["completion"]) for r in itertools.islice(rows(mixture, seed), SAMPLED_ROWS)]
    return predictors(sample, encoder().encode).as_dict()


def done(results: Path) -> set[tuple[str, int]]:
    """What the file holds already; a line that a kill left incomplete counts as missing."""
    found = set()
    for line in results.read_text().splitlines() if results.exists() else ():
        try:
            row = json.loads(line)
            found.add((row["mixture"], row["seed"]))
        except (ValueError, KeyError):
            continue
    return found


def run(
    results: Path, *, round_: int = 1, until: float = float("inf"), steps: int = STEPS, most: int | None = None
) -> int:
    """Trains what is missing, all mixtures of one seed before the next seed; returns how many it did."""
    torch.set_num_threads(1)
    model, tokenizer = base.base_model(BASE[round_])
    there, made = done(results), 0
    if results.exists() and not results.read_bytes().endswith(b"\n"):
        with results.open("a") as file:
            file.write("\n")
    before: dict[str, float] | None = None
    for seed, mixture in itertools.product(SEEDS[round_], mixtures(round_)):
        if (mixture.name, seed) in there:
            continue
        if time.time() > until or made == most:
            break
        torch.manual_seed(seed)
        before = before or measure(model, tokenizer, 0)
        trained = copy.deepcopy(model)
        began = time.time()
        train(trained, tokenizer, batches(mixture, seed, tokenizer, steps))
        row = {"mixture": mixture.name, "seed": seed, **asdict(mixture), "steps": steps}
        row |= {"before": before, "after": measure(trained, tokenizer, seed)}
        row |= {"predictors": plain(predict(mixture, seed)) if seed == SEEDS[round_][0] else {}}
        with results.open("a") as file:
            file.write(json.dumps(row | {"seconds": round(time.time() - began, 1)}) + "\n")
        made += 1
        print(f"{mixture.name} seed {seed}: {row['after']}", flush=True)
    return made


def clock(text: str) -> float:
    """Today at that time, as seconds since 1970."""
    hour, minute = map(int, text.split(":"))
    now = time.localtime()
    return time.mktime((*now[:3], hour, minute, 0, *now[6:]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round", type=int, choices=SEEDS, default=1)
    parser.add_argument("--results", type=Path, help="results.jsonl and results2.jsonl beside this file by default")
    parser.add_argument("--until", type=clock, default=float("inf"), help="begin no training after this time, HH:MM")
    given = parser.parse_args()
    made = run(given.results or RESULTS[given.round], round_=given.round, until=given.until)
    print(f"{made} trainings")
