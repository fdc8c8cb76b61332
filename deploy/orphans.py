"""No process of ours outlives the one that started it, not even when that one is killed."""

import ctypes
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends `number` when the *thread* that started the process ends; start it from the
    main thread. (Linux; it takes no lock, so it is safe between fork and exec.)
    """
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(number))
