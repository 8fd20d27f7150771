"""A training loop of your own, without a trainer: measure when you like.

python examples/plain_loop.py [output folder]     half a minute on two cores, a minute more the first time
"""

import sys

import torch

from divmon import DiversityMonitor
from divmon.lineages.miniature import base_model, narrow, probe

out = sys.argv[1] if len(sys.argv) > 1 else "runs/plain_loop"
model, tokenizer = base_model()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
rows = narrow(480)
monitor = DiversityMonitor(probe(16), output_dir=f"{out}/_divmon", chat=False)  # trained on plain text

for step in range(31):
    if step % 15 == 0:
        snapshot = monitor.measure(model, tokenizer, step)
        print(f"step {step}: SBERT {snapshot.score('word_problems', 'sbert').mean:.3f}")
    texts = [row["prompt"] + row["completion"] + tokenizer.eos_token for row in rows[16 * (step % 30) :][:16]]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    model.train()
    model(**batch, labels=labels).loss.backward()
    optimizer.step()
    optimizer.zero_grad()

monitor.close()
print(f"Curves: tensorboard --logdir {out}")
