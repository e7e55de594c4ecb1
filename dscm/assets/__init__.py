"""What runs without any download: small trained models and 64 test digits.

The digits derive from MNIST (LeCun, Cortes and Burges). Each ``.json`` tells the command, data, seed and steps
that made the checkpoint beside it.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
DIGITS = FOLDER / "digits"
ORACLE = FOLDER / "morphomnist-oracle.pt"
CHECKPOINTS = {
    "semantic": FOLDER / "morphomnist-semantic.pt",
    "spatial": FOLDER / "morphomnist-spatial.pt",
}
