"""Runs pytest and writes, a line a test, what became of it: OUTCOMES.py FILE PYTEST-OPTION..."""

import json
import sys
from pathlib import Path

import pytest


class Outcomes:
    def __init__(self, file):
        self.file = file

    def pytest_runtest_logreport(self, report):
        # A fixture counts where it fails or skips; the test itself always.
        if report.when == "call" or not report.passed:
            line = {
                "module": Path(report.location[0]).stem,
                "test": report.nodeid.split("::", 1)[-1],
                "outcome": report.outcome,
            }
            print(json.dumps(line), file=self.file, flush=True)


with open(sys.argv[1], "w") as file:
    sys.exit(pytest.main(sys.argv[2:], plugins=[Outcomes(file)]))
