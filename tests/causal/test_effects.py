"""Effects along some paths only, against values worked out by hand."""

import pytest
import torch

from dscm.causal.mechanisms import LinearGaussian
from dscm.causal.scm import SCM
from dscm.errors import InputError


def linear_model() -> SCM:
    """Return a → m → y with weights 2 and 3, and a → y with weight 5; b → y alone."""
    return SCM(
        {
            "a": LinearGaussian({}, 0.0, 1.0),
            "b": LinearGaussian({}, 0.0, 1.0),
            "m": LinearGaussian({"a": 2.0}, 1.0, 0.5),
            "y": LinearGaussian({"a": 5.0, "m": 3.0, "b": 7.0}, -1.0, 2.0),
            "after": LinearGaussian({"y": 1.0}, 0.0, 1.0),
        },
        {"m": ["a"], "y": ["a", "m", "b"], "after": ["y"]},
    )


@pytest.mark.parametrize(("kind", "effect"), [("total", 5 + 2 * 3), ("direct", 5), ("indirect", 2 * 3)])
def test_effects_by_hand(kind: str, effect: float) -> None:
    """Of do(a = a + 1.5) on y; each relative to the composition, to which it is linear."""
    scm, obs = linear_model(), {}
    for i, name in enumerate(scm.order):
        obs[name] = torch.randn(7, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
    noise = scm.abduct(obs)
    changed = scm.predict(noise, scm.along(obs, noise, {"a": obs["a"] + 1.5}, kind, "y"))
    torch.testing.assert_close(changed["y"] - obs["y"], torch.full_like(obs["y"], 1.5 * effect), atol=1e-6, rtol=0)
    mediator = obs["m"] + (0 if kind == "direct" else 3.0)
    torch.testing.assert_close(changed["m"], mediator, atol=1e-6, rtol=0)
    torch.testing.assert_close(changed["a"], obs["a"] + (0 if kind == "indirect" else 1.5), atol=1e-6, rtol=0)


def test_what_is_not_upstream_has_no_effect() -> None:
    scm = linear_model()
    obs = {name: torch.zeros(2) for name in scm.order}
    with pytest.raises(InputError, match="after: not upstream of y; upstream are a, b, m"):
        scm.along(obs, scm.abduct(obs), {"after": 1.0}, "total", "y")
    assert scm.descendants(["a"]) == {"m", "y", "after"} and scm.descendants(["a", "m"]) == {"y", "after"}
