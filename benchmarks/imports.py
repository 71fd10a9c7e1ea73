"""What importing and installing wherry costs. Medians of five fresh processes; the install is one fresh environment.

python benchmarks/imports.py              # both
python benchmarks/imports.py --no-install # imports only: nothing is downloaded
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

FRESH_PROCESSES = 5
STATEMENTS = {
    "from wherry import CodeAgent, ToolCallingAgent, tool": "from wherry import CodeAgent, ToolCallingAgent, tool",
    "import wherry": "import wherry",
    "nothing (the interpreter alone)": "pass",
}
MEASURE = """
import json, resource
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
COUNT = """
import importlib.metadata, json, pathlib
names = sorted({d.name.lower() for d in importlib.metadata.distributions()} - {"pip", "setuptools"})
files = {
    pathlib.Path(d.locate_file(f)).resolve()
    for d in importlib.metadata.distributions() if d.name.lower() not in ("pip", "setuptools") for f in d.files or ()
}
size = sum(f.stat().st_size for f in files if f.is_file() and f.suffix != ".pyc")
compiled = sum(f.stat().st_size for f in files if f.is_file() and f.suffix == ".pyc")
print(json.dumps([names, size, compiled]))
"""


def imports() -> None:
    for name, statement in STATEMENTS.items():
        runs = [
            json.loads(
                subprocess.run([sys.executable, "-c", statement + MEASURE], capture_output=True, check=True).stdout
            )
            for _ in range(FRESH_PROCESSES)
        ]
        cpu, memory = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{name}: {cpu:.3f} CPU s, {memory:.1f} MB RSS")
    help_ = [sys.executable, "-m", "wherry", "--help"]
    timed = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)\n"
    timed += "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    cpu = statistics.median(
        float(subprocess.run([sys.executable, "-c", timed, *help_], capture_output=True, check=True).stdout)
        for _ in range(FRESH_PROCESSES)
    )
    print(f"wherry --help: {cpu:.3f} CPU s")


def install() -> None:
    project = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(project)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        found = subprocess.run([python, "-I", "-c", COUNT], capture_output=True, check=True)
        names, size, compiled = json.loads(found.stdout)
    print(f"core install: {len(names)} distributions, {size / 1e6:.1f} MB (and {compiled / 1e6:.1f} MB of bytecode)")
    print("  " + ", ".join(names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-install", action="store_true")
    arguments = parser.parse_args()
    imports()
    if not arguments.no_install:
        install()


if __name__ == "__main__":
    main()
