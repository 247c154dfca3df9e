"""Makes the checks of the senders of commands, from the keys of the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from edge_agent.cloud.challenges import CHALLENGE_CHECK_S, Challenges
from edge_agent.cloud.signature_check import SignatureCheck
from edge_agent.config import Settings
from edge_agent.model import Instant
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.ids import Ids

log = structlog.get_logger()


class SenderChecks:
    """`commands` checks those of the gateway, where they have to be signed; `service` the service commands,
    where there are keys for them. A key of one kind counts for nothing in the other."""

    def __init__(self, settings: Settings, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._challenges = Challenges(ids)
        machine_id = settings.machine.machine_id
        signing, service = settings.mqtt.signing_keys, settings.service.keys
        self.commands: SignatureCheck | None = None
        self.service: SignatureCheck | None = None
        if signing:
            log.info("commands have to be signed", keys=list(signing))
            self.commands = SignatureCheck(signing, machine_id, self._challenges)
        if service:
            log.info("service commands are taken", keys=list(service))
            public = {name: key.public_key for name, key in service.items()}
            self.service = SignatureCheck(public, machine_id, self._challenges)
        self._needed = bool(signing or service)
        if self._needed:
            self._challenges.renew(clock.now())

    def challenge(self, now: Instant) -> str | None:
        """The challenge for `state/online`, if one is needed."""
        return self._challenges.present(now)

    async def run(self, publish_online: Callable[[], None]) -> None:
        """Renews the challenges until cancelled."""
        while self._needed:
            await asyncio.sleep(CHALLENGE_CHECK_S)
            if self._challenges.renew(self._clock.now()):
                publish_online()
