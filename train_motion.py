"""Train the motion network: ``python train_motion.py --data_home CLIPS --datalist CLIPS/datalist_8fps.txt``."""

import tyro

from core.cli import run
from core.options.motion import MotionTrainOptions


def main() -> None:
    """Parse, build, train."""
    options = tyro.cli(MotionTrainOptions, description="Train the prediction of motion.", use_underscores=True)
    from core.motion.training import MotionTraining

    MotionTraining(options).run()


if __name__ == "__main__":
    run(main)
