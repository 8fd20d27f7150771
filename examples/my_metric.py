"""A metric of your own: one function in a file of its name, beside all others.

python examples/my_metric.py                      half a minute on two cores, nothing is downloaded

In a trainer: DiversityCallback(metrics="auto,examples/my_metric.py:my_metric"). From the command line, for completions
that exist already: divmon score FILE.jsonl --metrics ead,examples/my_metric.py:my_metric
"""

from __future__ import annotations

import torch

from divmon.scoring.metrics import Figure, metric


@metric("Share of distinct first words", figures={"my_metric": Figure(range=(0, 1), headline=70)}, source="ours")
def my_metric(texts_PK):
    def share(texts):
        words = [(text.split() or [""])[0] for text in texts if text is not None]
        return len(set(words)) / len(words) if len(words) > 1 else float("nan")

    return torch.tensor([share(texts) for texts in texts_PK], dtype=torch.float64)


if __name__ == "__main__":
    from divmon import DiversityMonitor
    from divmon.lineages.miniature import base_model, probe

    monitor = DiversityMonitor(probe(16), metrics=["ead", my_metric], output_dir="runs/my_metric/_divmon", chat=False)
    snapshot = monitor.measure(*base_model())
    for name in ("ead", "my_metric"):
        score = snapshot.score("word_problems", name)
        print(f"{name:10}{score.mean:8.3f}  [{score.low:.3f}, {score.high:.3f}]  {score.n} prompts")
