"""Renews the machine's certificate when two thirds of its life are over, and raises CERTIFICATE_EXPIRES when
that fails for long."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import structlog

from edge_agent.app.environment import Environment
from edge_agent.config import Settings
from edge_agent.enrolment.client import EnrolmentClient, GatewayUnreachable
from edge_agent.enrolment.files import CertificateTerm, read_term, write_certificate
from edge_agent.enrolment.key_store import read_key
from edge_agent.errors import ConfigError, Refusal, StorageFault
from edge_agent.model import Alarm
from edge_agent.protocol.api import rfc3339
from edge_agent.runtime.clock import Clock
from edge_agent.runtime.loop import LockerLoop
from edge_agent.statemachine.inputs import Condition

log = structlog.get_logger()

CHECK_S = (1800.0, 5400.0)
"""Pauses between two checks: random, so that a fleet does not ask at one moment."""
WARN_S = 30 * 24 * 3600.0
"""The alarm is raised this long before the certificate ends."""


class CertificateRenewal:
    """Keeps the certificate in the folder of the key fresh. `submit` gets the condition of the alarm."""

    def __init__(
        self,
        url: str,
        key_file: Path,
        clock: Clock,
        submit: Callable[[Condition], None],
        jitter: random.Random,
    ) -> None:
        self._url = url
        self._key_file = key_file
        self._clock = clock
        self._submit = submit
        self._jitter = jitter
        self._reported: str | None = None
        self.ends_s: float | None = None
        """When the certificate ends, in Unix seconds; None while that is not known."""

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(self._jitter.uniform(*CHECK_S))

    async def check(self) -> None:
        """Renews the certificate if that is due, and reports how it is."""
        now = self._clock.now()
        if not now.synced:
            return  # what is due is not known
        try:
            term = await asyncio.to_thread(read_term, self._key_file.parent)
            if now.wall_s >= term.renew_at_s:
                term = await asyncio.to_thread(self._renewed, term.machine_id)
        except (StorageFault, ConfigError, Refusal, GatewayUnreachable, OSError) as problem:
            log.error("certificate not renewed", reason=str(problem))
            await self._report_end(str(problem))
            return
        await self._report_end("")

    def _renewed(self, machine_id: str) -> CertificateTerm:
        client = EnrolmentClient(self._url, read_key(self._key_file))
        write_certificate(self._key_file.parent, machine_id, client.renew(machine_id))
        term = read_term(self._key_file.parent)
        log.info("certificate renewed", not_after=rfc3339(term.not_after.timestamp()))
        return term

    async def _report_end(self, problem: str) -> None:
        try:
            term = await asyncio.to_thread(read_term, self._key_file.parent)
        except StorageFault:
            return
        self.ends_s = term.not_after.timestamp()
        left_s = self.ends_s - self._clock.now().wall_s
        detail = ""
        if left_s < WARN_S and problem:
            detail = f"the certificate for the broker ends at {rfc3339(self.ends_s)}: {problem}"
        if detail != self._reported:
            self._reported = detail
            self._submit(Condition(Alarm.CERTIFICATE_EXPIRES, "", bool(detail), detail))


def certificate_renewal(
    settings: Settings, environment: Environment, loop: LockerLoop
) -> CertificateRenewal | None:
    """The renewal of a machine that was enrolled; None for any other one, whose certificate people renew."""
    enrolment, tls = settings.enrolment, settings.mqtt.tls
    if enrolment is None or tls is None or tls.key_file is None:
        return None
    key_file = settings.path(tls.key_file)
    return CertificateRenewal(enrolment.url, key_file, environment.clock, loop.submit, random.Random())
