"""The calendar of the real-time clock: plain numbers, how seconds add up, and when an alarm matches."""
from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

SECONDS_PER_DAY: Final = 86_400
_GREGORIAN_CYCLE_YEARS: Final = 400
DONT_CARE: Final = 0xC0
"""An alarm register with both top bits set matches always."""


@dataclass(frozen=True, slots=True)
class CalendarTime:
    """Date and time as the RTC counts them. `weekday` is 1 (Sunday) to 7 and counts by itself; `year` has 4 digits."""

    second: int
    minute: int
    hour: int
    weekday: int
    day: int
    month: int
    year: int

    @classmethod
    def from_unix(cls, seconds: int) -> CalendarTime:
        """UTC `seconds` after 1970-01-01."""
        when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        return cls(when.second, when.minute, when.hour, when.isoweekday() % 7 + 1, when.day, when.month, when.year)

    def plus(self, seconds: int) -> CalendarTime:
        """The time `seconds` later. Fields that no calendar has (a guest may set them) are first clamped."""
        if seconds == 0:
            return self
        # The Gregorian calendar repeats every 400 years; doing the sum in 2000..2399 spares every special case.
        model_year = 2000 + self.year % _GREGORIAN_CYCLE_YEARS
        month = min(max(self.month, 1), 12)
        start = datetime(model_year, month, 1, min(self.hour, 23), min(self.minute, 59), min(self.second, 59))
        month_days = ((start + timedelta(days=31)).replace(day=1) - start.replace(day=1)).days
        start = start.replace(day=min(max(self.day, 1), month_days))
        end = start + timedelta(seconds=seconds)
        days = (end.date() - start.date()).days
        return CalendarTime(
            end.second,
            end.minute,
            end.hour,
            (self.weekday - 1 + days) % 7 + 1,
            end.day,
            end.month,
            (self.year + end.year - model_year) % 10_000,
        )

    def with_field(self, name: str, value: int) -> CalendarTime:
        """The same time with one field set to whatever the guest wrote."""
        return replace(self, **{name: value})


@dataclass(frozen=True, slots=True)
class AlarmTime:
    """When the alarm matches; a field of None matches always."""

    second: int | None
    minute: int | None
    hour: int | None

    def seconds_after(self, now: CalendarTime) -> int | None:
        """Whole seconds (1 to 86400) from `now` to the next match, or None when no second of a day can match."""
        start = (now.hour * 60 + now.minute) * 60 + now.second
        moment = start + 1
        while moment <= start + SECONDS_PER_DAY:
            if self.hour is not None and moment // 3600 % 24 != self.hour:
                moment = (moment // 3600 + 1) * 3600
            elif self.minute is not None and moment // 60 % 60 != self.minute:
                moment = (moment // 60 + 1) * 60
            elif self.second is not None and moment % 60 != self.second:
                moment += 1
            else:
                return moment - start
        return None
