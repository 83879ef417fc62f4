r"""Turn Gaussians into watertight meshes with vertex colours: a .ply, the frames of a clip, or a whole workspace.

python convert.py nano --test_path results/trex
python convert.py big --test_path results/anya.ply                   # LGM's own command
"""

from core.cli import parse_options, run
from core.meshing.convert import convert
from core.options.offers import CONVERT


def main() -> None:
    """Parse, call; results stand beside the input."""
    convert(parse_options("Turn Gaussians (.ply) into watertight, coloured meshes (.glb, .obj).", offer=CONVERT))


if __name__ == "__main__":
    run(main)
