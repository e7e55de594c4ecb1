"""The splits of a data set."""

from typing import Literal

Split = Literal["train", "valid", "test"]
