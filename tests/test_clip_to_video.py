"""A clip as a sample for inference: the video is one view, the side views are its quarter turns."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blender_scripts.clip_to_video import write_sample
from core.errors import UserError
from core.media import read_video

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "tests/data/fixed_16_clip-procedural-toy-000-00.tar"


def picture(view: int, frame: int) -> np.ndarray:
    with tarfile.open(CLIP) as tar:
        return np.asarray(Image.open(io.BytesIO(tar.extractfile(f"./{view:03d}/img/{frame:03d}.jpg").read())))


def test_the_video_is_the_view_and_the_sides_turn_on_from_it(tmp_path: Path) -> None:
    write_sample(CLIP, tmp_path / "toy.mp4", view=4, fps=12)
    video = read_video(tmp_path / "toy.mp4")
    assert (video.num_frames, video.fps) == (3, 12)
    for t, frame in enumerate(video.frames(range(3))):
        shown = 255 * frame.permute(1, 2, 0).double().numpy()
        errors = [np.abs(shown - picture(4, other)).mean() for other in range(3)]
        assert int(np.argmin(errors)) == t
        assert errors[t] < 4
    for turn, view in enumerate((4, 8, 12, 0)):
        side = np.asarray(Image.open(tmp_path / f"toy_{turn:03d}.png"))
        np.testing.assert_array_equal(side, picture(view, 0))
    assert len(list(tmp_path.iterdir())) == 5  # and nothing temporary


def test_bad_input_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no tar")
    for clip, video, view, reason in (
        (CLIP, "a.mp4", 1, "no view 001"),
        (CLIP, "a.avi", 0, "must end in .mp4"),
        (tmp_path / "none.tar", "a.mp4", 0, "not a readable clip"),
        (tmp_path / "text.tar", "a.mp4", 0, "not a readable clip"),
    ):
        with pytest.raises(UserError, match=reason):
            write_sample(clip, tmp_path / video, view, fps=15)
    assert [path.name for path in tmp_path.iterdir()] == ["text.tar"]


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    script = [
        sys.executable,
        ROOT / "blender_scripts/clip_to_video.py",
        tmp_path / "none.tar",
        "--out",
        tmp_path / "a.mp4",
    ]
    done = subprocess.run(script, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "none.tar" in done.stderr
