"""The plain reference: the network, renderer and inference loop put together as the published scripts do it.

Written from the description of how they work: full precision (or autocast) and plain layout, explicit attention scores,
one render call per view, one pair of frames at a time. It uses the same weights and output files, so that it also
checks values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from core.cameras import Cameras
from core.conventions import INPUT_AZIMUTHS
from core.gaussians import RAW_CHANNELS, Gaussians, activate_published
from core.inference.network import Network
from core.inference.session import Session
from core.model import FastL4GM
from core.model.unet import GridAttention, Level, ResidualBlock, UNet
from core.nano.model import NanoL4GM
from core.nano.ray_head import activate_on_rays
from core.nano.scene import Scene
from core.options import ModelOptions, Options
from core.rendering import Renderer, RenderOutput
from core.rendering.orbit import OrbitRenderer
from core.view_grid import ViewGrid


class PlainModel(nn.Module):
    """The network of ``model``, its weights and its head, run the plain way.

    Args:
        autocast: half precision where the published scripts use it (a GPU); None: float32 throughout.
    """

    def __init__(self, model: FastL4GM, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.model, self.autocast = model.to(memory_format=torch.contiguous_format), autocast

    @property
    def unet(self) -> UNet:
        """That of the model; the progress bar of inference counts its levels."""
        return self.model.unet

    def forward(self, grid: ViewGrid, frame_mask: Tensor | None = None, min_opacity: float = 0.0) -> Gaussians:
        """A grid to Gaussians ``[B,T]``; time steps outside the mask are discarded at the end."""
        published = not isinstance(self.model, NanoL4GM)
        scene = None if published else self.model.scene(grid)
        with torch.autocast(grid.images.device.type, self.autocast, enabled=self.autocast is not None):
            raw = self.raw_channels(grid, scene)
        if published:
            gaussians = activate_published(rearrange(raw, "b t v (k c) h w -> b t (v h w k) c", c=RAW_CHANNELS))
        else:
            gaussians = activate_on_rays(raw, scene)
        return gaussians if frame_mask is None else gaussians[frame_mask]

    def raw_channels(self, grid: ViewGrid, scene: Scene | None = None) -> Tensor:
        """The channels before the head, ``[B,T,V,14 k,S,S]``."""
        frames, views = grid.shape[1:]
        features = grid.features() if scene is None else self.model.inputs(grid, scene)
        x = self.model.conv(_unet(self.model.unet, features[grid.index.flatten()], frames, views))
        return rearrange(x, "(b t v) c h w -> b t v c h w", t=frames, v=views)


def _unet(unet: UNet, x: Tensor, frames: int, views: int) -> Tensor:
    x = unet.conv_in(x.to(unet.conv_in.weight.dtype))
    skips = [x]
    for level in unet.down_blocks:
        for j in range(len(level.nets)):
            x = _layer(level, j, x, frames, views)
            skips.append(x)
        if level.downsample is not None:
            x = level.downsample(x)
            skips.append(x)
    for j in range(len(unet.mid_block.nets)):
        x = _layer(unet.mid_block, j, x, frames, views)
    parts: list[Tensor] = []
    coarse_outs = getattr(unet, "coarse_outs", ())
    for i, level in enumerate(unet.up_blocks):
        for j in range(len(level.nets)):
            x = _layer(level, j, torch.cat([x, skips.pop()], dim=1), frames, views)
        if level.upsample is not None:
            x = level.upsample(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        if i < len(coarse_outs):
            parts = [F.interpolate(part, scale_factor=2.0, mode="bilinear") for part in parts]
            parts.append(coarse_outs[i](x))
    return sum(parts, unet.conv_out(F.silu(_norm(unet.norm_out, x))))


def _layer(level: Level, j: int, x: Tensor, frames: int, views: int) -> Tensor:
    x = _block(level.nets[j], x)
    for attentions in (level.attns, level.t_attns):
        if j < len(attentions):
            x = _attend(attentions[j], x, frames, views)
    return x


def _block(block: ResidualBlock, x: Tensor) -> Tensor:
    h = block.conv1(F.silu(_norm(block.norm1, x)))
    h = block.conv2(F.silu(_norm(block.norm2, h)))
    return (h + block.shortcut(x)) * 0.5**0.5


def _norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


def _attend(block: GridAttention, x: Tensor, frames: int, views: int) -> Tensor:
    sizes = {"t": frames, "v": views, "h": x.shape[-2]}
    tokens = rearrange(_norm(block.norm, x), f"(b t v) c h w -> {block.to_tokens}", **sizes)
    attn = block.attn
    q, k, v = rearrange(attn.qkv(tokens), "b l (qkv heads d) -> qkv b heads l d", qkv=3, heads=attn.num_heads)
    scores = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1), dim=-1)
    tokens = attn.proj(rearrange(scores @ v, "b heads l d -> b l (heads d)"))
    return (rearrange(tokens, f"{block.to_tokens} -> (b t v) c h w", **sizes, w=x.shape[-1]) + x) * block.scale


class ViewByView:
    """A renderer that is called once for each view."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer, self.name, self.on_gpu = renderer, renderer.name, renderer.on_gpu

    def __call__(self, gaussians: Gaussians, cameras: Cameras, background: Tensor | None = None) -> RenderOutput:
        """As `core.rendering.base.Renderer`."""
        lead = cameras.shape
        calls = [self.renderer(gaussians, cameras[..., v : v + 1], background) for v in range(lead[-1])]
        images = ([getattr(call, name) for call in calls] for name in ("image", "alpha", "depth"))
        return RenderOutput(*(torch.cat(parts, dim=len(lead) - 1) for parts in images))


class OneByOne(OrbitRenderer):
    """Draws one frame from one azimuth per call."""

    def __call__(
        self,
        gaussians: Gaussians,
        azimuths: Sequence[float] = INPUT_AZIMUTHS,
        *,
        elevations: Sequence[float] | None = None,
        size: int | None = None,
    ) -> Tensor:
        """As `OrbitRenderer`."""
        angles = list(zip(azimuths, elevations or [0.0] * len(azimuths), strict=True))
        draw = super().__call__
        singles = (gaussians[k : k + 1] for k in range(gaussians.shape[0]))
        images = [
            [draw(one, [azimuth], elevations=[elevation], size=size) for azimuth, elevation in angles]
            for one in singles
        ]
        return torch.cat([torch.cat(views, dim=1) for views in images])


def published_loop(options: Options) -> Options:
    """Side views are renders of the previous chunk and of both ends of a pair, as in all presets but nano."""
    side_views = replace(options.side_views, chunk_side_views="previous", inserted_side_views="blend")
    return replace(options, side_views=side_views)


class PlainSession(Session):
    """Inference as published, with the plain network, one pair at a time and one render call for each view."""

    def __init__(self, options: Options) -> None:
        options = published_loop(options)
        super().__init__(replace(options, infer=replace(options.infer, interp_batch=1)))
        self.dtype = torch.float32 if self.device.type == "cpu" else torch.float16
        self.orbit = OneByOne(self.options.camera, self.options.data.output_size, self.device)

    def _load(self, path: str, model: ModelOptions) -> Network:
        network = super()._load(path, model)
        network.model = PlainModel(network.model, None if self.device.type == "cpu" else self.dtype)
        return network
