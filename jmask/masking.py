"""What is hidden: the four mask schemes.

A scheme is a small frozen pytree. It says which coordinates are hidden together, and how often; the
objective, the fits and the theory read it. In every scheme the error of coordinate k is a mean over the
masks that hide k, so that a ridge means the same for all of them.
"""

from collections.abc import Sequence
from dataclasses import field

import jax.numpy as jnp
import numpy as np

from ._checks import as_float, as_rate, is_concrete
from ._types import Array, ArrayLike, Bool, Float, pytree


@pytree
class LeaveOneOut:
    """Hide one coordinate at a time; each is predicted from all the others.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.LeaveOneOut()
    LeaveOneOut()
    """


@pytree
class Bernoulli:
    """Hide every coordinate independently with probability ``hide_rate``; hidden inputs are set to zero.

    Parameters
    ----------
    hide_rate
        Probability in [0, 1) that an input coordinate is hidden while another one is predicted. A traced
        scalar is welcome: fits and theory are differentiable in it. At 0 this is ``LeaveOneOut``.

    Raises
    ------
    ValueError
        If a known ``hide_rate`` is outside [0, 1) or not a scalar.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.Bernoulli(0.25).hide_rate
    0.25
    """

    hide_rate: ArrayLike

    def __post_init__(self) -> None:
        rate = as_rate(self.hide_rate)
        if rate.ndim > hasattr(self.hide_rate, "ndim"):  # a list is no vector, which only ``vmap`` makes
            raise ValueError(f"hide_rate must be a scalar (or a vector under vmap), got shape {rate.shape}")

    def probability(self, dtype: jnp.dtype) -> Array:
        """The hiding rate as a scalar array of the given dtype."""
        rate = as_rate(self.hide_rate, dtype=dtype)
        if rate.ndim:
            raise ValueError(f"hide_rate must be a scalar, got shape {rate.shape}")
        return rate


@pytree
class Partition:
    """Hide one whole group of coordinates at a time; each group is predicted from all the others.

    Parameters
    ----------
    groups
        (d,) integer labels, static. Any integers: coordinates with equal labels are hidden together.

    Raises
    ------
    TypeError
        If the labels are traced or not integers.
    ValueError
        If there are fewer than two groups, so that nothing would be left to predict from.

    Examples
    --------
    >>> import jmask as jm
    >>> jm.Partition([0, 0, 7, 7]).groups
    (0, 0, 7, 7)
    """

    groups: Sequence[int] = field(metadata={"static": True})

    def __post_init__(self) -> None:
        if not is_concrete(self.groups):
            raise TypeError("groups must be known integers: a partition is static under jit")
        labels = np.asarray(self.groups)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise TypeError(
                f"groups must be a vector of integer labels, one a coordinate, "
                f"got shape {labels.shape} and dtype {labels.dtype}"
            )
        if np.unique(labels).size < 2:
            raise ValueError("groups must hold at least two different labels, got one: nothing is left to predict from")
        object.__setattr__(self, "groups", tuple(int(label) for label in labels))

    def members(self) -> list[np.ndarray]:
        """The coordinates of each group, in the order of the sorted labels."""
        labels = np.asarray(self.groups)
        return [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def members_by_size(self) -> list[np.ndarray]:
        """The groups as (g, b) index arrays, one for each group size b, ascending."""
        members = self.members()
        return [np.stack([m for m in members if m.size == size]) for size in sorted({m.size for m in members})]

    def same_group(self) -> np.ndarray:
        """(d, d) booleans: True where two coordinates are hidden together."""
        labels = np.asarray(self.groups)
        return labels[:, None] == labels[None, :]


@pytree
class Patterns:
    """Any finite distribution of masks: pattern p hides the coordinates where ``hidden[p]`` is True.

    Parameters
    ----------
    hidden
        (m, d) booleans.
    probabilities
        (m,) positive weights; they need not sum to one. For each coordinate the weights of the patterns
        that hide it are renormalised to one. Differentiable.

    Raises
    ------
    TypeError
        If ``hidden`` is not boolean.
    ValueError
        If shapes disagree, a weight is not positive, a pattern hides nothing, or a coordinate is
        hidden by no pattern. (A pattern may hide everything: all inputs are then zero.)

    Examples
    --------
    >>> import jmask as jm
    >>> jm.Patterns([[True, False, True], [False, True, False]], [1.0, 2.0]).hidden.shape
    (2, 3)
    """

    hidden: Bool[Array, "m d"]
    probabilities: Float[Array, " m"]

    def __post_init__(self) -> None:
        if not is_concrete((self.hidden, self.probabilities)):
            return
        hidden = np.asarray(self.hidden)
        if hidden.dtype != bool:
            raise TypeError(f"hidden must be boolean, True where a coordinate is hidden, got dtype {hidden.dtype}")
        probabilities = as_float(self.probabilities, "probabilities")
        # Batched patterns (a leading axis added by vmap) are checked in their last two axes.
        if hidden.ndim < 2 or probabilities.shape[-1:] != hidden.shape[-2:-1]:
            raise ValueError(
                f"hidden must have shape (m, d) and probabilities (m,), got {hidden.shape} and {probabilities.shape}"
            )
        if is_concrete(probabilities) and not (np.isfinite(probabilities) & (np.asarray(probabilities) > 0)).all():
            raise ValueError("probabilities must be positive and finite: leave a pattern of weight 0 out")
        if (~hidden.any(-1)).any():
            raise ValueError(f"hidden: pattern {int(np.argwhere(~hidden.any(-1))[0][-1])} hides nothing; leave it out")
        if (~hidden.any(-2)).any():
            raise ValueError(
                f"hidden: coordinate {int(np.argwhere(~hidden.any(-2))[0][-1])} is hidden by no pattern, "
                "so nothing says how to predict it"
            )
        object.__setattr__(self, "hidden", jnp.asarray(hidden))
        object.__setattr__(self, "probabilities", probabilities)

    def coordinate_weights(self, dtype: jnp.dtype) -> Float[Array, "m d"]:
        """(m, d): weight of pattern p in the mean for coordinate k; columns sum to one."""
        known = jnp.where(self.probabilities >= 0, self.probabilities, jnp.nan).astype(dtype)
        weights = jnp.where(self.hidden, known[:, None], 0)
        return weights / weights.sum(0, keepdims=True)


Scheme = LeaveOneOut | Bernoulli | Partition | Patterns


def check_scheme(scheme: object, d: int) -> None:
    """Refuse what is not a scheme, or one made for another number of coordinates."""
    if not isinstance(scheme, Scheme):
        raise TypeError(
            "scheme must be LeaveOneOut(), Bernoulli(hide_rate), Partition(groups) or "
            f"Patterns(hidden, probabilities), got {scheme!r}"
        )
    if isinstance(scheme, Partition) and len(scheme.groups) != d:
        raise ValueError(f"groups must have one label for each of the {d} coordinates, got {len(scheme.groups)}")
    if isinstance(scheme, Patterns) and scheme.hidden.shape[-1] != d:
        raise ValueError(f"hidden must have {d} columns, got shape {scheme.hidden.shape}")


def can_see(scheme: Scheme, d: int) -> Bool[Array, "d d"]:
    """(d, d) booleans: True where row k of the weights may use coordinate j."""
    if isinstance(scheme, Partition):
        return jnp.asarray(~scheme.same_group())
    if isinstance(scheme, Patterns):
        hidden = scheme.hidden.astype(jnp.float32)
        return hidden.T @ (1.0 - hidden) > 0.5
    return ~jnp.eye(d, dtype=bool)
