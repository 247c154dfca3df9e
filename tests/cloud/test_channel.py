"""The way out of one connection: its window, what may overtake what, and two threads at once."""

from __future__ import annotations

import threading
from collections import deque

from edge_agent.cloud.channel import Channel, Message


def event(number: int) -> Message:
    return Message("evt", str(number), patient=True)


class Library:
    """Takes messages as the MQTT library does: under its own lock, with rising packet ids."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.lock = threading.RLock()
        self.gone = False

    def send(self, message: Message) -> int | None:
        with self.lock:
            if self.gone:
                return None
            self.sent.append(message.payload)
            return len(self.sent)


def channel(library: Library, window: int) -> tuple[Channel, list[bool]]:
    woken: list[bool] = []
    return Channel(window, library.send, lambda: woken.append(True)), woken


def test_no_more_than_the_window_is_unacknowledged_and_a_receipt_makes_room_at_once() -> None:
    library = Library()
    way, woken = channel(library, 3)
    called: list[int] = []
    for number in range(6):
        way.put(event(number), lambda _, n=number: called.append(n))  # type: ignore[misc]
    assert library.sent == ["0", "1", "2"]
    way.receipt(2, "ok")
    assert library.sent == ["0", "1", "2", "3"]
    way.receipt(1, "ok")
    assert woken == [True]  # one word for both
    assert called == []
    for acknowledged, reason in way.take_receipts():
        assert reason == "ok"
        assert acknowledged is not None
        acknowledged(True)
    assert called == [1, 0]
    way.receipt(3, "ok")
    assert woken == [True, True]


def test_what_is_urgent_passes_waiting_events_and_events_keep_their_order() -> None:
    library = Library()
    way, _ = channel(library, 1)
    for number in range(4):
        way.put(event(number))
    way.put(Message("reply", "a"))
    way.put(Message("reply", "b"))
    for packet_id in range(1, 6):
        way.receipt(packet_id, None)
    assert library.sent == ["0", "a", "b", "1", "2", "3"]


def test_events_rest_while_somebody_waits_for_a_door_and_nothing_else_does() -> None:
    library = Library()
    way, _ = channel(library, 2)
    for number in range(5):
        way.put(event(number))
    way.rest(True)
    way.receipt(1, None)
    way.put(Message("reply", "a"))
    way.receipt(2, None)
    assert library.sent == ["0", "1", "a"]
    way.rest(False)
    assert library.sent == ["0", "1", "a", "2"]


def test_what_needs_no_receipt_waits_for_no_room() -> None:
    library = Library()
    way, _ = channel(library, 1)
    way.put(event(1))
    way.put(Message("telemetry", "t", qos=0))
    assert library.sent == ["1", "t"]


def test_the_library_s_word_on_what_needs_no_receipt_makes_no_room() -> None:
    library = Library()
    way, _ = channel(library, 1)
    way.put(event(1))
    way.put(event(2))
    for _ in range(5):
        way.put(Message("telemetry", "t", qos=0))
        way.receipt(len(library.sent), None)
    assert [payload for payload in library.sent if payload != "t"] == ["1"]
    way.receipt(1, None)
    assert library.sent[-1] == "2"


def test_a_receipt_that_comes_before_its_packet_id_is_known_still_makes_room() -> None:
    library = Library()
    way, _ = channel(library, 1)
    send = library.send

    def acknowledged_at_once(message: Message) -> int | None:
        packet_id = send(message)
        if packet_id == 1:
            way.receipt(1, None)
        return packet_id

    way._send = acknowledged_at_once
    way.put(event(1))
    way.put(event(2))
    assert library.sent == ["1"]
    assert len(list(way.take_receipts())) == 1
    assert library.sent == ["1", "2"]


def test_a_connection_that_is_gone_takes_nothing_and_nothing_waits_for_it() -> None:
    library = Library()
    way, _ = channel(library, 2)
    library.gone = True
    for number in range(5):
        way.put(event(number))
    library.gone = False
    way.put(event(5))
    assert library.sent == ["5"]


def test_two_threads_send_everything_once_and_in_order() -> None:
    """The library's thread acknowledges under the lock that sending needs, as paho does."""
    library = Library()
    way, _ = channel(library, 7)
    count, over = 20_000, threading.Event()
    acknowledged: deque[int] = deque()

    def acknowledge() -> None:
        done = 0
        while done < count:
            with library.lock:
                if done < len(library.sent):
                    done += 1
                    acknowledged.append(done)
                    way.receipt(done, None)
        over.set()

    thread = threading.Thread(target=acknowledge)
    thread.start()
    for number in range(count):
        way.put(event(number))
    assert over.wait(60)
    thread.join()
    assert library.sent == [str(number) for number in range(count)]
    assert sum(1 for _ in way.take_receipts()) == count
