"""Options of tracked 4D: a canonical set and its motion, fitted to the video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.options.checks import within

Deformation = Literal["nodes", "hexplane"]
GuidanceName = Literal["none", "zero123", "imagedream", "svd", "svd-refine"]


@dataclass(frozen=True)
class RefineOptions:
    """The fit after the networks, see `core.tracking`."""

    refine: bool = False
    """Fit one moving set of Gaussians."""
    deformation: Deformation = "nodes"
    """nodes: sparse control points that turn and shift. hexplane: the field of DreamGaussian4D."""
    nodes: int = 200
    """Control points."""
    canonical_steps: int = 80
    """Steps on the first frame alone."""
    pose_steps: int = 30
    """Steps for the pose of the whole object in each frame, of nodes; 0: none is sought."""
    track_steps: int = 15
    """Steps for each frame after another, of nodes."""
    joint_steps: int = 100
    """Steps on all frames and the canonical set together."""
    refine_size: int = 0
    """Side in pixels at which the video is compared; 0: that of the network's input."""
    noise: float = 0.005
    """Noise on the centres while the canonical set is fitted, world units: it closes gaps and prevents overfitting."""
    trust: float = 0.3
    """Weight of the feed-forward sequence after frame 0, seen from random cameras, beside the video."""
    lambda_arap: float = 40.0
    """Weight of neighbours that do not move as rigidly as possible."""
    lambda_pose: float = 5.0
    """Weight of the motion of the whole object from where the motion network puts it, or else since frame 0: squared
    radians, and squared lengths times 4."""
    lambda_velocity: float = 0.1
    """Weight of changes of velocity."""
    lambda_opacity: float = 0.0
    """Weight of opacities between 0 and 1."""
    lambda_scale: float = 0.1
    """Weight of scales that leave those of the start."""
    lambda_planes: float = 1.0
    """Factor on the published weights of plane smoothness, which the published program never applies; of hexplane."""
    guidance: GuidanceName = "none"
    """Judges random views during joint steps. zero123, imagedream, svd: score distillation. svd-refine: SVD's version
    of them."""
    lambda_guidance: float = 1.0
    """Weight of the guidance; 1: the published one."""
    guidance_every: int = 1
    """Joint steps from one use of the guidance to the next."""
    guidance_views: int = 4
    """Renders for each use, of zero123 and imagedream."""
    zero123: str = "ashawkey/stable-zero123-diffusers"
    """Zero123: folder or hub repository."""
    svd: str = "stabilityai/stable-video-diffusion-img2vid"
    """SVD: folder or hub repository."""
    preview: bool = True
    """Renew NAME_preview.mp4 during the fit."""

    def __post_init__(self) -> None:
        within(self, 8, 4096, "nodes")
        within(self, 0, 10**6, "canonical_steps", "pose_steps", "track_steps", "joint_steps")
        within(self, 0, 2048, "refine_size")
        within(self, 0, 1, "noise")
        within(
            self, 0, 10**6, "trust", "lambda_arap", "lambda_pose", "lambda_velocity", "lambda_opacity", "lambda_scale"
        )
        within(self, 0, 10**6, "lambda_planes", "lambda_guidance")
        within(self, 1, 10**6, "guidance_every")
        within(self, 1, 256, "guidance_views")
