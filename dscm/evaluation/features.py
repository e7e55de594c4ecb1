"""Features of images: what an oracle, or a network trained on ImageNet, sees of them."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.data.scaling import to_levels, to_signed, to_unit
from dscm.evaluation.lpips import prepare
from dscm.oracle import Oracle

Embedding = Callable[[Tensor], Tensor]  # of images in [-1, 1], (B, C, H, W), the features, (B, F)
CHUNK = 100  # images at a time
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet on [0, 1]
INCEPTION_SIZE = 299


def load_embeddings(oracle: Oracle | None, device: torch.device) -> tuple[dict[str, Embedding], dict[str, str]]:
    """Load every embedding whose weights are here; nothing is downloaded.

    ``oracle`` are the features before the classifier (an oracle of strokes is blind to brightness and colour);
    ``alexnet`` the last convolution's output, averaged over the image, 256 features of images as LPIPS sees them;
    ``inception`` the 2,048 features of torchvision's Inception v3, whose weights are not those of the original Fréchet
    Inception distance, so its distances are of another scale.

    Args:
        oracle: the predictor, in evaluation mode; None leaves its features out.
        device: where the networks run.

    Returns:
        The embeddings by name; and, of each network without weights, the reason.
    """
    found: dict[str, Embedding] = {} if oracle is None else {"oracle": oracle.features}
    missing: dict[str, str] = {}
    for name, load in (("alexnet", _load_alexnet), ("inception", _load_inception)):
        try:
            found[name] = load(device)
        except Exception as error:  # a truncated file fails in many ways
            missing[name] = str(error).splitlines()[0] if str(error) else type(error).__name__
    return found, missing


@torch.no_grad()
def embed(embedding: Embedding, images: Tensor) -> Tensor:
    """Return the features, float32 (N, F), of images as they are saved, with 8 bits per channel.

    Args:
        embedding: the network.
        images: in [-1, 1], or uint8, (N, C, H, W).
    """
    parts = []
    for part in images.split(CHUNK):
        levels = part if part.dtype == torch.uint8 else to_levels(part)
        parts.append(embedding(to_signed(levels)).float())
    return torch.cat(parts)


def _load_alexnet(device: torch.device) -> Embedding:
    """Load AlexNet's convolutions, the ones of LPIPS."""
    from torchvision.models import AlexNet_Weights, alexnet

    _check_weights(AlexNet_Weights.IMAGENET1K_V1.url)
    body = alexnet(weights=AlexNet_Weights.IMAGENET1K_V1).features[:12].eval().requires_grad_(False).to(device)
    return lambda x: body(_normalise(prepare(x))).mean(dim=(2, 3))


def _load_inception(device: torch.device) -> Embedding:
    """Load Inception v3 up to its classifier; grey is repeated, and images are resized to `INCEPTION_SIZE`."""
    from torchvision.models import Inception_V3_Weights, inception_v3

    _check_weights(Inception_V3_Weights.IMAGENET1K_V1.url)
    network = inception_v3(weights=Inception_V3_Weights.IMAGENET1K_V1)
    network.fc = nn.Identity()
    network.eval().requires_grad_(False).to(device)

    def features(x: Tensor) -> Tensor:
        x = F.interpolate(x, (INCEPTION_SIZE, INCEPTION_SIZE), mode="bilinear", align_corners=False)
        return network(_normalise(x.expand(-1, 3, -1, -1)))

    return features


def _check_weights(url: str) -> None:
    """Check that torch's hub has the weights.

    Raises:
        FileNotFoundError: it has not.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")


def _normalise(x: Tensor) -> Tensor:
    """Standardise images in [-1, 1], (B, 3, H, W), as ImageNet's networks expect them."""
    mean, std = (torch.tensor(value, device=x.device)[:, None, None] for value in (MEAN, STD))
    return (to_unit(x) - mean) / std
