"""Random pipelines of Zero123 and SVD, small, in the published folder layout and names, as diffusers saves them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

# Where the fetch commands put the published ones.
SVD, ZERO123 = "pretrained/stable-video-diffusion-img2vid", "pretrained/stable-zero123-diffusers"
WIDTH = 32  # of the tokens
SIZE = 32  # pixels of a render
_VAE = {"latent_channels": 4, "sample_size": SIZE, "down_block_types": ("DownEncoderBlock2D",) * 3}
_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


def write_zero123(folder: Path, seed: int = 0, variant: str | None = None) -> Path:
    """A Zero123 of random weights; the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=8,
            block_out_channels=(16, 32),
            norm_num_groups=8,
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=WIDTH,
            attention_head_dim=8,
        )
        up = {"up_block_types": ("UpDecoderBlock2D",) * 3, "norm_num_groups": 8}
        _encoder().save_pretrained(folder / "image_encoder", variant=variant)
        unet.save_pretrained(folder / "unet", variant=variant)
        AutoencoderKL(**_VAE, **up, block_out_channels=(8, 8, 16)).save_pretrained(folder / "vae", variant=variant)
        state = {f"proj.{name}": value for name, value in nn.Linear(WIDTH + 4, WIDTH).state_dict().items()}
    projection = folder / "clip_camera_projection"
    projection.mkdir()
    save_file(state, projection / f"diffusion_pytorch_model{'.' + variant if variant else ''}.safetensors")
    (projection / "config.json").write_text(json.dumps({"_class_name": "CLIPCameraProjection", "embedding_dim": WIDTH}))
    DDIMScheduler(**_NOISE, clip_sample=False, set_alpha_to_one=False, steps_offset=1).save_pretrained(
        folder / "scheduler"
    )
    return _with_extractor(folder)


def write_svd(folder: Path, seed: int = 0) -> Path:
    """An SVD of random weights; the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNetSpatioTemporalConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24,
            cross_attention_dim=WIDTH,
            num_attention_heads=(2, 4),
            num_frames=4,
        )
        _encoder().save_pretrained(folder / "image_encoder")
        unet.save_pretrained(folder / "unet")
        AutoencoderKLTemporalDecoder(**_VAE, block_out_channels=(32, 32, 32)).save_pretrained(folder / "vae")
    EulerDiscreteScheduler(
        **_NOISE,
        prediction_type="v_prediction",
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    return _with_extractor(folder)


def _encoder() -> CLIPVisionModelWithProjection:
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, projection_dim=WIDTH, image_size=224, patch_size=32))


def _with_extractor(folder: Path) -> Path:
    CLIPImageProcessorPil().save_pretrained(folder / "feature_extractor")
    (folder / "model_index.json").write_text("{}")
    return folder
