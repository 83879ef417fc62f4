"""Speed of the CPU renderer: targets relative to a matrix product, scaling, threads, and the first call of a new
process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.measure import Call, Row, in_rounds
from core.cameras import Cameras, orbit_cameras
from core.gaussians import Gaussians
from core.rendering import make_renderer

RENDERER = make_renderer("numba")
CPU = torch.device("cpu")
TILE = 16

# In a new process, seconds on the clock and of processor time: numba imported, first image drawn, first gradients.
FIRST_CALL = """
import json, time
import torch
marks = [(time.perf_counter(), time.process_time())]
mark = lambda: marks.append((time.perf_counter(), time.process_time()))
from core.cameras import orbit_cameras
from core.gaussians import Gaussians
from core.rendering import make_renderer
renderer = make_renderer("numba")
mark()
fields = [torch.rand(1, 1, 999, *shape, requires_grad=True) for shape in [(3,), (), (3,), (4,), (3,)]]
image = renderer(Gaussians(*fields), orbit_cameras(torch.zeros(1, 1, 1))).image
mark()
image.sum().backward()
mark()
print(json.dumps([[clock - marks[0][0], cpu - marks[0][1]] for clock, cpu in marks[1:]]))
"""


def surface(num: int, frames: int = 1, sigma: float = 0.01) -> Gaussians:
    """Anisotropic Gaussians near a sphere of radius 0.6, mixed opacity, as networks predict them."""
    generator = torch.Generator().manual_seed(num)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(1, frames, num, *shape, generator=generator)

    return Gaussians(
        means=0.6 * torch.nn.functional.normalize(normal(3), dim=-1) + 0.02 * normal(3),
        opacities=0.05 + 0.95 * torch.rand(1, frames, num, generator=generator),
        scales=sigma * torch.exp(0.5 * normal(3)),
        quats=normal(4),
        colors=torch.rand(1, frames, num, 3, generator=generator),
    )


def around(views: int, size: int, frames: int = 1) -> Cameras:
    """Cameras all around the horizon."""
    azimuths = torch.arange(views) * (360.0 / views)
    return orbit_cameras(azimuths.expand(1, frames, views), size=(size, size))


def forward(gaussians: Gaussians, cameras: Cameras) -> Call:
    """A call without gradients."""

    def call() -> None:
        with torch.no_grad():
            RENDERER(gaussians, cameras)

    return call


def forward_backward(gaussians: Gaussians, cameras: Cameras) -> Call:
    """A call with gradients of image and alpha for every field."""
    gaussians = gaussians.map(lambda field: field.clone().requires_grad_())

    def call() -> None:
        out = RENDERER(gaussians, cameras)
        torch.autograd.backward([out.image, out.alpha], [torch.ones_like(out.image), torch.ones_like(out.alpha)])

    return call


def view_by_view(gaussians: Gaussians, cameras: Cameras) -> Call:
    """The same kernels as the published scripts would use them: one call for each view."""
    calls = [forward(gaussians, cameras[:, :, view : view + 1]) for view in range(cameras.shape[2])]
    return lambda: [call() for call in calls]


def tile_pairs(gaussians: Gaussians, cameras: Cameras) -> int:
    """Pairs of a Gaussian and a 16-pixel tile that its bounding square touches, over all images.

    A square of 3.33 mean standard deviations: near enough to compare how costs grow.
    """
    pairs = 0
    for view in range(cameras.shape[2]):
        camera, one = cameras[0, 0, view], gaussians[0, 0]
        pixels, depth = camera.project(one.means)
        radius = 3.33 * (0.3 + (one.scales.mean(dim=-1) * camera.intrinsics[0, 0] / depth) ** 2).sqrt()
        low = ((pixels - radius[:, None]) / TILE).floor().clamp(min=0)
        high = ((pixels + radius[:, None]) / TILE).floor().clamp(max=(camera.size[0] - 1) // TILE)
        pairs += int((high - low + 1).clamp(min=0).prod(dim=-1).sum())
    return pairs


def render(rounds: int, tiny: bool, device: torch.device) -> dict[str, list[Row]]:
    """All tables of the renderer."""
    small = 16 if tiny else 1
    return {
        "rendering, bars": bars(rounds, small),
        "rendering, growth": growth(rounds, small),
        "rendering, threads": threads(rounds, small),
        "rendering, a new process": first_call(),
    }


def bars(rounds: int, smaller: int) -> list[Row]:
    """The rows that have a bar, as multiples of the matrix product; all counts divided by ``smaller``."""
    big, few = surface(65536 // smaller), surface(16384 // smaller)
    big_camera, cameras = around(1, 512 // smaller), around(64, 128 // smaller)
    rows = [
        ("65,536 Gaussians, 512x512, forward", 0.45, forward(big, big_camera)),
        ("the same, forward and backward", 1.5, forward_backward(big, big_camera)),
        ("64 views of 16,384, 128x128, one call", 2.0, forward(few, cameras)),
        ("the same, view by view", None, view_by_view(few, cameras)),
        (
            "32 training views of 16,384, 128x128",
            None,
            forward_backward(surface(16384 // smaller, 4), around(8, 128 // smaller, 4)),
        ),
    ]
    a, b = torch.randn(2, 2048 // smaller, 2048 // smaller)
    calls = {"product": lambda: a @ b, **{name: call for name, _, call in rows}}
    times = in_rounds(calls, rounds, CPU)
    return [
        {"row": name, "ms": 1e3 * times[name], "x product": times[name] / times["product"], "bar": bar or ""}
        for name, bar, _ in rows
    ]


def growth(rounds: int, smaller: int) -> list[Row]:
    """Times over N, image size and views, beside the pixels and pairs that they may grow with.

    A pair costs twenty times as much as a pixel, so a sum of both would seem to grow where only its mixture changes:
    what a single Gaussian takes, the pixels and the call, is taken off before dividing by the pairs.
    """
    cases = [("N", num, 256, 1) for num in (4096, 16384, 65536, 262144)]
    cases += [("size", 16384, size, 1) for size in (64, 128, 256, 512, 1024)]
    cases += [("views", 16384, 128, views) for views in (1, 4, 16, 64)]
    rows = []
    for over, num, size, views in cases:
        gaussians, cameras = surface(num // smaller), around(views, size // smaller)
        calls = {
            "forward": forward(gaussians, cameras),
            "forward, one Gaussian": forward(surface(1), cameras),
            "with gradients": forward_backward(gaussians, cameras),
            "with gradients, one Gaussian": forward_backward(surface(1), cameras),
        }
        times = in_rounds(calls, max(1, rounds // 2), CPU)
        pairs = tile_pairs(gaussians, cameras)
        row: Row = {"over": over, "N": num // smaller, "size": size // smaller, "views": views, "pairs": pairs}
        for kind in ("forward", "with gradients"):
            alone = times[f"{kind}, one Gaussian"]
            row |= {f"{kind} ms": 1e3 * times[kind], f"{kind}, one Gaussian ms": 1e3 * alone}
            row |= {f"{kind}, ns a pair": 1e9 * (times[kind] - alone) / pairs}
        rows.append(row)
    return rows


def threads(rounds: int, smaller: int) -> list[Row]:
    """64 views and one large image on one thread up to all of them; the bar is 1 / 1.3 of as many times faster."""
    every, rows = torch.get_num_threads(), []
    scenes = {
        "64 views": (surface(16384 // smaller), around(64, 128 // smaller)),
        "one image": (surface(65536 // smaller), around(1, 512 // smaller)),
    }

    def on(count: int, call: Call) -> Call:
        def run() -> None:
            torch.set_num_threads(count)
            call()

        return run

    for name, scene in scenes.items():
        for kind, make in (("forward", forward), ("forward and backward", forward_backward)):
            call = make(*scene)
            times = in_rounds({f"{count}": on(count, call) for count in {1, every}}, rounds, CPU)
            bar = every / 1.3 if name == "64 views" and kind == "forward" else ""
            speedup = times["1"] / times[f"{every}"]
            rows.append({"scene": name, "kind": kind, "threads": every, "faster than one": speedup, "bar": bar})
    torch.set_num_threads(every)
    return rows


def first_call() -> list[Row]:
    """Seconds in new processes, with kernels from the disk (the first of them only makes sure that they are there)."""
    root = Path(__file__).parents[1]
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", FIRST_CALL], check=True, capture_output=True, text=True, cwd=root)
    steps = {"numba imported": "", "first image": 2.0, "first gradients": ""}
    return [
        {"until": step, "seconds": clock, "processor seconds": cpu, "bar": bar}
        for (step, bar), (clock, cpu) in zip(steps.items(), json.loads(run.stdout), strict=True)
    ]
