"""Folders of Zero123 and SVD: found or not, whole or spoilt; one message with the command that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.errors import UserError
from core.guidance.guide import make_guidance
from core.multiview import hub
from core.options import ViewOptions
from core.options.refine import RefineOptions
from tests.tiny_guidance import SIZE, write_svd, write_zero123

pytestmark = pytest.mark.usefixtures("one_thread")

GIVEN = (torch.rand(3, 3, SIZE, SIZE), torch.device("cpu"), torch.float32)


def test_without_a_name_there_is_no_guidance() -> None:
    assert make_guidance(RefineOptions(), ViewOptions(), *GIVEN) is None


def test_files_of_half_precision_load(tmp_path: Path) -> None:
    write_zero123(tmp_path / "half", variant="fp16")
    options = RefineOptions(guidance="zero123", zero123=str(tmp_path / "half"))
    assert make_guidance(options, ViewOptions(), *GIVEN).unet.config.in_channels == 8


@pytest.mark.parametrize("name", ["zero123", "svd"])
def test_weights_that_are_missing_or_damaged_are_one_error_with_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = RefineOptions(guidance=name, zero123="nothing", svd="nothing")
    with pytest.raises(UserError, match=f"hf download {hub.PUBLISHED[name]} --local-dir pretrained/"):
        make_guidance(options, ViewOptions(), *GIVEN)
    write = {"zero123": write_zero123, "svd": write_svd}[name]
    write(tmp_path / "nothing")
    file = tmp_path / "nothing/unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"truncated or damaged file, unet/.*fetch it with"):
        make_guidance(options, ViewOptions(), *GIVEN)
    file.unlink()
    with pytest.raises(UserError, match="is incomplete: unet/diffusion_pytorch_model"):
        make_guidance(options, ViewOptions(), *GIVEN)
