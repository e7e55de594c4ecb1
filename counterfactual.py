"""Query a folder of images: ``python counterfactual.py --help``, or ``dscm-counterfactual --help`` once installed."""

from dscm.cli.counterfactual import main

if __name__ == "__main__":
    main()
