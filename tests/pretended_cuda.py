"""A CUDA device for machines without one: tensors that report ``cuda:0`` and hold their values in the CPU's memory.

What fails on a GPU fails here: tensors of two devices in one call (scalars and indices excepted), and NumPy on a CUDA
tensor. Values are those of the CPU's kernels. Only the thread that enters `pretended_cuda` is under it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
_CROSS_DEVICES = {"to", "cpu", "cuda", "copy_", "__set__", "_has_compatible_shallow_copy_type"}
_LEAVES_THE_GPU = {"to", "cpu"}
# What asks the driver, and what it would say on a machine with one GPU.
_DRIVER: dict[str, object] = {
    "torch.cuda.is_available": True,
    "torch.cuda.device_count": 1,
    "torch.cuda.current_device": 0,
    "torch.cuda.set_device": None,
    "torch.cuda.synchronize": None,
    "torch.cuda.get_rng_state": None,
    "torch.cuda.set_rng_state": None,
    "torch.cuda.get_rng_state_all": (),
    "torch.cuda.set_rng_state_all": None,
    "torch.accelerator.is_available": True,
    "torch.accelerator.device_count": 1,
    "torch.accelerator.current_device_index": 0,
    "torch.accelerator.max_memory_allocated": 0,
    "torch.optim.Optimizer._accelerator_graph_capture_health_check": None,
}


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
        if name in ("__getitem__", "__setitem__") and not self.holds(tensors[0]):
            tensors = [tensor for tensor in tensors if tensor.ndim]  # a number on the GPU may be an index anywhere
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
    """A machine with one CUDA device and no CUDA rasteriser, for as long as the block runs."""
    with ExitStack() as stack:
        for name, answer in _DRIVER.items():
            stack.enter_context(patch(name, lambda *_, answer=answer, **__: answer))
        stack.enter_context(patch("torch.accelerator.current_accelerator", lambda *_, **__: torch.device("cuda")))
        stack.enter_context(patch("torch.Tensor.pin_memory", lambda tensor, *_: tensor.clone()))
        stack.enter_context(stand_in_modules({"gsplat": None}))
        AcceleratorState._reset_state(reset_partial_state=True)  # it remembers the device of an earlier training
        stack.callback(AcceleratorState._reset_state, reset_partial_state=True)
        yield stack.enter_context(PretendedCuda())


@contextmanager
def stand_in_gsplat() -> Iterator[list[torch.Size]]:
    """An installed and compiled gsplat whose `rasterization` checks what it gets and paints each view in one colour.

    Yields:
        the shape ``[sets, views]`` of every call.
    """
    calls: list[torch.Size] = []

    def rasterization(*, width: int, height: int, **arguments: object) -> tuple[Tensor, Tensor, dict]:
        check_cuda_arguments(arguments)
        colors, opacities, views = arguments["colors"], arguments["opacities"], arguments["viewmats"]
        calls.append(views.shape[:2])
        # Something of every argument, so that gradients reach all of them.
        alpha = opacities.mean(-1)[:, None] * torch.sigmoid(
            views[..., 2, 3] + arguments["means"].mean((-2, -1))[:, None]
        )
        used = arguments["scales"].mean((-2, -1)) + arguments["quats"].mean((-2, -1))
        color = (colors.mean(-2) + 0.01 * used[:, None])[:, None] * alpha[..., None]
        color = color + (1 - alpha[..., None]) * arguments["backgrounds"]
        pixels = torch.cat([color, alpha[..., None]], dim=-1)[:, :, None, None].expand(-1, -1, height, width, -1)
        return pixels, alpha[:, :, None, None, None].expand(-1, -1, height, width, 1), {}

    modules = {name: ModuleType(name) for name in ("gsplat", "gsplat.cuda", "gsplat.cuda._backend")}
    modules["gsplat"].__spec__ = ModuleSpec("gsplat", None)
    modules["gsplat"].rasterization = rasterization
    modules["gsplat.cuda._backend"]._C = object()
    with stand_in_modules(modules):
        yield calls


@contextmanager
def stand_in_modules(replaced: dict[str, ModuleType | None]) -> Iterator[None]:
    """These modules under their names; None: not installed. What else is imported meanwhile stays."""
    before = {name: sys.modules[name] for name in replaced if name in sys.modules}
    sys.modules.update(replaced)
    try:
        yield
    finally:
        for name in replaced:
            del sys.modules[name]
        sys.modules.update(before)


def check_cuda_arguments(arguments: dict[str, object]) -> None:
    """What the CUDA kernels take: float32 on the GPU, and shapes that belong together."""
    (sets, number), views = arguments["opacities"].shape, arguments["viewmats"].shape[1]
    expected = {
        "means": (sets, number, 3),
        "quats": (sets, number, 4),
        "scales": (sets, number, 3),
        "colors": (sets, number, 3),
        "opacities": (sets, number),
        "viewmats": (sets, views, 4, 4),
        "Ks": (sets, views, 3, 3),
        "backgrounds": (sets, views, 3),
    }
    for name, shape in expected.items():
        tensor = arguments[name]
        found = (tensor.device.type, tensor.dtype, tuple(tensor.shape))
        assert found == ("cuda", torch.float32, shape), (name, *found)
