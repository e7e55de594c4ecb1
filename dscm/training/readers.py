"""Readers, which predict the parents of an image from its code: linear regression and a perceptron."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from dscm.causal.draws import draw_normal
from dscm.causal.variables import Variable
from dscm.layers import zero_init

HIDDEN = (128, 128)  # units of the perceptron
EPOCHS, BATCH = 24, 512  # of its training: each code comes so often on average
RATE, DECAY = 6e-3, 1e-2  # its learning rate at first, which falls to 0 as a cosine, and its weight decay
HELD_OUT, CHECKS = 8, 12  # one code of so many chooses among so many moments of the training
RARE = 1e-3  # least share of a class before the training


@dataclass(frozen=True)
class Target:
    """A parent of some images, as a reader predicts it.

    Args:
        discrete: whether it is a class.
        values: one-hot, (N, classes), of a class. Cosine and sine, (N, 2), of an angle, and the number, (N, 1),
            otherwise, shifted and scaled to mean 0 and mean square 1.
        start: the best prediction without a code, (width,): 0, or the logarithms of the shares of the classes.
    """

    discrete: bool
    values: Tensor
    start: Tensor

    @classmethod
    def encode(cls, variable: Variable, values: Tensor) -> "Target":
        """Encode the values of a variable in raw units, (N,)."""
        if variable.discrete:
            classes = F.one_hot(values.long(), variable.classes or 2).double()
            return cls(True, classes, classes.mean(dim=0).clamp_min(RARE).log())
        column = values.double()[:, None]
        angle = 2 * math.pi * column
        wide = torch.cat([angle.cos(), angle.sin()], dim=1) if variable.kind == "circular" else column
        centred = wide - wide.mean(dim=0)
        return cls(False, divide(centred, centred.square().mean().sqrt()), wide.new_zeros(wide.shape[1]))

    def take(self, index: Tensor | slice) -> "Target":
        """Take some of the images."""
        return replace(self, values=self.values[index])

    def loss(self, read: Tensor) -> Tensor:
        """Compute the cross-entropy of what was read, (N, width), or its mean squared error; shape ()."""
        values = self.values.to(read)
        return F.cross_entropy(read, values) if self.discrete else F.mse_loss(read, values)


Reader = Callable[[Tensor, Sequence[Target], Tensor, torch.Generator], list[Tensor]]


def divide(centred: Tensor, std: Tensor) -> Tensor:
    """Divide by a standard deviation; what does not vary stays 0."""
    return centred / std.clamp_min(torch.finfo(std.dtype).tiny)


def linear(code: Tensor, targets: Sequence[Target], others: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Read parents by linear regression with an intercept.

    Args:
        code: the codes to fit, (N, code_dim).
        targets: the parents of the same images.
        others: the codes to read, (M, code_dim).
        generator: not used.

    Returns:
        What was read of the others: for each target (M, width); the highest entry is the class.
    """
    code, others = (F.pad(part, (0, 1), value=1.0) for part in (code, others))
    return [others @ torch.linalg.lstsq(code, target.values).solution for target in targets]


def perceptron(code: Tensor, targets: Sequence[Target], others: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Read parents by a perceptron whose hidden layers they share, trained with a fixed budget.

    Some of the codes are held out, and each parent is read as at the moment of the training at which these were read
    best. The first moment lies before the training, when the network knows no more than means and shares of classes:
    where nothing is found the score stays at chance.

    Args:
        code, targets, others: as for `linear`.
        generator: source of the weights and of the batches.

    Returns:
        As `linear`.
    """
    mean, std = code.mean(dim=0), code.std(dim=0, correction=0)
    code, others = (divide(part - mean, std).float() for part in (code, others))
    held = max(1, len(code) // HELD_OUT)
    network, widths = _build(code.shape[1], targets, generator), [target.values.shape[1] for target in targets]
    least, result = [math.inf] * len(targets), [others] * len(targets)
    for _ in _train(network, code[held:], [target.take(slice(held, None)) for target in targets], generator):
        check, read = (network(part).split(widths, dim=1) for part in (code[:held], others))
        for i, target in enumerate(targets):
            loss = target.take(slice(held)).loss(check[i]).item()
            if loss < least[i]:
                least[i], result[i] = loss, read[i].to(target.values)
    return result


READERS: Mapping[str, Reader] = {"linear": linear, "perceptron": perceptron}


def _build(inputs: int, targets: Sequence[Target], generator: torch.Generator) -> nn.Sequential:
    """Build a perceptron that starts from the best prediction without a code."""
    start = torch.cat([target.start for target in targets])
    layers: list[nn.Module] = []
    for ins, outs in itertools.pairwise((inputs, *HIDDEN)):
        layer = skip_init(nn.Linear, ins, outs)
        layer.weight.copy_(math.sqrt(2 / ins) * draw_normal((outs, ins), generator))
        layer.bias.copy_(0.5 * draw_normal((outs,), generator))
        layers += [layer, nn.SiLU()]
    last = zero_init(skip_init(nn.Linear, HIDDEN[-1], len(start)))
    last.bias.copy_(start)
    return nn.Sequential(*layers, last)


def _train(
    network: nn.Sequential, code: Tensor, targets: Sequence[Target], generator: torch.Generator
) -> Iterator[None]:
    """Train a perceptron by AdamW; pause before the first step, after the last one, and at moments in between."""
    steps = math.ceil(EPOCHS * len(code) / BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY, foreach=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    moments = {round(steps * i / CHECKS) for i in range(CHECKS + 1)}
    widths = [target.values.shape[1] for target in targets]
    for step in range(steps + 1):
        if step in moments:
            yield
        if step < steps:
            batch = torch.randint(len(code), (BATCH,), generator=generator)
            with torch.enable_grad():
                read = network(code[batch]).split(widths, dim=1)
                loss = torch.stack([target.take(batch).loss(part) for target, part in zip(targets, read)]).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
