"""Who may import whom, which names stay free, and what an import of jmask must not do."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jmask

ROOT = Path(jmask.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
del MODULES["__init__"]

KERNELS = {module for module in MODULES if "." not in module and module.startswith("_")}
SAMPLE = {
    *("closed_form", "descent", "validation", "ridges", "eigen", "baselines"),
    *("objective", "gram", "imputation", "masking", "storage"),
}
# Top-level module -> what it may import of jmask, besides itself; a module not named here may import everything.
ALLOWED = {
    **{module: {"_types", "_checks", "_linalg"} for module in KERNELS},
    "_ffi": set(),
    "_lapack": {"_ffi"},
    "_product": {"_types", "_lapack"},
    **{module: KERNELS | SAMPLE for module in SAMPLE},
    "_types": set(),
    "_checks": {"_types"},
    "_linalg": {"_types", "_lapack", "_product"},
    "scales": KERNELS,
    "masking": KERNELS,
    "covariance": KERNELS | {"scales"},
    "theory": KERNELS | {"masking", "covariance", "scales"},
}
OUTSIDE_OF_KERNELS = {"numpy", "scipy", "jax", "jaxtyping"}  # what jax itself needs


def imports_of(module):
    """Absolute names of what a module imports, of jmask's own as ("jmask", "covariance", ...), wherever they stand."""
    path = MODULES[module]
    package = ("jmask", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield from ((*base, alias.name) for alias in node.names)


def top(module):
    return module.split(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    own = {name[1] for name in imports_of(module) if name[0] == "jmask" and len(name) > 1}
    unwanted = own - {top(module)} - ALLOWED.get(top(module), own)
    assert not unwanted, f"{module} imports {sorted(unwanted)}"
    if top(module) in ALLOWED:  # the package itself gives every name there is
        assert ("jmask",) not in set(imports_of(module))


def test_only_the_command_line_stands_on_the_commands():
    for module in MODULES:
        if top(module) not in ("commands", "cli"):
            assert not any(name[:2] == ("jmask", "commands") for name in imports_of(module)), module


@pytest.mark.parametrize("module", sorted(KERNELS))
def test_kernels_stand_on_numpy_and_jax_alone(module):
    outside = {name[0] for name in imports_of(module)} - {"jmask"} - set(sys.stdlib_module_names)
    assert outside <= OUTSIDE_OF_KERNELS


def test_sample_and_theory_never_meet_below_the_top():
    halves = (SAMPLE - {"masking"}, {"theory"})
    for half, other in (halves, halves[::-1]):
        for module in MODULES:
            if top(module) in half:
                reached = {name[1] for name in imports_of(module) if name[0] == "jmask" and len(name) > 1}
                assert not reached & other, module


@pytest.mark.parametrize("package", ["", *(m for m, path in MODULES.items() if path.name == "__init__.py")])
def test_no_module_bears_the_name_of_a_function(package):
    folder = ROOT.joinpath(*package.split("."))
    modules = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/__init__.py")}
    tree = ast.parse((folder / "__init__.py").read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:  # `from . import x` imports a module
            functions |= {alias.asname or alias.name for alias in node.names}
    assert not functions & modules


@pytest.mark.parametrize("module", [m for m in MODULES if top(m) != "cli"])
def test_no_module_sets_the_configuration_of_jax(module):
    """The command line owns its process; the package never does."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        targets = node.targets if isinstance(node, ast.Assign) else [node.func] if isinstance(node, ast.Call) else []
        for target in targets:
            text = ast.unparse(target)
            assert "config.update" not in text, module
            assert not text.startswith(("jax.config", "config.jax")), module


def python(code):
    environment = {key: value for key, value in os.environ.items() if key != "JAX_ENABLE_X64"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_jmask_is_light_and_leaves_the_configuration():
    heavy = python(
        "import sys, jmask, jax, jax.numpy as jnp\n"
        "assert not jax.config.jax_enable_x64 and jnp.ones(1).dtype == 'float32'\n"
        "assert jax.config.jax_numpy_rank_promotion == 'allow'\n"
        "print(*{'matplotlib', 'pandas', 'sklearn', 'typer', 'rich', 'pyarrow', 'optax'} & set(sys.modules))"
    )
    assert not heavy.strip(), heavy


WALK = """
import importlib, pkgutil, types
import jmask

def public():
    modules = [value for value in vars(jmask).values() if isinstance(value, types.ModuleType)]
    spaces = [jmask, *(module for module in modules if module.__name__.startswith("jmask."))]
    return {
        (space.__name__, name): value
        for space in spaces
        for name, value in vars(space).items()
        if not name.startswith("_") and callable(value)
    }

before = public()
assert ("jmask", "fit") in before and ("jmask.covariance", "ar1") in before
for module in list(pkgutil.walk_packages(jmask.__path__, "jmask.")):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] == "jmask":
            raise
after = public()
changed = [key for key, value in before.items() if after.get(key) is not value]
assert not changed, changed
"""


def test_every_public_name_survives_the_import_of_every_module():
    python(WALK)
