"""Stopping a training between two steps when the user, or a scheduler, ends it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what schedulers and torchrun send


@contextmanager
def stop_on_signal(stop: Callable[[], None], insist: bool = True) -> Iterator[None]:
    """Let a signal ask for a stop instead of interrupting what is being computed.

    Args:
        stop: notes the wish.
        insist: let a second signal interrupt at once. Off under torchrun, which repeats the signals that its processes
            get from the console too.
    """
    if threading.current_thread() is not threading.main_thread():  # signals reach that one alone
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop()
        if insist:
            restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, ask) or signal.SIG_DFL for number in SIGNALS}
    try:
        yield
    finally:
        restore()
