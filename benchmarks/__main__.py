"""python -m benchmarks [NAME ...]: run every benchmark, or those named, each in a process of its own.

python -m benchmarks --list
"""

import ast
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def questions() -> dict[str, str]:
    """The first line of every benchmark's docstring, by name."""
    files = sorted(path for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    return {path.stem: (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0] for path in files}


def main(names: list[str]) -> int:
    known = questions()
    if names == ["--list"]:
        print(*(f"{name:16} {question}" for name, question in known.items()), sep="\n")
        return 0
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark named {', '.join(unknown)}: there are {', '.join(known)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or known:
        print(f"\n{name}: {known[name]}", flush=True)
        if subprocess.run([sys.executable, HERE / f"{name}.py"]).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
