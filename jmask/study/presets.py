"""Studies by name: what the command runs when it is given no file."""

from .plan import Study

_TWO_NOISES = "diagonal:0.3,3.0"
_AGAINST_PCA = ("overlap", "pca_overlap", "correlation_pca_overlap")


def _quick() -> list[Study]:
    return [
        Study(
            name="errors",
            population="ar1:0.9",
            dimensions=[160],
            ratios=[0.25, 0.5, 1, 2, 4],
            ridges=[0.001, 0.03, 1],
            measure=["test", "leave_one_out"],
            seeds=16,
        ),
        Study(
            name="masks",
            population="ar1:0.9",
            dimensions=[160],
            ratios=[0.5, 2],
            ridges=[1],
            schemes=["bernoulli:0.3", "partition:4"],
            measure=["train", "test"],
            seeds=16,
        ),
        Study(
            name="against PCA",
            population=_TWO_NOISES,
            dimensions=[400],
            ratios=[0.75],
            ridges=[0.3],
            strengths=[0.5, 1, 3, 4, 6, 9],
            measure=_AGAINST_PCA,
            seeds=16,
        ),
        Study(
            name="dimension",
            population="ar1:0.7",
            dimensions=[32, 64, 128, 256],
            ratios=[2],
            ridges=[0.1],
            measure=["train", "test"],
            seeds=16,
        ),
        Study(
            name="descent",
            population="ar1:0.7",
            dimensions=[64],
            ratios=[2],
            ridges=[0.1],
            measure=["test", "gradient_test", "gradient_distance"],
            seeds=8,
        ),
    ]


def _dimension() -> list[Study]:
    return [
        Study(
            name=f"dimension, {population}",
            population=population,
            dimensions=[32, 64, 128, 256, 512],
            ratios=[0.5, 2],
            ridges=[0.1],
            seeds=32,
        )
        for population in ("ar1:0.7", "power-law:1.0")
    ]


def _paper() -> list[Study]:
    ratios = [0.125, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.5, 2, 4, 8]
    strengths = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 8]
    return [
        Study(
            name=f"errors, {population}",
            population=population,
            dimensions=[256],
            ratios=ratios,
            ridges=[1e-4, 1e-2, 1],
            seeds=32,
        )
        for population in ("ar1:0.9", "power-law:1.0", _TWO_NOISES)
    ] + [
        Study(
            name="spectrum",
            population="ar1:0.9",
            dimensions=[256],
            ratios=[0.5, 1, 2, 4],
            ridges=[0.03, 0.3, 3],
            measure=["edge"],
            seeds=32,
        ),
        Study(
            name="transition",
            population="isotropic",
            dimensions=[512],
            ratios=[0.5, 2],
            ridges=[0.1],
            strengths=strengths,
            measure=["outlier", *_AGAINST_PCA],
            seeds=16,
        ),
        Study(
            name="against PCA",
            population=_TWO_NOISES,
            dimensions=[512],
            ratios=[0.75],
            ridges=[0.03, 0.3, 3],
            strengths=strengths,
            measure=["outlier", *_AGAINST_PCA],
            seeds=16,
        ),
    ]


PRESETS = {"quick": _quick, "paper": _paper, "dimension": _dimension}
"""Name to a function that makes the studies."""


def preset(name: str) -> list[Study]:
    """The studies of a preset.

    Examples
    --------
    >>> from jmask.study.presets import preset
    >>> [study.name for study in preset("quick")]
    ['errors', 'masks', 'against PCA', 'dimension', 'descent']
    """
    if name not in PRESETS:
        raise ValueError(f"the presets are {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]()
