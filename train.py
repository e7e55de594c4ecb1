"""Train a part of a causal model: ``python train.py --help``, or ``dscm-train --help`` once installed."""

from dscm.cli.train import main

if __name__ == "__main__":
    main()
