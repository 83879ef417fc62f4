"""Options of ``train_motion.py``."""

from __future__ import annotations

from dataclasses import dataclass

from core.options.checks import within


@dataclass(frozen=True)
class MotionTrainOptions:
    """Training of the network that predicts the motion of a first frame's Gaussians."""

    data_home: str = ""
    """Folder of the clips, with their surfaces (blender_scripts/export_points.py); else the variable DATA_HOME."""
    datalist: str = ""
    """Clips, one a line."""
    datalist_val: str | None = None
    """Clips that are measured on and never trained on."""
    workspace: str = "./workspace_motion"
    """Folder of the run; the same command goes on from there."""
    resume: str = "pretrained/nano_recon.safetensors"
    """Checkpoint (preset nano) that makes the Gaussians of first frames."""
    load: str | None = None
    """Motion network to start from."""
    steps: int = 9000
    """Length of the run."""
    batch_size: int = 32
    """Samples per process and step."""
    lr: float = 1e-3
    """Peak learning rate."""
    warmup: int = 200
    """Steps to the peak; then a cosine."""
    weight_decay: float = 0.05
    """Of AdamW."""
    seed: int = 0
    """Seed of everything random."""
    log_every: int = 50
    """Steps between log lines."""
    save_every: int = 500
    """Steps between saved states and validations."""

    def __post_init__(self) -> None:
        within(self, 1, 10**9, "steps", "batch_size", "log_every", "save_every")
        within(self, 0, 10**9, "warmup", "seed")
        within(self, 0, 1, "lr", "weight_decay")
