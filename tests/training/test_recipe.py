"""What a command line changes in a preset."""

import argparse

import pytest
import torch

from dscm.causal.graph_file import get_graph
from dscm.errors import InputError
from dscm.training.recipe import OWNERS, check_own_options, choose_bfloat16, choose_preset

NONE = {name: None for name in OWNERS if name not in ("patch", "fine_tune")}


def test_patches_are_as_asked() -> None:
    """Of all networks, whether the preset names their patches or not; other parts, and models that exist, have none."""
    for preset, mechanism in (("tiny", "semantic"), ("paper", "semantic"), ("tiny", "vci"), ("paper", "diffscm")):
        args = argparse.Namespace(part="image", mechanism=mechanism, preset=preset, patch=4, size=None, fine_tune=None)
        chosen = choose_preset(args, get_graph("celebahq"))
        networks = [value for value in {**chosen.model, **chosen.semantic}.values() if isinstance(value, dict)]
        assert networks and all(network["patch"] == 4 for network in networks), (preset, mechanism)
        assert "channels" not in chosen.model or chosen.model["patch"] == 4
    with pytest.raises(InputError, match="--patch 4: not known to --part oracle"):
        check_own_options(argparse.Namespace(part="oracle", fine_tune=None, patch=4, **NONE))
    with pytest.raises(InputError, match="--patch 4: is settled by the model of --fine-tune"):
        check_own_options(argparse.Namespace(part="image", fine_tune="a.pt", patch=4, **NONE))


@pytest.mark.parametrize(("capability", "warned"), [("AVX2", True), ("AVX512", False)])
def test_emulated_precision_is_warned_of(
    capability: str, warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A CPU without instructions for bfloat16 needs ten times as long; the first of several processes says so."""
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    for precision, part, expected in (("bfloat16", "image", True), (None, "image", False), (None, "attributes", False)):
        args = argparse.Namespace(precision=precision, part=part)
        assert choose_bfloat16(args, torch.device("cpu")) is expected
        assert ("only emulates it" in capsys.readouterr().err) == (warned and expected)
        monkeypatch.setenv("RANK", "1")
        assert choose_bfloat16(args, torch.device("cpu")) is expected and not capsys.readouterr().err
        monkeypatch.delenv("RANK")
