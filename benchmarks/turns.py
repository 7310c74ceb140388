"""Training loops that take one step each in turn, so that the machine's load hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Semaphore, Thread

import torch

Clock = Callable[[], float]
Loop = Callable[[Callable[[], None]], None]
"""A training loop; it calls its argument before every step."""


class Turn:
    """A loop in a thread of its own, which waits before every step until it is told to take it.

    What is timed is a loop as it is, neither copied nor changed.
    """

    def __init__(self, loop: Loop, device: torch.device, clock: Clock) -> None:
        self._loop, self._device, self._clock = loop, device, clock
        self._go, self._waits = Semaphore(0), Semaphore(0)
        self._stopped = self._ended = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Everything before the first step."""
        self._thread.start()
        self._paused()

    def step(self) -> float:
        """Seconds of one step, to its end on the device."""
        start = self._clock()
        self._go.release()
        self._paused()
        return self._clock() - start

    def stop(self) -> None:
        """Leave the loop where it is."""
        self._stopped = True
        self._go.release()
        self._thread.join()

    def _paused(self) -> None:
        self._waits.acquire()
        if self._error:
            raise self._error
        assert not self._ended, "the loop has fewer steps than are asked for"

    def _run(self) -> None:
        torch.set_num_threads(torch.get_num_threads())  # OpenMP keeps the number for each thread
        try:
            self._loop(self._wait)
        except _Stop:
            pass
        except BaseException as error:  # noqa: BLE001 - told in the thread that waits
            self._error = error
        self._ended = True
        self._waits.release()

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._waits.release()
        self._go.acquire()
        if self._stopped:
            raise _Stop


class _Stop(Exception):  # noqa: N818 - no error
    """Ends a loop from within."""


def in_turn(
    loops: Mapping[str, Loop],
    rounds: int,
    warm_up: int,
    device: torch.device,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of `rounds` steps of each loop, A B C A B C ..., after `warm_up` uncounted ones."""
    turns = {name: Turn(loop, device, clock) for name, loop in loops.items()}
    for turn in turns.values():
        turn.start()
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    try:
        for number in range(warm_up + rounds):
            for name, turn in turns.items():
                taken = turn.step()
                if number >= warm_up:
                    seconds[name].append(taken)
    finally:
        for turn in turns.values():
            turn.stop()
    return seconds


def step_clock(device: torch.device) -> Clock:
    """Processor time where a step is the work of one thread: other load hardly changes it."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter
