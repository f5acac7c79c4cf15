"""Runs pytest and writes, a line a test, what became of it: OUTCOMES.py FILE PYTEST-OPTION...

The variable TESTED_PROXY_CLASS names a class for JupyterHub's proxy, in place of its own.
"""

import json
import os
import sys
from pathlib import Path

import pytest
from jupyterhub.app import JupyterHub
from traitlets import import_item


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


def use_class(proxy_class):
    start = JupyterHub.init_proxy

    def init_proxy(self):
        self.proxy_class = proxy_class
        start(self)

    JupyterHub.init_proxy = init_proxy


if "TESTED_PROXY_CLASS" in os.environ:
    use_class(import_item(os.environ["TESTED_PROXY_CLASS"]))

with open(sys.argv[1], "w") as file:
    sys.exit(pytest.main(sys.argv[2:], plugins=[Outcomes(file)]))
