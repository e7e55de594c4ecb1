"""The causal graphs of the built-in data sets, as data."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dscm.errors import InputError
from dscm.learned import LearnedAttributes
from dscm.mechanisms import CategoricalRoot, GammaRoot, LinearGaussian, Mechanism, ScaledSigmoid
from dscm.scm import SCM
from dscm.variables import Variable


@dataclass(frozen=True)
class Graph:
    """Name a set of variables, one of which is the image.

    Arguments: `name`; `variables`; `image_channels` (1 is grey, 3 is colour); `asked`, what is
    intervened on when the model is measured, by default every parent of the image by itself; variables named together
    are set together, to the value that the first is given; `measured`, the attributes that morphometry reads off the
    image of a digit (an oracle predicts the others); `data_set`, the built-in graph whose images these are.
    """

    name: str
    variables: tuple[Variable, ...]
    image_channels: int = 1
    asked: tuple[tuple[str, ...], ...] = ()
    measured: tuple[str, ...] = ()
    data_set: str = "morphomnist"

    @property
    def attributes(self) -> tuple[Variable, ...]:
        """List the variables that are not the image, in declaration order."""
        return tuple(variable for variable in self.variables if variable.kind != "image")

    @property
    def image_parents(self) -> tuple[str, ...]:
        """List the names of the parents of the image."""
        return next(variable.parents for variable in self.variables if variable.kind == "image")

    @property
    def interventions(self) -> dict[str, tuple[str, ...]]:
        """List what is intervened on when the model is measured: the variables set together, by the first one."""
        return {names[0]: names for names in self.asked or [(name,) for name in self.image_parents]}

    @property
    def predicted(self) -> tuple[Variable, ...]:
        """List the attributes that an oracle predicts from the image."""
        return tuple(variable for variable in self.attributes if variable.name not in self.measured)

    @property
    def learned(self) -> tuple[Variable, ...]:
        """List the attributes whose mechanisms are fitted to data."""
        return tuple(variable for variable in self.attributes if variable.learned)

    def scm(self, image: Mechanism | None = None, learned: LearnedAttributes | None = None) -> SCM:
        """Build the causal model.

        Arguments: `image`, the mechanism of the image (without it, the attributes alone); `learned`, the fitted
        mechanisms of the attributes, where there are any.

        Raises `InputError` if an attribute's mechanism is to be learned and is not given.
        """
        if self.learned and learned is None:
            names = ", ".join(variable.name for variable in self.learned)
            raise InputError(
                f"graph '{self.name}': the mechanism of {names} is learned; fit it and give its checkpoint"
            )
        mechanisms = {
            variable.name: learned.mechanisms[variable.name] if variable.learned else variable.mechanism()
            for variable in self.attributes
        }
        if image is not None:
            mechanisms["image"] = image
        return SCM(mechanisms, {variable.name: variable.parents for variable in self.variables})

    def check_do(self, do: Mapping[str, float]) -> None:
        """Raise `InputError` if `do` names an unknown attribute, or holds a value outside its domain."""
        attributes = {variable.name: variable for variable in self.attributes}
        for name, value in do.items():
            if name not in attributes:
                known = ", ".join(f"{variable.name} ({variable.domain})" for variable in self.attributes)
                raise InputError(f"unknown variable '{name}' in --do; known: {known}")
            attributes[name].check(value)


def get_graph(name: str) -> Graph:
    """Return a built-in graph.

    Arguments: `name`, of the graph; `celebahq:NAME,NAME…` takes other attributes of the faces than the seven.

    Raises `InputError`, listing what is known, if there is no such graph or attribute.
    """
    base, colon, attributes = name.partition(":")
    if base not in GRAPHS:
        raise InputError(f"unknown graph '{base}'; known: {', '.join(GRAPHS)}")
    if not colon:
        return GRAPHS[name]
    if base != "celebahq":
        raise InputError(f"graph '{name}': only celebahq takes a list of attributes")
    names = attributes.split(",")
    for attribute in names:
        if attribute not in CELEBA_ATTRIBUTES:
            near = difflib.get_close_matches(attribute, CELEBA_ATTRIBUTES) or CELEBA_ATTRIBUTES
            raise InputError(f"graph '{name}': no attribute '{attribute}'; try {', '.join(near)}")
        if names.count(attribute) > 1:
            raise InputError(f"graph '{name}': {attribute} is named twice")
    return _faces(name, names)


def _image(*parents: str) -> Variable:
    """Describe the image, in [-1, 1], with these parents."""
    return Variable("image", "image", parents, -1, 1)


# Morpho-MNIST: t = 0.5 + Gamma(10, rate 5); i = 64 + 191 σ(0.5 ε + 2 t - 5); slant° = -27 + 6 digit + 3 ε.
_grey = partial(ScaledSigmoid, low=64.0, high=255.0, weights={"thickness": 2.0}, bias=-5.0, scale=0.5)
_lean = partial(LinearGaussian, {"digit": math.radians(6)}, bias=math.radians(-27), scale=math.radians(3))
_thickness = Variable("thickness", "positive", (), 0.5, 10, "px", partial(GammaRoot, shift=0.5, shape=10, rate=5.0))
_intensity = Variable("intensity", "positive", ("thickness",), 0, 255, "grey levels", _grey)
_digit = Variable("digit", "categorical", (), 0, 9, mechanism=partial(CategoricalRoot, 10))
_slant = Variable("slant", "continuous", ("digit",), -1.2, 1.2, "rad", _lean)

CELEBA_ATTRIBUTES = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry
Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
Wearing_Necktie Young""".split()
_CONFOUNDERS = ("Male", "Wearing_Lipstick", "Bald", "Wearing_Hat")  # never intervened on (paper, section 4.2)
_coin = partial(CategoricalRoot, 2)


def _faces(name: str, attributes: Sequence[str], confounders: Sequence[str] = ()) -> Graph:
    """Make a graph of CelebA-HQ: smiling opens the mouth, as often as the data say; the others are roots."""
    mouth, smile = "Mouth_Slightly_Open", "Smiling"
    linked = {mouth, smile} <= set(attributes)
    variables = [
        Variable(attribute, "binary", (smile,), 0, 1)
        if linked and attribute == mouth
        else Variable(attribute, "binary", (), 0, 1, mechanism=_coin)
        for attribute in attributes
    ]
    asked = [
        (attribute, mouth) if linked and attribute == smile else (attribute,)
        for attribute in attributes
        if attribute not in confounders and not (linked and attribute == mouth)
    ]
    return Graph(name, (*variables, _image(*attributes)), 3, tuple(asked), data_set="celebahq")


# EMBED mammograms: every attribute is a root.
_MARKS = ("circle marker", "triangle marker")
_breast = [Variable(name, "binary", (), 0, 1, mechanism=_coin) for name in (*_MARKS, "cancer")]
_density = Variable("density", "categorical", (), 0, 3, mechanism=partial(CategoricalRoot, 4))

# Hue is a fraction of the colour circle. Its equation is linear, so it may leave [0, 1]: there it is meant modulo 1.
_colour = partial(LinearGaussian, {"digit": 0.1}, bias=0.05, scale=0.05)
_hue = Variable("hue", "circular", ("digit",), 0, 1, "of the colour circle", _colour)

GRAPHS: Mapping[str, Graph] = {
    graph.name: graph
    for graph in (
        Graph(
            "morphomnist",
            (_thickness, _intensity, _digit, _slant, _image("thickness", "intensity", "digit", "slant")),
            measured=("thickness", "intensity", "slant"),
        ),
        Graph(
            "colour-morphomnist",
            (_thickness, _digit, _slant, _hue, _image("thickness", "digit", "slant", "hue")),
            image_channels=3,
            measured=("thickness", "slant", "hue"),
        ),
        Graph("morphomnist-digit", (_digit, _image("digit"))),
        Graph(
            "morphomnist-intensity",
            (_thickness, _intensity, _image("thickness", "intensity")),
            measured=("thickness", "intensity"),
        ),
        _faces("celebahq", ("Smiling", "Mouth_Slightly_Open", "Eyeglasses", *_CONFOUNDERS), _CONFOUNDERS),
        Graph(
            "embed",
            (*_breast, _density, _image(*_MARKS, "cancer", "density")),
            asked=tuple((name,) for name in _MARKS),
            data_set="embed",
        ),
    )
}
