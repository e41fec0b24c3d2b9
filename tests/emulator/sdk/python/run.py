"""Runs the Python scenarios, or those with the first argument in their name; `--rows` prints which rows they prove."""

import importlib
import pathlib
import sys

import suite

for path in sorted(pathlib.Path(__file__).parent.glob("test_*.py")):
    importlib.import_module(path.stem)

if sys.argv[1:] == ["--rows"]:
    for name, rows, _ in suite.SCENARIOS:
        for row in rows:
            print(f"{row}\tpython {name}")
else:
    suite.main(sys.argv[1] if sys.argv[1:] else "")
