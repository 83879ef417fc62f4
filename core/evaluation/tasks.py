"""What a network does under a protocol, and the baselines that come out of the same network.

    front, sides -> reconstruct -> a set a frame -> renders at the truth's cameras
                        └─> interpolate, between every rate-th frame

Baselines: ``frozen`` the first set at every time, ``framewise`` every frame alone, ``blend`` and ``hold`` the renders
of a moment's two neighbours, ``kept`` and ``handed`` the other way to hand side views from chunk to
chunk. Bounds, which see what no video shows: ``true_sides`` true side views at every time, ``seen`` the front video at
the inserted frames as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras
from core.data.side_views import cross_fade, placeholder_views
from core.errors import UserError
from core.evaluation.metrics import Prediction
from core.evaluation.protocol import Protocol
from core.evaluation.truth import Truth
from core.gaussians import Gaussians
from core.images import resize_area
from core.inference.sequence import insert, interpolate, reconstruct
from core.inference.session import Session
from core.options.eval import Baseline
from core.options.side_views import ChunkSideViews
from core.rendering import Renderer

PIXELS_AT_ONCE = 1 << 24  # of one render call


def predict(
    session: Session, truth: Truth, protocol: Protocol, baselines: Iterable[Baseline]
) -> Iterator[tuple[str, Prediction]]:
    """What this session's networks show, under the name ``""``; then the asked baselines that the task has.

    Raises:
        UserError: a checkpoint cannot be used, or the task is interpolation and there is none for it.
    """
    network, size = session.network, (session.network.size, session.network.size)
    front = resize_area(truth.front, size)
    sides = side_views(session, truth, protocol)
    length = protocol.chunk or session.options.data.num_frames
    if protocol.task == "interpolate":
        yield from _interpolated(session, truth, protocol, baselines, front, sides)
        return
    handover = session.options.side_views.chunk_side_views
    sets = stack(moment.gaussians for moment in reconstruct(front, sides, length, network, session.orbit, handover))
    yield "", draw(session.orbit.renderer, sets, truth.cameras, protocol)
    if "frozen" in baselines and protocol.task == "reconstruct":
        frozen = sets.map(lambda field: field[:1].expand_as(field))
        yield "frozen", draw(session.orbit.renderer, frozen, truth.cameras, protocol)
    if "framewise" in baselines and protocol.task == "reconstruct" and network.model.options.use_temp_attn:
        alone = network.reconstruct_alone(front, sides)
        yield "framewise", draw(session.orbit.renderer, alone, truth.cameras, protocol)
    if "true_sides" in baselines and protocol.task == "reconstruct" and truth.true_sides is not None:
        told = resize_area(truth.true_sides, size)
        parts = [network.reconstruct(*chunk) for chunk in zip(front.split(length), told.split(length), strict=True)]
        sets = stack(part[k] for part in parts for k in range(part.shape[0]))
        yield "true_sides", draw(session.orbit.renderer, sets, truth.cameras, protocol)
    others: dict[Baseline, ChunkSideViews] = {"kept": "first", "handed": "previous"}
    for name, other in others.items() if protocol.task == "autoregress" else ():
        if name in baselines and other != handover:
            sets = stack(x.gaussians for x in reconstruct(front, sides, length, network, session.orbit, other))
            yield name, draw(session.orbit.renderer, sets, truth.cameras, protocol)


def _interpolated(
    session: Session, truth: Truth, protocol: Protocol, baselines: Iterable[Baseline], front: Tensor, sides: Tensor
) -> Iterator[tuple[str, Prediction]]:
    """Sets at all frames from every rate-th one; and what its two neighbours alone would give."""
    if session.interpolation is None:
        raise UserError(
            f"protocol {protocol.name} interpolates: give --interpresume, or RECON+INTERP with --compare; "
            f"{session.network.path} has none"
        )
    rate, length = protocol.rate, protocol.chunk or session.options.data.num_frames
    network, orbit, handover = session.network, session.orbit, session.options.side_views.chunk_side_views
    keys = list(reconstruct(front[::rate], sides, length, network, orbit, handover))
    batch = session.options.infer.interp_batch
    parts = (batch, session.interpolation, orbit, session.lanes)
    if session.options.side_views.inserted_side_views == "first":
        ends = front[::rate]
        between = insert(keys, cross_fade(ends[:-1], ends[1:], rate + 1)[:, 1:-1], sides, *parts)
    else:
        between = interpolate(keys, rate, *parts)
    sets = stack(moment.gaussians for moment in between)
    yield "", draw(session.orbit.renderer, sets, truth.cameras, protocol)
    if "seen" in baselines:
        every = stack(x.gaussians for x in reconstruct(front, sides, length, network, orbit, handover))
        yield "seen", draw(session.orbit.renderer, every, truth.cameras, protocol)
    times = torch.arange(len(front))
    before, after = times // rate, (times + rate - 1) // rate
    ends = stack(moment.gaussians for moment in keys)
    if "blend" in baselines:
        weights = rearrange((times % rate) / rate, "t -> t 1 1 1 1")
        first, last = (draw(session.orbit.renderer, ends[at], truth.cameras, protocol) for at in (before, after))
        mixed = ((1 - weights) * a + weights * b for a, b in zip(_images(first), _images(last), strict=True))
        yield "blend", Prediction(*mixed)
    if "hold" in baselines:
        nearest = (times + rate // 2) // rate
        yield "hold", draw(session.orbit.renderer, ends[nearest], truth.cameras, protocol)


def side_views(session: Session, truth: Truth, protocol: Protocol) -> Tensor:
    """Views 1..3 of frame 0 ``[3, 3, S, S]`` as the protocol wants them."""
    size = session.network.size
    if protocol.side_views == "given":
        return resize_area(truth.sides, (size, size))
    if protocol.side_views == "stand_in":
        return placeholder_views(truth.first_frame(size))
    return resize_area(session.seed(truth).lifted.views, (size, size))[1:]


def draw(renderer: Renderer, sets: Gaussians, cameras: Cameras, protocol: Protocol) -> Prediction:
    """Render T sets from their own V cameras."""
    background = torch.tensor(protocol.background)
    step = max(1, PIXELS_AT_ONCE // (cameras.shape[1] * cameras.size[0] * cameras.size[1]))
    starts = range(0, len(cameras.c2w), step)
    parts = [_draw(renderer, sets[i : i + step], cameras[i : i + step], background) for i in starts]
    return Prediction(*(torch.cat(images) for images in zip(*parts, strict=True)))


@torch.inference_mode()
def _draw(renderer: Renderer, sets: Gaussians, cameras: Cameras, background: Tensor) -> tuple[Tensor, Tensor]:
    sets = sets.to("cpu") if renderer.name == "numba" else sets
    output = renderer(sets, cameras.to(sets.means.device), background)
    return output.image.clamp(0, 1).cpu(), output.alpha.clamp(0, 1).cpu()


def stack(sets: Iterable[Gaussians]) -> Gaussians:
    """Single sets as one with leading axes ``[T]``; smaller ones are filled up with Gaussians that show nothing."""
    sets = list(sets)
    most = max(one.num for one in sets)
    filled = ([_filled(field, most) for field in _fields(one)] for one in sets)
    return Gaussians(*(torch.stack(fields) for fields in zip(*filled, strict=True)))


def _filled(field: Tensor, num: int) -> Tensor:
    """Zeros behind the Gaussians of a field ``[N]`` or ``[N, C]``: up to ``num``."""
    return torch.cat([field, field.new_zeros(num - len(field), *field.shape[1:])])


def _images(prediction: Prediction) -> tuple[Tensor, Tensor]:
    return prediction.images, prediction.alpha


def _fields(gaussians: Gaussians) -> tuple[Tensor, ...]:
    return tuple(vars(gaussians).values())
