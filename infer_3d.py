r"""Lift the first frame of a video to 3D: aligned side views for infer_4d, Gaussians and a turntable.

python infer_3d.py nano --test_path video.mp4
python infer_3d.py big --workspace results --resume pretrained/recon.safetensors \
        --num_frames 1 --test_path data_test/x.mp4
"""

from core.cli import parse_options, run
from core.inference.inputs import open_sources
from core.inference.outputs import lift_outputs
from core.inference.programs import lift_video
from core.inference.session import Session


def main() -> None:
    """Parse, build, call; the parts save."""
    options = parse_options("Lift the first frame of a video to 3D and make the side views for infer_4d.")
    session = Session(options)
    sources = open_sources(options.infer.test_path, options.train.workspace, options.infer.target_fps, lift_outputs)
    for source in sources:
        lift_video(session, source)


if __name__ == "__main__":
    run(main)
