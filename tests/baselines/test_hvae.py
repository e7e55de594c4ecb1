"""The hierarchical VAE: a share of the prior in its latents."""

import pytest
import torch

from tests.support.image_mechanisms import make, observe


@pytest.mark.parametrize("mix", [0.0, 0.4, 1.0])
def test_a_share_of_the_prior_moves_the_latents_but_never_composition(mix: float) -> None:
    """With the observed parents, what is carried over and what follows the prior are the same."""
    model, obs = make("hvae").using(mix=mix), observe()
    with torch.no_grad():
        noise = model.abduct(obs["image"], obs)
        again = model.predict(noise, obs)
        changed = model.predict(noise, obs | {"thickness": obs["thickness"] + 1})
        carried = model.using(mix=0.0).predict(noise, obs | {"thickness": obs["thickness"] + 1})
    assert torch.allclose(again, obs["image"], atol=1e-10)
    assert torch.equal(changed, carried) == (mix == 0)
