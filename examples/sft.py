"""Fine-tune with SFTTrainer and watch the diversity: one argument more than without.

    python examples/sft.py [output folder]            half a minute on two cores, a minute more the first time

The model and the data are divmon's miniature ones; put your own in their place and leave the callback as it is.
"""

import sys

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from divmon import DiversityCallback, read_run
from divmon.lineages.miniature import base_model, narrow, probe

out = sys.argv[1] if len(sys.argv) > 1 else "runs/sft"
model, tokenizer = base_model()

trainer = SFTTrainer(
    model,
    args=SFTConfig(
        out,
        max_steps=30,
        per_device_train_batch_size=16,
        learning_rate=5e-4,
        report_to="tensorboard",
        use_cpu=True,
        bf16=False,
    ),
    train_dataset=Dataset.from_list(narrow(480)),  # every solution in the same style
    processing_class=tokenizer,
    callbacks=[DiversityCallback(probe(16), every=15)],
)
trainer.train()

run = read_run(out)
print(run.scores.query("metric in ('ead', 'sbert', 'accuracy')").pivot(index="step", columns="metric", values="mean"))
print(f"Curves: tensorboard --logdir {out}")
