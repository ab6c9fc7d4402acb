from __future__ import annotations

from functools import partial

import pytest

from dbgvmm.timeline.clock import InstructionClock
from dbgvmm.timeline.events import EventQueue


@pytest.fixture
def clock() -> InstructionClock:
    return InstructionClock()


@pytest.fixture
def queue(clock: InstructionClock) -> EventQueue:
    return EventQueue(clock)


def test_nothing_runs_before_its_time(clock: InstructionClock, queue: EventQueue) -> None:
    ran: list[str] = []
    queue.schedule(100, lambda: ran.append("a"), "a")
    clock.skip_to(99)
    queue.run_due()
    assert ran == []
    clock.skip_to(100)
    queue.run_due()
    assert ran == ["a"]


def test_events_run_in_order_of_deadline(clock: InstructionClock, queue: EventQueue) -> None:
    ran: list[str] = []
    queue.schedule(30, lambda: ran.append("late"), "late")
    queue.schedule(20, lambda: ran.append("early"), "early")
    clock.skip_to(50)
    assert queue.run_due() == 2
    assert ran == ["early", "late"]


def test_ties_run_in_order_of_insertion(clock: InstructionClock, queue: EventQueue) -> None:
    ran: list[int] = []
    for number in range(20):
        queue.schedule(5, partial(ran.append, number), "tie")
    clock.skip_to(5)
    queue.run_due()
    assert ran == list(range(20))


def test_a_cancelled_event_neither_runs_nor_is_a_deadline(clock: InstructionClock, queue: EventQueue) -> None:
    ran: list[str] = []
    first = queue.schedule(10, lambda: ran.append("first"), "first")
    queue.schedule(20, lambda: ran.append("second"), "second")
    queue.cancel(first)
    assert queue.next_deadline_ns() == 20
    clock.skip_to(30)
    queue.run_due()
    assert ran == ["second"]


def test_an_empty_queue_has_no_deadline(queue: EventQueue) -> None:
    assert queue.next_deadline_ns() is None


def test_cancelling_an_event_that_ran_is_harmless(clock: InstructionClock, queue: EventQueue) -> None:
    event = queue.schedule(0, lambda: None, "now")
    queue.run_due()
    queue.cancel(event)
    assert queue.next_deadline_ns() is None


def test_a_callback_can_schedule_what_is_due_already(clock: InstructionClock, queue: EventQueue) -> None:
    ran: list[int] = []

    def tick() -> None:
        ran.append(len(ran))
        if len(ran) < 5:
            queue.schedule(len(ran) * 10, tick, "tick")

    queue.schedule(0, tick, "tick")
    clock.skip_to(25)
    queue.run_due()
    assert ran == [0, 1, 2]


def test_a_resumed_event_keeps_its_place_among_ties(clock: InstructionClock, queue: EventQueue) -> None:
    ran: list[str] = []
    first = queue.schedule(10, lambda: ran.append("first"), "first")
    second = queue.schedule(10, lambda: ran.append("second"), "second")
    order, saved_first, saved_second = queue.state(), queue.save(first), queue.save(second)
    queue.load_state(order)
    queue.resume(saved_second, lambda: ran.append("second"), "second")
    queue.resume(saved_first, lambda: ran.append("first"), "first")
    queue.schedule(10, lambda: ran.append("third"), "third")
    clock.skip_to(10)
    queue.run_due()
    assert ran == ["first", "second", "third"]


def test_loading_a_state_empties_the_queue(clock: InstructionClock, queue: EventQueue) -> None:
    event = queue.schedule(10, lambda: None, "gone")
    queue.load_state(queue.state())
    assert queue.next_deadline_ns() is None
    assert queue.save(event) is None


def test_pending_lists_events_in_the_order_they_will_run(queue: EventQueue) -> None:
    queue.schedule(30, lambda: None, "c")
    queue.schedule(10, lambda: None, "a")
    cancelled = queue.schedule(20, lambda: None, "b")
    queue.cancel(cancelled)
    assert [event.name for event in queue.pending()] == ["a", "c"]
