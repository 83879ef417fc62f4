"""gen_vid.py from the command line to the video, with a tiny SVD."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.images import save_image
from core.media import read_video
from tests.tiny import SHORT, Call, files, metadata, square_frame
from tests.tiny_guidance import SVD, write_svd

pytest_plugins = ["tests.infer_place"]
pytestmark = pytest.mark.usefixtures("place", "one_thread")

TWO_STEPS = "--size 64 --num_frames 3 --diffusion_steps 2"


@pytest.fixture
def pretrained(place: Path) -> None:
    """SVD where the fetch command puts it, and a picture."""
    write_svd(Path(SVD))
    save_image(square_frame(0), Path("picture.png"))


@pytest.mark.usefixtures("pretrained")
def test_a_picture_becomes_a_video_that_infer_4d_takes(call: Call) -> None:
    line = f"--test_path picture.png --workspace made {TWO_STEPS} --seed"
    videos = []
    for seed in (1, 1, 2):
        assert call("gen_vid", f"{line} {seed}")[0] == 0
        assert files("made") == {"picture_generated.mp4"}
        video = read_video("made/picture_generated.mp4")
        assert (video.num_frames, video.size, video.fps) == (3, (64, 64), 7)
        videos.append(torch.stack(list(video.frames())))
    assert torch.equal(videos[0], videos[1]) and not torch.equal(videos[0], videos[2])
    assert call("infer_4d", "nano --test_path made/picture_generated.mp4 --matte none")[0] == 0
    assert metadata("results/picture_generated_metadata.json")["source"]["num_frames"] == 3


@pytest.mark.usefixtures("pretrained")
def test_padding_shows_the_network_a_wide_picture_and_cuts_the_video_back(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def video(_: object, picture: Tensor, count: int, *rest: object) -> Tensor:
        shown.append(picture)
        return picture.expand(count, -1, -1, -1)

    monkeypatch.setattr("core.guidance.svd.VideoDiffusion.video", video)
    assert call("gen_vid", "--test_path picture.png --workspace made --size 576 --pad")[0] == 0
    (picture,) = shown
    assert picture.shape == (3, 576, 1024)
    assert bool((picture[..., :224] == 1).all()) and bool((picture[..., -224:] == 1).all())
    frames = torch.stack(list(read_video("made/picture_generated.mp4").frames()))
    assert frames.shape == (14, 3, 576, 576)
    assert float((frames - picture[..., 224:-224]).abs().mean()) < 0.01


@pytest.mark.parametrize(
    ("script", "line"),
    [("gen_vid", "--test_path data_test/x.mp4"), ("refine_4d", f"{SHORT} --guidance svd-refine")],
)
def test_without_weights_there_is_one_line_with_the_command(call: Call, script: str, line: str) -> None:
    status, text = call(script, line)
    assert status == 2
    name = "stabilityai/stable-video-diffusion-img2vid"
    assert text.endswith(f"fetch it with: hf download {name} --local-dir pretrained/{Path(name).name}\n")


def test_numbers_that_cannot_be_are_refused(call: Call) -> None:
    for option, why in (("--size 100", "multiple of 64"), ("--guidance_scale 3 1", "must not fall")):
        status, text = call("gen_vid", f"--test_path data_test/x.mp4 {option}")
        assert status == 2 and why in text
