"""Who may send commands: the check of signatures by itself, with time as the test wants it."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from cloud_gateway.signer import Signer
from edge_agent.cloud import signature_check as signature_check_module
from edge_agent.cloud.challenges import CHALLENGE_S, Challenges
from edge_agent.cloud.signature_check import SignatureCheck
from edge_agent.errors import Code, Forged, Refusal
from edge_agent.model import Instant
from edge_agent.protocol.commands import COMMANDS, QUERIES, Command
from edge_agent.protocol.signing import SIGNATURE, SIGNATURE_KEY
from edge_agent.protocol.topics import Topics
from edge_agent.runtime.ids import Ids
from edge_agent.runtime.incoming import IncomingCommand
from tests.support.sender import body_of, public_key

SEED = bytes(range(32))
SIGNER = Signer(SEED, "g")


def at(passed_s: float = 0.0, *, synced: bool = True) -> Instant:
    """A moment `passed_s` after now."""
    wall_s = datetime.now(UTC).timestamp() + passed_s
    return Instant("boot", round((1000 + passed_s) * 1e9), wall_s, synced)


def make(challenges: Challenges | None = None) -> SignatureCheck:
    return SignatureCheck({"g": public_key(SEED)}, "m1", challenges or make_challenges())


def make_challenges() -> Challenges:
    return Challenges(Ids(random.Random(3)))


def signed(name: str, body: bytes, machine: str = "m1", **changes: Any) -> IncomingCommand:
    topic = Topics(machine).command(name)
    user = dict(SIGNER.properties(topic, body))
    fields: dict[str, Any] = {"signature": user[SIGNATURE], "signature_key": user[SIGNATURE_KEY]}
    return IncomingCommand(name, body, lambda: None, topic=topic, **(fields | changes))


def dropoff(request_id: str = "d", life_s: float = 8.0, **changes: Any) -> IncomingCommand:
    return signed("dropoff", body_of(request_id, life_s, reservation_id="r"), **changes)


def test_a_command_for_another_machine_is_refused_on_any_topic() -> None:
    with pytest.raises(Forged, match="on another topic than its own"):
        make().admit(dropoff(machine="m2"), at())


def test_the_same_bytes_are_accepted_once_unless_marked_as_redelivered() -> None:
    signature_check, incoming = make(), dropoff()
    assert signature_check.admit(incoming, at()) is True
    again = dropoff("other")
    assert signature_check.admit(again, at()) is True
    marked = IncomingCommand(
        "dropoff",
        incoming.payload,
        lambda: None,
        topic=incoming.topic,
        signature=incoming.signature,
        signature_key="g",
        duplicate=True,
    )
    assert signature_check.admit(marked, at(1)) is False
    with pytest.raises(Forged, match="the same signed command was sent before") as caught:
        signature_check.admit(incoming, at(1))
    assert caught.value.code is Code.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("name", "life_s", "synced", "remembered_s"),
    [
        ("dropoff", 8.0, True, 30),
        ("dropoff", 8.0, False, 30),
        ("cancel", 8.0, True, 8),
        ("cancel", 7200.0, True, 7200),
        ("cancel", 8.0, False, 3600),
    ],
)
def test_a_signature_is_remembered_as_long_as_its_command_could_act(
    name: str, life_s: float, synced: bool, remembered_s: float
) -> None:
    signature_check = make()
    signature_check.admit(signed(name, body_of("r", life_s, reservation_id="r")), at(synced=synced))
    other = signed("echo", body_of("e", 1e6, message=""))
    signature_check.admit(other, at(remembered_s - 1, synced=synced))
    assert len(signature_check._seen) == 2
    with pytest.raises(Forged):
        signature_check.admit(other, at(remembered_s + 1, synced=synced))
    assert len(signature_check._seen) == 1


def test_an_expired_command_takes_no_room_and_the_room_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature_check_module, "REMEMBERED", 3)
    signature_check = make()
    assert signature_check.admit(signed("cancel", body_of("r", -1.0, reservation_id="r")), at()) is True
    assert len(signature_check._seen) == 0
    many = [signed("cancel", body_of(str(n), 100.0 - n, reservation_id="r")) for n in range(5)]
    for incoming in many:
        assert signature_check.admit(incoming, at()) is True
    assert len(signature_check._seen) == 3
    for kept in (many[0], many[1], many[4]):  # what could act the longest, and the newest
        with pytest.raises(Forged):
            signature_check.admit(kept, at())


def demand(signature_check: SignatureCheck, challenge: str, now: Instant, name: str = "dropoff") -> None:
    body = body_of("r", reservation_id="r", challenge=challenge)
    signature_check.require_present_challenge(name, Command.model_validate_json(body), now)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - QUERIES))
def test_a_challenge_counts_until_the_one_after_the_next(name: str) -> None:
    challenges = make_challenges()
    signature_check = make(challenges)
    assert challenges.renew(at(synced=False))
    first = challenges.present(at(synced=False))
    assert first is not None
    demand(signature_check, first, at(1, synced=False), name)
    assert not challenges.renew(at(CHALLENGE_S - 1, synced=False))
    assert challenges.renew(at(CHALLENGE_S, synced=False))
    second = challenges.present(at(CHALLENGE_S, synced=False))
    assert second not in (None, first)
    demand(signature_check, first, at(CHALLENGE_S + 1, synced=False), name)
    demand(signature_check, second or "", at(CHALLENGE_S + 1, synced=False), name)
    challenges.renew(at(2 * CHALLENGE_S, synced=False))
    for wrong in (first, "", first.upper(), f"{second}x"):
        with pytest.raises(Refusal) as caught:
            demand(signature_check, wrong, at(2 * CHALLENGE_S + 1, synced=False), name)
        assert caught.value.code is Code.EXPIRED


def test_a_challenge_expires_without_a_renewal() -> None:
    challenges = make_challenges()
    signature_check = make(challenges)
    challenges.renew(at(synced=False))
    challenge = challenges.present(at(synced=False)) or ""
    demand(signature_check, challenge, at(2 * CHALLENGE_S - 1, synced=False))
    with pytest.raises(Refusal):
        demand(signature_check, challenge, at(2 * CHALLENGE_S + 1, synced=False))


def test_no_challenge_is_demanded_with_a_clock_or_for_a_query() -> None:
    challenges = make_challenges()
    signature_check = make(challenges)
    for name in COMMANDS:
        demand(signature_check, "", at(synced=True), name)
    for name in QUERIES:
        demand(signature_check, "", at(synced=False), name)
    with pytest.raises(Refusal):  # before the first challenge none counts, not even no challenge
        demand(signature_check, "", at(synced=False))


def test_challenges_are_published_only_without_a_clock() -> None:
    challenges = make_challenges()
    assert not challenges.renew(at(synced=True))
    assert challenges.present(at(synced=True)) is None
    assert challenges.renew(at(1, synced=False))
    assert not challenges.renew(at(2, synced=False))
    assert challenges.renew(at(3, synced=True))
    assert challenges.present(at(3, synced=True)) is None
    assert not challenges.renew(at(CHALLENGE_S, synced=True))


def test_a_clock_that_loses_its_time_gets_an_unused_challenge() -> None:
    challenges = make_challenges()
    signature_check = make(challenges)
    seen = set()
    for passed_s in (0.0, CHALLENGE_S, 2 * CHALLENGE_S):
        challenges.renew(at(passed_s, synced=True))
        challenge = challenges.present(at(passed_s + 1, synced=False))  # as the birth message states it
        assert challenge is not None
        demand(signature_check, challenge, at(passed_s + 1, synced=False))
        seen.add(challenge)
    assert len(seen) == 3


def test_pynacl_is_imported_only_where_there_are_keys() -> None:
    script = (
        "import sys, edge_agent.cloud.signature_check, cloud_gateway.signer; print('nacl' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
