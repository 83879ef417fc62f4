"""Networks, renderer and options of an inference command, shared by all its videos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from core.checkpoint import TEMPORAL, file_hash, load_weights, look_into
from core.conventions import INPUT_AZIMUTHS
from core.devices import choose_device
from core.errors import UserError
from core.inference.first_frame import BestCandidate, lift_frame
from core.inference.network import Network, choose_diffusion_dtype, choose_dtype
from core.inference.outputs import versions
from core.multiview.diffusion import FLAWS, GUIDANCE, MultiViewDiffusion, Sampling
from core.multiview.generators import ImageDreamGenerator, SingleViewGenerator, ViewGenerator, choose_generator
from core.multiview.hub import Kind
from core.multiview.repository import open_repository
from core.options import PRESETS, ModelOptions, Options
from core.options.side_views import ChunkSideViews
from core.places import find
from core.rendering.orbit import OrbitRenderer
from core.tracking.motion_network import MotionNetwork
from core.tracking.prediction import MotionPredictor

_log = logging.getLogger(__name__)


class Frames(Protocol):
    """Something with a name and a first frame: a video, or the ground truth of an evaluation."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def first_frame(self, size: int) -> Tensor:
        """Frame 0 ``[3, size, size]``."""
        ...


class Session:
    """Networks, renderer and options of one command. Networks are loaded once, at first use.

    Only ImageDream, MVDream and the refinement draw random numbers, from ``--seed``: the same files, options and
    machine give the same results; on a GPU moved side views and the refinement, which sum gradients, but for last bits.

    Args:
        options: of the command line.
        still: only single frames will be reconstructed, for which a checkpoint of LGM is
            enough, without temporal attention.

    Raises:
        UserError: an option is invalid, or the reconstruction checkpoint cannot be used.
    """

    def __init__(self, options: Options, *, still: bool = False) -> None:
        self.options, self.still = options, still
        self.workspace = Path(options.run.workspace)
        self.device = choose_device(options.run.device)
        self.dtype = choose_dtype(options.infer.precision, self.device)
        self.orbit = OrbitRenderer(options.camera, options.data.output_size, self.device)
        self.repositories: dict[Kind, str] = {}  # of multi-view diffusion, those that were used

    @cached_property
    def network(self) -> Network:
        """The reconstruction model."""
        resume = self.options.run.resume
        if resume is None:
            raise UserError("--resume is missing: give the checkpoint of the reconstruction model")
        model = self.options.model
        if self.still and model.use_temp_attn and find(resume).is_file():
            names, _ = look_into(resume)
            if not any(TEMPORAL in name for name in names):
                _log.info("%s is a file of LGM: the network is built without temporal attention", resume)
                model = replace(model, use_temp_attn=False)
        return self._load(resume, model)

    @cached_property
    def interpolation(self) -> Network | None:
        """The interpolation model; None without --interpresume. It may be the reconstruction model itself."""
        path = self.options.infer.interpresume
        if path and path == self.options.run.resume:
            return self.network
        return self._load(path, self.options.model) if path else None

    @property
    def inserting(self) -> Network | None:
        """The interpolation model, if frames are inserted by one; with --refine the motion inserts them."""
        return None if self.options.refine.refine else self.interpolation

    @property
    def interpolation_workers(self) -> int:
        """Calls of the interpolation model at once: one on a GPU; on a CPU up to one per pair, such that the threads
        divide evenly."""
        return self._workers(self.options.infer.interp_batch)

    @property
    def chunk_workers(self) -> int:
        """Chunks of the reconstruction model at once, likewise."""
        return self._workers(self.options.infer.chunk_workers)

    def _workers(self, most: int) -> int:
        threads = torch.get_num_threads()
        return 1 if self.device.type != "cpu" else max(n for n in range(1, most + 1) if threads % n == 0)

    def predictor_for(self, chunk_side_views: ChunkSideViews) -> MotionPredictor | None:
        """Of the motion since a first frame; None where side views do not move."""
        return self._predictor if chunk_side_views == "moved" else None

    @property
    def predictor(self) -> MotionPredictor | None:
        """The one that the options ask for."""
        return self.predictor_for(self.options.side_views.chunk_side_views)

    @cached_property
    def _predictor(self) -> MotionPredictor:
        network = MotionNetwork()
        load_weights(network, self.options.side_views.motion_resume)
        network.eval().requires_grad_(False).to(self.device)
        return MotionPredictor(network, self.orbit.renderer, self.options.camera)

    @cached_property
    def single_view(self) -> Network:
        """The model that makes side views from the front alone: --single_view_resume, or the session's own one."""
        path = self.options.side_views.single_view_resume
        if path is None:
            return self.network
        try:
            return self._load(path, PRESETS["nano"].model)
        except UserError as error:
            raise UserError(
                f"there are no side-view images, and the model that would make them cannot be loaded: {error}"
            ) from error

    @cached_property
    def view_generator(self) -> ViewGenerator:
        """Makes views of a frame if there are no image files; a log line names it, at debug level with the reason."""
        name, why = choose_generator(self.options.side_views, self.options.views)
        _log.info("side views are made by %s", {"imagedream": "ImageDream"}.get(name, "the single-view model"))
        _log.debug("chosen because %s", why)
        views = self.options.views
        if name == "imagedream":
            return ImageDreamGenerator(self._imagedream(), self.sampling(name), self.options.run.seed, views.prompt)
        if views.prompt or views.elevation:
            raise UserError(
                f"--prompt and --elevation are for ImageDream, and here the single-view model is used: {why}"
            )
        network = self.single_view
        return SingleViewGenerator(network.size, network.reconstruct, self.orbit)

    def _imagedream(self) -> MultiViewDiffusion:
        try:
            return self.diffusion("imagedream")
        except UserError as error:
            other = "or let the small model make the views: --view_generator single-view"
            raise UserError(f"{error}; {other}" if "hf download" in str(error) else str(error)) from error

    @property
    def diffusion_dtype(self) -> torch.dtype:
        """Of diffusion networks."""
        return choose_diffusion_dtype(self.options.infer.precision, self.device)

    def diffusion(self, kind: Kind) -> MultiViewDiffusion:
        """ImageDream or MVDream."""
        views = self.options.views
        name = views.imagedream if kind == "imagedream" else views.mvdream
        repository = open_repository(name, kind, views.download)
        self.repositories[kind] = str(repository.folder)
        return MultiViewDiffusion(repository, self.device, self.diffusion_dtype, offload=views.offload)

    def sampling(self, kind: Kind) -> Sampling:
        """How ImageDream or MVDream draws; where the options do not say, as LGM's programs do."""
        views = self.options.views
        guidance = GUIDANCE[kind] if views.guidance_scale is None else views.guidance_scale
        flaws = FLAWS if views.prompt else ""
        avoided = flaws if views.negative_prompt is None else views.negative_prompt
        return Sampling(views.diffusion_steps, guidance, avoided, views.elevation)

    def lift(
        self, source: Frames, files: Mapping[int, Path] | None = None, begin: Callable[[], object] = lambda: None
    ) -> BestCandidate:
        """Frame 0 in 3D, from given raw views or generated ones; see `core.inference.first_frame.lift_frame`."""
        return lift_frame(
            source.name,
            source.first_frame,
            files or {},
            lambda: self.view_generator,
            self.network,
            self.orbit,
            self.options.views,
            begin,
        )

    def describe(self) -> dict[str, object]:
        """Metadata of everything that affects results except the video."""
        camera = self.options.camera
        networks = ("network", "interpolation", "single_view")
        used = {name: self.__dict__[name] for name in networks if self.__dict__.get(name)}
        checkpoints = {name: {"file": str(used[name].path), "sha256": used[name].sha256} for name in used}
        if "_predictor" in self.__dict__:
            path = find(self.options.side_views.motion_resume)
            checkpoints["motion"] = {"file": str(path), "sha256": file_hash(path)}
        return {
            "checkpoints": checkpoints,
            "cameras": {
                "world": "y up, azimuth 0 on +z looks at what the video shows",
                "azimuths": list(INPUT_AZIMUTHS),
                "elevation": 0.0,
                "radius": camera.cam_radius,
                "fovy": camera.fovy,
                "near": camera.znear,
                "far": camera.zfar,
                "size": self.orbit.size,
            },
            "diffusion": self.repositories,
            "precision": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
            "renderer": self.orbit.name,
            "seed": self.options.run.seed
            if self.repositories or self.options.refine.refine
            else "none: nothing is random",
            "versions": versions(),
        }

    def _load(self, path: str, model: ModelOptions) -> Network:
        return Network(path, model, self.options.camera, device=self.device, dtype=self.dtype)
