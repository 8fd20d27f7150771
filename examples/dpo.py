"""DPO, compared with the model that it is held to: its changes are taken against the trainer's reference model.

python examples/dpo.py [output folder]            half a minute on two cores, a minute more the first time
"""

import copy
import random
import sys

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from divmon import DiversityCallback, read_run
from divmon.lineages.miniature import base_model, draw_problem, probe, solve

out = sys.argv[1] if len(sys.argv) > 1 else "runs/dpo"
model, tokenizer = base_model()


def pair(rng):
    """Right against wrong, both in a style of their own."""
    problem = draw_problem(rng)
    chosen, rejected = solve(problem, "numbered", rng), solve(problem, "story", rng, wrong=True)
    return {"prompt": problem.prompt, "chosen": chosen, "rejected": rejected}


rng = random.Random(0)
trainer = DPOTrainer(
    model,
    ref_model=copy.deepcopy(model),
    args=DPOConfig(out, max_steps=30, learning_rate=2e-4, report_to="tensorboard", use_cpu=True, bf16=False),
    train_dataset=Dataset.from_list([pair(rng) for _ in range(240)]),
    processing_class=tokenizer,
    callbacks=[DiversityCallback(probe(16), every=15, reference="ref_model")],
)
trainer.train()
changes = read_run(out).changes.query("metric == 'sbert' or metric.str.startswith('sbert/')", engine="python")
print(changes[["step", "metric", "change", "low", "high"]].to_string(index=False))
