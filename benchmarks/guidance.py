"""What a step of guidance costs at the published sizes: weights, operations, and what is kept for gradients.

python -m benchmarks.guidance

Networks are built from the published sizes without memory (torch's meta device), and operations are counted there by
torch, two for a multiplication and an addition. Nothing is run: published weights were not at hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    UNet2DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from benchmarks.measure import machine, table, write_json
from core.conventions import NUM_VIEWS
from core.devices import choose_device
from core.guidance.svd import DENOISING, FROM, SIZE, WINDOW, VideoDiffusion
from core.multiview.unet import IMAGEDREAM, MultiViewUNet
from core.options import RefineOptions

ROOT = Path(__file__).resolve().parents[1]
META, HALF = torch.device("meta"), torch.float16
GIB, TERA = 2**30, 1e12
VIEWS, SIDE = RefineOptions().guidance_views, 256
_BLOCKS = {"block_out_channels": (128, 256, 512, 512), "down_block_types": ("DownEncoderBlock2D",) * 4}


def vae(dtype: torch.dtype = HALF) -> nn.Module:
    """Stable Diffusion's autoencoder; the decoder is not kept."""
    module = AutoencoderKL(**_BLOCKS, up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2)
    module.decoder = None
    return module.to(dtype)


def svd_parts() -> dict[str, nn.Module]:
    """SVD: the autoencoder is float32, as its configuration asks for."""
    sizes = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "intermediate_size": 5120}
    encoder = CLIPVisionConfig(**sizes, projection_dim=1024, patch_size=14)
    return {
        "unet": UNetSpatioTemporalConditionModel(num_attention_heads=(5, 10, 20, 20)).to(HALF),
        "image_encoder": CLIPVisionModelWithProjection(encoder).to(HALF),
        "vae": AutoencoderKLTemporalDecoder(**_BLOCKS, layers_per_block=2),
    }


@dataclass(frozen=True)
class Step:
    """What a step consists of.

    Attributes:
        modules: in memory.
        call: the network, without gradients.
        encode: latents of the renders; None where no gradient goes through them.
        part: of these what is in memory at once.
    """

    modules: list[nn.Module]
    call: Callable[[], object]
    encode: Callable[[], Tensor] | None = None
    part: Callable[[], Tensor] | None = None


def zero123() -> Step:
    """All views at once."""
    unet, encoder = UNet2DConditionModel(sample_size=32, in_channels=8, cross_attention_dim=768).to(HALF), vae()
    batch, tokens = torch.empty(2 * VIEWS, 8, 32, 32, dtype=HALF), torch.empty(2 * VIEWS, 1, 768, dtype=HALF)
    time = torch.empty(2 * VIEWS)
    encode = partial(latents, encoder, VIEWS, SIDE)
    return Step([unet, encoder], lambda: unet(batch, time, tokens), encode, encode)


def imagedream() -> Step:
    """One group of four views."""
    unet, encoder = MultiViewUNet(IMAGEDREAM).to(HALF), vae()
    batch, context = torch.empty(2, NUM_VIEWS + 1, 4, 32, 32, dtype=HALF), torch.empty(2, 93, 1024, dtype=HALF)
    cameras = torch.empty(2, NUM_VIEWS + 1, 16)
    encode = partial(latents, encoder, NUM_VIEWS, SIDE)
    return Step([unet, encoder], lambda: unet(batch, torch.empty(2), context, cameras), encode, encode)


def svd() -> Step:
    """Frames are encoded one by one, and once more for the gradients."""
    parts = svd_parts()
    diffusion = VideoDiffusion(argparse.Namespace(vae=parts["vae"]))
    video = torch.empty(WINDOW, 3, SIZE, SIZE, requires_grad=True)
    return Step(
        list(parts.values()),
        lambda: svd_call(parts),
        lambda: diffusion.encode(video),
        partial(latents, parts["vae"], 1, SIZE),
    )


def svd_refine() -> Step:
    """Several calls, encoder and decoder; no gradient goes through them."""
    parts = svd_parts()

    def call() -> None:
        for _ in range(DENOISING - FROM):
            svd_call(parts)
        latents(parts["vae"], WINDOW, SIZE)
        for _ in range(WINDOW):
            parts["vae"].decode(torch.empty(1, 4, SIZE // 8, SIZE // 8), num_frames=1)

    return Step(list(parts.values()), call)


def svd_call(parts: dict[str, nn.Module]) -> None:
    """One call of the network with both halves, and what the pipeline does of the picture."""
    half = {"dtype": HALF}
    batch = torch.empty(2, WINDOW, 8, SIZE // 8, SIZE // 8, **half)
    parts["image_encoder"](torch.empty(1, 3, 224, 224, **half))
    parts["unet"](batch, torch.empty(2), torch.empty(2, 1, 1024, **half), torch.empty(2, 3, **half))


def latents(encoder: nn.Module, count: int, side: int) -> Tensor:
    """Of renders, with gradients."""
    images = torch.empty(count, 3, side, side, dtype=encoder.dtype, requires_grad=True)
    return encoder.encode(images).latent_dist.mean


@contextmanager
def kept_bytes() -> Iterator[list[int]]:
    """Bytes of what is kept for the gradients that are computed in the block, each storage once."""
    storages: dict[int, torch.UntypedStorage] = {}
    total = [0]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total
    total[0] = sum(storage.nbytes() for storage in storages.values())


def row(name: str, make: Callable[[], Step]) -> dict[str, object]:
    """The costs of one guidance."""
    with META:
        step = make()
        for module in step.modules:
            module.to(META).requires_grad_(False)  # some parameters are made elsewhere whatever is asked for
        with torch.no_grad(), FlopCounterMode(display=False) as network:
            step.call()
        with FlopCounterMode(display=False) as gradients:
            if step.encode:
                step.encode().sum().backward()
        with kept_bytes() as kept:
            made = step.part and step.part()
    del made
    weights = [value for module in step.modules for value in module.parameters()]
    return {
        "guidance": name,
        "parameters, millions": round(sum(value.numel() for value in weights) / 1e6),
        "weights GiB": round(sum(value.nbytes for value in weights) / GIB, 2),
        "network Tflop": round(network.get_total_flops() / TERA, 1),
        "gradient Tflop": round(gradients.get_total_flops() / TERA, 1),
        "kept GiB": round(kept[0] / GIB, 2),
    }


def main() -> None:
    """Count, print the table, write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(ROOT / "results" / "bench" / "guidance.json"))
    args = parser.parse_args()
    kinds = {"zero123": zero123, "imagedream": imagedream, "svd": svd, "svd-refine": svd_refine}
    rows = [row(name, make) for name, make in kinds.items()]
    title = f"a step of guidance, float16, {VIEWS} views of {SIDE} pixels or {WINDOW} frames of {SIZE}"
    print(f"{title}\n\n{table(rows)}")
    write_json(Path(args.out), {"machine": machine(choose_device()), "tables": {title: rows}})


if __name__ == "__main__":
    main()
