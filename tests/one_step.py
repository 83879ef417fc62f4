"""Started by test_training_equality: a run of one step that leaves its gradients, before clipping, in a file."""

from __future__ import annotations

import sys

import torch

import core.training.objective
from core.cli import parse_options
from core.lpips import load_lpips
from core.training.run import Training


def main(arguments: list[str], path: str) -> None:
    """Train; the main process writes name -> gradient."""
    # In float32 the last bit, which depends on the batch, decides maxima and signs in the flat areas of these pictures.
    core.training.objective.load_lpips = lambda dtype: load_lpips(torch.float64)
    training = Training(parse_options("", arguments))
    clip = training.accelerator.clip_grad_norm_

    def keep(parameters: object, largest: float) -> torch.Tensor:
        if training.accelerator.is_main_process:
            own = training.accelerator.unwrap_model(training.model)
            torch.save({name: value.grad.clone() for name, value in own.named_parameters()}, path)
        return clip(parameters, largest)

    training.accelerator.clip_grad_norm_ = keep
    training.run()


if __name__ == "__main__":
    main(sys.argv[2:], sys.argv[1])
