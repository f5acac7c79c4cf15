"""Where the program ``traefik-router`` is."""

from __future__ import annotations

import os
import shutil
import sysconfig

NAME = "traefik-router"


def find_program() -> str:
    """The path of the program: the one that this package has installed, else the one on ``PATH``.

    The scripts of a virtual environment need not be on ``PATH``.

    :raises FileNotFoundError: if it is nowhere.
    """
    user = sysconfig.get_preferred_scheme("user")
    folders = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", user)]
    for folder in folders:
        program = os.path.join(folder, NAME)
        if os.access(program, os.X_OK):
            return program
    on_path = shutil.which(NAME)
    if on_path:
        return on_path
    raise FileNotFoundError(
        f"there is no program {NAME} in {' nor in '.join(folders)} nor on PATH: install the package "
        f"{NAME} again, or set `command` to where the program is"
    )
