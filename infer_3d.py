r"""Lift the first frame of a video, a picture or a text to 3D: side views for infer_4d, Gaussians, a turntable.

python infer_3d.py nano --test_path video.mp4
python infer_3d.py big --workspace results --resume pretrained/recon.safetensors \
        --num_frames 1 --test_path data_test/x.mp4
python infer_3d.py big --test_path picture.png                                 # LGM's own way, with its checkpoint
python infer_3d.py big --test_path picture.png --prompt "a fox"                # the text helps ImageDream
python infer_3d.py big --prompt "a hamburger"                                  # MVDream
"""

from core.cli import parse_options, run
from core.inference.inputs import open_sources, run_all
from core.inference.outputs import lift_outputs
from core.inference.programs import lift_prompt, lift_video
from core.inference.session import Session
from core.options.offers import INFER_3D


def main() -> None:
    """Parse, build, call; the parts save."""
    description = "Lift the first frame of a video, a picture or a text to 3D; make side views for infer_4d."
    options = parse_options(description, offer=INFER_3D)
    infer, views, workspace = options.infer, options.views, options.run.workspace
    session = Session(options, still=True)
    if views.prompt and not infer.test_path:
        lift_prompt(session, views.prompt)
        return
    names = (infer.test_path, workspace, options.input)
    sources = open_sources(*names, lift_outputs, views.recenter)
    run_all(sources, lambda source: lift_video(session, source))


if __name__ == "__main__":
    run(main)
