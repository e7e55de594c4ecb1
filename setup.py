"""Install the package: ``pip install -e .``; with the tests' needs: ``pip install -e '.[test]'``."""

from setuptools import find_packages, setup

setup(
    name="dscm",
    version="0.1.0",
    description="Counterfactual images from structural causal models with diffusion mechanisms",
    python_requires=">=3.10",
    packages=find_packages(include=["dscm", "dscm.*"]),
    package_data={
        "dscm": ["py.typed"],
        "dscm.assets": ["*.pt", "*.json", "graphs/*.json", "*/*.png", "*/*.jpg", "*/*.csv"],
    },
    entry_points={
        "console_scripts": [f"dscm-{name} = dscm.cli.{name}:main" for name in ("train", "counterfactual", "evaluate")]
    },
    # The oldest that were tried together: torch 2.2.2, torchvision 0.17.2, numpy 1.26.4, pillow 10.1 on Python 3.11.
    install_requires=["torch>=2.2", "torchvision>=0.17", "numpy", "scipy", "pillow>=10.1", "lpips", "tqdm"],
    extras_require={"plots": ["matplotlib"], "test": ["pytest", "matplotlib"], "check": ["mypy", "ruff"]},
)
