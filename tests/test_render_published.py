"""The published render script's command line and lights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blender_scripts import render_objaverse, rig

PUBLISHED_LINES = [
    "-b -P blender_scripts/render_objaverse.py -- ../objaverse_dataset/0013bdae.glb --output_folder ../random_clip "
    "--views 32 --gpu 8 --camera_option random --animation_idx 1 --downsample 3",
    "-b -P blender_scripts/render_objaverse.py -- --views 16 --camera_option fixed --engine CYCLES --format PNG "
    "--step_angle 3 --fixed_animation_length -1 --output_folder ../random_clip ../objaverse_dataset/0013bdae.glb",
]


@pytest.mark.parametrize(("line", "mode"), [(0, "random"), (1, "fixed")])
def test_published_flags_are_accepted(line: int, mode: str) -> None:
    args = render_objaverse.parse(PUBLISHED_LINES[line].split())
    assert (args.obj, args.out_dir) == (["../objaverse_dataset/0013bdae.glb"], Path("../random_clip"))
    assert (args.mode, args.device, args.fixed_animation_length) == (mode, "auto", None)
    if mode == "random":
        assert (args.random_views, args.animation, args.downsample) == (32, "1", [3])
    else:
        assert args.views == 16


# Published: Euler angles (x, z) in degrees of lamps that shine along their local -z.
PUBLISHED_LAMPS = {"key": (45, -45), "fill": (45, 135), "rim": (-45, -225), "bottom": (180, 0)}


@pytest.mark.parametrize("sun", rig.LIGHTS["published"], ids=lambda sun: sun.name)
def test_published_suns_shine_from_the_published_directions(sun: rig.Sun) -> None:
    x, z = np.deg2rad(PUBLISHED_LAMPS[sun.name])
    published = np.array([np.sin(z) * np.sin(x), -np.cos(z) * np.sin(x), np.cos(x)])  # Rz(z) Rx(x) (0, 0, 1)
    ours = rig.blender_camera(rig.View(0, sun.azimuth, sun.elevation))[:3, 2]
    np.testing.assert_allclose(ours, published, atol=1e-12)


def test_published_suns_cast_no_shadow_and_both_sets_have_the_published_energies() -> None:
    energies = {"key": 4.0, "fill": 3.0, "rim": 4.0, "bottom": 2.0}
    for name, suns in rig.LIGHTS.items():
        assert {sun.name: sun.energy for sun in suns} == energies
        assert {sun.shadow for sun in suns} == {name == "soft"}
