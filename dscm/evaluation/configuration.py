"""The settings behind one row of the tables, and the conditions that all rows of a folder share."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from dscm.diffusion.alignment import Alignment
from dscm.diffusion.guidance import Weights
from dscm.errors import InputError, option
from dscm.evaluation.route import NAMES, Route, mark

ABDUCTIONS = ("dynamic", "residual", "guided")  # in the order of the tables, after the plain one
FILES = {
    "data_sha256": f"on other test images ({option('data_dir')})",
    "oracle_sha256": f"with another {option('oracle')}",
    "attributes_sha256": f"with other {option('attributes')}",
}


@dataclass(frozen=True)
class Configuration:
    """The settings of one row of the tables; rows are equal if they measure the same.

    That they do so along other paths does not count: a folder has one row of a setting, along one path.

    Args:
        sha256: the hash of the checkpoint.
        mechanism: its kind.
        abduction: one of `ABDUCTIONS`; None is the plain one, as always without guidance.
        variant: that the code is sampled, and the settings of a baseline that differ from their defaults, in words.
        guidance: the guidance of a diffusion mechanism.
        alignment: the alignment of dynamic abduction.
        route: the path between image and noise; None of a mechanism that follows none.
        checkpoint: its path.
        p_null, beta: p_∅ and β of its training.
        batch: images at a time.
        device: where it was measured.
        training_steps, training_minutes: the steps and minutes of its training.
        parameters: their number.
        group: the name that several trainings of one setting share.
    """

    sha256: str
    mechanism: str
    abduction: str | None = None
    variant: str = ""
    guidance: Weights | None = None
    alignment: Alignment | None = None
    route: Route | None = field(default=None, compare=False)
    checkpoint: Path = field(default=Path(), compare=False)
    p_null: float | None = field(default=None, compare=False)
    beta: float | None = field(default=None, compare=False)
    batch: int | None = field(default=None, compare=False)
    device: str | None = field(default=None, compare=False)
    training_steps: int | None = field(default=None, compare=False)
    training_minutes: float | None = field(default=None, compare=False)
    parameters: int | None = field(default=None, compare=False)
    group: str | None = field(default=None, compare=False)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Configuration":
        """Read the entries of a record that `to_json` wrote."""
        mechanism, rate, (abduction, _, variant) = (
            entry["mechanism"],
            entry["cta_lr"],
            entry["abduction"].partition(" "),
        )
        weights = entry["weights"] or entry["guidance"]
        guidance = None if weights is None else Weights.read(weights)
        rest = ("p_null", "beta", "batch", "device", "training_steps", "training_minutes", "parameters")
        if any(not isinstance(entry.get(name), int | float | None) for name in rest if name != "device"):
            raise TypeError("a number is none")
        return cls(
            entry["checkpoint_sha256"],
            mechanism,
            abduction if abduction in ABDUCTIONS else None,
            variant,
            guidance,
            None if rate is None else Alignment(rate, entry["cta_steps"], entry["cta_optimizer"]),
            Route.from_json(entry, guidance),
            Path(entry["checkpoint"]),
            **{name: entry.get(name) for name in rest},
            group=entry.get("group"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the entries of a record."""
        guidance, alignment = self.guidance, self.alignment
        return {
            "checkpoint": str(self.checkpoint),
            "checkpoint_sha256": self.sha256,
            "mechanism": self.mechanism,
            "p_null": self.p_null,
            "beta": self.beta,
            "batch": self.batch,
            "device": self.device,
            "training_steps": self.training_steps,
            "training_minutes": self.training_minutes,
            "parameters": self.parameters,
            "group": self.group,
            "abduction": self._name,
            "guidance": guidance.largest if guidance else None,
            "weights": str(guidance) if guidance and guidance.groups else None,
            "cta_lr": alignment.rate if alignment else None,
            "cta_steps": alignment.steps if alignment else None,
            "cta_optimizer": alignment.optimiser if alignment else None,
            **(asdict(self.route) if self.route else dict.fromkeys(NAMES)),
        }

    @property
    def _name(self) -> str:
        """Name the abduction; the plain one has the name of the mechanism."""
        return " ".join(filter(None, [self.abduction or self.mechanism, self.variant]))

    @property
    def setting(self) -> "Configuration | None":
        """Return what trainings of one setting have in common; None for a training that belongs to no group."""
        return replace(self, sha256=self.group) if self.group else None

    def check_route(self, measured: "Configuration", path: Path) -> None:
        """Check that a row of a file was measured along the path of this one, which is to be measured.

        Raises:
            InputError: along another one.
        """
        if self.route and measured.route:
            _refuse_other(self.route, measured.route, path)

    def file_name(self, label: str) -> str:
        """Name the file of a row's numbers, without its suffix, after a label of the checkpoint."""
        words = [label, self.sha256[:8], self._name]
        if self.guidance:
            words.append(f"w{self.guidance}")
        if self.alignment:
            words.append(f"eta{self.alignment.rate:g}x{self.alignment.steps}{self.alignment.optimiser}")
        return "_".join(words)

    def label(self, rows: Sequence["Configuration"], without: Literal["ω", "η", ""] = "") -> str:
        """Name a row in a few words: mechanism, checkpoint if there are several of a kind, abduction, path, η, ω.

        Args:
            rows: all rows of the table.
            without: the setting to leave out.
        """
        words = [self.mechanism]
        alike = [row for row in rows if row.mechanism == self.mechanism]
        for symbol, name in (("p∅", "p_null"), ("β", "beta")):
            if len({getattr(row, name) for row in alike}) > 1:
                value = getattr(self, name)
                words.append(f"{symbol}={'unknown' if value is None else f'{value:g}'}")
                alike = [row for row in alike if getattr(row, name) == value]
        if len({row.sha256 for row in alike}) > 1:
            words.append(f"({self.checkpoint.parent.name}/{self.checkpoint.stem} {self.sha256[:4]})")
        words += filter(None, [self.abduction, self.variant])
        words += mark(self.route, (row.route for row in rows))
        if self.alignment:
            words += [f"η={self.alignment.rate:g}"] * (without != "η")
            if (self.alignment.steps, self.alignment.optimiser) != (1, "sgd"):
                words.append(f"{self.alignment.steps}×{self.alignment.optimiser}")
        if self.guidance:
            sign, value = ("ω:", f" {self.guidance}") if self.guidance.groups else ("ω=", f"{self.guidance}")
            if without != "ω":
                words.append(sign + value)
            elif self.guidance.groups:
                words.append(sign)  # keeps weights of groups apart from single ones
        return " ".join(words)

    def order(self) -> tuple[Any, ...]:
        """Return the key that sorts the rows of one checkpoint: by ω, abduction, and alignment."""
        weights = self.guidance and (self.guidance.largest, str(self.guidance) if self.guidance.groups else "")
        abduction = ABDUCTIONS.index(self.abduction) if self.abduction else -1
        alignment = self.alignment and (self.alignment.optimiser == "adam", self.alignment.steps, self.alignment.rate)
        return weights or (0.0, ""), abduction, alignment or (False, 0, 0.0)


@dataclass(frozen=True)
class Conditions:
    """The test images, the parts that judge them, and what else all records of a folder have in common."""

    precision: str
    split: str
    n: int
    seed: int
    cycles: int
    sampler: str
    data_sha256: str
    oracle_sha256: str | None
    attributes_sha256: str | None
    particles: int = 1
    published: bool = False

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Conditions":
        """Read the entries of a record."""
        return cls(**{name.name: entry[name.name] for name in fields(cls)})

    def check(self, other: "Conditions", path: Path) -> None:
        """Check that records of a file were measured under these conditions.

        Raises:
            InputError: the other ones differ.
        """
        _refuse_other(self, other, path)


def _refuse_other(wanted: Conditions | Route, was: Conditions | Route, path: Path) -> None:
    """Check that records of a file were measured as they are wanted.

    Raises:
        InputError: a field differs.
    """
    for name in (one.name for one in fields(wanted)):
        old, new = getattr(was, name), getattr(wanted, name)
        if old != new:
            words = FILES.get(name, f"with {option(name)} {old}, not {new}")
            raise InputError(
                f"{path}: was measured {words}; name another {option('out')}, or start over with {option('overwrite')}"
            )
