"""The networks that find an object: which there are, where their files come from, how they are asked."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from core.errors import UserError
from core.matting.saliency import load_finder


def test_a_missing_model_and_a_missing_package_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_finder.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "rembg", None)
    with pytest.raises(UserError, match=r"pip install 'l4gm\[matte\]'"):
        load_finder("u2net")
    monkeypatch.undo()
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    pytest.importorskip("rembg")
    for name, file in {
        "u2net": "u2net",
        "isnet-general-use": "isnet-general-use",
        "birefnet-general": r"BiRef\S+",
    }.items():
        missing = rf"download https://\S+/{file}\.onnx to {tmp_path}/{name}\.onnx, or set U2NET_HOME"
        with pytest.raises(UserError, match=missing):
            load_finder(name)
    for name in ("sam", "u2net_custom", "u2net_cloth_seg", "withoutbg", "nothing"):
        with pytest.raises(
            UserError, match=rf"no model {name} for --matte_model; choose one of .*isnet-general-use, .*u2net,"
        ):
            load_finder(name)
    (tmp_path / "u2net.onnx").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"download it again from https://\S+/u2net\.onnx"):
        load_finder("u2net")


class StandIn:
    """An ONNX session that answers with the mean of the red and the blue channel."""

    def __init__(self, path: str, **_: object) -> None:
        self.side = 320 if "u2net" in path else 1024

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="picture", shape=["batch", 3, self.side, self.side])]

    def get_providers(self) -> list[str]:
        return []

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        picture = inputs["picture"]
        assert picture.shape == (1, 3, self.side, self.side)
        return [picture[:, :1]]


@pytest.mark.parametrize(
    ("name", "side", "value"),
    [
        ("u2net", 320, (0.2 - 0.485) / 0.229),
        ("isnet-general-use", 1024, 0.2 - 0.5),
        ("birefnet-general-lite", 1024, 1 / (1 + math.exp((0.485 - 0.2) / 0.229))),
    ],
)
def test_every_network_is_asked_as_it_was_trained_and_answers_unstretched(
    name: str, side: int, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rembg prepares the picture; the raw answer comes back, of BiRefNet as a probability."""
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("rembg")
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    monkeypatch.setattr(ort, "InferenceSession", StandIn)
    (tmp_path / f"{name}.onnx").touch()
    load_finder.cache_clear()
    find = load_finder(name)
    load_finder.cache_clear()
    picture = np.full((9, 12, 3), 51, np.uint8)  # 0.2
    picture[:, 6:] = 255  # rembg divides by the largest value
    answer = find(picture)
    assert find.side == side and answer.shape == (side, side)
    assert answer[:, : side // 4] == pytest.approx(value, abs=1e-4)
