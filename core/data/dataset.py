"""Samples for training and validation out of clip tars.

list line -> Clip -> views, frames -> images, cameras (first view in front) -> augment -> side views -> grid

A sample depends on (seed, index) only, not on the process or on earlier samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from core.cameras import Cameras, concatenate, orbit_cameras
from core.data.augment import camera_jitter, grid_distortion, mirror, swap_colors
from core.data.batch import ClipBatch
from core.data.clips import BrokenClip, Clip
from core.data.lists import data_home, split_groups
from core.data.side_views import side_view_grid
from core.data.views import draw_views, first_view_in_front
from core.errors import UserError
from core.images import resize_area
from core.options import CameraOptions, DataOptions, SideViewOptions
from core.view_grid import ViewGrid

MAX_ATTEMPTS = 10
"""Clips that are tried for one sample before it is given up."""


class ClipDataset(Dataset):
    """Groups of clips as single-sample `ClipBatch`es; use with ``DataLoader(collate_fn=ClipBatch.collate)``.

    Indices go on beyond the length: index ``epoch * len(dataset) + group`` samples that group anew in that epoch.
    """

    def __init__(
        self,
        options: DataOptions,
        camera: CameraOptions,
        side_views: SideViewOptions,
        *,
        input_size: int,
        split: Literal["train", "test"],
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        """
        Args:
            options: which clips, and how samples are made.
            camera: the orbit's radius and field of view.
            side_views: where views 1, 2, ... of the input come from.
            input_size: side of the network's input images in pixels.
            split: "train" draws at random; "test" takes the first clip, the first frames and fixed views.
            batch_size: without a validation list, the last ``batch_size`` groups are the test split, as published.
            seed: of all random numbers.

        Raises:
            UserError: the list or folder is missing, the split is empty, or sizes contradict each other.
        """
        if options.num_views <= options.num_input_views:
            raise UserError(
                f"num_views {options.num_views} must be more than num_input_views {options.num_input_views}: "
                f"the others supervise and validate"
            )
        if options.data_mode == "4d_interp" and options.num_frames < 2:
            raise UserError(f"num_frames {options.num_frames} leaves nothing to interpolate; give at least 2.")
        if options.data_mode == "4d_interp" and side_views.side_views != "first":
            raise UserError(
                f"--side_views {side_views.side_views} is for reconstruction; for 4d_interp give --inserted_side_views"
            )
        self.options, self.camera, self.side_views = options, camera, side_views
        self.input_size, self.training, self.seed = input_size, split == "train", seed
        self.num_frames = 1 if options.data_mode == "3d" else options.num_frames
        self.groups = split_groups(options, split, batch_size)
        has_own_home = split == "test" and options.datalist_val and options.data_home_val
        self.home = data_home(options.data_home_val if has_own_home else options.data_home)

    @property
    def num_clips(self) -> int:
        """Clips of this split, over all groups."""
        return sum(map(len, self.groups))

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> ClipBatch:
        """One sample; a broken clip is reported in the sample and another one takes its place."""
        broken: list[tuple[str, str]] = []
        for attempt, name in enumerate(self._candidates(index)):
            try:
                sample = self._sample(name, self._generator(index, attempt + 1))
                return replace(sample, broken=tuple(broken))
            except BrokenClip as error:
                broken.append((error.clip, error.reason))
        return self._no_sample(tuple(broken))

    def _generator(self, index: int, stream: int) -> Generator:
        epoch, group = divmod(index, len(self.groups))
        entropy = np.random.SeedSequence((self.seed, epoch, group, stream))
        return Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0]))

    def _candidates(self, index: int) -> Iterator[str]:
        """Clip names in the order in which they are tried: this group's, then those of the groups that follow."""
        generator = self._generator(index, 0)
        left = MAX_ATTEMPTS
        for step in range(min(len(self.groups), MAX_ATTEMPTS)):
            group = self.groups[(index + step) % len(self.groups)]
            order = torch.randperm(len(group), generator=generator).tolist() if self.training else range(len(group))
            for position in list(order)[:left]:
                left -= 1
                yield group[position]

    def _sample(self, name: str, generator: Generator) -> ClipBatch:
        options = self.options
        clip = Clip(self.home, name, options.data_mode)
        frames = self._draw_frames(clip, generator)
        view_ids = draw_views(clip, options, generator if self.training and options.shuffle_input else None)
        size = max(self.input_size, options.output_size)
        images, masks = clip.read(view_ids, frames, size)
        cameras = clip.cameras(
            view_ids, frames, size=options.output_size, radius=self.camera.cam_radius, fovy=self.camera.fovy
        )
        cameras = first_view_in_front(cameras, self.camera.cam_radius).to(torch.float32)
        if self.training:
            images, masks, cameras, view_ids = self._vary(images, masks, cameras, view_ids, generator)
        num_inputs, output = options.num_input_views, (options.output_size, options.output_size)
        grid = self._grid(
            resize_area(images[:, :num_inputs], (self.input_size, self.input_size)),
            cameras[:, :num_inputs].resized((self.input_size, self.input_size)),
            generator,
        )
        return ClipBatch(
            grid=grid,
            images=resize_area(images, output)[None],
            masks=resize_area(masks, output)[None],
            cameras=cameras[None],
            frames=torch.tensor([frames]),
            view_ids=torch.tensor([view_ids]),
            names=(name,),
        )

    def _vary(
        self, images: Tensor, masks: Tensor, cameras: Cameras, view_ids: list[int], generator: Generator
    ) -> tuple[Tensor, Tensor, Cameras, list[int]]:
        """Vary the object of the clip: mirrored, recoloured."""
        mirrored, recolored = torch.rand(2, generator=generator).tolist()
        if mirrored < self.options.prob_mirror:
            # Mirroring reverses the order of the views; this restores it.
            inputs = self.options.num_input_views
            order = [0, *range(inputs - 1, 0, -1), *range(inputs, len(view_ids))]
            images, masks, cameras = mirror(images[:, order], masks[:, order], cameras[:, order])
            view_ids = [view_ids[i] for i in order]
        if recolored < self.options.prob_color_swap:
            images = swap_colors(images, generator)
        return images, masks, cameras, view_ids

    def _grid(self, images: Tensor, cameras: Cameras, generator: Generator) -> ViewGrid:
        """Input images ``[T, 4, 3, h, w]`` and their cameras -> grid ``[1, T, 4]``; augments when training."""
        options = self.options
        distort, jitter, drop = (torch.rand(3, generator=generator) if self.training else torch.ones(3)).tolist()
        interpolates = options.data_mode == "4d_interp"
        source = self.side_views.inserted_side_views if interpolates else self.side_views.side_views
        front = images[None, :, 0]
        if drop < options.prob_view_dropout:  # placeholder views keep their true rays, as at inference
            return side_view_grid(front, None, cameras[None], "none", interpolates)
        sides = images[:, 1:]
        if distort < options.prob_grid_distortion:
            sides = grid_distortion(sides, generator)
        if jitter < options.prob_cam_jitter:
            cameras = concatenate([cameras[:, :1], camera_jitter(cameras[:, 1:], generator)], dim=1)
        known = {"every": slice(None), "blend": [0, -1]}.get(source, 0)  # `previous` needs no image of later frames
        return side_view_grid(front, sides[None][:, known], cameras[None], source, interpolates)

    def _draw_frames(self, clip: Clip, generator: Generator) -> list[int]:
        """A random window when training, at times every n-th frame of a longer one; the first frames otherwise.

        A clip of one frame is a still: the frame is repeated.

        Published: `4d` always takes the first window, and no window ends with the last frame.
        """
        if clip.num_frames == 1:
            return [0] * self.num_frames
        if clip.num_frames < self.num_frames:
            raise BrokenClip(clip.name, f"has {clip.num_frames} frames, num_frames is {self.num_frames}")
        if not self.training:
            return list(range(self.num_frames))
        longest = (clip.num_frames - 1) // (self.num_frames - 1) if self.num_frames > 1 else 1
        stride = 1 + int(torch.randint(min(self.options.frame_stride, longest), (1,), generator=generator))
        spare = clip.num_frames - 1 - stride * (self.num_frames - 1)
        start = int(torch.randint(spare + 1, (1,), generator=generator))
        return list(range(start, start + stride * (self.num_frames - 1) + 1, stride))

    def _no_sample(self, broken: tuple[tuple[str, str], ...]) -> ClipBatch:
        options, size = self.options, self.options.output_size
        frames, views = self.num_frames, options.num_views
        return ClipBatch(
            grid=self._no_grid(frames, options.num_input_views),
            images=torch.empty(0, frames, views, 3, size, size),
            masks=torch.empty(0, frames, views, 1, size, size),
            cameras=orbit_cameras(torch.zeros(0, frames, views), size=(size, size)),
            frames=torch.empty(0, frames, dtype=torch.int64),
            view_ids=torch.empty(0, views, dtype=torch.int64),
            names=(),
            broken=broken,
        )

    def _no_grid(self, frames: int, views: int) -> ViewGrid:
        size = (self.input_size, self.input_size)
        index = torch.empty(0, frames, views, dtype=torch.int64)
        return ViewGrid(torch.empty(0, 3, *size), orbit_cameras(torch.zeros(0), size=size), index)
