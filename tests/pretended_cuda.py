"""A CUDA device for machines without one: tensors that report ``cuda:0`` and hold their values in the CPU's memory.

What fails on a GPU fails here: tensors of two devices in one call (scalars and indices excepted), and NumPy on a CUDA
tensor. Values are those of the CPU's kernels. Only the thread that enters `pretended_cuda` is under it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
_CROSS_DEVICES = {"to", "cpu", "cuda", "copy_", "__set__", "_has_compatible_shallow_copy_type"}
_LEAVES_THE_GPU = {"to", "cpu"}


class PretendedCuda(TorchFunctionMode):
    """Runs every torch call on the CPU and keeps account of the storages that would lie on the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self._storages: dict[int, StorageWeakRef] = {}  # weak references keep an address from being used again

    def holds(self, tensor: Tensor) -> bool:
        """Whether the tensor is on the pretended device."""
        return tensor.untyped_storage()._cdata in self._storages

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        name = getattr(func, "__name__", "")
        if func is torch.device or name == "_parse_to":  # these speak of devices and hold nothing
            return GPU if args == (0,) else func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs or {}))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        on_gpu = [tensor for tensor in tensors if self.holds(tensor)]
        if on_gpu:
            if func == Tensor.device.__get__ or func == Tensor.is_cuda.__get__:
                return GPU if func == Tensor.device.__get__ else True
            self._refuse(name, tensors, on_gpu)
        asked = _device_in(name, leaves, kwargs or {})
        target = asked or (GPU if on_gpu else CPU)
        result = func(*tree_map(_on_cpu, args), **tree_map(_on_cpu, kwargs or {}))
        if name in _LEAVES_THE_GPU and bool(on_gpu) != (target == GPU):
            result = result.clone()  # a copy on the other device, even where the CPU's kernel gave its own input
        return self._marked(result) if target == GPU else result

    def _refuse(self, name: str, tensors: list[Tensor], on_gpu: list[Tensor]) -> None:
        if name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        index = name in ("__getitem__", "__setitem__") and self.holds(tensors[0])
        mixed = any(tensor.ndim and not self.holds(tensor) for tensor in tensors)
        if mixed and not index and name not in _CROSS_DEVICES:
            raise RuntimeError(f"{name}: expected all tensors on the same device, but found cuda:0 and cpu")

    def _marked(self, result: object) -> object:
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._storages.setdefault(storage._cdata, StorageWeakRef(storage))
        return result


def _device_in(name: str, leaves: list, kwargs: dict) -> torch.device | None:
    """The device that a call names; an argument, or the text in ``to("cpu")``."""
    if name == "cpu":
        return CPU
    text = [leaf for leaf in leaves if isinstance(leaf, str)] if name == "to" or "device" in kwargs else []
    named = [leaf for leaf in leaves if isinstance(leaf, torch.device)] or [torch.device(word) for word in text[:1]]
    return (GPU if named[0].type == GPU.type else CPU) if named else None


def _on_cpu(leaf: object) -> object:
    gpu = (isinstance(leaf, torch.device) and leaf.type == GPU.type) or (isinstance(leaf, str) and leaf[:4] == GPU.type)
    return CPU if gpu else leaf


@contextmanager
def pretended_cuda() -> Iterator[PretendedCuda]:
    """A machine with one CUDA device, for as long as the block runs."""
    with (
        patch("torch.cuda.is_available", lambda: True),
        patch("torch.cuda.device_count", lambda: 1),
        patch("torch.cuda.synchronize", lambda *_: None),
        PretendedCuda() as device,
    ):
        yield device
