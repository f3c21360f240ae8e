"""Double precision, strict promotion, and every warning an error: for all tests, and as little compiling as possible.

Most of the time of the tests is compilation. What is compiled once, in any process of the run, is read from disk
after that; and all but the slow tests, which measure cost too, are compiled fast and roughly: a sixth of the time.
"""

import os
import shutil
import tempfile

os.environ.setdefault("NPROC", "8")  # see jmask/cli.py

import jax
import jaxlib
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
CACHE = pytest.StashKey[str]()


def pytest_configure(config):
    """Settings by environment too, for the worker processes, the notebooks and the commands that tests start."""
    settings = {"jax_persistent_cache_min_compile_time_secs": 0.1}
    if config.option.markexpr == "not slow":
        settings["jax_disable_most_optimizations"] = True
        flags = os.environ.get("XLA_FLAGS", "")  # a worker process has them already
        if QUICK not in flags and jaxlib.__version__.startswith("0.10."):  # XLA aborts on a flag it does not know
            os.environ["XLA_FLAGS"] = f"{flags} {QUICK}"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        config.stash[CACHE] = tempfile.mkdtemp(prefix="jmask-tests-")
        settings["jax_compilation_cache_dir"] = config.stash[CACHE]
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)


def pytest_unconfigure(config):
    if CACHE in config.stash:
        shutil.rmtree(config.stash[CACHE], ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def _release_programs():
    """Every compiled CPU program maps memory, and a process may have 65,530 maps: one more is a segmentation fault."""
    yield
    jax.clear_caches()
