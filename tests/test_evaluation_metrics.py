"""What the numbers of an evaluation mean, on images whose scores are known."""

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
from core.evaluation.floors import hull_gaussians
from core.evaluation.flow import WarpedError
from core.evaluation.frechet import FrechetScores, VideoNetwork, frechet_distance
from core.evaluation.metrics import Prediction, chunk_means, flicker, iou, spread
from core.evaluation.scores import Scores
from core.evaluation.sheets import MAX_SYSTEMS, Sheet, error_image
from core.evaluation.truth import Truth, motion

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


def truth_of(images: Tensor, alpha: Tensor) -> Truth:
    cameras = orbit_cameras(torch.zeros(len(images), images.shape[1]), size=(SIDE, SIDE))
    views = tuple(map(str, range(images.shape[1])))
    return Truth("x", images[:, 0], None, cameras, images, alpha, views, tuple(range(len(images))))


def test_iou_counts_pixels_above_a_half() -> None:
    own, other = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    own[0, 0, 0], other[0, 0, :, 0] = 0.6, 1
    own[0, 0, 3] = 0.4
    assert iou(own, other).tolist() == [pytest.approx(1 / 7), 1.0]


def test_flicker_is_zero_for_the_truth_and_for_the_truth_with_a_steady_error() -> None:
    images, _ = moving_square()
    assert flicker(images, images).shape == (3, 1)
    assert flicker(images * 0.5 + 0.1, images * 0.5).max() < 1e-4
    still = images[:1].expand_as(images)
    assert torch.allclose(flicker(still, images), flicker(images, still))
    blinking = still.clone()
    blinking[1::2] -= 2 / 255
    assert torch.allclose(flicker(blinking, still), torch.tensor(2.0))


def test_the_truth_follows_its_own_flow_and_a_still_image_does_not() -> None:
    images, alpha = moving_square()
    warped = WarpedError(truth_of(images, alpha))
    own, still = warped(images), warped(images[:1].expand_as(images))
    assert own.shape == (3, 1)
    assert own.max() < 6 and still.min() > 3 * own.max()


def test_chunks_share_their_border_frames() -> None:
    values = torch.arange(7.0)[:, None].expand(7, 2)
    assert chunk_means(values, 3).tolist() == [[1, 1], [3, 3], [5, 5]]
    assert chunk_means(values, 4)[:, 0].tolist() == [1.5, 4.5]


@pytest.mark.parametrize(("count", "total", "expected"), [(0, 3, 3), (9, 3, 3), (2, 9, 2), (1, 5, 1)])
def test_spread_takes_both_ends(count: int, total: int, expected: int) -> None:
    chosen = spread(count, total)
    assert len(set(chosen.tolist())) == expected and chosen[0] == 0
    assert expected == 1 or chosen[-1] == total - 1


def test_motion_is_what_a_frozen_truth_scores() -> None:
    images, alpha = moving_square()
    assert motion(truth_of(images[:1].expand(4, -1, -1, -1, -1), alpha)) == 100
    slow, fast = (motion(truth_of(*moving_square(step))) for step in (1, 6))
    assert fast < slow < 100


def test_means_are_over_objects_and_moving_ones_are_told_apart() -> None:
    images, alpha = moving_square()
    scores = Scores(moving_below=25)
    for name, moved, value, frames in (("a", 20.0, 10.0, 2), ("b", 30.0, 20.0, 4)):
        truth = truth_of(images[:frames], alpha[:frames])
        scores.motion[name] = moved
        values = {"psnr": torch.full((frames, 1), value), "lpips": torch.tensor([[0.5]] + [[torch.nan]] * (frames - 1))}
        values["warp"] = torch.full((frames - 1, 1), torch.nan)  # no pixel's flow was sure
        scores.add("net", Truth(**{**vars(truth), "name": name}), values)
    summary = scores.summary()
    assert summary["all"] == {"objects": 2, "systems": {"net": {"psnr": 15.0, "lpips": 0.5}}}
    assert summary["moving"] == {"objects": 1, "systems": {"net": {"psnr": 10.0, "lpips": 0.5}}}
    assert scores.systems["net"]["b"].counts == {"psnr": 4, "lpips": 1, "warp": 0}
    json.dumps(scores.as_json(), allow_nan=False)


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


def test_fvd_is_over_the_set_and_the_single_variant_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "i3d.pt"
    torch.jit.script(TinyVideoNetwork()).save(path)
    scores = FrechetScores(VideoNetwork(path, torch.device("cpu")))
    videos = torch.rand(3, 6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5
    for part in (videos[:, :3], videos[:, 3:]):
        scores.add_truth(part)
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
    from core.evaluation.clip import ClipImages

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


def test_the_hull_of_four_discs_holds_the_ball_and_stays_in_their_box() -> None:
    """A red disc of radius 0.4 from every side: the ball lies inside the hull, the hull inside the bounding box."""
    cameras = input_cameras(size=SIDE)
    _, directions = cameras.rays()
    centres = cameras.positions[:, None, None]
    nearest = (centres - (centres * directions).sum(-1, keepdim=True) * directions).norm(dim=-1)
    images = torch.ones(4, 3, SIDE, SIDE)
    images[:, 1:] = (nearest > 0.4)[:, None].float()
    sets = hull_gaussians(images[:1].expand(2, -1, -1, -1), images[1:], cameras, 0.685)
    assert sets.shape == (2,)
    there = sets[0].means[sets[0].opacities > 0]
    assert there.norm(dim=-1).min() > 0.4 - 0.03  # the surface alone
    assert there.abs().max() < 0.4 * 1.1 + 0.03
    assert torch.allclose(sets[0].colors[sets[0].opacities > 0], torch.tensor([1.0, 0, 0]), atol=0.5)


def test_sheets_show_compared_frames_and_keep_to_a_number_of_rows() -> None:
    images, alpha = moving_square()
    truth = truth_of(images, alpha)
    sheet = Sheet(truth, [1, 2])
    for system in range(12):
        sheet.add(f"system {system}", Prediction(images.flip(0), alpha))
    assert sheet.cells == [(1, 0), (2, 0)]
    assert len(sheet.rows) == len(sheet.captions) == 1 + 2 * MAX_SYSTEMS
    assert torch.equal(sheet.rows[0][0], images[1, 0]) and torch.equal(sheet.rows[1][0], images[2, 0])
    assert error_image(images, images).min() == 1  # no error is white
    assert error_image(images, images.flip(0))[:, :, 1:].min() == 0
