"""LaCT beside the same network with attention over all input tokens: writing a scene, and rendering views of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Call, MachineLimits, Row, compared, in_rounds
from core.cameras import Cameras
from core.lact import LaCT, SceneState
from core.nvs.paths import look_at_origin
from core.options.lact import LactOptions, Mixer, lact_preset

MIXERS: tuple[Mixer, ...] = ("lact", "attention")
TARGETS = 4


def novel_views(rounds: int, tiny: bool, device: torch.device) -> dict[str, list[Row]]:
    """Rows of 8 inputs and more, ours LaCT, the reference attention: on a CPU ``nano``, on a GPU the published l24."""
    on_gpu = device.type != "cpu"
    config = "l24_d768_ttt2x" if on_gpu and not tiny else "nano"
    counts, side = ((2, 4), 16) if tiny else ((8, 32, 128), 256) if on_gpu else ((8, 32, 128), 64)
    limits = MachineLimits.measured(device, side=128 if tiny else 2048)
    return speed(min(rounds, 3), counts, side, device, config, limits.half if on_gpu else limits.float32)


def speed(
    rounds: int, counts: Sequence[int], side: int, device: torch.device, config: str, rate: float
) -> dict[str, list[Row]]:
    """Rows for each number of inputs of ``side`` pixels; ``rate``: operations a second of a matrix product."""
    on_gpu = device.type != "cpu"
    models = {mixer: make_network(replace(lact_preset(config), mixer=mixer), device) for mixer in MIXERS}
    prefill, rendering, sizes = [], [], []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
        for count in counts:
            scenes = {mixer: Scene(model, count, side, device) for mixer, model in models.items()}
            for rows, name in ((prefill, "reconstruct"), (rendering, "render")):
                calls: dict[str, Call] = {mixer: getattr(scene, name) for mixer, scene in scenes.items()}
                times = in_rounds(calls, rounds, device)
                bound = operations(calls["lact"]) / rate
                rows.append(compared(f"{count} inputs", times["lact"], times["attention"], None, bound))
            megabytes = {mixer: scene.state_bytes() / 1e6 for mixer, scene in scenes.items()}
            sizes.append({"row": f"{count} inputs", **{f"{mixer} MB": value for mixer, value in megabytes.items()}})
    return {
        "novel views, inputs written": prefill,
        f"novel views, {TARGETS} targets rendered": rendering,
        "novel views, state of a scene": sizes,
    }


def make_network(options: LactOptions, device: torch.device) -> LaCT:
    """With random weights."""
    torch.manual_seed(0)
    return LaCT(options).eval().requires_grad_(False).to(device)


def operations(call: Call) -> int:
    """Of a call: two for a multiplication and an addition."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


class Scene:
    """Noise seen from cameras around the origin."""

    def __init__(self, model: LaCT, views: int, side: int, device: torch.device) -> None:
        self.model, self.images = model, torch.rand(1, views, 3, side, side, device=device)
        self.inputs, self.targets = (_around(count, side).to(device) for count in (views, TARGETS))
        self.state = self.reconstruct()

    def reconstruct(self) -> SceneState:
        """Write the inputs."""
        return self.model.reconstruct(self.images, self.inputs)

    def render(self) -> torch.Tensor:
        """Render the targets."""
        return self.model.render(self.state, self.targets)

    def state_bytes(self) -> int:
        """Of what the network keeps of the inputs."""
        return sum(tensor.nbytes for memory in self.state for tensor in memory)


def _around(count: int, side: int) -> Cameras:
    azimuth = torch.arange(count) * 360 / count
    c2w = look_at_origin(azimuth, torch.full((count,), 20.0), torch.full((count,), 2.7))
    intrinsics = torch.tensor([[1.07 * side, 0, side / 2], [0, 1.07 * side, side / 2], [0, 0, 1]])
    return Cameras(c2w[None], intrinsics.expand(1, count, 3, 3), (side, side))
