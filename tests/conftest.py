"""Double precision, strict promotion, and every warning an error: for all tests."""

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(autouse=True, scope="module")
def _release_programs():
    """Every compiled CPU program maps memory, and a process may have 65,530 maps: one more is a segmentation fault."""
    yield
    jax.clear_caches()
