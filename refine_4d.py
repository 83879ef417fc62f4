r"""Turn a video into one set of Gaussians and its motion: infer_4d.py with --refine.

python refine_4d.py nano --test_path video.mp4
"""

from dataclasses import replace

from core.cli import parse_options, run
from core.export.formats import check_formats
from core.inference.inputs import open_sources, run_all
from core.inference.outputs import sequence_outputs
from core.inference.programs import reconstruct_video
from core.inference.session import Session
from core.options.offers import REFINE_4D


def main() -> None:
    """Parse, build, call; the parts save."""
    options = parse_options("Turn a video into one set of 3D Gaussians and its motion.", offer=REFINE_4D)
    options = replace(options, refine=replace(options.refine, refine=True))
    session = Session(options)
    infer, views = options.infer, options.views
    check_formats(infer.export)
    names = (infer.test_path, options.run.workspace, options.input)
    sources = open_sources(*names, sequence_outputs, views.recenter)
    run_all(sources, lambda source: reconstruct_video(session, source))


if __name__ == "__main__":
    run(main)
