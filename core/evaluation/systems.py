"""Systems under test: checkpoints, their predictions under a protocol, and baselines with the same networks.

``refined``, with --refine: one set of Gaussians and its motion, see `core.tracking`. Baselines:
``frozen``: the Gaussians of frame 0 at every time. ``framewise``: every frame through the network alone. ``blend`` and
``hold``: renders of the two neighbouring input frames, blended by time, or of the nearer one. ``first_sides`` and
``previous_sides``: the other choice of side views for the next chunk. Oracle upper bounds, with inputs that are not
available at test time: ``oracle_sides``, ground-truth side views of every frame; ``oracle_front``, the input video at
the inserted frames too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from core.cameras import Cameras
from core.checkpoint import TEMPORAL, look_into, stored_model_options
from core.data.side_views import inserted_fronts, placeholder_views
from core.errors import UserError
from core.evaluation.ground_truth import GroundTruth, Prediction
from core.evaluation.protocol import Protocol
from core.gaussians import Gaussians, combine
from core.images import resize_area
from core.inference.refine import refine
from core.inference.sequence import GaussianFrame, insert, interpolate, reconstruct
from core.inference.session import Session
from core.options import PRESETS, ModelOptions, Options
from core.options.eval import Baseline
from core.options.side_views import ChunkSideViews
from core.rendering import Renderer
from core.rendering.orbit import render_in_parts
from core.tracking.tracks import Tracks

# Options of the run, not of the weights: always taken from the command line.
_RUN_OPTIONS = {"input_size", "splat_size", "attention"}

Variants = Iterator[tuple[str, Callable[[], Prediction]]]


@dataclass(frozen=True)
class Checkpoint:
    """A network under test.

    Attributes:
        name: its row in tables.
        options: preset and command line, with this checkpoint's files.
    """

    name: str
    options: Options

    @cached_property
    def session(self) -> Session:
        """Its networks and renderer, loaded when first used."""
        path = self.options.run.resume
        return Session(replace(self.options, model=trained_model(path, self.options.model) if path else None))


def checkpoints(options: Options) -> list[Checkpoint]:
    """``--resume`` and everything in ``--compare``."""
    own = [_parse(options.run.resume, options, options.infer.interpresume)] if options.run.resume else []
    return [*own, *(_parse(text, options, options.infer.interpresume) for text in options.eval.compare)]


def check_names(names: list[str]) -> None:
    """Raise `UserError` where two systems have one name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two systems are called {twice[0]!r}; name them: NAME=FILE with --compare or --predictions")


def split_name(text: str) -> tuple[str, str]:
    """``NAME=REST`` into its parts; without a name it is empty."""
    name, equals, rest = text.partition("=")
    return (name, rest) if equals else ("", text)


def _parse(text: str, options: Options, interpolation: str | None) -> Checkpoint:
    """One checkpoint from ``[NAME=][PRESET:]RECON[+INTERP]``."""
    name, rest = split_name(text)
    preset, colon, path = rest.partition(":")
    if colon and preset in PRESETS:
        given = PRESETS[preset]
        infer = replace(options.infer, interpresume=given.infer.interpresume)
        camera = replace(given.camera, renderer=options.camera.renderer)
        options = replace(given, run=options.run, infer=infer, camera=camera, eval=options.eval)
        rest, interpolation = path, infer.interpresume
    recon, _, interp = rest.partition("+")
    if not recon:
        raise UserError(f"--compare {text!r} names no checkpoint; give [NAME=][PRESET:]FILE[+FILE]")
    infer = replace(options.infer, interpresume=interp or interpolation)
    run = replace(options.run, resume=recon)
    return Checkpoint(name or Path(recon).stem, replace(options, run=run, infer=infer))


def trained_model(path: str, options: ModelOptions) -> ModelOptions:
    """The options of the network that a checkpoint holds.

    A training run stores them in the file. For other files they are those of the preset, except for temporal attention,
    which the names of the tensors show.

    Args:
        path: the checkpoint.
        options: of the command line; image sizes always come from here.

    Raises:
        UserError: the file cannot be read.
    """
    names, metadata = look_into(path)
    temporal = any(TEMPORAL in name for name in names)
    stored = stored_model_options(metadata)
    known = {field.name for field in fields(ModelOptions)} - _RUN_OPTIONS
    values = {name: _tupled(value) for name, value in stored.items() if name in known}
    values = {**values, "use_temp_attn": temporal}
    levels = (
        len(values.get("down_channels", options.down_channels)),
        len(values.get("up_channels", options.up_channels)),
    )
    splat_size = options.input_size // 2 ** (levels[0] - levels[1])
    return replace(options, **values, splat_size=splat_size)


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Trial:
    """The networks of a session on one object under one protocol.

    input video, side views -> reconstruct -> Gaussians of every frame -> renders at the compared cameras
                                   └─> interpolate, between every rate-th frame
    """

    session: Session
    ground_truth: GroundTruth
    protocol: Protocol

    def predictions(self, baselines: Collection[Baseline]) -> Iterator[tuple[str, Prediction]]:
        """Predictions of the networks, under the name ``""``; then the chosen baselines of the task.

        Raises:
            UserError: a checkpoint cannot be used, or the task is interpolation and there is none for it.
        """
        tasks = {"interpolate": self._interpolated, "autoregress": self._in_chunks, "reconstruct": self._reconstructed}
        for name, predict in tasks.get(self.protocol.task, self._still)():
            if name in ("", "refined", *baselines):
                yield name, predict()

    @cached_property
    def front(self) -> Tensor:
        """The input video ``[T, 3, S, S]`` at the network's size."""
        return resize_area(self.ground_truth.front, (self.session.network.size,) * 2)

    @cached_property
    def sides(self) -> Tensor | None:
        """Views 1..3 of frame 0 ``[3, 3, S, S]``, from the source that the protocol names; None: source ``none``."""
        size = self.session.network.size
        if self.protocol.side_views == "first":
            return resize_area(self.ground_truth.first_sides, (size, size))
        if self.protocol.side_views == "none":
            return None
        return resize_area(self.session.lift(self.ground_truth).lifted.views, (size, size))[1:]

    @property
    def length(self) -> int:
        """Frames that the network sees at once."""
        return self.protocol.chunk or self.session.options.data.num_frames

    @property
    def chunk_side_views(self) -> ChunkSideViews:
        """Side views of the next chunk, as the protocol or else the options say."""
        return self.protocol.chunk_side_views or self.session.options.side_views.chunk_side_views

    def _reconstruct(self, front: Tensor, chunk_side_views: ChunkSideViews | None = None) -> list[GaussianFrame]:
        session, source = self.session, chunk_side_views or self.chunk_side_views
        parts = (self.sides, self.length, session.network, session.orbit, source)
        return list(reconstruct(front, *parts, predictor=session.predictor_for(source)))

    def _draw(self, gaussians: Gaussians) -> Prediction:
        return draw(self.session.orbit.renderer, gaussians, self.ground_truth.cameras, self.protocol)

    def _draw_frames(self, frames: Iterable[GaussianFrame]) -> Prediction:
        return self._draw(stack(frame.gaussians for frame in frames))

    def _still(self) -> Variants:
        yield "", lambda: self._draw_frames(self._reconstruct(self.front))

    def _reconstructed(self) -> Variants:
        network = self.session.network
        frames = self._reconstruct(self.front)
        gaussians = stack(frame.gaussians for frame in frames)
        yield "", lambda: self._draw(gaussians)
        if self.session.options.refine.refine:
            yield "refined", lambda: self._draw(self._tracks(self.front, frames).gaussians)
        yield "frozen", lambda: self._draw(gaussians.map(lambda field: field[:1].expand_as(field)))
        if network.model.options.use_temp_attn:
            yield "framewise", lambda: self._draw(network.reconstruct_alone(self.front, self.sides))
        if self.ground_truth.oracle_sides is not None:
            yield "oracle_sides", self._with_oracle_sides

    def _with_oracle_sides(self) -> Prediction:
        network = self.session.network
        sides = resize_area(self.ground_truth.oracle_sides, (network.size, network.size))
        chunks = zip(self.front.split(self.length), sides.split(self.length), strict=True)
        return self._draw(stack(one for chunk in chunks for one in _frames(network.reconstruct(*chunk))))

    def _in_chunks(self) -> Variants:
        yield "", lambda: self._draw_frames(self._reconstruct(self.front))
        others: dict[Baseline, ChunkSideViews] = {"first_sides": "first", "previous_sides": "previous"}
        for name, source in others.items():
            if source != self.chunk_side_views:
                yield name, lambda source=source: self._draw_frames(self._reconstruct(self.front, source))

    def _interpolated(self) -> Variants:
        if self.session.interpolation is None:
            raise UserError(
                f"protocol {self.protocol.name} interpolates: give --interpresume, or RECON+INTERP with --compare; "
                f"{self.session.network.path} has none"
            )
        ends = self._reconstruct(self.front[:: self.protocol.rate])
        yield "", lambda: self._draw_frames(self._inserted(ends))
        if self.session.options.refine.refine:
            yield "refined", lambda: self._draw(self._moved(self._tracks(self.front[:: self.protocol.rate], ends)))
        yield "oracle_front", lambda: self._draw_frames(self._reconstruct(self.front))
        yield "blend", partial(self._blended, ends)
        yield "hold", partial(self._held, ends)

    def _tracks(self, front: Tensor, frames: list[GaussianFrame]) -> Tracks:
        return refine(self.session, front, self.sides, frames, Fraction(self.protocol.frame_rate)).tracks

    def _moved(self, tracks: Tracks) -> Gaussians:
        """The tracked object at all frames, the input being every rate-th one."""
        return stack(tracks.at(Fraction(t, self.protocol.rate)) for t in range(len(self.front)))

    def _inserted(self, ends: list[GaussianFrame]) -> Iterator[GaussianFrame]:
        """All frames from every rate-th one."""
        session, rate = self.session, self.protocol.rate
        rest = (session.options.infer.interp_batch, session.interpolation, session.orbit, session.interpolation_workers)
        if session.options.side_views.inserted_side_views != "first":
            return interpolate(ends, rate, *rest)
        sides = placeholder_views(self.front[0]) if self.sides is None else self.sides
        return insert(ends, inserted_fronts(self.front[::rate], rate), sides, *rest)

    def _blended(self, ends: list[GaussianFrame]) -> Prediction:
        """Renders of the frames before and after, blended by time."""
        rate, times = self.protocol.rate, torch.arange(len(self.front))
        weights = rearrange((times % rate) / rate, "t -> t 1 1 1 1")
        gaussians = stack(frame.gaussians for frame in ends)
        before, after = (self._draw(gaussians[at]) for at in (times // rate, (times + rate - 1) // rate))
        pairs = ((before.images, after.images), (before.alpha, after.alpha))
        return Prediction(*((1 - weights) * a + weights * b for a, b in pairs))

    def _held(self, ends: list[GaussianFrame]) -> Prediction:
        """Renders of the nearer one of the frames before and after."""
        rate, times = self.protocol.rate, torch.arange(len(self.front))
        return self._draw(stack(frame.gaussians for frame in ends)[(times + rate // 2) // rate])


def draw(renderer: Renderer, gaussians: Gaussians, cameras: Cameras, protocol: Protocol) -> Prediction:
    """Render T frames ``[T]`` of Gaussians, each from its own V cameras ``[T, V]``."""
    images, alpha = render_in_parts(renderer, gaussians, cameras, torch.tensor(protocol.background))
    return Prediction(images.cpu(), alpha.cpu())


def stack(frames: Iterable[Gaussians]) -> Gaussians:
    """Gaussians of T frames as one with leading axes ``[T]``; frames with fewer are padded with transparent ones."""
    frames = list(frames)
    count = max(frame.num for frame in frames)
    return combine([frame.map(lambda field: _padded(field, count)) for frame in frames], torch.stack)


def _padded(field: Tensor, count: int) -> Tensor:
    """A field ``[N]`` or ``[N, C]`` with zeros appended up to ``count``."""
    return torch.cat([field, field.new_zeros(count - len(field), *field.shape[1:])])


def _frames(gaussians: Gaussians) -> Iterator[Gaussians]:
    return (gaussians[t] for t in range(gaussians.shape[0]))
