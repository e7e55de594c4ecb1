"""VCI: picture and critic learn apart."""

import torch

from tests.support.image_mechanisms import make, observe, seeded


def test_the_picture_and_the_critic_learn_apart() -> None:
    """The adversary moves encoder and decoder, never the critic; the critic's loss moves the critic alone."""
    model, obs = make("vci").train(), observe(8)
    model.consistency = 0.0
    terms = {}
    for adversary in (0.0, 50.0):
        model.zero_grad()
        model.adversary = adversary
        model(obs["image"], obs, generator=seeded(3), beta=1.0)["loss"].backward()
        terms[adversary] = {key: parameter.grad.clone() for key, parameter in model.named_parameters()}
    for key in terms[0.0]:
        same = torch.allclose(terms[0.0][key], terms[50.0][key], rtol=1e-6, atol=1e-12)
        if key.startswith("critic."):
            assert same, key
    decoder = [key for key in terms[0.0] if key.startswith("head.")]
    assert not all(torch.allclose(terms[0.0][key], terms[50.0][key]) for key in decoder)
