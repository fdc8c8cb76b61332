"""How a process of glucast ends, as its supervisor and scripts read it."""

import enum


class ExitCode(enum.IntEnum):
    """`CONFIGURATION`: an operator has to change something first. `RESTART`: starting it again is the cure."""

    CLEAN = 0
    CONFIGURATION = 2
    RESTART = 3
