"""Networks that find the object of a picture, U2-Net and others, through rembg; all are optional."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from core.errors import UserError, reason

_NO_OBJECTS = {"u2net_cloth_seg"}  # tells kinds of clothes apart
_DYNAMIC = 1024  # side of a network that takes pictures of any size


class Finder(Protocol):
    """A network that finds the object.

    Attributes:
        side: of the pictures that it looks at, pixels.
    """

    side: int

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """uint8 ``[H, W, 3]`` -> how surely each place is part of it, floats in [0, 1] of any size ``[h, w]``."""
        ...


class _Heard:
    """An ONNX session that keeps its last answer."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.answer = inner, np.zeros((0, 0), np.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def run(self, *args: Any) -> Any:
        outputs = self.inner.run(*args)
        self.answer = outputs[0][0, 0]
        return outputs


class _Saliency:
    """A session of rembg as a `Finder`."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.heard = session.inner_session = _Heard(session.inner_session)
        side = session.inner_session.get_inputs()[0].shape[-1]
        self.side = side if isinstance(side, int) else _DYNAMIC

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        # predict() prepares the picture as the network wants it. Its result is not used: it stretches every answer to
        # [0, 1], also that of a picture without an object.
        from PIL import Image

        with np.errstate(invalid="ignore"):
            self.session.predict(Image.fromarray(picture))
        answer = self.heard.answer
        return self.session.sigmoid(answer) if hasattr(self.session, "sigmoid") else answer


@cache
def load_finder(name: str) -> Finder:
    """A network by rembg's name for it, ready to be called; loaded once. Nothing is downloaded.

    Its file is where rembg looks for it: in ``U2NET_HOME``, else ``~/.u2net``.

    Raises:
        UserError: rembg is not installed, does not know the name, or the model file is missing or damaged.
    """
    try:
        from rembg import new_session
        from rembg.sessions import sessions
    except ImportError as error:
        raise UserError(
            f"rembg, which cuts the object out, is not installed ({reason(error)}): pip install 'l4gm[matte]', then "
            f"start again; or --matte none keeps the background"
        ) from error
    addresses = {known: address for known, kind in sessions.items() if (address := _address(kind)) is not None}
    if name not in addresses:
        raise UserError(f"rembg has no model {name} for --matte_model; choose one of {', '.join(sorted(addresses))}")
    kind, address = sessions[name], addresses[name]
    found = kind.resolve_existing(f"{name}.onnx")
    if found is None:
        raise UserError(
            f"the model that cuts the object out is missing: download {address} to "
            f"{Path(kind.legacy_home(), name)}.onnx, or set U2NET_HOME to the folder that holds it; or --matte none "
            f"keeps the background"
        )
    try:
        return _Saliency(new_session(name))
    except Exception as error:  # the ONNX runtime has many kinds
        raise UserError(f"cannot read {found}: {reason(error)}; download it again from {address}") from error


def _address(kind: Any) -> str | None:
    """Where rembg downloads a model that finds objects; None for other kinds, and for services that take the picture.

    rembg writes it into the code that downloads, and nowhere else.
    """
    code = kind.download_models.__func__.__code__
    found = [text for text in code.co_consts if isinstance(text, str) and text.startswith("https://")]
    fits = len(found) == 1 and found[0].endswith(".onnx") and kind.name() not in _NO_OBJECTS
    return found[0] if fits and kind.is_local() else None
