"""The published network at its full size through all of infer_4d on a CPU: time and peak memory, with random weights.

python -m benchmarks.big_on_cpu --frames 4       # minutes; needs 8 GB of memory and 3 GB of disk
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import torch

from benchmarks.measure import machine
from core.architectures import build_model
from core.checkpoint import save_weights
from core.media import read_video, write_video
from core.options import PRESETS

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Make weights and a short video, run the published command line, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=4, help="frames of the video, and T")
    parser.add_argument("--video", default=str(ROOT / "data_test" / "mech.mp4"))
    args = parser.parse_args()
    print(machine(torch.device("cpu")))
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        for name in ("recon", "interp"):
            save_weights(build_model(PRESETS["big"].model), Path(folder, f"{name}.safetensors"), dtype=torch.float16)
        source = read_video(args.video)
        with write_video(Path(folder, "short.mp4"), Fraction(15), source.size) as video:
            for frame in source.frames(range(args.frames)):
                video.write(frame)
        line = f"infer_4d.py big --workspace {folder}/results --resume {folder}/recon.safetensors --interpresume "
        line += f"{folder}/interp.safetensors --num_frames {args.frames} --test_path {folder}/short.mp4"
        start = time.perf_counter()
        subprocess.run([sys.executable, *line.split()], cwd=ROOT, check=True)
        seconds = time.perf_counter() - start
        sets = len(list(Path(folder, "results", "short").glob("*.ply")))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{args.frames} frames, {sets} sets: {seconds:.0f} s by the clock, {used.ru_utime:.0f} s of processor time, "
        f"peak memory {used.ru_maxrss / 2**20:.1f} GiB"
    )


if __name__ == "__main__":
    main()
