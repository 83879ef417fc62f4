"""ImageDream at its real size with random weights: seconds a step, seconds a stage and peak memory.

python -m benchmarks.multiview          # minutes on a CPU; float32 needs 9 GB of memory

The unit is one 2048 x 2048 x 2048 float32 matrix product on the same threads. Every case runs in a process of its own.
With offload one part at a time is in memory. Reading parts from files is not measured: random weights are made in
place.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from benchmarks.measure import MachineLimits, machine, table, write_json
from core.devices import choose_device
from core.inference.network import DTYPES
from core.multiview.diffusion import MultiViewDiffusion, Sampling
from core.multiview.unet import IMAGEDREAM, MultiViewUNet, UNetConfig

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30


class RandomRepository:
    """Gives parts of the published sizes with random weights, as `core.multiview.repository.Repository` gives them."""

    kind = "imagedream"
    folder = "of random weights"
    unet_config: UNetConfig = IMAGEDREAM

    def unet(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """941,672,900 parameters."""
        unet = _filled(lambda: MultiViewUNet(IMAGEDREAM), device, dtype)
        return unet.to(memory_format=torch.channels_last)

    def vae(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Stable Diffusion's autoencoder."""
        kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        widths = (128, 256, 512, 512)
        return _filled(lambda: AutoencoderKL(block_out_channels=widths, layers_per_block=2, **kinds), device, dtype)

    def text_encoder(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Stable Diffusion 2.1's."""
        sizes = {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16, "intermediate_size": 4096}
        return _filled(lambda: CLIPTextModel(CLIPTextConfig(**sizes, hidden_act="gelu")), device, dtype)

    def image_encoder(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """ViT-H/14."""
        sizes = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "intermediate_size": 5120}
        config = CLIPVisionConfig(**sizes, hidden_act="gelu", patch_size=14, image_size=224)
        return _filled(lambda: CLIPVisionModel(config), device, dtype)

    def tokenizer(self) -> Callable[..., Any]:
        """Gives the same token 77 times."""

        class Tokens:
            model_max_length = 77

            def __call__(self, texts: list[str], **_: object) -> Any:
                return argparse.Namespace(input_ids=torch.zeros(len(texts), 77, dtype=torch.long))

        return Tokens()

    def feature_extractor(self) -> CLIPImageProcessorPil:
        """The published one."""
        return CLIPImageProcessorPil()

    def scheduler(self) -> DDIMScheduler:
        """The published one."""
        betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        return DDIMScheduler(**betas, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


class TimedDiffusion(MultiViewDiffusion):
    """Times each stage, without making its weights."""

    seconds: dict[str, float]

    def _stage(self, part: str, run: Callable[[Any], Tensor]) -> Tensor:
        def timed(module: Any) -> Tensor:
            start = time.perf_counter()
            result = run(module)
            if self.device.type != "cpu":
                torch.cuda.synchronize()
            self.seconds[part] += time.perf_counter() - start
            return result

        return super()._stage(part, timed)


def main() -> None:
    """Run all cases, print the table, write it to benchmarks/results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3, help="that are timed, after one that is not")
    parser.add_argument("--case", nargs=2, metavar=("TYPE", "OFFLOAD"), help="one case in this process")
    parser.add_argument("--cases", nargs="+", default=["bf16:keep", "bf16:offload", "fp32:keep", "fp32:offload"])
    parser.add_argument("--out", default=str(ROOT / "results" / "bench" / "multiview.json"))
    args = parser.parse_args()
    if args.case:
        print(json.dumps(run_case(*args.case, args.steps)))
        return
    rows = []
    for case in args.cases:
        command = [sys.executable, "-m", "benchmarks.multiview", "--steps", str(args.steps), "--case", *case.split(":")]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], file=sys.stderr)
    title = f"ImageDream, five frames and both halves of the guidance, 256x256, {args.steps} steps"
    print(f"{title}\n\n{table(rows)}")
    write_json(Path(args.out), {"machine": machine(choose_device()), "tables": {title: rows}})


def run_case(type_name: str, memory: str, steps: int) -> dict[str, object]:
    """Seconds of every stage and peak memory of one process."""
    device = choose_device()
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    diffusion = TimedDiffusion(RandomRepository(), device, DTYPES[type_name], offload=memory == "offload")
    picture = torch.rand(3, 256, 256)
    if memory == "keep":
        diffusion.seconds = defaultdict(float)
        diffusion.views(picture, sampling=Sampling(steps=1))
    diffusion.seconds = seconds = defaultdict(float)
    before = MachineLimits.measured(device).product  # and after, as a busy machine slows it down alike
    diffusion.views(picture, sampling=Sampling(steps=steps))
    yardstick = (before + MachineLimits.measured(device).product) / 2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if device.type != "cpu":
        start, peak = 0.0, torch.cuda.max_memory_allocated() / GIB
    return {
        "device": device.type,
        "type": type_name,
        "memory": memory,
        "s a step": round(seconds["unet"] / steps, 2),
        "in products": round(seconds["unet"] / steps / yardstick, 1),
        "s text": round(seconds["text_encoder"], 2),
        "s image": round(seconds["image_encoder"], 2),
        "s vae": round(seconds["vae"], 2),
        "peak GiB": round(peak, 2),
        "of it libraries": round(start, 2),
    }


def _filled(make: Callable[[], nn.Module], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A module with small random weights, made in place and in its type."""
    with torch.device("meta"):
        module = make()
    module = module.to(dtype).to_empty(device=device)
    module.requires_grad_(False)
    for name, value in module.named_parameters():
        value.fill_(1.0) if name.endswith("norm.weight") else value.uniform_(-0.02, 0.02)
    for value in module.buffers():  # position numbers
        value.copy_(torch.arange(value.numel()).reshape(value.shape))
    return module.eval()


if __name__ == "__main__":
    main()
