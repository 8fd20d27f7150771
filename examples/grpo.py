"""GRPO, watched twice: the groups it draws anyway (rollouts, at no cost) and a fixed probe.

python examples/grpo.py [output folder]           half a minute on two cores, a minute more the first time
"""

import random
import sys

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from divmon import DiversityCallback, read_run
from divmon.lineages.miniature import base_model, draw_problem, probe
from divmon.training.rewards import math_answer

out = sys.argv[1] if len(sys.argv) > 1 else "runs/grpo"
model, tokenizer = base_model()
problems = [draw_problem(random.Random(i)) for i in range(160)]

trainer = GRPOTrainer(
    model,
    reward_funcs=math_answer,  # the rule that trains is the rule that measures
    args=GRPOConfig(
        out,
        max_steps=20,
        per_device_train_batch_size=32,
        max_completion_length=64,
        learning_rate=3e-4,
        logging_steps=2,
        use_cpu=True,
        bf16=False,
    ),
    train_dataset=Dataset.from_list([{"prompt": p.prompt, "answer": str(p.answer)} for p in problems]),
    processing_class=tokenizer,
    callbacks=[DiversityCallback(probe(16), every=10, rollouts=True)],
)
trainer.train()
for name, folder in {"the probe": out, "the rollouts": f"{out}/_divmon/rollouts"}.items():
    shown = read_run(folder).scores.query("metric in ('accuracy', 'ead', 'sbert')")
    print(f"\n{name}\n{shown.pivot(index='step', columns='metric', values='mean')}")
