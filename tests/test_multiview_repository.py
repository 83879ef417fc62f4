"""Folders of published pipelines: found or not, whole or spoilt; one message with the command that mends it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import UserError
from core.multiview import hub
from core.multiview.hub import PUBLISHED, fetch_command, find_folder
from core.multiview.repository import Repository, open_repository
from core.multiview.unet import IMAGEDREAM, MVDREAM, UNetConfig
from tests.tiny_multiview import UNET, write_pipeline

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
FETCH = "hf download ashawkey/imagedream-ipmv-diffusers --local-dir pretrained/imagedream-ipmv-diffusers"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("pipelines") / "imagedream")


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(whole, tmp_path / "pipeline"))


def load_everything(folder: Path) -> Repository:
    repository = open_repository(str(folder), "imagedream")
    for part in repository.parts:
        getattr(repository, part)(CPU, torch.float32)
    repository.tokenizer(), repository.feature_extractor(), repository.scheduler()
    return repository


def change_tensors(path: Path, change: Callable[[dict], object]) -> None:
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def widen(state: dict) -> None:
    name = next(name for name in sorted(state) if name.endswith("norm.bias") or name.endswith("norm1.bias"))
    state[name] = torch.zeros(5)


UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
SPOILT = {
    "unet missing": (lambda f: (f / UNET_FILE).unlink(), f"{UNET_FILE} missing"),
    "tokenizer missing": (lambda f: (f / "tokenizer/merges.txt").unlink(), "tokenizer/merges.txt missing"),
    "encoder missing": (
        lambda f: shutil.rmtree(f / "image_encoder"),
        "image_encoder/config.json, .*safetensors missing",
    ),
    "empty": (lambda f: (shutil.rmtree(f), f.mkdir()), "is incomplete"),
    "unet truncated": (lambda f: cut(f / UNET_FILE), f"truncated or damaged file, {UNET_FILE}"),
    "text encoder truncated": (lambda f: cut(f / "text_encoder/model.safetensors"), "truncated .*text_encoder/model"),
    "config nested deep": (lambda f: (f / "unet/config.json").write_text("[" * 200_000), "nested too deep"),
    "config of text": (lambda f: (f / "unet/config.json").write_text('{"channel_mult": "abc"}'), "channel_mult is abc"),
    "config of no network": (
        lambda f: (f / "unet/config.json").write_text('{"ip_dim": 16, "model_channels": 7}'),
        "of no network that can be built",
    ),
    "config truncated": (lambda f: cut(f / "unet/config.json"), "damaged file, unet/config.json"),
    "scheduler no object": (
        lambda f: (f / "scheduler/scheduler_config.json").write_text("[]"),
        "no JSON object",
    ),
    "unet of other widths": (
        lambda f: change_tensors(f / UNET_FILE, widen),
        r"weights of imagedream in unet: .*\(5,\) in the file and \(32,\) by its configuration",
    ),
    "unet without a tensor": (
        lambda f: change_tensors(f / UNET_FILE, lambda s: s.pop("time_embed.0.bias")),
        "in unet: missing time_embed.0.bias",
    ),
    "unet with more": (lambda f: change_tensors(f / UNET_FILE, lambda s: s.update(x=torch.ones(1))), "unexpected x"),
    "unet with NaN": (
        lambda f: change_tensors(f / UNET_FILE, lambda s: s["out.2.bias"].fill_(torch.nan)),
        "NaN or infinity in the tensor out.2.bias",
    ),
    "vae of other widths": (
        lambda f: change_tensors(f / "vae/diffusion_pytorch_model.safetensors", widen),
        "part that does not load, vae",
    ),
    "vae without a tensor": (
        lambda f: change_tensors(
            f / "vae/diffusion_pytorch_model.safetensors", lambda s: s.pop("decoder.conv_in.bias")
        ),
        "in vae: missing decoder.conv_in.bias",
    ),
    "text encoder of other widths": (
        lambda f: change_tensors(f / "text_encoder/model.safetensors", widen),
        "part that does not load, text_encoder",
    ),
    "image encoder without a tensor": (
        lambda f: change_tensors(
            f / "image_encoder/model.safetensors", lambda s: s.pop("vision_model.pre_layrnorm.bias")
        ),
        "in image_encoder: missing .*pre_layrnorm.bias",
    ),
}


def test_a_whole_pipeline_loads_and_its_code_is_not_run(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    repository = load_everything(folder)
    assert repository.unet_config == UNET
    assert not Path("executed").exists()
    assert "mv_unet" not in sys.modules
    assert capfd.readouterr().err == "", "the libraries' bars and reports are left out"


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT)
def test_damaged_pipelines_are_refused_with_the_download_command(
    folder: Path, spoil: Callable, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=message) as refused:
        load_everything(folder)
    text = str(refused.value)
    assert "\n" not in text
    assert text.startswith(f"the pipeline {folder} ")
    assert text.endswith(f"fetch it with: {FETCH}")
    assert capfd.readouterr().err == ""


def test_the_other_model_is_recognised(folder: Path) -> None:
    with pytest.raises(UserError, match=r"other model: it makes views from a picture, not from a text.*mvdream-sd2.1"):
        open_repository(str(folder), "mvdream")
    write_pipeline(folder / "text", "mvdream")
    assert open_repository(str(folder / "text"), "mvdream").parts == ("unet", "vae", "text_encoder")
    with pytest.raises(UserError, match=r"other model: it makes views from a text, not from a picture.*imagedream"):
        open_repository(str(folder / "text"), "imagedream")


def test_torch_files_load_as_well(folder: Path) -> None:
    state = load_file(folder / UNET_FILE)
    (folder / UNET_FILE).unlink()
    torch.save(state, folder / "unet/diffusion_pytorch_model.bin")
    name, value = next(iter(load_everything(folder).unet(CPU, torch.float32).state_dict().items()))
    assert torch.equal(value, state[name].float())


def test_weights_arrive_as_they_are_in_the_files(folder: Path) -> None:
    repository = load_everything(folder)
    for part, prefix in (("text_encoder", "text_model."), ("image_encoder", "vision_model.")):
        state = load_file(folder / part / "model.safetensors")
        loaded = getattr(repository, part)(CPU, torch.bfloat16).state_dict()
        assert loaded
        for name, value in loaded.items():
            assert torch.equal(value, state[prefix + name.removeprefix(prefix)].bfloat16()), name


def test_published_configurations_are_read() -> None:
    """The fields of the published file; unknown ones do not matter."""
    content = {"_class_name": "MultiViewUNetModel", "channel_mult": [1, 2, 4, 4], "context_dim": 1024, "ip_dim": 16}
    assert UNetConfig.from_json(content) == IMAGEDREAM
    assert UNetConfig.from_json({}) == MVDREAM


def test_a_pipeline_is_looked_for_as_a_folder_below_pretrained_and_in_the_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = PUBLISHED["imagedream"]
    monkeypatch.setattr("huggingface_hub.snapshot_download", _cache(None))
    assert find_folder(name) is None
    assert find_folder(str(folder)) == folder
    monkeypatch.setattr("huggingface_hub.snapshot_download", _cache(folder))
    assert find_folder(name) == folder
    assert find_folder("no/such/folder") is None
    local = Path(shutil.copytree(folder, Path(fetch_command(name).split()[-1])))
    assert find_folder(name) == local
    assert open_repository(name, "imagedream").folder == local


def _cache(found: Path | None) -> Callable:
    def download(name: str, *, local_files_only: bool = False, allow_patterns: object = None) -> str:
        if found is None or not local_files_only:
            raise ConnectionError("no network")
        return str(found)

    return download


@pytest.mark.parametrize("name", [PUBLISHED["imagedream"], "someone/else"])
def test_offline_and_absent_is_one_message_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", _cache(None))
    expected = re.escape(f"hf download {name} --local-dir pretrained/{name.partition('/')[2]}")
    with pytest.raises(UserError, match=rf"cannot be fetched now \(ConnectionError\); fetch it with: {expected}$"):
        open_repository(name, "imagedream")


@pytest.mark.parametrize("name", ["/no/such", "./here", "pretrained/imagedream", "a/b/c"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match=f"fetch one with: {FETCH}$"):
        open_repository(name, "imagedream")


def test_missing_packages_are_named_with_the_command_that_installs_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert hub.missing_libraries() == ["diffusers"]
    with pytest.raises(UserError, match=r"needs the packages diffusers: pip install -e '\.\[imagedream\]'"):
        open_repository(str(folder), "imagedream")
