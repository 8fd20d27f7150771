"""Measure the checkpoints of a training run from a second process; the run itself has no callback and pays nothing.

    python examples/watch.py [output folder]          a minute on two cores, a minute more the first time

For a run of your own, on another GPU or machine:  divmon watch runs/a --probes gsm8k --device cuda:1
"""

import json
import subprocess
import sys
from pathlib import Path

from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from divmon import read_run
from divmon.lineages.miniature import base_model, narrow, probe

out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/watch")
out.mkdir(parents=True, exist_ok=True)
model, tokenizer = base_model()
model.save_pretrained(out / "base")

rows = [{"id": p.id, "prompt": p.content, "gold": p.gold} for p in probe(16).prompts]
(out / "probes.jsonl").write_text("\n".join(map(json.dumps, rows)))
options = ["--probes", str(out / "probes.jsonl"), "--divmon_verifier", "math_answer", "--divmon_max_new_tokens", "64"]
options += ["--divmon_chat", "false"]  # trained on plain text, which a process of its own cannot see
command = ["-m", "divmon", "watch", str(out), "--reference", str(out / "base"), "--until-end", "--poll", "1", *options]
watching = subprocess.Popen([sys.executable, *command])

saving = {"save_strategy": "steps", "save_steps": 10, "max_steps": 30}
sizes = {"per_device_train_batch_size": 16, "learning_rate": 5e-4, "report_to": "none", "use_cpu": True, "bf16": False}
data = Dataset.from_list(narrow(480))  # every solution in the same style
SFTTrainer(model, args=SFTConfig(str(out), **saving, **sizes), train_dataset=data, processing_class=tokenizer).train()

watching.wait()
run = read_run(out)
print(run.scores.query("metric in ('ead', 'sbert', 'accuracy')").pivot(index="step", columns="metric", values="mean"))
print(f"Curves: tensorboard --logdir {out}")
