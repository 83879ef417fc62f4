"""The fit: canonical Gaussians and their motion by gradient descent, in three stages.

    canonical  frame 0 to its views: what is known from all sides
    track      frame after frame: the pose of the whole object, then its nodes from where the known motion or else the
               frame before has them, coarse pixels first
    joint      everything: some frames a step, the video from the front and the feed-forward sequence from elsewhere

Random numbers come from one generator: the same input, options, seed and machine give the same result. Ctrl-C ends the
fit with what it has; it can go on from its file later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.gaussians import Gaussians, combine
from core.options.refine import RefineOptions
from core.rendering import Renderer
from core.tracking.canonical import Canonical, jittered
from core.tracking.deformation import DeformationField, arap_term, make_field, velocity_term
from core.tracking.image_loss import RGB, image_loss
from core.tracking.motion_network import Motion, VideoMotion
from core.tracking.nodes import SHIFT_RATE, TURN_RATE, NodeField
from core.tracking.observations import Observations, Views
from core.tracking.pose import Pose, centre_of, find_pose, follow_pose, posed, still

SLOWEST = 0.1  # the rate of the last step of a stage, as a share of the first
BETAS = (0.9, 0.99)
SAVE_EVERY = 50  # steps of a stage
STAGES = ("canonical", "track", "joint")

Report = Callable[[str, int, int], None]
"""Takes the stage's name, the step and the number of steps."""
Guide = Callable[[Callable[[Tensor], Gaussians], float, torch.Generator], Tensor]
"""Takes the object at frames ``[T]``, the share of the steps that are done, and random numbers; gives a loss in units
of the video's mean squared error. `core.guidance` has them."""

_log = logging.getLogger(__name__)


@dataclass
class Place:
    """Where a fit is.

    Attributes:
        stage: number in `STAGES`; 3: done.
        step: steps done in it.
    """

    stage: int = 0
    step: int = 0


class Fit:
    """The optimisation of one object.

    Args:
        start: feed-forward Gaussians of frame 0, no leading axes.
        observations: what it is fitted to; `start` is on their device.
        options: of the fit.
        renderer: draws.
        generator: on the CPU; chooses frames and cameras.
        guide: a further term of the joint stage.
        motions: of the object, on the device of `start`, near which nodes stay; None: not known.
    """

    def __init__(
        self,
        start: Gaussians,
        observations: Observations,
        options: RefineOptions,
        renderer: Renderer,
        generator: torch.Generator,
        guide: Guide | None = None,
        motions: VideoMotion | None = None,
    ) -> None:
        self.guide = guide
        self.observations, self.options, self.renderer, self.generator = observations, options, renderer, generator
        self.start = start
        self.canonical = Canonical(start).to(start.means.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            self.motion: DeformationField = make_field(
                options.deformation, start, observations.num_frames, options.nodes
            )
        self.motions = motions if isinstance(self.motion, NodeField) else None
        self._take_motions()
        self.place = Place()
        self.optimizer: torch.optim.Adam | None = None

    def steps(self, stage: int) -> int:
        """Steps of a stage."""
        options, frames = self.options, self.observations.num_frames
        track = (frames - 1) * options.track_steps if isinstance(self.motion, NodeField) else 0
        return (options.canonical_steps, track, options.joint_steps)[stage]

    def run(self, report: Report = lambda *_: None, save: Callable[[Fit], None] = lambda _: None) -> bool:
        """Go to the end; True where it came there, False where Ctrl-C stopped it before.

        Args:
            report: called after each step.
            save: called now and then, at places from which `run` can go on.
        """
        try:
            while self.place.stage < len(STAGES):
                self._run_stage(report, save)
                self.place, self.optimizer = Place(self.place.stage + 1), None
        except KeyboardInterrupt:
            stage = STAGES[min(self.place.stage, len(STAGES) - 1)]
            _log.info("the fit was stopped in stage %s; what it has is written", stage)
            if stage == "track" and self.motions is None:
                self._hold_last_frame()
            return False
        return True

    @torch.no_grad()
    def _hold_last_frame(self) -> None:
        """Frames that were not reached stay like the last one that was, and do not jump back to the first."""
        last = self.place.step // max(1, self.options.track_steps)
        for motion in (self.motion.turns, self.motion.shifts):
            motion[last + 1 :] = motion[last]

    @torch.no_grad()
    def frames(self, most: int | None = None) -> Gaussians:
        """The object at all frames of the video, or the first ``most``: leading axes ``[T]``."""
        times = range(self.observations.num_frames)[:most]
        parts = [self.motion(self.canonical(), torch.tensor([t])) for t in times]
        return combine(parts, torch.cat)

    def _run_stage(self, report: Report, save: Callable[[Fit], None]) -> None:
        name, place = STAGES[self.place.stage], self.place
        take = {"canonical": self._first_frame_step, "track": self._track_frame, "joint": self._joint_step}[name]
        every = self.options.track_steps if name == "track" else 1
        while place.step < self.steps(place.stage):
            take(place.step)
            place.step += every
            report(name, place.step, self.steps(place.stage))
            if place.step // SAVE_EVERY != (place.step - every) // SAVE_EVERY:
                save(self)

    def adam(self) -> torch.optim.Adam:
        """The optimiser of the stage that runs, canonical or joint; made at its first step."""
        if self.optimizer is None:
            motion = self.motion.parameter_groups() if STAGES[self.place.stage] == "joint" else []
            self.optimizer = _adam([*self.canonical.parameter_groups(), *motion])
        return self.optimizer

    def _descend(self, loss: Tensor, optimizer: torch.optim.Adam, done: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * SLOWEST**done
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def _first_frame_step(self, step: int) -> None:
        optimizer = self.adam()
        loss = self._first_frame_loss(self._jittered()[None]) + self._canonical_terms()
        self._descend(loss, optimizer, step / self.options.canonical_steps)

    def _jittered(self) -> Gaussians:
        return jittered(self.canonical(), self.options.noise, self.generator)

    def _first_frame_loss(self, first: Gaussians) -> Tensor:
        seen, bank = self.observations, self._drawn_views(torch.tensor([0]), 2)
        loss = self._image_loss(first, seen.front[:1]) + 3 * self._image_loss(first, seen.first)
        return loss + self._image_loss(first, bank)

    def _joint_step(self, step: int) -> None:
        options, count = self.options, self.observations.num_frames
        optimizer = self.adam()
        gaussians = self._jittered()
        chosen = self._drawn_frames(max(1, min(count - 1, 4)))
        moved = self.motion(gaussians, torch.cat([torch.zeros(1, dtype=torch.int64), chosen]))
        loss = self._first_frame_loss(moved[:1]) + self._canonical_terms() + self._motion_terms(gaussians)
        if count > 1:
            now, seen = moved[1:], self.observations
            loss = loss + 4 * self._image_loss(now, seen.front[chosen])
            if options.trust:
                trust = options.trust * seen.trust[chosen]
                loss = loss + 2 * self._image_loss(now, self._drawn_views(chosen, 1), trust)
        if self.guide is not None and step % options.guidance_every == 0:
            term = self.guide(lambda frames: self.motion(gaussians, frames), step / options.joint_steps, self.generator)
            loss = loss + 4 * RGB * options.lambda_guidance * term
        self._descend(loss, optimizer, step / options.joint_steps)

    def _track_frame(self, step: int) -> None:
        """One frame, all its steps."""
        motion, options, seen = self.motion, self.options, self.observations
        t = step // options.track_steps + 1
        gaussians = self.canonical().detach()
        find = self._posed_nodes if self.motions is None else self._nodes_near
        turns, shifts = (x[None].requires_grad_() for x in find(gaussians, t))
        groups = [{"params": [turns], "lr": 2 * TURN_RATE}, {"params": [shifts], "lr": 2 * SHIFT_RATE}]
        optimizer = _adam(groups)
        for k in range(options.track_steps):
            done = k / options.track_steps
            coarse = 4 if done < 0.4 else 2 if done < 0.7 else 1
            moved = motion.carried(gaussians, turns, shifts)
            loss = self._image_loss(moved, seen.front[t : t + 1], coarse=coarse)
            if options.trust:
                bank = self._drawn_views(torch.tensor([t]), 1)
                loss = loss + options.trust * seen.trust[t] * self._image_loss(moved, bank, coarse=coarse)
            loss = loss + options.lambda_arap * arap_term(motion.anchors_at(turns, shifts))
            self._descend(loss, optimizer, done)
        with torch.no_grad():
            motion.turns[t], motion.shifts[t] = turns[0], shifts[0]

    @torch.no_grad()
    def _posed_nodes(self, gaussians: Gaussians, t: int) -> tuple[Tensor, Tensor]:
        """Turns and shifts ``[K, 3]`` of the nodes with which frame t begins: those of the frame before, carried along
        from its pose of the object to that of frame t."""
        motion, centre = self.motion, centre_of(gaussians)
        if self.options.pose_steps:
            if t == 1:  # the pose in which the set fits frame 0 best: what its blur adds to every pose
                motion.poses[0] = torch.cat(self._pose(gaussians, 0, centre, [still(centre)]))
            # All poses are sought from the same set: errors do not add up.
            start = posed(gaussians, _pose_of(motion.poses[0]), centre)
            starts = [still(centre), *([_pose_of(motion.poses[t - 1])] if t > 1 else [])]
            motion.poses[t] = torch.cat(self._pose(start, t, centre, starts))
        before = _pose_of(motion.poses[t - 1]) if t > 1 else still(centre)
        moved = motion.rest + motion.shifts[t - 1], motion.turns[t - 1]
        places, turns = follow_pose(*moved, before, _pose_of(motion.poses[t]), centre)
        return turns, places - motion.rest

    @torch.no_grad()
    def _nodes_near(self, gaussians: Gaussians, t: int) -> tuple[Tensor, Tensor]:
        """The same from the known motion: its bend, and the pose near its own that frame t shows."""
        centre, later = self.motions
        pose = later[t - 1].only_pose()
        if self.options.pose_steps:
            pose = self._pose(gaussians, t, centre, [pose])
        self.motion.poses[t] = torch.cat(pose)
        return self._nodes_at(later[t - 1].with_pose(pose))

    def _nodes_at(self, motion: Motion) -> tuple[Tensor, Tensor]:
        """Turns and shifts ``[K, 3]`` of the nodes after a motion of the object."""
        rest = self.motion.rest
        places = motion.places(rest[None], self.motions.centre[None])[1][0]
        return motion.pose.turn.expand_as(rest).clone(), places - rest

    @torch.no_grad()
    def _take_motions(self) -> None:
        """Nodes are where the known motion has them, also at frames that an interrupted fit does not reach."""
        for t, motion in enumerate(self.motions.later if self.motions else (), 1):
            self.motion.turns[t], self.motion.shifts[t] = self._nodes_at(motion)

    def _pose(self, gaussians: Gaussians, t: int, centre: Tensor, starts: list[Pose]) -> Pose:
        """Of frame t, near the first of some starts."""
        options, views = self.options, self.observations.small[t : t + 1]

        def loss(pose: Pose) -> Tensor:
            images = self._image_loss(posed(gaussians, pose, centre)[None], views)
            return images + options.lambda_pose * pose.away_from(starts[0])

        with torch.enable_grad():
            return find_pose(loss, starts, options.pose_steps)

    def _image_loss(self, gaussians: Gaussians, views: Views, weights: Tensor | None = None, coarse: int = 1) -> Tensor:
        return image_loss(self.renderer, gaussians, views, weights, coarse)

    def _canonical_terms(self) -> Tensor:
        options = self.options
        return (
            options.lambda_opacity * self.canonical.opacity_term() + options.lambda_scale * self.canonical.scale_term()
        )

    def _motion_terms(self, gaussians: Gaussians) -> Tensor:
        options = self.options
        anchors = self.motion.anchors(gaussians, torch.arange(self.observations.num_frames))
        loss = options.lambda_arap * arap_term(anchors) + options.lambda_velocity * velocity_term(anchors)
        return loss + options.lambda_planes * self.motion.smoothness()

    def _drawn_frames(self, count: int) -> Tensor:
        """Different later frames, in a random order ``[count]``; frame 0 of a video that has no other."""
        last = self.observations.num_frames - 1
        return 1 + torch.randperm(last, generator=self.generator)[:count] if last else torch.zeros(0, dtype=torch.int64)

    def _drawn_views(self, frames: Tensor, count: int) -> Views:
        """Different random cameras of the feed-forward sequence at each of the frames ``[B]``."""
        views = self.observations.bank.images.shape[1]
        chosen = torch.stack([torch.randperm(views, generator=self.generator)[:count] for _ in frames])
        return self.observations.bank[frames[:, None], chosen]


def _pose_of(row: Tensor) -> Pose:
    return Pose(row[:3], row[3:])


def _adam(groups: list[dict[str, object]]) -> torch.optim.Adam:
    """The optimiser; each group remembers its full rate."""
    optimizer = torch.optim.Adam(groups, betas=BETAS, eps=1e-15)
    for group in optimizer.param_groups:
        group["full"] = group["lr"]
    return optimizer
