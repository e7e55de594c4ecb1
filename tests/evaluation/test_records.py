"""Records of measurements: their order, their names, and their form in metrics.json."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dscm.diffusion.alignment import Alignment
from dscm.diffusion.guidance import Weights
from dscm.errors import InputError
from dscm.evaluation.configuration import Conditions, Configuration
from dscm.evaluation.records import Record, Records, arrange
from dscm.evaluation.route import Route

CONDITIONS = Conditions(
    precision="bfloat16",
    split="test",
    n=8,
    seed=0,
    cycles=1,
    sampler="marginal",
    data_sha256="d",
    oracle_sha256="o",
    attributes_sha256=None,
)
ROUTE = Route(20, "edm", 0.01, "ddim", 2, (1.0, 1000.0))
PLAIN = Configuration("b", "semantic", guidance=Weights(1.5), route=ROUTE, beta=1.0, p_null=0.1)
ALIGNED = replace(PLAIN, abduction="dynamic", alignment=Alignment(0.1))
BASELINE = Configuration("a", "vae", variant="without pixel noise mix=1")


def record(configuration: Configuration) -> Record:
    """Make a record with one metric."""
    metrics = {"composition": {"l1": [0.1], "lpips": None}}
    intervals = {"composition": {"l1": [[0.0, 1.0]], "lpips": None}}
    return Record(configuration, CONDITIONS, "values/x.npz", 0.1, metrics, intervals)


def test_rows_are_sorted() -> None:
    """By checkpoint, ω, abduction and alignment, in whatever order they were measured."""
    rows = [
        PLAIN,
        replace(ALIGNED, alignment=Alignment(0.01)),
        ALIGNED,
        replace(ALIGNED, alignment=Alignment(0.1, 5)),
        replace(ALIGNED, alignment=Alignment(0.1, optimiser="adam")),
        replace(PLAIN, abduction="residual"),
        replace(PLAIN, guidance=Weights(3.0)),
        BASELINE,
    ]
    wanted = [record(row) for row in rows]
    for seed in range(3):  # the first of a checkpoint says where it stands
        mixed = [wanted[0], *(wanted[1 + i] for i in torch.randperm(7, generator=torch.Generator().manual_seed(seed)))]
        assert arrange(mixed) == wanted


SAMPLED = replace(ALIGNED, variant="sampled code")


@pytest.mark.parametrize(
    "row", [PLAIN, ALIGNED, SAMPLED, replace(PLAIN, guidance=Weights.read("do=2,others=1")), BASELINE]
)
def test_a_record_is_read_back_from_json(row: Configuration) -> None:
    """Also what does not count in comparisons, such as β."""
    written = record(row)
    read = Record.from_json(written.to_json())
    assert read == written and read.to_json() == written.to_json()
    for interval in ((1.0, 2.0), "digit=2:40,others=1:9"):
        route = replace(ROUTE, guidance_interval=interval)
        entry = json.loads(json.dumps(record(replace(row, route=route)).to_json()))
        assert Record.from_json(entry).configuration.route == (route if row.guidance else ROUTE.unguided)


def test_labels_tell_rows_apart() -> None:
    """By p_∅ and β where they differ within a kind, then by the checkpoint."""
    rows = [
        PLAIN,
        replace(ALIGNED, p_null=None),
        replace(PLAIN, sha256="c1", beta=2.0, checkpoint=Path("runs/a/one.pt")),
        replace(PLAIN, sha256="d1", beta=2.0, checkpoint=Path("runs/b/one.pt")),
        BASELINE,
    ]
    assert [row.label(rows) for row in rows] == [
        "semantic p∅=0.1 β=1 ω=1.5",
        "semantic p∅=unknown dynamic η=0.1 ω=1.5",
        "semantic p∅=0.1 β=2 (a/one c1) ω=1.5",
        "semantic p∅=0.1 β=2 (b/one d1) ω=1.5",
        "vae without pixel noise mix=1",
    ]


def test_other_conditions_are_named() -> None:
    """The setting, what it was, and what it should be now."""
    with pytest.raises(InputError, match="m.json: was measured with n 10, not 8; name another out"):
        CONDITIONS.check(replace(CONDITIONS, n=10), Path("m.json"))
    with pytest.raises(InputError, match="was measured on other test images"):
        CONDITIONS.check(replace(CONDITIONS, data_sha256="e"), Path("m.json"))


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry["composition"].update(l1=None),
        lambda entry: entry["composition"].update(l1=[0.1]),
        lambda entry: entry["composition"].update(l1=["0.1", "0.2"]),
        lambda entry: entry["composition"].pop("l1"),
        lambda entry: entry.pop("composition"),
        lambda entry: entry["intervals"].update(composition={}),
        lambda entry: entry["intervals"]["composition"].update(l1=[[0.1], [0.2]]),
        lambda entry: entry.update(seconds_per_image="fast"),
        lambda entry: entry.update(beta="one"),
        lambda entry: entry.update(values={}),
        lambda entry: entry.update(steps="many"),
        lambda entry: entry.update(guidance_interval=[1.0]),
    ],
)
def test_metrics_have_the_form_of_their_numbers(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Before anything is measured, not when the tables are written."""
    numbers = {("composition", "l1"): torch.rand(8, 2), ("seconds",): torch.rand(8)}
    Records(tmp_path, CONDITIONS, overwrite=False).add(PLAIN, "x", numbers, {})
    assert len(Records(tmp_path, CONDITIONS, overwrite=False).records) == 1
    entries = json.loads((tmp_path / "metrics.json").read_text())
    change(entries[0])
    (tmp_path / "metrics.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match="damaged|missing"):
        Records(tmp_path, CONDITIONS, overwrite=False)


def test_records_of_an_earlier_version_are_refused(tmp_path: Path) -> None:
    """In one line, before anything is measured: they lack conditions that were always the same then."""
    Records(tmp_path, CONDITIONS, overwrite=False).add(PLAIN, "x", {("seconds",): torch.rand(8)}, {})
    entries = json.loads((tmp_path / "metrics.json").read_text())
    for name in ("particles", "published"):
        (tmp_path / "metrics.json").write_text(json.dumps([{k: v for k, v in entries[0].items() if k != name}]))
        with pytest.raises(InputError, match="metrics.json: damaged, or of another version"):
            Records(tmp_path, CONDITIONS, overwrite=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 10}, "steps 10, not 20"),
        ({"grid": "σ = 80, 1, 0.05"}, "grid σ = 80, 1, 0.05, not edm"),
        ({"guidance_interval": (0.0, 3.0)}, r"guidance_interval \(0.0, 3.0\), not \(1.0, 1000.0\)"),
    ],
)
def test_a_row_has_one_path(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """Measured along another one it is refused, before anything is measured; other rows may follow theirs."""
    theirs = replace(PLAIN, route=replace(ROUTE, **change))
    records = Records(tmp_path, CONDITIONS, overwrite=False)
    records.add(theirs, "x", {("seconds",): torch.rand(8)}, {})
    for found in (records, Records(tmp_path, CONDITIONS, overwrite=False)):
        found.check_routes([theirs, replace(PLAIN, sha256="c"), replace(PLAIN, guidance=Weights(3.0)), BASELINE])
        with pytest.raises(InputError, match=f"metrics.json: was measured with {words}; name another out"):
            found.check_routes([BASELINE, PLAIN])


def test_trainings_that_were_measured_before_get_the_name_that_they_share(tmp_path: Path) -> None:
    """Also in the file, without a new measurement; a row that is not named keeps its name."""
    records = Records(tmp_path, CONDITIONS, overwrite=False)
    for row in (PLAIN, replace(BASELINE, group="other")):
        records.add(row, row.sha256, {("seconds",): torch.rand(8)}, {})
    records.name_groups([replace(PLAIN, group="ours"), BASELINE])
    for found in (records, Records(tmp_path, CONDITIONS, overwrite=False)):
        assert [record.configuration.group for record in found.records] == ["ours", "other"]
    before = (tmp_path / "metrics.json").stat().st_mtime_ns
    records.name_groups([PLAIN, BASELINE])
    assert (tmp_path / "metrics.json").stat().st_mtime_ns == before
