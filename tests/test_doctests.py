"""Every example of every docstring, and the README's, run as written."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest

import jmask

ROOT = Path(jmask.__file__).parent
MODULES = sorted(
    module.name for module in pkgutil.walk_packages([str(ROOT)], "jmask.") if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    module = importlib.import_module(name)
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed, report.getvalue()


def test_readme():
    readme = Path(__file__).parent.parent / "README.md"
    text = readme.read_text()
    assert len(text.splitlines()) <= 120
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, str(readme), "exec"), {})
        claimed = re.findall(r"# prints (.*)", block)
        assert printed.getvalue().split("\n")[:-1] == claimed
