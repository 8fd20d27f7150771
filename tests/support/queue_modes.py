"""What would go wrong on a GPU, seen on a CPU: operations that wait for the device, that are not deterministic, or too
many of them."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = {
    "item",
    "tolist",
    "cpu",
    "numpy",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "nonzero",
    "equal",
    "unique",
}
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select", "aten::is_nonzero"}

NOT_DETERMINISTIC = {
    "aten::kthvalue", "aten::histc", "aten::nll_loss2d_forward", "aten::put_", "aten::median.dim", "aten::mode",
    "aten::scatter_reduce", "aten::scatter_reduce_", "aten::bincount", "aten::multinomial", "aten::_embedding_bag",
    "aten::cumprod", "aten::logcumsumexp", "aten::ctc_loss", "aten::_ctc_loss", "aten::resize_",
}  # fmt: skip
"""Of what torch.use_deterministic_algorithms names as raising on CUDA, all that is no backward or convolution."""
RUNNING_SUMS = {"aten::cumsum", "aten::cumsum_"}
"""Of floats."""


def name(func: Any) -> str:
    return func._schema.name + (f".{func._overloadname}" if func._schema.name == "aten::median" else "")


class Deterministic(TorchDispatchMode):
    """Raises where torch would on CUDA with deterministic algorithms."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if name(func) in NOT_DETERMINISTIC or (name(func) in RUNNING_SUMS and args[0].is_floating_point()):
            raise RuntimeError(f"{func} does not have a deterministic implementation on CUDA")
        return func(*args, **(kwargs or {}))


class Waits:
    """Counts the places at which Python or an operation reads a value from the device."""

    def __init__(self) -> None:
        self.count, outer = 0, self

        class Functions(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                outer.count += getattr(func, "__name__", "") in READS
                return func(*args, **(kwargs or {}))

        class Operations(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                by_mask = func._schema.name == "aten::index" and any(
                    i is not None and i.dtype == torch.bool for i in args[1]
                )
                outer.count += func._schema.name in WAITING or by_mask
                return func(*args, **(kwargs or {}))

        self.modes = Functions(), Operations()

    def __enter__(self) -> Waits:
        for mode in self.modes:
            mode.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        for mode in reversed(self.modes):
            mode.__exit__(*raised)


class Operations(TorchDispatchMode):
    """Counts operations that compute (views cost no kernel), those of the model's forward apart."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.forward = self.other = 0
        self._inside = False
        self._hooks = [
            model.register_forward_pre_hook(lambda *_: self._switch(True)),
            model.register_forward_hook(lambda *_: self._switch(False)),
        ]

    def _switch(self, inside: bool) -> None:
        self._inside = inside

    def __exit__(self, *raised: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*raised)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        computes = not func.is_view and func._schema.name not in {"aten::empty", "aten::empty_strided", "aten::detach"}
        if self._inside:
            self.forward += computes
        else:
            self.other += computes
        return out
