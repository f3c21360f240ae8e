"""How long from the start of a process to the first result?

python benchmarks/start_up.py
"""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from _common import in_process, value, write

IMPORT = """
import time
start = time.perf_counter()
import jax
middle = time.perf_counter()
import jmask
print(middle - start, time.perf_counter() - middle)
"""
COMPILE = """
import time
import jax, numpy as np
import jmask as jm
x = np.random.default_rng(0).standard_normal((1797, 64))
def seconds():
    start = time.perf_counter()
    jm.fit(x.astype("float32"), 0.1).weights.block_until_ready()
    return time.perf_counter() - start
print(seconds(), seconds())
"""


def command():
    """Seconds from process start to the first result and to the end of ``jmask fit digits``, nothing compiled."""
    arguments = [sys.executable, "-m", "jmask.cli", "fit", "digits"]
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": empty}
        start = time.perf_counter()
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(arguments, cwd=empty, env=environment, **streams) as process:
            while not process.stdout.readline().startswith(b"Ridge"):  # before it: what was read
                pass
            seconds = time.perf_counter() - start
            process.communicate()
    if process.returncode:
        raise RuntimeError("jmask fit digits failed")
    return seconds, time.perf_counter() - start


def main(count=9):
    imports = [[float(t) for t in in_process(IMPORT).split()] for _ in range(count)]
    compiled = [[float(t) for t in in_process(COMPILE).split()] for _ in range(min(count, 5))]
    runs = [command() for _ in range(min(count, 5))]
    later, own, first, last = ([pair[i] for pair in pairs] for pairs in (imports, runs) for i in (0, 1))
    fits = [pair[0] - pair[1] for pair in compiled]
    rows = [
        value("seconds of import jax", np.median(later), later),
        value("seconds that import jmask takes more", np.median(own), own, at_most=0.35),
        value("seconds to the first result of jmask fit digits", np.median(first), first, at_most=6.0),
        value("seconds to its end", np.median(last), last),
        value("seconds of compilation in a first fit, d = 64", np.median(fits), fits),
    ]
    write("start_up", rows)


if __name__ == "__main__":
    main()
