"""Finds, checks and loads the checkpoints that a transformers Trainer writes.

A Trainer writes in place: weights, tokenizer, optimizer, scheduler, random state, and `trainer_state.json` last.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADAPTER = "adapter_config.json"
STATE = "trainer_state.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
DTYPES = ("auto", "float32", "bfloat16", "float16")
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

Signature = tuple[tuple[str, int, int], ...]
"""Name, size and modification time of every file: equal twice in a row means that nobody is writing."""


class NotWhole(Exception):
    """The checkpoint is still being written; the message says what is missing."""


class Unusable(Exception):
    """The checkpoint is complete and cannot be measured; the message says what to do."""


@dataclass(frozen=True, order=True)
class Checkpoint:
    step: int
    path: Path

    @property
    def signature(self) -> Signature:
        """Its files; empty if the folder was deleted."""
        files = []
        for file in sorted(self.path.rglob("*")):
            try:
                stat = file.stat()
            except OSError:  # deleted since it was listed
                continue
            files.append((str(file.relative_to(self.path)), stat.st_size, stat.st_mtime_ns))
        return tuple(files)

    @property
    def state(self) -> dict[str, Any]:
        """The trainer's state: step, epoch, tokens. Raises NotWhole: it is not written yet."""
        try:
            return json.loads((self.path / STATE).read_bytes())
        except OSError:
            raise NotWhole(f"{STATE}, which is written last, is not there") from None
        except ValueError:
            raise NotWhole(f"{STATE} is incomplete") from None

    @property
    def identity(self) -> str:
        """A hash of the trainer's state, with its losses and times: differs from another run's at the same step."""
        return hashlib.sha256((self.path / STATE).read_bytes()).hexdigest()[:16]

    @property
    def ends_training(self) -> bool:
        """Whether training had ended when it was written."""
        state = self.state
        control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
        stopped = control.get("should_training_stop", False)  # early stopping
        return stopped or 0 < state.get("max_steps", 0) <= state.get("global_step", 0)

    def check(self) -> None:
        """Raises NotWhole: it is still being written, or copied; Unusable: its weights are in pieces, or missing."""
        self.state  # noqa: B018 - raises
        adapter = (self.path / ADAPTER).is_file()
        for file in self._weights(ADAPTER_WEIGHTS if adapter else WEIGHTS, () if adapter else INDEXES):
            if not file.is_file():
                raise NotWhole(f"{file.name} is not there")
            if file.suffix == ".safetensors":
                _check_safetensors(file)

    def _weights(self, names: tuple[str, ...], indexes: tuple[str, ...]) -> list[Path]:
        for name in names:
            if (self.path / name).is_file():
                return [self.path / name]
        for name in indexes:
            if (self.path / name).is_file():
                try:
                    shards = json.loads((self.path / name).read_bytes())["weight_map"].values()
                except (ValueError, KeyError):
                    raise NotWhole(f"{name} is incomplete") from None
                return [self.path / shard for shard in sorted(set(shards))]
        raise Unusable(self._in_pieces() or f"holds no weights: looked for {', '.join((*names, *indexes))}")

    def _in_pieces(self) -> str:
        """For weights saved in shards by each process: the command that merges them."""
        path = self.path
        if (path / "pytorch_model_fsdp_0").is_dir():
            return (
                "holds weights sharded by FSDP; put them together with\n"
                f"  accelerate merge-weights {path / 'pytorch_model_fsdp_0'} {path}\n"
                "and name the model that training began with, whose config and tokenizer it lacks: --base MODEL\n"
                "(fsdp_state_dict_type: FULL_STATE_DICT has the trainer save whole weights)"
            )
        if any(path.glob("pytorch_model_fsdp_rank*.bin")):
            return (
                "holds weights that each FSDP process saved by itself (LOCAL_STATE_DICT), which no command puts"
                " together; fsdp_state_dict_type: FULL_STATE_DICT has the trainer save whole weights"
            )
        if any(path.glob("global_step*")):
            return (
                "holds weights sharded by DeepSpeed; put them together with\n"
                f"  python {path / 'zero_to_fp32.py'} {path} {path} --safe_serialization\n"
                "(stage3_gather_16bit_weights_on_model_save: true has the trainer save whole weights)"
            )
        return ""


def found(output_dir: Path) -> list[Checkpoint]:
    """The checkpoints in a folder, by step."""
    named = ((re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in output_dir.glob("checkpoint-*"))
    return sorted(Checkpoint(int(name[1]), path) for name, path in named if name and path.is_dir())


def _check_safetensors(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):  # reads the header, which tells the size
            pass
    except (OSError, SafetensorError) as error:
        raise NotWhole(f"{file.name} cannot be opened: {error}") from None


@dataclass(frozen=True)
class Loader:
    """Loads checkpoints, and the base models of adapters."""

    device: str = "auto"
    dtype: str = "auto"
    """"auto" (as the weights were saved), "float32", "bfloat16" or "float16"."""
    base: str | None = None
    """The model that training started from: base of adapters; config and tokenizer if a checkpoint has none."""
    tokenizer: str | None = None
    """Used instead of the checkpoints' own."""
    trust_remote_code: bool = False

    def check(self) -> None:
        """Raises ValueError: there is no such device or dtype."""
        import torch

        if self.dtype not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {self.dtype!r}")
        try:
            torch.empty(0, device=self._device)
        except Exception as error:
            raise ValueError(f"device: cannot use {self.device!r}: {error}") from None

    def model(self, name: str | Path) -> Any:
        """A model on the device, in evaluation mode; an adapter is not merged into its base. Raises Unusable: it is not
        a causal language model, or its base cannot be loaded."""
        path = Path(name)
        model = self._adapted(path) if (path / ADAPTER).is_file() else self._whole(str(name))
        for tensor in (*model.parameters(), *model.buffers()):
            if (
                tensor.device.type == "cpu"
            ):  # memory-mapped: the process could die when the file is deleted or rewritten
                tensor.data = tensor.data.clone()
        return model.eval()

    def tokenizer_of(self, path: Path) -> Any:
        """The given tokenizer, else the checkpoint's, else that of its base. Raises Unusable: none can be loaded."""
        from transformers import AutoTokenizer

        own = str(path) if (path / "tokenizer_config.json").is_file() else None
        name = self.tokenizer or own or self.base or _base_of(path)
        if name is None:
            raise Unusable("holds no tokenizer; give --tokenizer NAME")
        try:
            return AutoTokenizer.from_pretrained(name, trust_remote_code=self.trust_remote_code)
        except (OSError, ValueError) as error:
            raise Unusable(f"the tokenizer {name!r} cannot be had ({error}); give --tokenizer NAME") from error

    def _whole(self, name: str) -> Any:
        from transformers import AutoConfig, AutoModelForCausalLM

        options: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        described = name if not Path(name).is_dir() or (Path(name) / "config.json").is_file() else self.base
        if described is None:
            raise Unusable("holds weights and no config.json; name the model that training began with: --base MODEL")
        config = AutoConfig.from_pretrained(described, **options)
        kind: Any = _class_of(config) or AutoModelForCausalLM
        if described != name:
            options["generation_config"] = _generation_config(described, config)
        model, loading = kind.from_pretrained(
            name, config=config, dtype=self.dtype, device_map=self._device, output_loading_info=True, **options
        )
        absent = sorted(loading["missing_keys"])
        if absent:
            raise Unusable(f"lacks weights of {type(model).__name__}: {', '.join(absent[:5])}")
        return model

    def _adapted(self, path: Path) -> Any:
        from peft import PeftModel

        base = self.base or _base_of(path)
        if base is None:
            raise Unusable(f"{ADAPTER} names no base model; give --base MODEL")
        try:
            model = self._whole(base)
        except (OSError, ValueError) as error:
            first = str(error).partition("\n")[0]
            raise Unusable(f"is an adapter of {base!r}, which cannot be had ({first}); give --base MODEL") from error
        if (path / "tokenizer_config.json").is_file():
            size = len(self.tokenizer_of(path))
            if size > model.get_input_embeddings().weight.shape[0]:
                model.resize_token_embeddings(size)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(model, path)

    @property
    def _device(self) -> str:
        import torch

        if self.device != "auto":
            return self.device
        return "cuda:0" if torch.cuda.is_available() else "cpu"


def _base_of(path: Path) -> str | None:
    try:
        return json.loads((path / ADAPTER).read_bytes()).get("base_model_name_or_path")
    except OSError:
        return None


def _generation_config(name: str, config: Any) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(name)
    except OSError:
        return GenerationConfig.from_model_config(config)


def _class_of(config: Any) -> Any:
    """The model class that was saved, if transformers has it. Raises Unusable: it does not generate text."""
    import transformers

    kind = getattr(transformers, (config.architectures or ["none"])[0], None)
    if kind is not None and not kind.can_generate():
        raise Unusable(f"holds a {kind.__name__}, which completes no text")
    return kind
