"""DL3DV: what is listed, and that a scene as it is downloaded goes through conversion into training and inference."""

from __future__ import annotations

import json
import shlex
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from core.errors import UserError
from core.nvs import dl3dv
from core.nvs.dl3dv import Dl3dvOptions, archives, commands
from core.nvs.inference import run_inference
from core.nvs.training import NvsTraining
from core.nvs.undistort import convert_folder
from core.options.lact import LACT_PRESETS, LactOptions, NvsOptions, NvsTrainOptions
from tests.nvs_place import DL3DV_LIST, write_transforms

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A list in the published format."""
    path = tmp_path / "DL3DV-valid.csv"
    path.write_text(DL3DV_LIST)
    return path


def test_archives_are_listed_and_problems_left_out(published: Path) -> None:
    assert archives(Dl3dvOptions(published)) == ["2K/aa.zip", "1K/bb.zip", "1K/dd.zip"]
    assert archives(Dl3dvOptions(published, batch="1K", scenes=1)) == ["1K/bb.zip"]


def test_a_list_that_is_none_and_a_batch_that_is_not_there_are_named(published: Path) -> None:
    with pytest.raises(UserError, match="has no batch 7K; choose from 1K, 2K"):
        archives(Dl3dvOptions(published, batch="7K"))
    published.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"DL3DV-valid\.csv is not the list of DL3DV"):
        archives(Dl3dvOptions(published))
    with pytest.raises(UserError, match="there is no such file"):
        archives(Dl3dvOptions(published.with_name("none.csv")))


def test_the_list_and_the_commands_are_written(published: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = published.with_name("files.txt")
    with caplog.at_level("INFO"):
        dl3dv.main([str(published), "--batch", "1K", "--resolution", "480P", "--list_file", str(files)])
    assert files.read_text() == "1K/bb.zip\n1K/dd.zip\n"
    assert "2 scenes" in caplog.text and "DL3DV/DL3DV-ALL-480P --repo-type dataset" in caplog.text


@pytest.mark.parametrize("copies", ["images_4", "images_8"])
def test_a_downloaded_scene_is_unpacked_converted_trained_on_and_rendered(
    tmp_path: Path, copies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the archives have it: a distorted lens, intrinsics of the full size, pictures in a smaller copy only."""
    monkeypatch.setitem(LACT_PRESETS, "nano", LactOptions(4, 8, 1, head_dim=8, fast_head_dim=8))
    scene = write_transforms(
        tmp_path / "made", size=(96, 160), k1=-0.05, k2=0.01, p1=1e-4, p2=-1e-4, camera_model="OPENCV"
    )
    options = Dl3dvOptions(tmp_path / "unused.csv", out=tmp_path / "DL3DV")
    (options.out / "1K").mkdir(parents=True)
    with zipfile.ZipFile(options.out / "1K/aa.zip", "w") as archive:
        archive.write(scene, "aa/transforms.json")
        for picture in sorted((scene.parent / "images").iterdir()):
            small = tmp_path / picture.name
            Image.open(picture).resize((40, 24)).save(small)
            archive.write(small, f"aa/{copies}/{picture.name}")
    with zipfile.ZipFile(options.out / "1K/aa.zip") as archive:
        archive.extractall(options.out / "1K/aa.zip.d")
    convert = shlex.split(commands(options)[-1])
    listed = convert_folder(Path(convert[3]), Path(convert[4]))
    assert len(json.loads(listed.read_text())) == 1
    training = NvsTrainOptions(
        data_path=str(listed),
        config="nano",
        output_dir=str(tmp_path / "runs"),
        image_size=(16, 24),
        num_all_views=4,
        num_input_views=2,
        num_target_views=2,
        scene_pose_normalize=True,
        bs_per_gpu=2,
        steps=3,
        lpips_start=-1,
        mixed_precision="no",
        num_workers=0,
    )
    NvsTraining(training).run()
    inference = NvsOptions(
        data_path=str(listed),
        load=str(tmp_path / "runs/nvs/model.safetensors"),
        config="nano",
        output_dir=str(tmp_path / "out"),
        image_size=(16, 24),
        num_all_views=5,
        num_input_views=3,
        scene_inference=True,
        lpips=False,
        gif=False,
    )
    run_inference(inference)
    assert Image.open(tmp_path / "out/sample_000000_view_01_rendered.png").size == (24, 16)
