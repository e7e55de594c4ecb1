"""Measure counterfactuals on test images: ``python evaluate.py --help``, or ``dscm-evaluate --help`` once installed."""

from dscm.cli.evaluate import main

if __name__ == "__main__":
    main()
