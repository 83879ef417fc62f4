r"""Measure checkpoints, baselines and other systems' images under the protocols of data_test/protocols.

python eval.py nano --protocols data_test/protocols/*.toml --data_home CLIPS --workspace results/eval
"""

from core.cli import parse_options, run
from core.evaluation.run import evaluate
from core.options.offers import EVAL


def main() -> None:
    """Parse, call; tables are printed, the rest is in the workspace."""
    description = "Measure 4D reconstruction: a table for each protocol, JSON files in the workspace."
    evaluate(parse_options(description, offer=EVAL))


if __name__ == "__main__":
    run(main)
