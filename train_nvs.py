"""Train LaCT: ``accelerate launch --config_file acc_configs/cpu.yaml train_nvs.py --config nano --data_path ...``."""

import tyro

from core.cli import run
from core.options.lact import NvsTrainOptions


def main() -> None:
    """Parse, build, train."""
    options = tyro.cli(NvsTrainOptions, description="Train LaCT for novel views.", use_underscores=True)
    from core.nvs.training import NvsTraining

    NvsTraining(options).run()


if __name__ == "__main__":
    run(main)
