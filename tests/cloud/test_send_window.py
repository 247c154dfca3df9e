"""The way out of one connection: its window, what may overtake what, and two threads at once."""

from __future__ import annotations

import threading

import pytest

from edge_agent.mqtt.event_queue import EventQueue
from edge_agent.mqtt.messages import Message, Puback
from edge_agent.mqtt.send_window import TOO_BIG, SendWindow


class Library:
    """Takes messages as the MQTT library does: under its own lock, with rising packet ids."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.lock = threading.RLock()
        self.gone = False

    def send(self, message: Message) -> int | None:
        return self.send_event(message.payload)

    def send_event(self, body: str) -> int | None:
        with self.lock:
            if self.gone:
                return None
            self.sent.append(body)
            return len(self.sent)


def send_window(library: Library, window: int) -> tuple[SendWindow, list[bool]]:
    woken: list[bool] = []
    return SendWindow(window, library.send, library.send_event, lambda: woken.append(True)), woken


def events(way: SendWindow, *numbers: int, queue: EventQueue | None = None) -> EventQueue:
    """Puts events into the way, sequence and body the same; into a new queue unless one is given."""
    queue = EventQueue(numbers[0] - 1) if queue is None else queue
    queue.fill((number, str(number)) for number in numbers)
    way.send_events(queue)
    return queue


def test_no_more_than_the_window_is_unacknowledged_and_a_puback_makes_room_at_once() -> None:
    library = Library()
    way, woken = send_window(library, 3)
    called: list[str] = []
    for name in ("a", "b", "c", "d"):
        way.put(Message("reply", name), lambda _, n=name: called.append(n))  # type: ignore[misc]
    assert library.sent == ["a", "b", "c"]
    way.puback_arrived(2, "ok", True)
    assert library.sent == ["a", "b", "c", "d"]
    way.puback_arrived(1, "ok", True)
    assert woken == [True]  # one word for both
    assert called == []
    for acknowledged, reason, accepted in way.take_pubacks():
        assert (reason, accepted) == ("ok", True)
        assert acknowledged is not None
        acknowledged(Puback(accepted=True, reason="ok"))
    assert called == ["b", "a"]
    way.puback_arrived(3, "ok", True)
    assert woken == [True, True]


def test_the_watermark_is_the_last_event_before_the_first_unacknowledged() -> None:
    library = Library()
    way, woken = send_window(library, 3)
    progress: list[int] = []
    queue = events(way, 1, 2, 3, 4, 5, queue=EventQueue(0, lambda: progress.append(queue.through)))
    way.puback_arrived(1, "ok", True)
    assert library.sent == ["1", "2", "3", "4"]
    way.puback_arrived(3, "ok", True)
    assert (queue.through, library.sent) == (1, ["1", "2", "3", "4", "5"])
    assert woken == [True]
    assert list(way.take_pubacks()) == []
    way.puback_arrived(2, "ok", True)
    assert queue.through == 3
    for packet_id in (5, 4):
        way.puback_arrived(packet_id, "ok", True)
    assert queue.through == 5
    assert list(way.take_pubacks()) == []
    assert list(way.take_pubacks()) == []
    assert progress == [1, 5]  # called once for many, and not again
    assert way.puback_count is None


def test_a_refused_event_holds_the_watermark() -> None:
    library = Library()
    way, _ = send_window(library, 5)
    refusals: list[bool] = []
    queue = events(way, 1, 2, 3, queue=EventQueue(0, lambda: refusals.append(queue.refused)))
    way.puback_arrived(1, "ok", True)
    way.puback_arrived(2, "no", False)
    way.puback_arrived(3, "ok", True)
    assert list(way.take_pubacks()) == []
    assert (queue.through, queue.refused, refusals) == (1, True, [True])


def test_an_event_that_is_too_big_counts_as_refused_without_an_acknowledgement() -> None:
    library = Library()
    way, woken = send_window(library, 2)
    way._send_event = lambda body: TOO_BIG if body == "1" else library.send_event(body)
    queue = events(way, 1, 2)
    assert woken == [True]
    assert list(way.take_pubacks()) == []
    assert (queue.through, queue.refused) == (0, True)


def test_acknowledgements_of_an_earlier_queue_do_not_count_for_the_next() -> None:
    library = Library()
    way, _ = send_window(library, 2)
    first = events(way, 1)
    second = events(way, 1, 2)
    assert library.sent == ["1", "1"]
    way.puback_arrived(1, "ok", True)
    assert (first.through, second.through) == (1, 0)
    way.puback_arrived(2, "ok", True)
    assert second.through == 1


def test_what_is_urgent_passes_waiting_events_and_events_keep_their_order() -> None:
    library = Library()
    way, _ = send_window(library, 1)
    events(way, 1, 2, 3, 4)
    way.put(Message("reply", "a"))
    way.put(Message("reply", "b"))
    for packet_id in range(1, 6):
        way.puback_arrived(packet_id, None, True)
    assert library.sent == ["1", "a", "b", "2", "3", "4"]


def test_only_events_pause_while_a_command_waits_for_a_door() -> None:
    library = Library()
    way, _ = send_window(library, 1)
    events(way, 1, 2, 3, 4)
    way.pause_events(True)
    way.puback_arrived(1, None, True)
    way.put(Message("reply", "a"))
    way.puback_arrived(2, None, True)
    assert library.sent == ["1", "a"]
    way.pause_events(False)
    assert library.sent == ["1", "a", "2"]


def test_messages_without_acknowledgement_wait_for_no_room() -> None:
    library = Library()
    way, _ = send_window(library, 1)
    events(way, 1)
    way.put(Message("telemetry", "t", qos=0))
    assert library.sent == ["1", "t"]


def test_the_library_s_callback_for_qos_0_makes_no_room() -> None:
    library = Library()
    way, _ = send_window(library, 1)
    events(way, 1, 2)
    for _ in range(5):
        way.put(Message("telemetry", "t", qos=0))
        way.puback_arrived(len(library.sent), None, True)
    assert [payload for payload in library.sent if payload != "t"] == ["1"]
    way.puback_arrived(1, None, True)
    assert library.sent[-1] == "2"


@pytest.mark.parametrize("kind", ["reply", "event"])
def test_a_puback_that_comes_before_its_packet_id_is_known_still_makes_room(kind: str) -> None:
    library = Library()
    way, _ = send_window(library, 1)

    def acknowledged_at_once(body: str) -> int | None:
        packet_id = library.send_event(body)
        if packet_id == 1:
            way.puback_arrived(1, None, True)
        return packet_id

    way._send_event = acknowledged_at_once
    way._send = lambda message: acknowledged_at_once(message.payload)
    if kind == "reply":
        way.put(Message("reply", "1"))
        way.put(Message("reply", "2"))
    else:
        queue = events(way, 1, 2)
    assert library.sent == ["1"]
    assert len(list(way.take_pubacks())) == (kind == "reply")
    assert library.sent == ["1", "2"]
    assert kind == "reply" or queue.through == 1


def test_a_lost_connection_accepts_nothing_and_nothing_waits_for_it() -> None:
    library = Library()
    way, _ = send_window(library, 2)
    library.gone = True
    way.put(Message("reply", "a"))
    queue = events(way, 1)
    library.gone = False
    events(way, 2, queue=queue)
    assert library.sent == ["2"]
    way.puback_arrived(1, None, True)
    assert queue.through == 0  # the first never went


def test_two_threads_send_everything_once_and_in_order() -> None:
    """The library's thread acknowledges under the lock that sending needs, as paho does."""
    library = Library()
    way, _ = send_window(library, 7)
    count, over = 20_000, threading.Event()

    def acknowledge() -> None:
        done = 0
        while done < count:
            with library.lock:
                if done < len(library.sent):
                    done += 1
                    way.puback_arrived(done, None, True)
        over.set()

    thread = threading.Thread(target=acknowledge)
    thread.start()
    queue = events(way, 1)
    replies = 0
    for number in range(2, count + 1):
        if number % 10:
            events(way, number, queue=queue)
        else:
            way.put(Message("reply", "r"))
            replies += 1
        if number % 50 == 0:
            list(way.take_pubacks())
    while not over.wait(0):
        list(way.take_pubacks())
    thread.join()
    list(way.take_pubacks())
    assert [body for body in library.sent if body != "r"] == [str(n) for n in range(1, count + 1) if n % 10]
    assert library.sent.count("r") == replies
    assert way.puback_count is None
    assert queue.through == count - 1
