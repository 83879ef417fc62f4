"""Guidance: the formula of score distillation, oracles that pull an object to the truth, and the folders."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPVisionModel, CLIPVisionModelWithProjection

from core.cameras import orbit_cameras
from core.errors import UserError
from core.gaussians import Gaussians
from core.guidance.base import VIDEO_WEIGHT, Guidance, Shot, timestep
from core.guidance.guide import Guide
from core.guidance.imagedream import ImageDream
from core.guidance.svd import SvdDistillation, SvdFolder, SvdRefinement, VideoDiffusion
from core.guidance.zero123 import Zero123, Zero123Folder
from core.multiview.diffusion import MultiViewDiffusion
from core.multiview.repository import open_repository
from core.options import CameraOptions
from core.rendering import make_renderer
from tests.tiny import lopsided_gaussians
from tests.tiny_guidance import SIZE, WIDTH, write_svd, write_zero123
from tests.tiny_multiview import write_pipeline

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
PLACE = (CPU, torch.float32)
PICTURES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
NAMES = ("zero123", "imagedream", "svd", "svd-refine")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guidance")
    write_zero123(folder / "stable-zero123")
    write_svd(folder / "svd")
    write_pipeline(folder / "imagedream", dtype=torch.float32)
    return folder


def make(home: Path, name: str, pictures: Tensor = PICTURES) -> Guidance:
    if name == "zero123":
        return Zero123(Zero123Folder.open(str(home / "stable-zero123")), "stable-zero123", pictures, 4, *PLACE)
    if name == "imagedream":
        repository = open_repository(str(home / "imagedream"), "imagedream")
        return ImageDream(MultiViewDiffusion(repository, *PLACE, offload=True), pictures, 4)
    diffusion = VideoDiffusion(SvdFolder.open(str(home / "svd")).pipeline(*PLACE))
    return (SvdDistillation if name == "svd" else SvdRefinement)(diffusion, pictures, SIZE)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def judged(guidance: Guidance, seed: int = 0, done: float = 0.5) -> tuple[float, Tensor]:
    """Loss and gradient of random renders."""
    generator = noise(seed)
    shot = guidance.shot(generator)
    renders = torch.rand(*shot.azimuths.shape, 3, shot.size, shot.size, generator=noise(7)).requires_grad_()
    loss = guidance.loss(renders, shot, done, generator)
    loss.backward()
    return float(loss.detach()), renders.grad


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_gradient_and_none_reaches_the_network(home: Path, name: str) -> None:
    guidance = make(home, name)
    networks = [guidance.diffusion.pipeline.unet] if name.startswith("svd") else [guidance.unet, guidance.vae]
    (loss, gradient), again, other = (judged(guidance, seed) for seed in (0, 0, 1))
    assert loss > 0 and bool(gradient.abs().sum() > 0) and bool(torch.isfinite(gradient).all())
    assert loss == again[0] and torch.equal(gradient, again[1])
    assert loss != other[0]
    assert all(p.grad is None and not p.requires_grad for network in networks for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "encoder"), [("zero123", CLIPVisionModelWithProjection), ("imagedream", CLIPVisionModel)]
)
def test_what_is_not_needed_leaves_memory(home: Path, name: str, encoder: type) -> None:
    guidance = make(home, name)
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one) is encoder]
    assert guidance.vae.decoder is None
    held = weakref.ref(guidance.unet)
    judged(guidance)
    del guidance
    gc.collect()
    assert held() is None


def test_noise_falls_within_the_published_range() -> None:
    assert [timestep(done) for done in (0.0, 0.25, 0.5, 1.0)] == [980, 750, 500, 20]


def halved(images: Tensor) -> Tensor:
    """Latents of a VAE that is simple: four channels at a quarter of the size."""
    small = F.avg_pool2d(2 * images - 1, 4)
    return torch.cat([small, small.mean(1, keepdim=True)], dim=1)


class SimpleVae:
    """Takes the place of a VAE."""

    device, dtype = PLACE
    config = SimpleNamespace(scaling_factor=1.0, force_upcast=False)

    def encode(self, images: Tensor) -> SimpleNamespace:
        latents = halved(images / 2 + 0.5)
        law = SimpleNamespace(mean=latents, std=torch.zeros_like(latents), mode=lambda: latents)
        return SimpleNamespace(latent_dist=law)

    def decode(self, latents: Tensor, num_frames: int) -> SimpleNamespace:
        return SimpleNamespace(sample=F.interpolate(latents[:, :3], scale_factor=4))


def true_views(azimuths: Tensor, elevations: Tensor) -> Tensor:
    """The true object from all of the directions, ``[V, 3, SIZE, SIZE]``."""
    cameras = orbit_cameras(azimuths.flatten(), elevations.flatten(), size=(SIZE, SIZE))
    return make_renderer("numba")(TRUTH, cameras).image


TRUTH = lopsided_gaussians()[0]


def zero123_oracle(guidance: Zero123) -> None:
    """A network that reads the camera from its token and knows the object."""
    guidance.projection = lambda tokens: tokens

    def unet(batch: Tensor, time: int, tokens: Tensor) -> SimpleNamespace:
        assert not torch.is_grad_enabled()
        half, alpha = len(batch) // 2, float(guidance.alphas[time])
        assert not tokens[:half].any() and not batch[:half, 4:].any(), "the unconditional half is told nothing"
        polar, sine, cosine, fourth = tokens[half:, 0, -4:].unbind(1)
        assert torch.allclose(fourth, torch.tensor(math.pi / 2))
        clean = halved(true_views(torch.atan2(sine, cosine).rad2deg(), -polar.rad2deg()))
        guessed = (batch[half:, :4] - math.sqrt(alpha) * clean) / math.sqrt(1 - alpha)
        return SimpleNamespace(sample=guessed.repeat(2, 1, 1, 1))

    unet.dtype = torch.float32
    guidance.unet = unet


def imagedream_oracle(guidance: ImageDream) -> None:
    """A network that reads the cameras as camera-to-world matrices; the picture is seen from its azimuth 90."""
    config = guidance.unet.config

    def unet(batch: Tensor, times: Tensor, context: Tensor, cameras: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        alpha = float(guidance.alphas[times[0]])
        x, minus_z, y = cameras[0, :4].unflatten(1, (4, 4))[:, :3, 3].unbind(1)
        azimuths, heights = torch.atan2(x, -minus_z).rad2deg() - 90, y.clamp(-1, 1).asin().rad2deg()
        clean = halved(true_views(azimuths, heights))
        guessed = (batch[:, :4] - math.sqrt(alpha) * clean) / math.sqrt(1 - alpha)
        return F.pad(guessed, (0, 0, 0, 0, 0, 0, 0, 1))

    unet.dtype, unet.config = torch.float32, config
    unet.image_embed = lambda features: features[..., :WIDTH]
    guidance.unet = unet


def svd_oracle(guidance: SvdDistillation | SvdRefinement) -> None:
    """A network that knows the views of the last shot. It answers in the pipeline's own terms: v from scaled latents
    and a quarter of the logarithm of sigma."""
    pipeline, shots = guidance.diffusion.pipeline, []
    take = guidance.shot
    guidance.shot = lambda generator: shots.append(take(generator)) or shots[-1]

    def forward(batch: Tensor, time: Tensor, **_: object) -> tuple[Tensor]:
        assert not torch.is_grad_enabled()
        sigma = torch.exp(4 * time)
        clean = halved(true_views(shots[-1].azimuths, shots[-1].elevations))[None]
        noisy = batch[:, :, :4] * (sigma**2 + 1).sqrt()
        return ((noisy / (sigma**2 + 1) - clean) * (sigma**2 + 1).sqrt() / sigma,)

    pipeline.unet.forward = forward
    pipeline.vae = SimpleVae()


ORACLES: dict[str, Callable] = {"zero123": zero123_oracle, "imagedream": imagedream_oracle}
ORACLES |= {"svd": svd_oracle, "svd-refine": svd_oracle}


def with_oracle(home: Path, name: str) -> Guidance:
    guidance = make(home, name)
    ORACLES[name](guidance)
    if not name.startswith("svd"):
        guidance.vae = SimpleVae()
    return guidance


def expected_factor(guidance: Guidance, name: str, done: float) -> float:
    """What the gradient of the latents is of their distance from the truth, by the formula, for one render."""
    alphas = guidance.diffusion.pipeline.scheduler.alphas_cumprod if name == "svd" else guidance.alphas
    alpha = float(alphas[timestep(done)])
    weight = 1.0 if name == "imagedream" else 1 - alpha
    return weight * math.sqrt(alpha / (1 - alpha)) / VIDEO_WEIGHT


@pytest.mark.parametrize("done", [0.1, 0.9])
@pytest.mark.parametrize("name", ["zero123", "imagedream", "svd"])
def test_the_gradient_is_that_of_the_formula(home: Path, name: str, done: float) -> None:
    """w(t) (guessed noise - noise) d latents / d renders, where the guess is that of a network that knows the truth."""
    guidance, generator = with_oracle(home, name), noise()
    shot = guidance.shot(generator)
    renders = torch.rand(*shot.azimuths.shape, 3, shot.size, shot.size, generator=noise(7)).requires_grad_()
    guidance.loss(renders, shot, done, generator).backward()
    flat = renders.detach().flatten(0, 1).requires_grad_()
    truth = halved(true_views(shot.azimuths, shot.elevations))
    distance = 0.5 * (halved(flat) - truth).square().sum() / len(flat)
    (expected,) = torch.autograd.grad(expected_factor(guidance, name, done) * distance, flat)
    torch.testing.assert_close(renders.grad.flatten(0, 1), expected, rtol=2e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_a_network_that_knows_the_object_pulls_the_fit_to_it(home: Path, name: str) -> None:
    """Colours that are wrong everywhere become right, through cameras, renderer, latents and noise."""
    guide = Guide(with_oracle(home, name), make_renderer("numba"), CameraOptions())
    colors = (1 - TRUTH.colors).clone().requires_grad_()
    optimizer, generator, steps = torch.optim.Adam([colors], lr=0.05), noise(), 40

    def object_at(frames: Tensor) -> Gaussians:
        one = replace(TRUTH, colors=colors)
        return Gaussians(*(getattr(one, key).expand(len(frames), *getattr(one, key).shape) for key in vars(one)))

    def error() -> float:
        azimuths = torch.tensor([0.0, 120.0, 240.0])
        drawn = make_renderer("numba")(
            replace(TRUTH, colors=colors.detach()), orbit_cameras(azimuths, size=(SIZE, SIZE))
        )
        return float((drawn.image - true_views(azimuths, 0 * azimuths)).square().mean())

    before = error()
    for step in range(steps):
        optimizer.zero_grad()
        guide(object_at, step / steps, generator).backward()
        optimizer.step()
    assert error() < 0.1 * before


def test_the_condition_counts_five_times(home: Path) -> None:
    guidance = make(home, "zero123")

    def unet(batch: Tensor, time: int, tokens: Tensor) -> SimpleNamespace:
        told = tokens.flatten(1).abs().sum(1) > 0
        return SimpleNamespace(sample=torch.where(told, 3.0, 1.0)[:, None, None, None].expand(-1, 4, 8, 8))

    unet.dtype = torch.float32
    guidance.unet, shot = unet, guidance.shot(noise())
    assert torch.equal(guidance._guided_noise(torch.zeros(4, 4, 8, 8), 500, shot), torch.full((4, 4, 8, 8), 11.0))


def test_each_frame_is_compared_with_its_own_picture(home: Path) -> None:
    guidance = make(home, "zero123")
    angles = torch.tensor([[30.0]])
    losses = [
        guidance.loss(PICTURES[:1, None], Shot(torch.tensor([frame]), angles, angles, SIZE), 0.5, noise())
        for frame in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_camera_numbers_of_both_published_networks(home: Path) -> None:
    """Elevations of the publication are positive below the horizon."""
    shot = Shot(torch.tensor([0]), torch.tensor([[90.0]]), torch.tensor([[30.0]]), SIZE)
    folder = Zero123Folder.open(str(home / "stable-zero123"))
    for name, fourth in (("a/stable-zero123-diffusers", math.pi / 2), ("stable/zero123-xl-diffusers", 0.0)):
        numbers = Zero123(folder, name, PICTURES[:1], 1, *PLACE).camera_numbers(shot)
        torch.testing.assert_close(numbers, torch.tensor([[-math.pi / 6, 1.0, 0.0, fourth]]), atol=1e-6, rtol=0)


def test_svd_refines_a_video_from_step_17_of_25(home: Path) -> None:
    diffusion = make(home, "svd-refine").diffusion
    video = torch.rand(4, 3, SIZE, SIZE, generator=noise())
    assert diffusion.sigmas(25)[17] == pytest.approx(1.273, abs=1e-3)
    one, same, other = (diffusion.refined(video, video[0], noise(seed)) for seed in (0, 0, 1))
    assert one.shape == video.shape and 0 <= float(one.min()) <= float(one.max()) <= 1
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_svd_needs_a_video(home: Path) -> None:
    with pytest.raises(UserError, match="single picture"):
        make(home, "svd", PICTURES[:1])


def test_nan_of_a_network_is_one_clear_error(home: Path) -> None:
    guidance = make(home, "zero123")
    guidance.embeddings *= torch.nan
    with pytest.raises(UserError, match="--precision fp32"):
        judged(guidance)
