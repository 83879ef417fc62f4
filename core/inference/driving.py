"""Pictures become videos: what the script ``gen_vid.py`` does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from core.devices import choose_device
from core.guidance.svd import Settings, SvdFolder, VideoDiffusion
from core.inference.inputs import Source, open_sources
from core.inference.network import choose_diffusion_dtype
from core.inference.outputs import input_outputs
from core.media import write_video
from core.options.gen_vid import GenVidOptions
from core.options.input import InputOptions

WIDE = 16 / 9
_STRIDE = 64  # pixels of which sides are multiples


def generate_videos(options: GenVidOptions) -> Iterator[Path]:
    """Write ``NAME_generated.mp4`` for every input: its object on white, centred, in motion.

    Raises:
        UserError: of inputs as `open_sources`; packages or weights are missing; a file cannot be written.
    """
    matte = InputOptions(matte=options.matte, matte_model=options.matte_model)
    sources = open_sources(
        options.test_path, options.workspace, matte, lambda name: [_name(name), *input_outputs(name)], recenter=True
    )
    diffusion = _load(options)
    return (_generate(source, diffusion, options) for source in sources)


def _name(name: str) -> str:
    return f"{name}_generated.mp4"


def _load(options: GenVidOptions) -> VideoDiffusion:
    device = choose_device(options.device)
    dtype = choose_diffusion_dtype(options.precision, device)
    settings = Settings(
        options.diffusion_steps, options.guidance_scale, options.motion, options.augmentation, options.fps
    )
    return VideoDiffusion(SvdFolder.open(options.svd, options.download).pipeline(device, dtype), settings)


def _generate(source: Source, diffusion: VideoDiffusion, options: GenVidOptions) -> Path:
    path, size = Path(options.workspace, _name(source.name)), options.size
    margin = _margin(size) if options.pad else 0
    picture = F.pad(source.first_frame(size), (margin, margin), value=1.0)
    with tqdm(total=options.diffusion_steps, desc=source.name, unit="step", disable=None) as bar:
        noise = torch.Generator().manual_seed(options.seed)
        video: Tensor = diffusion.video(picture, options.num_frames, noise, lambda _: bar.update())
    with write_video(path, options.fps, (size, size)) as file:
        for frame in video[..., margin : margin + size]:
            file.write(frame)
    return path


def _margin(size: int) -> int:
    """Pixels at either side that make a square wide."""
    return (round(size * WIDE / _STRIDE) * _STRIDE - size) // 2
