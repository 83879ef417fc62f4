"""Inference: posed images of a scene in, its other views and a video out.

scene -> inputs -> LaCT.reconstruct -> scene state -> LaCT.render, some views at a time -> PNG, numbers, video
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from core.cameras import Cameras
from core.checkpoint import save_weights
from core.devices import choose_device
from core.errors import UserError
from core.files import atomic_path, check_workspace
from core.images import contact_sheet, save_image, to_uint8
from core.lact import LaCT, SceneState
from core.losses import SSIM_WINDOW, psnr, ssim
from core.lpips import Lpips, load_lpips
from core.media import read_video, write_video
from core.nvs import paths
from core.nvs.scenes import open_scenes
from core.nvs.views import Split, split_views
from core.nvs.weights import load_lact
from core.options.lact import NvsOptions, lact_preset

_log = logging.getLogger(__name__)

FPS = 30
_PIXELS_AT_ONCE = 1 << 20  # of rendered views; bounds the memory whatever their number
_SHEET_COLUMNS = 8


class NovelViews:
    """The network and how it computes; one serves all scenes.

    Raises:
        UserError: a checkpoint or an option that cannot be.
    """

    def __init__(self, options: NvsOptions) -> None:
        self.options = options
        self.device = choose_device(options.device)
        with torch.device("meta"):
            model = LaCT(lact_preset(options.config))
        load_lact(model, options.load)
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.autocast = options.precision == "bf16" or (options.precision == "auto" and self.device.type != "cpu")

    @torch.inference_mode()
    def reconstruct(self, split: Split) -> tuple[SceneState, Cameras, Tensor]:
        """The scene state of the inputs, their cameras ``[v]`` and images."""
        inputs = split.load(split.inputs)
        batch = inputs[None].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return self.model.reconstruct(batch.images, batch.cameras), inputs.cameras, inputs.images

    @torch.inference_mode()
    def render(self, state: SceneState, cameras: Cameras) -> Iterator[Tensor]:
        """Images ``[3, h, w]`` from cameras ``[v]``, some at a time, on the CPU."""
        height, width = cameras.size
        at_once = self.options.views_at_once or max(1, _PIXELS_AT_ONCE // (height * width))
        for start in range(0, len(cameras.c2w), at_once):
            part = cameras[None, start : start + at_once].to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                images = self.model.render(state, part)
            yield from images[0].float().cpu()


def run_inference(options: NvsOptions) -> None:
    """All scenes of ``--data_path``; or only convert a checkpoint.

    Raises:
        UserError: whatever of the input cannot be used.
    """
    if options.convert:
        convert(options)
        return
    if not options.data_path:
        raise UserError("--data_path is missing: give a list of scenes, an opencv_cameras.json or a transforms.json")
    folder = Path(options.output_dir)
    check_workspace(folder)
    scenes = open_scenes(options.data_path)[: options.max_scenes or None]
    network, lpips = NovelViews(options), _lpips(options)
    _log.info("computing in %s on %s", "bfloat16 autocast" if network.autocast else "float32", network.device.type)
    records = []
    for number, scene in enumerate(scenes):
        records.append(do_scene(network, split_views(scene, options), folder / f"sample_{number:06d}", lpips))
        with atomic_path(folder / "metrics.json") as path:
            path.write_text(json.dumps({"mean": _means(records), "scenes": records}, indent=1))
    _log.info("%s", _line("mean", _means(records)))


def do_scene(network: NovelViews, split: Split, stem: Path, lpips: Lpips | None) -> dict:
    """One scene's files, named as published; its record in ``metrics.json``."""
    clock = time.perf_counter()
    state, cameras, inputs = network.reconstruct(split)
    prefill = time.perf_counter() - clock
    views, rows, rendering = [], ([], []), 0.0
    per_part = max(1, _PIXELS_AT_ONCE // (split.size[0] * split.size[1]))
    for start in range(0, len(split.targets), per_part):
        targets = split.load(split.targets[start : start + per_part])
        clock = time.perf_counter()
        images = torch.stack(list(network.render(state, targets.cameras)))
        rendering += time.perf_counter() - clock
        scores = measure(images, targets.images, lpips)
        for i, (image, target) in enumerate(zip(images, targets.images, strict=True)):
            for kind, picture, row in (("rendered", image, rows[0]), ("target", target, rows[1])):
                save_image(picture, stem.with_name(f"{stem.name}_view_{start + i:02d}_{kind}.png"))
                row += [picture] if len(row) < _SHEET_COLUMNS else []
            views.append({"view": split.targets[start + i], **{name: values[i] for name, values in scores.items()}})
    sheet = contact_sheet([inputs[:_SHEET_COLUMNS], *rows], ("inputs", "rendered", "target"))
    save_image(sheet, stem.with_name(f"{stem.name}_sheet.png"))
    write_path_video(network, state, cameras, stem)
    record = {"scene": split.scene.name, "inputs": list(split.inputs), "prefill_seconds": prefill}
    record |= {"views_per_second": len(views) / rendering, **_means(views, leave_out="view"), "views": views}
    _log.info("%s", _line(f"{stem.name} ({split.scene.name})", record))
    return record


def measure(images: Tensor, targets: Tensor, lpips: Lpips | None) -> dict[str, list[float]]:
    """PSNR in dB, SSIM and LPIPS of each of the images ``[v, 3, h, w]``."""
    scores = {"psnr": psnr(images, targets).tolist()}
    if min(images.shape[-2:]) >= SSIM_WINDOW:
        scores["ssim"] = ssim(images, targets).tolist()
    if lpips:
        scores["lpips"] = lpips(images, targets).tolist()
    return scores


def write_path_video(network: NovelViews, state: SceneState, inputs: Cameras, stem: Path) -> None:
    """``_turntable.mp4`` and, under the published name, ``_turntable.gif``; nothing for ``--video none``."""
    options = network.options
    if options.path == "none":
        return
    make = {"interpolate": paths.interpolate, "orbit": paths.orbit, "turntable": lambda c: paths.turntable(c.size)}
    file = stem.with_name(f"{stem.name}_turntable.mp4")
    with write_video(file, FPS, inputs.size) as video:
        for frame in network.render(state, make[options.path](inputs)):
            video.write(frame)
    if options.gif:
        write_gif(file, inputs.size)


def write_gif(video: Path, size: tuple[int, int]) -> None:
    """A video as a ``.gif`` beside it; of ``size`` (height, width), without what was added for even sides."""
    pixels = (to_uint8(frame)[: size[0], : size[1]] for frame in read_video(video).frames())
    # Forty times faster than Pillow's usual choice of colours.
    frames = (Image.fromarray(frame).quantize(256, method=Image.Quantize.FASTOCTREE) for frame in pixels)
    with atomic_path(video.with_suffix(".gif")) as file:
        next(frames).save(file, save_all=True, append_images=frames, duration=1000 // FPS, loop=0)


def convert(options: NvsOptions) -> None:
    """The checkpoint as ``.safetensors``, checked against ``--config``."""
    if Path(options.convert).suffix != ".safetensors":
        raise UserError(f"--convert {options.convert}: give a file name that ends in .safetensors")
    with torch.device("meta"):
        model = LaCT(lact_preset(options.config))
    load_lact(model, options.load)
    save_weights(model, options.convert, lact=json.dumps(vars(model.options)))
    _log.info("wrote %s", options.convert)


def _lpips(options: NvsOptions) -> Lpips | None:
    try:
        return load_lpips() if options.lpips else None
    except UserError as error:
        _log.warning("LPIPS is not measured: %s", error)
        return None


def _means(records: Sequence[dict], leave_out: str = "") -> dict[str, float]:
    """Mean of every number that all records have."""
    names = [name for name, value in records[0].items() if isinstance(value, float | int) and name != leave_out]
    return {name: sum(record[name] for record in records) / len(records) for name in names}


def _line(what: str, numbers: dict) -> str:
    shown = {
        "psnr": "PSNR {:.2f} dB",
        "ssim": "SSIM {:.4f}",
        "lpips": "LPIPS {:.4f}",
        "prefill_seconds": "prefill {:.2f} s",
    }
    shown["views_per_second"] = "{:.1f} views/s"
    return f"{what}: " + ", ".join(text.format(numbers[name]) for name, text in shown.items() if name in numbers)
