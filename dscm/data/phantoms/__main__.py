"""Point to ``python -m dscm.cli.phantoms``, the command that writes synthetic data sets."""

import sys

print("error: the command is now python -m dscm.cli.phantoms", file=sys.stderr)
sys.exit(2)
