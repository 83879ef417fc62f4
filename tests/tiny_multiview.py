"""Random pipelines of the multi-view models, a few hundred kilobytes each, in the published folder layout and names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from core.multiview.hub import Kind
from core.multiview.unet import MultiViewUNet, UNetConfig

SIZE = 32  # pixels of a view
WIDTH = 32
UNET = UNetConfig(
    image_size=8,
    model_channels=32,
    num_res_blocks=1,
    attention_resolutions=(2, 1),
    channel_mult=(1, 2),
    num_head_channels=16,
    context_dim=WIDTH,
    ip_dim=4,
    image_dim=WIDTH,
)
_TRANSFORMER = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.25.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
}
_PREPROCESSOR = {
    "crop_size": {"height": 28, "width": 28},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 28},
}


def write_pipeline(folder: Path, kind: Kind = "imagedream", seed: int = 0, dtype: torch.dtype = torch.float16) -> Path:
    """Write the pipeline; the same for the same seed. Its ``mv_unet.py`` leaves a folder ``executed`` if it is run."""
    config = UNET if kind == "imagedream" else replace(UNET, ip_dim=0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _write(folder / "unet", MultiViewUNet(config), _unet_json(config), dtype, "diffusion_pytorch_model")
        (folder / "unet" / "mv_unet.py").write_text("import os\n\nos.mkdir('executed')\n")
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=8,
            sample_size=SIZE,
        )
        _write(folder / "vae", vae, dict(vae.config), dtype, "diffusion_pytorch_model")
        words = _vocabulary()
        ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": 0}
        text = CLIPTextConfig(**_TRANSFORMER, **ends, vocab_size=len(words), max_position_embeddings=77)
        _write(folder / "text_encoder", CLIPTextModel(text), text.to_dict(), dtype, "model", "text_model.")
        if kind == "imagedream":
            vision = CLIPVisionConfig(**_TRANSFORMER, image_size=28, patch_size=14)
            _write(folder / "image_encoder", CLIPVisionModel(vision), vision.to_dict(), dtype, "model", "vision_model.")
            _write_json(folder / "feature_extractor" / "preprocessor_config.json", _PREPROCESSOR)
    _write_json(folder / "scheduler" / "scheduler_config.json", _SCHEDULER)
    _write_tokenizer(folder / "tokenizer", words)
    _write_json(folder / "model_index.json", {"_class_name": "MVDreamPipeline", "_diffusers_version": "0.25.0"})
    return folder


def _unet_json(config: UNetConfig) -> dict[str, object]:
    content = asdict(config)
    if not config.ip_dim:
        del content["ip_dim"]  # as in the published file
    return {"_class_name": "MultiViewUNetModel", "_diffusers_version": "0.25.0", **content}


def _write(
    folder: Path, module: nn.Module, config: Mapping[str, object], dtype: torch.dtype, stem: str, prefix: str = ""
) -> None:
    """One part. ``prefix``: published names begin with it, those of newer libraries do not."""
    _write_json(folder / "config.json", config)
    state = {f"{prefix}{name}": value.to(dtype).contiguous() for name, value in module.state_dict().items()}
    if prefix == "text_model.":
        state[f"{prefix}embeddings.position_ids"] = torch.arange(77)[None]  # older files have it
    save_file(state, folder / f"{stem}.safetensors", metadata={"format": "pt"})


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))


def _vocabulary() -> list[str]:
    """Every byte as its own word, inside and at the end of a text's words; no merges."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in visible] + [chr(256 + k) for k in range(256 - len(visible))]
    return [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]


def _write_tokenizer(folder: Path, words: list[str]) -> None:
    _write_json(folder / "vocab.json", {word: index for index, word in enumerate(words)})
    (folder / "merges.txt").write_text("#version: 0.2\n")
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    config = {**ends, "pad_token": "!", "model_max_length": 77, "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", {**config, "tokenizer_class": "CLIPTokenizer"})
    _write_json(folder / "special_tokens_map.json", {**ends, "pad_token": "!"})
