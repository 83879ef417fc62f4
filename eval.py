r"""Measure checkpoints, baselines and other systems' images under the protocols of data_test/protocols.

python eval.py nano --protocols data_test/protocols/*.toml --data_home CLIPS --workspace results/eval
"""

from core.cli import parse_options, run
from core.evaluation.evaluator import evaluate


def main() -> None:
    """Parse, call; tables are printed, the rest is in the workspace."""
    evaluate(parse_options("Measure 4D reconstruction: a table for each protocol, JSON files in the workspace."))


if __name__ == "__main__":
    run(main)
