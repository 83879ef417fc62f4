r"""Turn a video into a sequence of 3D Gaussians.

    python infer_4d.py nano --test_path video.mp4
    python infer_4d.py big --workspace results --resume pretrained/recon.safetensors \
        --interpresume pretrained/interp.safetensors --num_frames 16 --test_path data_test/x.mp4
"""

from core.cli import parse_options, run
from core.errors import UserError
from core.export.formats import check_formats
from core.inference.inputs import open_sources, run_all
from core.inference.outputs import sequence_outputs
from core.inference.programs import reconstruct_video
from core.inference.session import Session
from core.options.offers import INFER_4D


def main() -> None:
    """Parse, build, call; the parts save."""
    options = parse_options("Turn a video, or a folder of videos, into sequences of 3D Gaussians.", offer=INFER_4D)
    session = Session(options)
    infer, views = options.infer, options.views
    if views.prompt:
        raise UserError("--prompt is for infer_3d.py: infer_4d.py needs a video")
    check_formats(infer.export)
    names = (infer.test_path, options.run.workspace, options.input)
    every = bool(infer.interpresume) and options.side_views.inserted_side_views == "first"
    sources = open_sources(*names, sequence_outputs, views.recenter, every)
    run_all(sources, lambda source: reconstruct_video(session, source))


if __name__ == "__main__":
    run(main)
