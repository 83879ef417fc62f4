"""The picture of the rig shows every fixed view where its camera stands."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blender_scripts import rig_picture
from blender_scripts.rig import View

DATA = Path(__file__).resolve().parent / "data"
LINE = "procedural-toy-000-00.tar"


def test_views_stand_where_their_cameras_are() -> None:
    red = Image.new("RGB", (rig_picture.CELL, rig_picture.CELL), "red")
    image = np.asarray(rig_picture.panel([(View(4, 90.0), red)], (0, 2), ""))
    rows, columns = np.nonzero((image == (255, 0, 0)).all(-1))
    reach = rig_picture.SCALE * rig_picture.RADIUS
    assert columns.mean() == pytest.approx(rig_picture.SIDE / 2 + reach, abs=2)  # azimuth 90 is on +x, to the right
    assert rows.mean() == pytest.approx(rig_picture.SIDE / 2 + 40, abs=12)  # labels cover a little of it


def test_it_draws_a_rendered_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tars = [str(DATA / f"{kind}-{LINE}") for kind in ("fixed_16_clip", "random_clip")]
    monkeypatch.setattr(sys, "argv", ["rig_picture.py", *tars, "--out", str(tmp_path / "rig.png")])
    rig_picture.main()
    assert Image.open(tmp_path / "rig.png").size == (2 * rig_picture.SIDE, rig_picture.SIDE + 40)
