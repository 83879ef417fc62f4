"""Everything that is measured of one object, for one system after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from core.evaluation.clip import ClipImages
from core.evaluation.flow import WarpedError
from core.evaluation.metrics import Prediction, chunk_means, flicker, iou, spread
from core.evaluation.protocol import Protocol
from core.evaluation.truth import Truth
from core.losses import psnr, ssim
from core.lpips import load_lpips

MAX_KEPT = 64  # images whose LPIPS features are kept: at 256 pixels one has 30 MB


class Judge:
    """Compares predictions with one truth; what depends on the truth alone is computed once.

    Args:
        truth: of one object.
        protocol: says which images are compared one by one.
        lpips_images: how many of these LPIPS looks at, evenly spread; 0: all.
        device: where it computes.
        clip: for CLIP similarity.
        with_flow: whether to measure the warped error, for which OpenCV is needed.
    """

    def __init__(
        self,
        truth: Truth,
        protocol: Protocol,
        lpips_images: int,
        device: torch.device,
        clip: ClipImages | None = None,
        with_flow: bool = False,
    ) -> None:
        self.protocol, self.clip = protocol, clip
        self.at = torch.tensor(protocol.compared())
        self.images = truth.images.to(device)
        self.alpha = None if truth.alpha is None else truth.alpha.to(device)
        self.chosen = spread(lpips_images, len(self.at) * len(truth.views))
        self.features: dict[int, list[Tensor]] = {}
        self.warped = WarpedError(truth) if with_flow and len(truth.frames) > 1 else None

    def __call__(self, prediction: Prediction) -> dict[str, Tensor]:
        """All metrics by name, ``[T', V]`` on the CPU, NaN where an image was left out.

        ``psnr`` (dB), ``ssim``, ``lpips``, ``iou``, ``clip`` of the compared images; ``flicker`` and ``warp`` of
        neighbouring frames; under autoregression ``psnr_01``, ... of every chunk, ``psnr_lost`` from first to last;
        of a still ``flicker_worst`` of all pairs.
        """
        every = prediction.images.to(self.images.device)
        images, targets = every[self.at], self.images[self.at]
        found = {"psnr": psnr(images, targets), "ssim": ssim(images, targets), "lpips": self._lpips(every)}
        if prediction.alpha is not None and self.alpha is not None:
            found["iou"] = iou(prediction.alpha.to(self.alpha.device)[self.at], self.alpha[self.at])
        if self.clip:
            found["clip"] = self.clip.similarity(images, targets)
        if len(every) > 1:
            found["flicker"] = flicker(every, self.images)
        if self.protocol.task == "still":  # the mean hides what happens at the border of two chunks
            found["flicker_worst"] = found["flicker"].amax(dim=0, keepdim=True)
        if self.warped:
            found["warp"] = self.warped(every)
        if self.protocol.task == "autoregress":
            found |= _by_chunk(found["psnr"], self.protocol.chunk)
        return {name: value.cpu() for name, value in found.items()}

    def of_truth(self) -> dict[str, Tensor]:
        """The truth's own warped error, the floor of the others."""
        return {"warp": self.warped(self.images)} if self.warped else {}

    @torch.no_grad()
    def _lpips(self, images: Tensor) -> Tensor:
        lpips, views = load_lpips(), images.shape[1]
        found = images.new_full((len(self.at) * views,), float("nan"))
        for number in self.chosen.tolist():  # one image a call is fastest on a CPU
            frame, view = divmod(number, views)
            position = self.at[frame]
            truth = self.features.get(number) or lpips.features(self.images[position, view][None])
            if len(self.chosen) <= MAX_KEPT:
                self.features[number] = truth
            found[number] = lpips.between(lpips.features(images[position, view][None]), truth)
        return found.reshape(-1, views)


def _by_chunk(values: Tensor, chunk: int) -> dict[str, Tensor]:
    means = chunk_means(values, chunk)
    found = {f"psnr_{number + 1:02d}": row[None] for number, row in enumerate(means)}
    return {**found, "psnr_first": means[:1], "psnr_last": means[-1:], "psnr_lost": means[:1] - means[-1:]}
