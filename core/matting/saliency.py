"""U2-Net, which finds the object of a picture, through rembg; both are optional."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from core.errors import UserError, reason

Finder = Callable[[np.ndarray], np.ndarray]
"""uint8 ``[H, W, 3]`` -> how surely each place is part of the object, floats in [0, 1] of any size ``[h, w]``."""

MODEL = "u2net.onnx"
ADDRESS = "https://github.com/danielgatis/rembg/releases/download/v0.0.0/u2net.onnx"
_MEAN, _DEVIATION, _SIDE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (320, 320)  # of U2-Net's input


def model_path() -> Path:
    """Where the model is, or should be: ``U2NET_HOME``, else ``~/.u2net``."""
    return Path(os.environ.get("U2NET_HOME") or "~/.u2net").expanduser() / MODEL


@cache
def load_u2net() -> Finder:
    """The model, ready to be called; loaded once. Nothing is downloaded.

    Raises:
        UserError: rembg is not installed, or the model file is missing or damaged.
    """
    path = model_path()
    try:
        from PIL import Image
        from rembg import new_session
    except ImportError as error:
        raise UserError(
            f"rembg, which cuts the object out, is not installed ({reason(error)}): "
            f"pip install 'l4gm[matte]', then put {ADDRESS} at {path}; or --matte none keeps the background"
        ) from error
    if not path.is_file():
        raise UserError(
            f"the model that cuts the object out is missing: download {ADDRESS} (176 MB) to {path}, or set U2NET_HOME "
            f"to the folder that holds it; or --matte none keeps the background"
        )
    try:
        session = new_session("u2net")
    except Exception as error:  # the ONNX runtime has many kinds
        raise UserError(f"cannot read {path}: {reason(error)}; download it again from {ADDRESS}") from error

    def find(picture: np.ndarray) -> np.ndarray:
        inputs = session.normalize(Image.fromarray(picture), _MEAN, _DEVIATION, _SIDE)
        # rembg's own predict() stretches every answer to [0, 1], also that of a picture without an object.
        return session.inner_session.run(None, inputs)[0][0, 0]

    return find
