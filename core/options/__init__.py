"""Typed options in sections, and the presets. No torch in here.

Command lines are flat: ``python main.py big --lr 1e-4 --num_frames 8``. The options that one script takes therefore
have different names (a test holds this), see `core.options.offers`. Only ``output_size`` is in two sections: of the
supervised images in ``data``, of the turntables in ``infer``. A module receives its own section only.
"""

from core.options.camera import CameraOptions
from core.options.data import DataOptions
from core.options.eval import EvalOptions
from core.options.infer import InferOptions
from core.options.input import InputOptions
from core.options.mesh import MeshOptions
from core.options.model import ModelOptions
from core.options.presets import PRESET_HELP, PRESETS, Options
from core.options.refine import RefineOptions
from core.options.run import RunOptions
from core.options.side_views import SideViewOptions
from core.options.train import TrainOptions
from core.options.views import ViewOptions

__all__ = [
    "PRESETS",
    "PRESET_HELP",
    "CameraOptions",
    "DataOptions",
    "EvalOptions",
    "InferOptions",
    "InputOptions",
    "MeshOptions",
    "ModelOptions",
    "Options",
    "RefineOptions",
    "RunOptions",
    "SideViewOptions",
    "TrainOptions",
    "ViewOptions",
]
