"""How usual an image is: the spectrum and peaks of its abducted noise, the norm of its code, and its coarse look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from dscm.causal.mechanisms import Noise
from dscm.trust.ranks import how_usual

BANDS = 4  # octaves of the spectrum, the last one up to the finest structure
TINY = 1e-12  # energy that counts as none
LEAST = 2  # images in either half of a reference
COARSE = 8  # cells a side of an image that is seen from afar
NEAREST = 0.999  # the largest cosine that is told apart
LOOK, LIKENESS = "image", "image, likeness"
SHRINK = 0.02  # share of the diagonal in a covariance, which keeps it invertible


def describe(noise: Noise, image: Tensor) -> dict[str, Tensor]:
    """Describe images by a few numbers, each (B,), and by what they look like from afar.

    Of u (B, C, H, W) the log of the mean energy in each octave of its spectrum, and that of the kurtosis; of z (B, D),
    or an autoencoder's latents, the log of the mean square; noise without such parts has no numbers. An image from afar
    is its mean in each of 8 × 8 cells, less the mean of all, of length 1: under `LOOK`, (B, 64·C).

    Args:
        noise: of the images, from `Mechanism.abduct`.
        image: (B, C, H, W).
    """
    coarse = adaptive_avg_pool2d(image.float(), COARSE).flatten(1)
    return _describe_noise(noise) | {LOOK: normalize(coarse - coarse.mean(dim=1, keepdim=True), dim=1)}


def _describe_noise(noise: Noise) -> dict[str, Tensor]:
    """Describe the noise of images by numbers, each (B,)."""
    found: dict[str, Tensor] = {}
    if (u := getattr(noise, "u", None)) is not None and u.numel():
        power = torch.fft.fft2(u.float(), norm="ortho").abs().square().mean(dim=1)  # (B, H, W)
        octave = _find_octaves(power.shape[-2], power.shape[-1]).to(u.device)
        for band in range(BANDS):
            found[f"u, band {band + 1}"] = (power[:, octave == band].mean(dim=1) + TINY).log()
        square = u.float().square().flatten(1)
        found["u, peaks"] = (square.square().mean(dim=1) / (square.mean(dim=1).square() + TINY) + TINY).log()
    for name in ("z", "eps", "latents"):
        if (code := getattr(noise, name, None)) is not None and code.numel():
            return found | {"code, norm": (code.float().square().flatten(1).mean(dim=1) + TINY).log()}
    return found


@dataclass(frozen=True, eq=False)
class Typicality:
    """Tell how usual images are among those for validation.

    The numbers of `describe`, and the likeness ``artanh cos`` of an image seen from afar to the mean of them, are
    compared by their Mahalanobis distance. Means and covariance are of one half of the images, the distances to compare
    with of the other, so that those of further images are exchangeable with them.

    Args:
        names: of the S numbers.
        mean: (S,).
        precision: the inverse of their covariance, (S, S).
        distances: squared, of the second half, sorted, (n,).
        pattern: the mean image seen from afar, of length 1, (D,); empty where likeness is none of the numbers.

    Source: Lee et al. 2018, A simple unified framework for detecting out-of-distribution samples; Papadopoulos et al.
    2002, Inductive confidence machines.
    """

    names: tuple[str, ...]
    mean: Tensor
    precision: Tensor
    distances: Tensor
    pattern: Tensor

    @classmethod
    def fit(cls, described: Mapping[str, Tensor]) -> "Typicality | None":
        """Describe validation images, each entry (N, …) as `describe` has it; None where there are too few."""
        if len(described[LOOK]) < 2 * LEAST:
            return None
        pattern = normalize(described[LOOK][::2].mean(dim=0), dim=0).cpu()
        names = (*(name for name in described if name != LOOK), LIKENESS)
        table = _tabulate(described, names, pattern).cpu()
        first, second = table[::2], table[1::2]
        mean, spread = first.mean(dim=0), torch.cov(first.T, correction=1).reshape(table.shape[1], table.shape[1])
        diagonal = spread.diagonal().clamp_min(TINY).diag()
        precision = torch.linalg.inv((1 - SHRINK) * spread + SHRINK * diagonal)
        distances = _measure(second - mean, precision).float().sort().values
        return cls(names, mean.float(), precision.float(), distances, pattern)

    def knows(self, described: Mapping[str, Tensor]) -> bool:
        """Tell whether images are described by all that is compared here."""
        return described.keys() >= {LOOK if name == LIKENESS else name for name in self.names}

    def how_usual(self, described: Mapping[str, Tensor]) -> Tensor:
        """Return the share of validation images that are at least as far from the mean, (B,), as in `ranks`."""
        away, precision = self._leave(described)
        return how_usual(self.distances, _measure(away, precision))

    def odd(self, described: Mapping[str, Tensor]) -> list[str]:
        """Name for each image the number that is oddest given the others, as in ``u, band 4: high``."""
        away, precision = self._leave(described)
        pull = away @ precision / precision.diagonal().sqrt()  # each residual given the others, standardised
        oddest = pull.abs().nan_to_num(nan=torch.inf).argmax(dim=1)
        signs = pull.gather(1, oddest[:, None])[:, 0] > 0
        return [f"{self.names[i]}: {'high' if high else 'low'}" for i, high in zip(oddest.tolist(), signs.tolist())]

    def state(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        tensors = {"mean": self.mean, "precision": self.precision, "distances": self.distances, "pattern": self.pattern}
        return {"names": list(self.names), **tensors}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Typicality":
        """Restore from plain data; of earlier versions, which knew no likeness, without it.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is damaged.
        """
        names = tuple(map(str, state["names"]))
        mean, precision, distances = (state[name].float() for name in ("mean", "precision", "distances"))
        pattern = state.get("pattern", torch.empty(0)).float()
        shapes = mean.shape == (len(names),) and precision.shape == (len(names), len(names)) and distances.dim() == 1
        likeness = (LIKENESS in names) == (pattern.numel() > 0) and pattern.dim() == 1
        known = all(x.isfinite().all() for x in (mean, precision, distances, pattern))
        if not (names and shapes and likeness and known):
            raise ValueError("the typicality is not readable")
        return cls(names, mean, precision, distances, pattern)

    def _leave(self, described: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the deviations from the mean, (B, S), and the precision, on their device."""
        table = _tabulate(described, self.names, self.pattern)
        return table - self.mean.to(table), self.precision.to(table)


def _tabulate(described: Mapping[str, Tensor], names: Sequence[str], pattern: Tensor) -> Tensor:
    """Return the named numbers of images as columns, float64 (N, S)."""
    columns = [_liken(described[LOOK], pattern) if name == LIKENESS else described[name] for name in names]
    return torch.stack(columns, dim=1).double()


def _liken(look: Tensor, pattern: Tensor) -> Tensor:
    """Return ``artanh cos`` of images seen from afar, (N, D), and their mean, (D,), both of length 1; (N,).

    It is nearly normal where the cosine, a correlation, is not (Fisher 1915).
    """
    return (look @ pattern.to(look)).clamp(-NEAREST, NEAREST).atanh()


def _measure(away: Tensor, precision: Tensor) -> Tensor:
    """Return squared Mahalanobis distances, (N,), of deviations (N, S)."""
    return ((away @ precision) * away).sum(dim=1)


def _find_octaves(height: int, width: int) -> Tensor:
    """Number the octave of every frequency of a spectrum, (H, W), from the coarsest, 0, to the finest, `BANDS` − 1."""
    vertical, horizontal = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None]
    radius = (vertical.square() + horizontal.square()).sqrt()  # cycles a pixel, .5 along an axis at most
    return (BANDS + (2 * radius).clamp_min(2.0**-BANDS).log2().floor()).clamp(0, BANDS - 1).long()
