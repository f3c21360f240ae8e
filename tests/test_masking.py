"""Mask schemes: what they refuse, what they say of a coordinate, and how they travel through transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm
from jmask.masking import can_see, check_scheme

HIDDEN = np.array([[True, True, False, False], [False, False, True, True], [True, False, True, False]])
WEIGHTS = np.array([1.0, 2.0, 3.0])
SCHEMES = {
    "leave-one-out": jm.LeaveOneOut(),
    "bernoulli": jm.Bernoulli(0.3),
    "partition": jm.Partition([5, -1, 5, 2]),
    "patterns": jm.Patterns(HIDDEN, WEIGHTS),
}
EACH = pytest.mark.parametrize("name", SCHEMES)

FEW, NONE = np.array([[True, False], [False, False]]), np.array([[True, False]])
REFUSED = {
    "rate": (lambda: jm.Bernoulli(1.0), ValueError, r"hide_rate must lie in \[0, 1\), got 1"),
    "rate sign": (lambda: jm.Bernoulli(-0.1), ValueError, r"hide_rate must lie in \[0, 1\), got -0.1"),
    "rate NaN": (lambda: jm.Bernoulli(np.nan), ValueError, "hide_rate must lie in .* got nan"),
    "rate type": (lambda: jm.Bernoulli("half"), TypeError, "hide_rate must be an array of real numbers"),
    "rate matrix": (lambda: jm.Bernoulli(0.1 * np.ones((2, 2))), ValueError, r"scalar .* got shape \(2, 2\)"),
    "rate vector": (lambda: jm.Bernoulli([0.1, 0.2]).probability(jnp.float64), ValueError, r"got shape \(2,\)"),
    "labels": (lambda: jm.Partition([0.0, 1.0]), TypeError, "groups must be a vector of integer .* dtype float64"),
    "labels shape": (lambda: jm.Partition([[0, 1]]), TypeError, r"integer labels, .* got shape \(1, 2\)"),
    "one label": (lambda: jm.Partition([3, 3, 3]), ValueError, "at least two different labels, got one"),
    "hidden": (lambda: jm.Patterns(1 * HIDDEN, WEIGHTS), TypeError, "hidden must be boolean, .* got dtype int64"),
    "lengths": (lambda: jm.Patterns(HIDDEN, WEIGHTS[:2]), ValueError, r"\(m, d\) .* got \(3, 4\) and \(2,\)"),
    "one mask": (lambda: jm.Patterns(HIDDEN[0], WEIGHTS), ValueError, r"got \(4,\) and \(3,\)"),
    "weight": (lambda: jm.Patterns(HIDDEN, WEIGHTS - 1), ValueError, "probabilities must be positive and finite"),
    "weight NaN": (lambda: jm.Patterns(HIDDEN, WEIGHTS * np.nan), ValueError, "probabilities must be positive"),
    "nothing hidden": (lambda: jm.Patterns(FEW, [1.0, 1.0]), ValueError, "pattern 1 hides nothing"),
    "never hidden": (lambda: jm.Patterns(NONE, [1.0]), ValueError, "coordinate 1 is hidden by no pattern"),
    "no scheme": (lambda: check_scheme("bernoulli", 4), TypeError, "scheme must be LeaveOneOut.* got 'bernoulli'"),
    "class": (lambda: check_scheme(jm.LeaveOneOut, 4), TypeError, "scheme must be LeaveOneOut"),
    "other labels": (lambda: check_scheme(SCHEMES["partition"], 5), ValueError, "the 5 coordinates, got 4"),
    "other masks": (lambda: check_scheme(SCHEMES["patterns"], 5), ValueError, r"5 columns, got shape \(3, 4\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused(name):
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()


@EACH
def test_good_schemes_pass(name):
    check_scheme(SCHEMES[name], 4)


def test_a_partition_is_static():
    with pytest.raises(TypeError, match="a partition is static under jit"):
        jax.jit(lambda groups: can_see(jm.Partition(groups), 3))(jnp.asarray([0, 1, 1]))
    sees = jax.jit(can_see, static_argnums=1)(SCHEMES["partition"], 4)
    np.testing.assert_array_equal(sees, ~SCHEMES["partition"].same_group())
    assert hash(jax.tree.structure(SCHEMES["partition"])) == hash(jax.tree.structure(jm.Partition([5, -1, 5, 2])))


def test_partition_members():
    members = [list(group) for group in SCHEMES["partition"].members()]
    assert members == [[1], [3], [0, 2]]


@EACH
def test_can_see_is_what_some_mask_shows(name):
    """Row k may use j when a mask hides k and shows j."""
    masks = {
        "leave-one-out": np.eye(4, dtype=bool),
        "bernoulli": np.eye(4, dtype=bool),  # the least of its masks: others show less
        "partition": np.array([[False, True, False, False], [False, False, False, True], [True, False, True, False]]),
        "patterns": HIDDEN,
    }[name]
    wanted = (masks[:, :, None] & ~masks[:, None, :]).any(0)
    got = can_see(SCHEMES[name], 4)
    assert got.dtype == bool
    np.testing.assert_array_equal(got, wanted)
    assert not np.diagonal(got).any()


def test_a_mask_that_hides_everything_shows_nothing():
    assert not can_see(jm.Patterns(np.ones((1, 3), bool), [1.0]), 3).any()


def test_coordinate_weights_are_the_share_of_each_mask():
    scheme = SCHEMES["patterns"]
    got = np.asarray(scheme.coordinate_weights(jnp.float64))
    for k in range(4):
        share = WEIGHTS * HIDDEN[:, k]
        np.testing.assert_allclose(got[:, k], share / share.sum(), rtol=1e-14)
    np.testing.assert_allclose(got.sum(0), 1, rtol=1e-14)
    scaled = jm.Patterns(HIDDEN, 7 * WEIGHTS).coordinate_weights(jnp.float64)
    np.testing.assert_allclose(scaled, got, rtol=1e-14)
    assert scheme.coordinate_weights(jnp.float32).dtype == jnp.float32


def test_coordinate_weights_are_differentiable():
    slope = jax.jacfwd(lambda w: jm.Patterns(HIDDEN, w).coordinate_weights(w.dtype))(jnp.asarray(WEIGHTS))
    share = WEIGHTS[:, None] * HIDDEN / (WEIGHTS @ HIDDEN)[None, :]
    # d share_pk / d w_q = (1[p = q] - share_pk) 1[q hides k] / total_k
    wanted = (np.eye(3)[:, None, :] - share[:, :, None]) * (HIDDEN / (WEIGHTS @ HIDDEN)[None, :]).T[None, :, :]
    wanted = np.where(HIDDEN[:, :, None], wanted, 0)
    np.testing.assert_allclose(slope, wanted, rtol=1e-12, atol=1e-14)


@EACH
def test_pytree_round_trip(name):
    scheme = SCHEMES[name]
    leaves, structure = jax.tree.flatten(scheme)
    rebuilt = jax.tree.unflatten(structure, leaves)
    assert type(rebuilt) is type(scheme)
    assert jax.tree.structure(rebuilt) == structure
    assert len(leaves) == {"leave-one-out": 0, "bernoulli": 1, "partition": 0, "patterns": 2}[name]
    inside = jax.jit(lambda s: s)(scheme)
    jax.tree.map(np.testing.assert_array_equal, inside, scheme)


def test_a_rate_may_be_traced_batched_and_differentiated():
    def kept(rate):
        return 1 - jm.Bernoulli(rate).probability(jnp.float64)

    assert float(jax.jit(jax.grad(kept))(0.3)) == -1
    np.testing.assert_allclose(jax.vmap(kept)(jnp.asarray([0.1, 0.4])), [0.9, 0.6])
    schemes = jax.vmap(jm.Bernoulli)(jnp.asarray([0.1, 0.4]))
    np.testing.assert_allclose(jax.vmap(lambda s: s.probability(jnp.float64))(schemes), [0.1, 0.4])
    gradient = jax.grad(lambda s: s.probability(jnp.float64) ** 2)(SCHEMES["bernoulli"])
    assert isinstance(gradient, jm.Bernoulli)  # a gradient is a pytree of the same class
    np.testing.assert_allclose(gradient.hide_rate, 0.6)
    assert jm.Bernoulli(0.5).probability(jnp.float32).dtype == jnp.float32


def test_patterns_may_be_batched():
    weights = jnp.asarray([WEIGHTS, WEIGHTS[::-1]])
    schemes = jax.vmap(lambda w: jm.Patterns(HIDDEN, w))(weights)
    got = jax.vmap(lambda s: s.coordinate_weights(jnp.float64))(schemes)
    np.testing.assert_allclose(got[1], jm.Patterns(HIDDEN, WEIGHTS[::-1]).coordinate_weights(jnp.float64))


def test_known_constants_are_checked_inside_jit_too():
    weights, negative = jnp.asarray(WEIGHTS), jnp.asarray(-WEIGHTS)
    inside = jax.jit(lambda c: c * jm.Patterns(HIDDEN, weights).coordinate_weights(c.dtype))(1.0)
    np.testing.assert_allclose(inside, SCHEMES["patterns"].coordinate_weights(jnp.float64))
    with pytest.raises(ValueError, match="probabilities must be positive"):
        jax.jit(lambda c: c * jm.Patterns(HIDDEN, negative).coordinate_weights(c.dtype))(1.0)
