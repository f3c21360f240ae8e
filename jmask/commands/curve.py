"""Errors along a path of ridges under any scheme, and the ridge of least leave-one-out error."""

from dataclasses import dataclass

import numpy as np

from ..closed_form import fit
from ..masking import Bernoulli, LeaveOneOut, Scheme
from ..ridges import ridge_path
from ..validation import leave_one_out_error, train_error
from .progress import status, track

_POINTS = 41
_BELOW, _ABOVE = 1e-6, 1e3  # ends of the path, in units of the mean variance
_SHIFTS = 2  # how often the path is moved on when the least error lies at its end


@dataclass(frozen=True)
class Curve:
    """Errors at ridges in ascending order, all (m,), NaN where not known; ``chosen`` is the index of the ridge used.

    ``interior`` is False where leave-one-out error still fell at the end of the longest path tried.
    """

    ridge: np.ndarray
    train: np.ndarray
    leave_one_out: np.ndarray
    gcv: np.ndarray
    chosen: int
    interior: bool

    def at_chosen(self) -> dict[str, float]:
        """The four numbers of the ridge used."""
        names = ("ridge", "train", "leave_one_out", "gcv")
        return {name: float(getattr(self, name)[self.chosen]) for name in names}


def ridge_curve(x: np.ndarray, ridge: float | None, scheme: Scheme, centred: bool) -> Curve:
    """Errors along a path wide enough to hold the least one, refined around it; or around a given ridge.

    Parameters
    ----------
    x
        (n, d) samples, already centred if ``centred``.
    ridge
        The ridge to use, or None for that of least leave-one-out error.
    scheme
        What is hidden.
    centred
        Whether the mean was estimated, and is to be re-estimated without each sample.
    """
    variance = float((x**2).mean())
    if variance == 0:
        raise ValueError("every column is constant: there is nothing to predict")
    if ridge is not None:
        ridges = np.unique([*np.geomspace(_BELOW * variance, _ABOVE * variance, _POINTS), ridge])
        return _curve(_errors(x, ridges, scheme, centred), int(np.flatnonzero(ridges == ridge)[0]), True)
    low, high = _BELOW * variance, _ABOVE * variance
    errors = _errors(x, np.geomspace(low, high, _POINTS), scheme, centred)
    for _ in range(_SHIFTS):
        best = _least(errors)
        if 0 < best < _POINTS - 1:
            break
        factor = np.sqrt(high / low) ** (-1 if best == 0 else 1)
        low, high = low * factor, high * factor
        errors = _errors(x, np.geomspace(low, high, _POINTS), scheme, centred)
    best = _least(errors)
    if not 0 < best < _POINTS - 1:
        return _curve(errors, best, False)
    around = np.geomspace(errors[0, best - 1], errors[0, best + 1], _POINTS)
    both = np.concatenate([errors, _errors(x, around, scheme, centred)], axis=1)
    both = both[:, np.unique(both[0], return_index=True)[1]]
    return _curve(both, _least(both), True)


def _least(errors: np.ndarray) -> int:
    if not np.isfinite(errors[2]).any():
        raise ValueError("no ridge gave a finite leave-one-out error: give one with --ridge VALUE")
    return int(np.nanargmin(errors[2]))


def _curve(errors: np.ndarray, chosen: int, interior: bool) -> Curve:
    return Curve(errors[0], errors[1], errors[2], errors[3], chosen, interior)


def _errors(x: np.ndarray, ridges: np.ndarray, scheme: Scheme, centred: bool) -> np.ndarray:
    """(4, m) ridge, train, leave-one-out, GCV."""
    if isinstance(scheme, LeaveOneOut):
        with status("errors along the path of ridges"):
            path = ridge_path(x, ridges, centred=centred)
        return np.stack([ridges, np.asarray(path.train), np.asarray(path.leave_one_out), np.asarray(path.gcv)])
    columns = [
        _errors_at(x, float(ridge), scheme, centred) for ridge in track(ridges, "errors along the path of ridges")
    ]
    return np.array(columns).T


def _errors_at(x: np.ndarray, ridge: float, scheme: Scheme, centred: bool) -> list[float]:
    fitted = fit(x, ridge, scheme)
    train = float(train_error(fitted, x))
    left_out = float(leave_one_out_error(x, ridge, scheme, centred=centred))
    # tr SQ/n is the share of degrees of freedom of one penalty; a Bernoulli mask adds its own spread to the
    # residuals, to which the correction does not apply.
    used = (x.shape[1] - ridge * float(fitted.conditional_precision.sum()) + centred) / x.shape[0]
    known = not isinstance(scheme, Bernoulli) and ridge > 0 and used < 1
    return [ridge, train, left_out, train / (1 - used) ** 2 if known else np.nan]
