r"""Render other views of objects and scenes from posed images, with LaCT.

    python infer_nvs.py --load weight/obj_res256.pt --data_path data_example/sample_data_path.json
    python infer_nvs.py --load weight/scene_res256x256.pt --data_path scenes.json --image_size 256 256 \
        --scene_inference --num_all_views 136 --num_input_views 128
"""

import tyro

from core.cli import run
from core.nvs.inference import run_inference
from core.options.lact import NvsOptions


def main() -> None:
    """Parse, call."""
    run_inference(tyro.cli(NvsOptions, description="Render other views from posed images.", use_underscores=True))


if __name__ == "__main__":
    run(main)
