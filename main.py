"""Train L4GM: ``accelerate launch --config_file acc_configs/cpu.yaml main.py nano --datalist ... --workspace ...``."""

from core.cli import parse_options, run
from core.options.offers import TRAIN


def main() -> None:
    """Parse, build, train."""
    options = parse_options("Train the reconstruction or the interpolation model on rendered clips.", offer=TRAIN)
    from core.training.run import Training

    Training(options).run()


if __name__ == "__main__":
    run(main)
