"""Products of two matrices, by BLAS on CPU, in values and in derivatives alike.

JAX has no rule by which a linear function is told how it is transposed, so this is a primitive: XLA on CPU would make
the products of reverse mode, some at half its speed, and while BLAS's threads still wait busily for more work.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ._lapack import by_platform
from ._types import Array

_PRODUCT_FROM = 1536  # below, BLAS's threads, which wait busily for more work, take from XLA's what it saves
_product_p = Primitive("jmask_product")


def product(left: Array, right: Array, flags: str = "NN", least: int = _PRODUCT_FROM) -> Array:
    """Two matrices multiplied, each transposed first if its flag is T; all derivatives are such products."""
    return _product_p.bind(left, right, flags=flags, least=least)


def _xla_product(left: Array, right: Array, flags: str) -> Array:
    left, right = (m.T if flag == "T" else m for m, flag in zip((left, right), flags, strict=True))
    return jnp.matmul(left, right, precision="highest")  # when this is traced, no context may set it any more


def _product_shape(left: Any, right: Any, flags: str) -> tuple[int, int]:
    return left.shape[flags[0] == "T"], right.shape[flags[1] == "N"]


def _multiplied(left: Array, right: Array, *, flags: str, least: int) -> Array:
    otherwise, shape = partial(_xla_product, flags=flags), _product_shape(left, right, flags)
    return by_platform(f"product_{flags}", otherwise, (shape,), left, right, least=least)


def _left_cotangent(bar: Array, _: Array, right: Array, *, flags: str, least: int) -> Array:
    if flags[0] == "N":
        return product(bar, right, "NT" if flags[1] == "N" else "NN", least)
    return product(right, bar, flags[1] + "T", least)


def _right_cotangent(bar: Array, left: Array, _: Array, *, flags: str, least: int) -> Array:
    if flags[1] == "N":
        return product(left, bar, "TN" if flags[0] == "N" else "NN", least)
    return product(bar, left, "T" + flags[0], least)


def _batched_product(factors: tuple, axes: tuple, *, flags: str, least: int) -> tuple[Array, int]:
    return jax.vmap(partial(_xla_product, flags=flags), axes)(*factors), 0


_product_p.def_impl(jax.jit(_multiplied, static_argnames=("flags", "least")))
_product_p.def_abstract_eval(lambda left, right, *, flags, least: left.update(shape=_product_shape(left, right, flags)))
mlir.register_lowering(_product_p, mlir.lower_fun(_multiplied, multiple_results=False))
ad.defbilinear(_product_p, _left_cotangent, _right_cotangent)
batching.primitive_batchers[_product_p] = _batched_product
