"""Keep settings with a model: ``python -m dscm.cli.defaults CKPT --guidance 1.5 --guidance-interval 2 1000``.

Every command, and `dscm.load`, then takes them where nothing else is chosen; levels that were fitted stay. Choose them
by ``evaluate.py --split valid``, and measure afterwards what answers are compared with (``python -m dscm.cli.trust``),
which depends on them.
"""

import torch

from dscm import checkpoint
from dscm.cli.arguments import Parser, location
from dscm.cli.sampling import SAMPLING
from dscm.diffusion.sampling import Sampling
from dscm.errors import InputError

PLAIN = (str, int, float, tuple)  # types that a checkpoint holds as they are


def main() -> None:
    """Parse the command line and complete the checkpoint."""
    parser = Parser(__doc__, SAMPLING)
    parser.add_argument("checkpoint", type=location, help="the mechanism of an image")
    parser.add_fields(parser.add_argument_group("settings"), Sampling, "guidance", "guidance_interval", "steps")
    args = parser.read()
    try:
        restored = checkpoint.restore_image(args.checkpoint, torch.device("cpu"))
        chosen = restored.model.using(**args.settings).sampling
        values = {name: getattr(chosen, name) for name in args.settings}
        plain = {name: value if isinstance(value, PLAIN) else str(value) for name, value in values.items()}
        fitted = {name: value for name, value in restored.sampling.items() if name == "levels"}
        checkpoint.add_sampling(args.checkpoint, fitted | plain)
    except InputError as error:
        parser.error(error.typed(parser.show))
    print(f"{args.checkpoint}: {' '.join(f'{name}={value}' for name, value in plain.items()) or 'the usual settings'}")


if __name__ == "__main__":
    main()
