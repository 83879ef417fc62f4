"""How much of a motion the front video shows, without any network: the table in docs/experiments.md, fourth round.

python -m benchmarks.motion_bound --data_home CLIPS                 # fitted to the front video
python -m benchmarks.motion_bound --data_home CLIPS --views inputs  # to the true four views; with --flat the
                                                                    # part along the front camera's axis is taken away

Frame 0's Gaussians hang on nodes that turn and shift, as in embedded deformation (Sumner et al. 2007); neighbours stay
as rigid to each other as they can (Sorkine and Alexa 2007). Frame after frame Adam makes renders like images and masks.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from core.architectures import build_model
from core.checkpoint import load_weights
from core.data.batch import ClipBatch
from core.data.dataset import ClipDataset
from core.gaussians import Gaussians
from core.losses import psnr
from core.options import PRESETS
from core.rendering import Renderer, make_renderer

NEIGHBOURS, RING, INPUTS = 4, 6, 4
FRAMES, VIEWS = 8, 12


class Nodes:
    """Points among ``points`` ``[N, 3]`` that carry them: each hangs on the nearest four."""

    def __init__(self, points: Tensor, count: int) -> None:
        self.rest = points[_far_apart(points, count)]
        distances, self.near = torch.cdist(points, self.rest).topk(NEIGHBOURS, largest=False)
        weights = (-2 * (distances / distances[:, -1:].clamp_min(1e-3)).square()).exp()
        self.weights = (weights / weights.sum(-1, keepdim=True))[..., None]
        lengths, ring = torch.cdist(self.rest, self.rest).topk(RING + 1, largest=False)
        self.ring, self.length = ring[:, 1:], lengths[:, 1:].mean()

    def moved(self, points: Tensor, turns: Tensor, shifts: Tensor) -> Tensor:
        """The points after each node has turned (axis times angle ``[K, 3]``) and shifted ``[K, 3]``."""
        rest = self.rest[self.near]
        turned = torch.einsum("nkij,nkj->nki", _matrices(turns)[self.near], points[:, None] - rest)
        return (self.weights * (turned + rest + shifts[self.near])).sum(1)

    def strain(self, turns: Tensor, shifts: Tensor) -> Tensor:
        """Mean squared distance, in mean lengths, of neighbours from where each other's turn would carry them."""
        edges = self.rest[self.ring] - self.rest[:, None]
        turned = torch.einsum("nij,nkj->nki", _matrices(turns), edges)
        return (turned - edges - shifts[self.ring] + shifts[:, None]).square().sum(-1).mean() / self.length**2


def _far_apart(points: Tensor, count: int) -> Tensor:
    chosen, distance = [0], (points - points[0]).norm(dim=-1)
    for _ in range(count - 1):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).norm(dim=-1))
    return torch.tensor(chosen)


def _matrices(turns: Tensor) -> Tensor:
    x, y, z = turns.unbind(-1)
    zero = torch.zeros_like(x)
    rows = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1)
    return torch.matrix_exp(rows.unflatten(-1, (3, 3)))


def fit(start: Gaussians, batch: ClipBatch, views: list[int], args: argparse.Namespace, draw: Renderer) -> Tensor:
    """Where one set ``[N]`` is at each frame: means ``[T, N, 3]``."""
    nodes = Nodes(start.means, args.nodes)
    turns, shifts = torch.zeros(2, args.nodes, 3)
    before, means = (turns, shifts), [start.means]
    for t in range(1, FRAMES):
        guess = [now + 0.5 * (now - then) for now, then in zip((turns, shifts), before, strict=True)]
        before, moving = (turns, shifts), [x.clone().requires_grad_() for x in guess]
        optimizer = torch.optim.Adam([{"params": [x]} for x in moving], betas=(0.9, 0.99))
        cameras, images, masks = (x[0, t : t + 1, views] for x in (batch.cameras, batch.images, batch.masks))
        for step in range(args.steps):
            done = step / args.steps
            for group, rate in zip(optimizer.param_groups, (0.02, 0.01), strict=True):
                group["lr"] = rate * (1 - 0.9 * done)
            size = 4 if done < 0.4 else 2 if done < 0.7 else 1  # coarse pixels first
            output = draw(replace(start, means=nodes.moved(start.means, *moving))[None], cameras)
            pairs = ((100, output.image, images), (50, output.alpha, masks))
            loss = sum(w * F.mse_loss(*(F.avg_pool2d(x[0], size) for x in pair)) for w, *pair in pairs)
            optimizer.zero_grad()
            (loss + args.rigidity * nodes.strain(*moving)).backward()
            optimizer.step()
        turns, shifts = (x.detach() for x in moving)
        means.append(nodes.moved(start.means, turns, shifts))
    shift = torch.stack(means) - start.means
    if args.flat:
        axis = batch.cameras.c2w[0, 0, 0, :3, 2]
        shift = shift - (shift @ axis)[..., None] * axis
    return start.means + shift


def main() -> None:
    """Print a row an object and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_home", required=True, help="folder of the validation clips, see docs/data.md")
    parser.add_argument("--datalist", default="data_train/datalist_val_8fps.txt")
    parser.add_argument("--views", choices=("front", "inputs", "novel"), default="front", help="what it is fitted to")
    parser.add_argument("--nodes", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rigidity", type=float, default=10.0)
    parser.add_argument("--flat", action="store_true", help="without motion along the front camera's axis")
    args = parser.parse_args()
    views = {"front": [0], "inputs": list(range(INPUTS)), "novel": list(range(INPUTS, VIEWS))}[args.views]
    options = PRESETS["nano"]
    data = replace(options.data, num_frames=FRAMES, num_views=VIEWS, data_home=args.data_home)
    data = replace(data, datalist=args.datalist, datalist_val=args.datalist, data_home_val=args.data_home)
    clips = ClipDataset(data, options.camera, options.side_views, input_size=options.model.input_size, split="test")
    model = build_model(options.model).requires_grad_(False).eval()
    load_weights(model, options.run.resume)
    draw = make_renderer("numba")
    rows = []
    for batch in (clips[index] for index in range(len(clips))):
        sets = model(batch.grid)[0]
        start = sets[0].visible()
        frozen = start.map(lambda field: field.expand(FRAMES, *field.shape))
        candidates = (frozen, sets, replace(frozen, means=fit(start, batch, views, args, draw)))
        cameras, truth = batch.cameras[0, :, INPUTS:], batch.images[0, :, INPUTS:]
        rows.append([float(psnr(draw(one, cameras).image.clamp(0, 1), truth).mean()) for one in candidates])
        print(f"{batch.names[0]:40}" + "{:8.2f}{:8.2f}{:8.2f}".format(*rows[-1]), flush=True)
    print(f"{'frozen, nano_recon, fitted: mean':40}" + "{:8.2f}{:8.2f}{:8.2f}".format(*torch.tensor(rows).mean(0)))


if __name__ == "__main__":
    main()
