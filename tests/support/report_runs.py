"""Runs for the report's tests: two small ones through the real pipeline, and one as large as the page must hold."""

from __future__ import annotations

import random
from pathlib import Path

from divmon.scoring.scorer import Scorer
from divmon.storage.writer import Store
from divmon.types import Prompt, Sample, Score, Snapshot, Verdict
from support import run_dirs

STEPS = (0, 10, 20)
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> {{facts}} <!-- & \\u003c"
"""What a model may say, and no page may run."""
WAYS = (
    f"{HOSTILE} {{b}}",
    "First I take {a} and add one, which makes {b}.",
    "The answer is {b} since {b} follows {a}.",
    "Counting on from {a} we come to {b}!",
    "{a} + 1 = {b}",
    "Nobody knows what comes after {a}, perhaps rain.",
)


def narrow(step: int, prompt: Prompt, k: int) -> tuple[str, bool]:
    """From step 10 on always one way."""
    return _say(0 if step >= 10 else k, prompt), step >= 10 or k % 3 > 0


def broad(step: int, prompt: Prompt, k: int) -> tuple[str, bool]:
    return _say(k + step, prompt), (k + step) % 3 > 0


def two(folder: Path) -> dict[str, Path]:
    """A run that collapses and one that does not."""
    scorer = Scorer("sbert,ead", embedder="minilm", vocab_size=400)
    return {
        name: run_dirs.draw(folder / name, STEPS, draw, scorer) for name, draw in (("narrow", narrow), ("broad", broad))
    }


def large(folder: Path, steps: int = 20, prompts: int = 64, samples: int = 16, words: int = 120) -> Path:
    """Every text different and of many words, so that nothing packs well."""
    rng = random.Random(0)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(4000)]
    task = run_dirs.probe("sums", prompts)

    def verdict() -> Verdict:
        return Verdict(rng.random() < 0.5)

    with Store(folder).open(run_dirs.manifest([task])) as store:
        for s in range(steps):
            drawn = [
                Sample(
                    "sums", prompt.id, k, " ".join(rng.choices(vocabulary, k=words)), "eos", words, verdict=verdict()
                )
                for prompt in task.prompts
                for k in range(4 * samples if s == 0 else samples)
            ]
            values = [rng.gauss(0.3, 0.05) for _ in task.prompts]
            scores = [
                Score("sums", name, sum(values) / prompts, 0.28, 0.32, prompts, tuple(values))
                for name in ("sbert", "ead", "accuracy")
            ]
            store.write(Snapshot(10 * s, drawn, scores=scores, provenance=run_dirs.provenance([task], num_samples=16)))
    return folder


def _say(k: int, prompt: Prompt) -> str:
    a = int(prompt.id[1:])
    return WAYS[k % len(WAYS)].replace("{a}", str(a)).replace("{b}", str(a + 1))
