"""Products of single precision numbers are made in single precision: JAX's default on GPUs, TF32, has three digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jmask as jm

D, N = 6, 12
X = jnp.asarray(np.random.default_rng(0).normal(size=(N, D)), jnp.float32)
RIDGE = jnp.asarray(0.3, jnp.float32)
RIDGES = jnp.asarray([0.1, 0.3], jnp.float32)
KEY = jax.random.key(0)
SIGMA = jm.covariance.ar1(D, 0.5).matrix().astype(jnp.float32)
DENSE = jm.covariance.Dense(SIGMA)
DIAGONAL = jm.covariance.Diagonal(jnp.arange(1.0, D + 1, dtype=jnp.float32))
GROUPS = jm.Partition(np.arange(D) // 2)
PATTERNS = jm.Patterns(np.eye(D, dtype=bool), np.ones(D))
SPIKED = jm.covariance.Spiked(DIAGONAL, jnp.asarray([3.0], jnp.float32), jnp.eye(D, 1, dtype=jnp.float32))

CALLS = {
    "fit": lambda r: jm.fit(X, r).weights,
    "fit, dual": lambda r: jm.fit(X[:4], r).weights,
    "fit, groups": lambda r: jm.fit(X, r, GROUPS).weights,
    "fit, patterns": lambda r: jm.fit(X, r, PATTERNS).weights,
    "fit, in the data": lambda r: jm.fit(r * X, RIDGE).weights,
    "fit, dual, in the data": lambda r: jm.fit(r * X[:4], RIDGE).weights,
    "predict": lambda r: jm.fit(X, r).predict(X),
    "impute": lambda r: jm.fit(X, r).impute(X, X > 0),
    "Gram": lambda r: jm.Gram.from_samples(r * X).update(X).centred().covariance,
    "fit_gradient": lambda r: jm.fit_gradient(X, r, max_steps=3).fit.weights,
    "masked_loss": lambda r: jm.masked_loss(r * SIGMA, X, r),
    "masked_loss, hidden at random": lambda r: jm.masked_loss(r * SIGMA, X, r, jm.Bernoulli(0.2)),
    "masked_loss, patterns": lambda r: jm.masked_loss(r * SIGMA, X, r, PATTERNS),
    "sampled_masked_loss": lambda r: jm.sampled_masked_loss(r * SIGMA, X, r, jm.Bernoulli(0.2), key=KEY),
    "train_error": lambda r: jm.train_error(jm.fit(X, r), X),
    "test_error": lambda r: jm.test_error(jm.fit(X, r), SIGMA),
    "test_error, patterns": lambda r: jm.test_error(jm.fit(X, r, PATTERNS), SIGMA),
    "leave_one_out_error": lambda r: jm.leave_one_out_error(X, r),
    "leave_one_out_error, dual": lambda r: jm.leave_one_out_error(X[:4], r),
    "leave_one_out_error, hidden at random": lambda r: jm.leave_one_out_error(X, r, jm.Bernoulli(0.2)),
    "leave_one_out_error, groups": lambda r: jm.leave_one_out_error(X, r, GROUPS),
    "ridge_path": lambda r: jm.ridge_path(X, r * RIDGES).leave_one_out,
    "ridge_path, dual": lambda r: jm.ridge_path(X[:4], r * RIDGES).leave_one_out,
    "predictor_eigen": lambda r: jm.predictor_eigen(jm.fit(X, r)).values,
    "pca_eigen": lambda r: jm.pca_eigen(r * X[:4]).right,
    "correlation_pca_eigen": lambda r: jm.correlation_pca_eigen(r * X[:4]).values,
    "ppca": lambda r: jm.baselines.ppca(r * X, 2).weights,
    "correlation_pca": lambda r: jm.baselines.correlation_pca(r * X, 2).weights,
    "hetero_pca": lambda r: jm.baselines.hetero_pca(r * X, 2).weights,
    "factor_analysis": lambda r: jm.baselines.factor_analysis(r * X, 2).weights,
    "ledoit_wolf": lambda r: jm.baselines.ledoit_wolf(r * X).weights,
    "nonlinear_shrinkage": lambda r: jm.baselines.nonlinear_shrinkage(r * X).predict(X),
    "sample": lambda r: jm.covariance.Dense(r * SIGMA).sample(KEY, 3),
    "sample, spiked": lambda r: jm.covariance.Spiked(DIAGONAL, r * RIDGES[:1], SPIKED.directions).sample(KEY, 3),
    "matrix": lambda r: jm.covariance.Spiked(DIAGONAL, r * RIDGES[:1], SPIKED.directions).matrix(),
    "theory.errors": lambda r: jm.theory.errors(DENSE, 9.0, r).test,
    "theory.errors, in the matrix": lambda r: jm.theory.errors(jm.covariance.Dense(r * SIGMA), 9.0, RIDGE).test,
    "theory.errors, spiked": lambda r: jm.theory.errors(SPIKED, 9.0, r).test,
    "theory.errors, groups": lambda r: jm.theory.errors(DENSE, 9.0, r, GROUPS).test,
    "theory.errors, ridges": lambda r: jm.theory.errors(DENSE, 9.0, r * jnp.ones(D, jnp.float32)).test,
    "theory.density": lambda r: jm.theory.density(DENSE, 9.0, r, RIDGES),
    "theory.stieltjes": lambda r: (
        jm.theory.stieltjes(DENSE, 9.0, r, RIDGES.astype(jnp.complex64) + jnp.asarray(1j, jnp.complex64)).real
    ),
    "theory.edges": lambda r: jm.theory.edges(DENSE, 9.0, r),
    "theory.threshold": lambda r: jm.theory.threshold(DENSE, 9.0, r),
    "theory.outliers": lambda r: jm.theory.outliers(SPIKED, 9.0, r).eigenvalue,
    "theory.spectral_error": lambda r: jm.theory.spectral_error(DENSE, 9.0, lambda s: s / (s + r)).error,
    "theory.ppca": lambda r: jm.theory.ppca(DENSE, 9.0 * r, 2).masked_error,
    "theory.floor": lambda r: jm.theory.floor(DENSE, 9.0 * r).error,
    "theory.descent": lambda r: jm.theory.descent(DENSE, 9.0, r, learning_rate=0.1, steps=3).test,
}
NO_REVERSE_MODE = {"fit_gradient", "hetero_pca", "factor_analysis"}
NO_RULE_OF_OURS = {"pca_eigen", "correlation_pca_eigen"}  # of jnp.linalg.qr


def products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda value: hasattr(value, "eqns")):
            if hasattr(inner, "eqns"):
                yield from products(inner)


@pytest.mark.parametrize("name", CALLS)
def test_products_on_any_device(name):
    """Also of derivatives and of batches that are asked for outside of a program that is compiled already."""
    program = jax.jit(lambda r: CALLS[name](r).sum())
    if name not in NO_REVERSE_MODE | NO_RULE_OF_OURS:
        program = jax.grad(program)
    found = list(products(jax.make_jaxpr(jax.vmap(program))(RIDGES)))
    assert found
    for product in found:
        assert product.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2, product
