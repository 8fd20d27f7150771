"""One small real run of every trainer of TRL that a monitor may sit in, for tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from support import rl_runs, runs, tiny

PAIRS = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": " it is one."} for row in runs.ROWS]
LABELLED = [
    {"prompt": r["prompt"], "completion": r["completion"], "label": i % 2 == 0} for i, r in enumerate(runs.ROWS)
]
CHAT = "{% for m in messages %}{{ m.content }}\n{% endfor %}"


def trainer(kind: str, out: Path, callbacks: Any = (), model: Any = None, **args: Any) -> Any:
    """A trainer of this kind on the tiny model with attention dropout, ready for a few steps."""
    model = model if model is not None else runs.model(attention_dropout=0.1)
    args = {"max_steps": 6, "logging_steps": 2, **args}
    if kind == "sft":
        return runs.sft(out, callbacks, model, **args)
    if kind in ("grpo", "rloo"):
        return rl_runs.trainer(kind, out, callbacks, rewards=[rl_runs.parity, rl_runs.drawn], model=model, **args)
    return _other(kind, out, callbacks, model, args)


def _other(kind: str, out: Path, callbacks: Any, model: Any, args: dict[str, Any]) -> Any:
    import trl
    from datasets import Dataset

    given: dict[str, Any] = {}
    rows: Any = PAIRS
    if kind == "dpo":
        made = (trl.DPOConfig, trl.DPOTrainer)
        args |= {"disable_dropout": False, "max_length": 64}
    elif kind == "kto":
        made, rows = (trl.KTOConfig, trl.KTOTrainer), LABELLED
        args |= {"disable_dropout": False, "max_length": 64}
    elif kind == "reward":
        made = (trl.RewardConfig, trl.RewardTrainer)
        args |= {"disable_dropout": False, "max_length": 64}
    elif kind == "distillation":
        made, rows = (trl.DistillationConfig, trl.DistillationTrainer), rl_runs.PROMPTS
        args |= {"max_completion_length": 8, "disable_dropout": False}
        given = {"teacher_model": runs.model()}
    else:
        from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

        made, rows = (OnlineDPOConfig, OnlineDPOTrainer), rl_runs.PROMPTS
        args |= {"max_new_tokens": 8, "max_length": 64, "disable_dropout": False}
        given = {"reward_funcs": rl_runs.parity, "ref_model": copy.deepcopy(model)}
    if kind in ("dpo", "kto") and not hasattr(model, "peft_config"):
        given["ref_model"] = copy.deepcopy(model)
    config = {"report_to": "none", "learning_rate": 1e-3, "save_strategy": "no", "per_device_train_batch_size": 4}
    config["gradient_checkpointing"] = False
    return made[1](
        model,
        args=made[0](output_dir=str(out), use_cpu=True, bf16=False, disable_tqdm=True, **{**config, **args}),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny.tokenizer(runs.TEXTS, CHAT if kind == "online_dpo" else None),
        callbacks=list(callbacks),
        **given,
    )
