"""This file reads how the kernel's clock is kept right: adjtimex(2), which no file shows.

The struct is read as bytes: ctypes is loaded for the call alone, and only where this collector runs.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.errors import NoData
from agent.wire.series import single

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.batch import Family
    from agent.collect.host.machine import Machine

STRUCT: Final = struct.Struct("@I4li3l2l3li5li44x")
"""struct timex of adjtimex(2), to the end of ``tai`` and the room behind it."""
TIME_ERROR: Final = 5
"""What the call returns while the clock is not synchronised."""
STA_NANO: Final = 0x2000
NANOSECONDS: Final = 1e9
MICROSECONDS: Final = 1e6
PARTS_PER_MILLION_16: Final = 1e6 * 65536.0
"""Frequencies are in parts per million, with a binary point 16 bits from the right."""


class Timex(NamedTuple):
    """The struct's fields in its order (adjtimex(2)); ``time`` is two of them."""

    modes: int
    offset: int
    freq: int
    maxerror: int
    esterror: int
    status: int
    constant: int
    precision: int
    tolerance: int
    time_seconds: int
    time_fraction: int
    tick: int
    ppsfreq: int
    jitter: int
    shift: int
    stabil: int
    jitcnt: int
    calcnt: int
    errcnt: int
    stbcnt: int
    tai: int


class TimexCollector:
    """Raises NoData where the call is not allowed, as in some containers."""

    def __init__(self, _: Machine) -> None:
        self._adjtimex: Callable[[], tuple[int, Timex]] | None = None

    def collect(self) -> Iterable[Family]:
        """What adjtimex(2) tells, in seconds, ratios and counts."""
        if self._adjtimex is None:
            self._adjtimex = _load()
        return families(*self._adjtimex())


def families(state: int, timex: Timex) -> list[Family]:
    """Families of what the call returned and filled in."""
    unit = NANOSECONDS if timex.status & STA_NANO else MICROSECONDS
    gauges = (
        ("offset_seconds", timex.offset / unit, "Time offset in between local system and reference clock."),
        ("frequency_adjustment_ratio", 1 + timex.freq / PARTS_PER_MILLION_16, "Local clock frequency adjustment."),
        ("maxerror_seconds", timex.maxerror / MICROSECONDS, "Maximum error in seconds."),
        ("estimated_error_seconds", timex.esterror / MICROSECONDS, "Estimated error in seconds."),
        ("status", timex.status, "Value of the status array bits."),
        ("loop_time_constant", timex.constant, "Phase-locked loop time constant."),
        ("tick_seconds", timex.tick / MICROSECONDS, "Seconds between clock ticks."),
        ("pps_frequency_hertz", timex.ppsfreq / PARTS_PER_MILLION_16, "Pulse per second frequency."),
        ("pps_jitter_seconds", timex.jitter / unit, "Pulse per second jitter."),
        ("pps_shift_seconds", timex.shift, "Pulse per second interval duration."),
        (
            "pps_stability_hertz",
            timex.stabil / PARTS_PER_MILLION_16,
            "Pulse per second stability, average of recent frequency changes.",
        ),
        ("tai_offset_seconds", timex.tai, "International Atomic Time (TAI) offset."),
        ("sync_status", state != TIME_ERROR, "Is clock synchronized to a reliable server (1 = yes, 0 = no)."),
    )
    counters = (
        ("pps_jitter_total", timex.jitcnt, "Pulse per second count of jitter limit exceeded events."),
        ("pps_calibration_total", timex.calcnt, "Pulse per second count of calibration intervals."),
        ("pps_error_total", timex.errcnt, "Pulse per second count of calibration errors."),
        ("pps_stability_exceeded_total", timex.stbcnt, "Pulse per second count of stability limit exceeded events."),
    )
    return [single(f"node_timex_{name}", "gauge", text, float(value)) for name, value, text in gauges] + [
        single(f"node_timex_{name}", "counter", text, float(value)) for name, value, text in counters
    ]


def _load() -> Callable[[], tuple[int, Timex]]:
    import ctypes

    call = ctypes.CDLL(None, use_errno=True).adjtimex
    buffer = ctypes.create_string_buffer(STRUCT.size)

    def adjtimex() -> tuple[int, Timex]:
        ctypes.memset(buffer, 0, STRUCT.size)  # no modes: the clock is read and not set
        state = call(buffer)
        if state < 0:
            code = ctypes.get_errno()
            if code in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                raise NoData("adjtimex is not allowed here")
            raise OSError(code, f"adjtimex: {os.strerror(code)}")
        return state, Timex._make(STRUCT.unpack(buffer.raw))

    return adjtimex


COLLECTOR: Final = TimexCollector
