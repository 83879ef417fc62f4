"""Metrics, means, tables and sheets of an evaluation, on images whose scores are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from core.cameras import input_cameras, orbit_cameras
from core.errors import UserError
from core.evaluation.baselines import hull_gaussians
from core.evaluation.ground_truth import GroundTruth, Prediction
from core.evaluation.metrics import WarpedError, chunk_means, flicker, iou, spread
from core.evaluation.perceptual import ClipImages, FrechetScores, VideoNetwork, frechet_distance
from core.evaluation.report import MAX_SYSTEMS, Scores, Sheet, chunk_table, error_image, summary_table

SIDE = 64


def moving_square(step: int = 3, frames: int = 4) -> tuple[Tensor, Tensor]:
    """A textured square that moves to the right: images ``[T, 1, 3, S, S]`` and alpha."""
    texture = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))
    texture = nn.functional.interpolate(texture[None, :, ::4, ::4], (24, 24), mode="bilinear")[0]
    images, alpha = torch.ones(frames, 1, 3, SIDE, SIDE), torch.zeros(frames, 1, 1, SIDE, SIDE)
    for t in range(frames):
        images[t, 0, :, 20:44, 8 + step * t : 32 + step * t] = texture
        alpha[t, 0, :, 20:44, 8 + step * t : 32 + step * t] = 1
    return images, alpha


def ground_truth(images: Tensor, alpha: Tensor, name: str = "x") -> GroundTruth:
    cameras = orbit_cameras(torch.zeros(len(images), images.shape[1]), size=(SIDE, SIDE))
    views = tuple(map(str, range(images.shape[1])))
    return GroundTruth(name, images[:, 0], cameras, images, alpha, views, tuple(range(len(images))))


def test_iou_counts_pixels_above_a_half() -> None:
    own, other = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    own[0, 0, 0], other[0, 0, :, 0] = 0.6, 1
    own[0, 0, 3] = 0.4
    assert iou(own, other).tolist() == [pytest.approx(1 / 7), 1.0]


def test_flicker_ignores_a_constant_error() -> None:
    images, _ = moving_square()
    assert flicker(images, images).shape == (3, 1)
    assert flicker(images * 0.5 + 0.1, images * 0.5).max() < 1e-4
    still = images[:1].expand_as(images)
    assert torch.allclose(flicker(still, images), flicker(images, still))
    blinking = still.clone()
    blinking[1::2] -= 2 / 255
    assert torch.allclose(flicker(blinking, still), torch.tensor(2.0))


def test_warped_error_is_low_for_the_true_motion_and_high_for_a_static_image() -> None:
    images, alpha = moving_square()
    warped = WarpedError(ground_truth(images, alpha))
    true, static = warped(images), warped(images[:1].expand_as(images))
    assert true.shape == (3, 1)
    assert true.max() < 6 and static.min() > 3 * true.max()


def test_chunks_share_their_border_frames() -> None:
    values = torch.arange(7.0)[:, None].expand(7, 2)
    assert chunk_means(values, 3).tolist() == [[1, 1], [3, 3], [5, 5]]
    assert chunk_means(values, 4)[:, 0].tolist() == [1.5, 4.5]


@pytest.mark.parametrize(("count", "total", "expected"), [(0, 3, 3), (9, 3, 3), (2, 9, 2), (1, 5, 1)])
def test_spread_includes_both_ends(count: int, total: int, expected: int) -> None:
    chosen = spread(count, total)
    assert len(set(chosen.tolist())) == expected and chosen[0] == 0
    assert expected == 1 or chosen[-1] == total - 1


def test_motion_is_the_psnr_of_the_first_frame_at_later_times() -> None:
    images, alpha = moving_square()
    assert ground_truth(images[:1].expand(4, -1, -1, -1, -1), alpha).motion == 100
    slow, fast = (ground_truth(*moving_square(step)).motion for step in (1, 6))
    assert fast < slow < 100
    jump = images.clone()
    jump[1:] = images[:1] + 0.1
    assert ground_truth(jump, alpha).motion == pytest.approx(20, abs=1e-3)


def test_means_are_over_objects_with_the_moving_ones_apart() -> None:
    images, alpha = moving_square()
    scores = Scores(moving_below=25)
    for name, moved, value, frames in (("a", 20.0, 10.0, 2), ("b", 30.0, 20.0, 4)):
        scores.motion[name] = moved
        values = {"psnr": torch.full((frames, 1), value), "lpips": torch.tensor([[0.5]] + [[torch.nan]] * (frames - 1))}
        values["warp"] = torch.full((frames - 1, 1), torch.nan)  # no pixel was compared
        scores.add("net", ground_truth(images[:frames], alpha[:frames], name), values)
    summary = scores.summary()
    assert summary["all"] == {"objects": 2, "systems": {"net": {"psnr": 15.0, "lpips": 0.5}}}
    assert summary["moving"] == {"objects": 1, "systems": {"net": {"psnr": 10.0, "lpips": 0.5}}}
    assert scores.systems["net"]["b"].counts == {"psnr": 4, "lpips": 1, "warp": 0}
    json.dumps(scores.as_json(), allow_nan=False)
    assert cells(scores.tables())[0] == ["all: 2 objects", "PSNR, dB ↑", "LPIPS ↓"]
    assert cells(scores.tables())[-1] == ["net", "10.00", "0.500"]  # of the moving ones
    assert cells(scores.object_table())[2:] == [["a", "20.0", "10.00"], ["b", "30.0", "20.00"]]


def cells(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_tables_leave_blank_what_a_system_lacks_and_show_chunks() -> None:
    systems = {"net": {"psnr": 24.5, "psnr_01": 20.0, "psnr_02": 19.5, "psnr_lost": -0.001}, "hull": {"psnr": 23.0}}
    summary = {"all": {"objects": 1, "systems": systems}}
    header, _, *rows = cells(summary_table(summary, "all"))
    assert header == ["all: 1 objects", "PSNR, dB ↑", "lost, dB ↓"]
    assert rows == [["net", "24.50", "0.00"], ["hull", "23.00", ""]]
    header, _, *rows = cells(chunk_table(summary))
    assert header == ["PSNR of chunk, dB", "1", "2"] and rows == [["net", "20.00", "19.50"]]
    assert chunk_table({"all": {"objects": 1, "systems": {"net": {"psnr": 1.0}}}}) == ""


def test_a_long_video_shows_some_chunks_in_order() -> None:
    means = {f"psnr_{k:02d}": float(k) for k in range(1, 121)}
    header, _, row = cells(chunk_table({"all": {"objects": 1, "systems": {"net": means}}}))
    assert (header[1], header[-1], len(header)) == ("1", "120", 13)
    assert [float(cell) for cell in row[1:]] == [float(name) for name in header[1:]] == sorted(map(float, header[1:]))


def test_frechet_distance_has_its_closed_form() -> None:
    """Equal means apart; covariances that commute: the sum of (sigma1 - sigma2)^2 over the common axes."""
    generator = np.random.default_rng(0)
    white = generator.normal(size=(400, 5))
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T  # covariance is the identity
    turn = np.linalg.qr(generator.normal(size=(5, 5)))[0]
    one, two = np.array([1.0, 2, 3, 0.5, 0]), np.array([2.0, 2, 1, 1, 3])
    shift = np.arange(5.0)
    distance = frechet_distance((white * one) @ turn, (white * two) @ turn + shift)
    assert distance == pytest.approx(np.square(one - two).sum() + np.square(shift).sum(), rel=1e-6)
    assert frechet_distance(white, white[::-1]) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_agrees_with_a_matrix_root() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.normal(size=(50, 4)), generator.normal(size=(30, 4)) @ generator.normal(size=(4, 4))
    s1, s2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-8)
    with pytest.raises(ValueError, match="two features"):
        frechet_distance(first[:1], second)


class TinyVideoNetwork(nn.Module):
    """Mean colour and mean change of a video, as the common I3D file is called."""

    def forward(self, x: Tensor, rescale: bool = True, return_features: bool = False) -> Tensor:
        if rescale or not return_features:
            x = x * 0
        return torch.cat([x.mean([2, 3, 4]), x.diff(dim=2).abs().mean([2, 3, 4])], dim=1)


def test_fvd_compares_sets_and_its_variant_single_videos(tmp_path: Path) -> None:
    path = tmp_path / "i3d.pt"
    torch.jit.script(TinyVideoNetwork()).save(path)
    scores = FrechetScores(VideoNetwork(path, torch.device("cpu")))
    videos = torch.rand(3, 6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5
    for part in (videos[:, :3], videos[:, 3:]):
        scores.add_ground_truth(part)
        scores.add("same", part)
        scores.add("brighter", part + 0.25)
    assert scores.of("same") == {"fvd": pytest.approx(0, abs=1e-9), "fvd_single": 0.0, "videos": 6}
    # Colours run from -1 to 1: three channels, half a unit brighter.
    assert scores.of("brighter") == {"fvd": pytest.approx(0.75), "fvd_single": pytest.approx(0.75), "videos": 6}
    (tmp_path / "no.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="TorchScript"):
        VideoNetwork(tmp_path / "no.pt", torch.device("cpu"))


def test_clip_similarity_of_an_image_with_itself_is_one(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(tmp_path)
    clip = ClipImages(tmp_path, torch.device("cpu"))
    images = torch.rand(2, 3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(clip.similarity(images, images), torch.ones(2, 3))
    assert clip.similarity(images, images.flip(0)).max() < 1
    with pytest.raises(UserError, match=r"no config.json"):
        ClipImages(tmp_path / "none", torch.device("cpu"))


def test_the_visual_hull_of_four_discs_contains_the_ball_within_their_box() -> None:
    """A red disc of radius 0.4 from four sides: the ball lies inside the hull, the hull inside the bounding box."""
    cameras = input_cameras(size=SIDE)
    _, directions = cameras.rays()
    centres = cameras.positions[:, None, None]
    nearest = (centres - (centres * directions).sum(-1, keepdim=True) * directions).norm(dim=-1)
    images = torch.ones(4, 3, SIDE, SIDE)
    images[:, 1:] = (nearest > 0.4)[:, None].float()
    front = torch.stack([images[0], torch.ones_like(images[0])])  # the second frame shows nothing
    gaussians = hull_gaussians(front, images[1:], cameras, 0.685)
    assert gaussians.shape == (2,) and not gaussians[1].opacities.any()
    surface = gaussians[0].means[gaussians[0].opacities > 0]
    assert surface.norm(dim=-1).min() > 0.4 - 0.03  # no Gaussian in the interior
    assert surface.abs().max() < 0.4 * 1.1 + 0.03
    assert torch.allclose(gaussians[0].colors[gaussians[0].opacities > 0], torch.tensor([1.0, 0, 0]), atol=0.5)


def test_sheets_show_compared_frames_and_a_bounded_number_of_systems() -> None:
    images, alpha = moving_square()
    sheet = Sheet(ground_truth(images, alpha), [1, 2])
    for system in range(12):
        sheet.add(f"system {system}", Prediction(images.flip(0), alpha))
    assert sheet.cells == [(1, 0), (2, 0)]
    assert len(sheet.rows) == len(sheet.captions) == 1 + 2 * MAX_SYSTEMS
    assert torch.equal(sheet.rows[0][0], images[1, 0]) and torch.equal(sheet.rows[1][0], images[2, 0])
    assert error_image(images, images).min() == 1  # no error is white
    assert error_image(images, images.flip(0))[:, :, 1:].min() == 0
