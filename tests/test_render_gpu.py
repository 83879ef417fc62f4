"""Cycles finds the GPU and draws what it draws on the CPU. Not run yet: needs a machine with a GPU and Blender."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = "--resolution 128 --samples 16 --filter_width 1 --views 2 --random_views 1 --max_clips 1".split()


@pytest.mark.gpu
def test_a_gpu_renders_the_same_silhouettes(tmp_path: Path) -> None:
    toy = tmp_path / "models/toy.glb"
    make = [sys.executable, ROOT / "blender_scripts/make_procedural.py", "--family", "toy", "--out", toy]
    subprocess.run(list(map(str, make)), check=True)
    masks, devices = {}, {}
    for device in ("gpu", "cpu"):
        script = [ROOT / ".venv-render/bin/python", ROOT / "blender_scripts/render_objaverse.py", "--obj", toy]
        script += ["--out_dir", tmp_path / device, "--device", device, *OPTIONS]
        done = subprocess.run(list(map(str, script)), check=True, capture_output=True, text=True)
        devices[device] = json.loads(done.stdout.splitlines()[0])["device"]
        with tarfile.open(tmp_path / device / "fixed_16_clip-models-toy-000-00.tar") as tar:
            names = sorted(name for name in tar.getnames() if "/mask/" in name)
            read = [np.asarray(Image.open(io.BytesIO(tar.extractfile(name).read()))) for name in names]
        masks[device] = np.stack(read) / 255.0
    assert devices["cpu"] == "CPU" and devices["gpu"] in ("OPTIX", "CUDA")
    assert np.abs(masks["gpu"] - masks["cpu"]).mean() < 0.003
