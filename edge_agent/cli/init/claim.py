"""`edge-agent init --claim URL`: the machine shows a code, a person enters it at the gateway, and the machine
gets its id, its place, its broker and its certificate from there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TypeVar

from edge_agent.cli.daemon import DEFAULT_CONFIG, problems
from edge_agent.cli.init.answers import BadAnswer
from edge_agent.cli.init.kiosk_page import Show, show_nothing
from edge_agent.cli.init.store import GROUP
from edge_agent.cli.text.language import _, from_daemon
from edge_agent.enrolment.client import EnrolmentClient, GatewayUnreachable
from edge_agent.enrolment.files import AUTHORITY, CERTIFICATE, KEY, write_enrolled
from edge_agent.enrolment.key_store import EnrolmentKey, KeyStore, make_key, read_key, store_of
from edge_agent.errors import Code, ConfigError, Refusal
from edge_agent.mqtt.tpm_provider import TpmUnusable
from edge_agent.process.board_serial import board_serial
from edge_agent.protocol.enrolment import POLL_S, Enrolled, gateway_url, shown_code
from edge_agent.runtime.ids import Ids

STATE_FOLDER = Path("/var/lib/edge-agent")
T = TypeVar("T")
MOST_CLAIMS = 48
"""A code that expires is replaced by a new one this many times: a day."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What the gateway gave. `url`: its address; `folder`: where key and certificate are."""

    url: str
    folder: Path
    enrolled: Enrolled

    def answers(self) -> dict[str, str]:
        """The answers to the questions of `init` that need not be asked."""
        given = self.enrolled
        return {
            "machine_id": given.machine_id,
            "name": given.name,
            "place": given.location,
            "latitude": str(given.latitude),
            "longitude": str(given.longitude),
            "broker": given.broker.host,
            "tls": "yes",
            "broker_port": str(given.broker.port),
            "ca_file": str(self.folder / AUTHORITY),
            "cert_file": str(self.folder / CERTIFICATE),
            "key_file": str(self.folder / KEY),
        }


def _sleep(seconds: float) -> None:
    Event().wait(seconds)


def claim(
    url: str,
    output: Path,
    store: KeyStore,
    pause: Callable[[float], object] = _sleep,
    show: Show = show_nothing,
) -> Claimed:
    """Shows codes until one was entered at the gateway, also by `show`. The key of an earlier attempt is
    used again. `store`: where a new key goes.

    Raises `BadAnswer` for an unusable address, folder, TPM or answer.
    """
    state = STATE_FOLDER if output == DEFAULT_CONFIG else output.parent
    folder = state / "enrolment"
    try:
        address = gateway_url(url)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _key(folder / KEY, store)
        enrolled = _wait(EnrolmentClient(address, key), pause, show)
        write_enrolled(folder, enrolled)
        _for_the_service(folder)
    except ValueError as problem:
        raise BadAnswer(f"--claim: {from_daemon(str(problem))}") from None
    except OSError as problem:
        raise BadAnswer(f"{folder}: {problem.strerror}") from None
    except TpmUnusable as problem:
        raise BadAnswer(f"--key-store {store}: {from_daemon(str(problem))}") from None
    except ConfigError as problem:  # of the key's file
        raise BadAnswer("\n".join(from_daemon(str(one)) for one in problem.findings)) from None
    except Refusal as problem:
        raise BadAnswer(_("the gateway refuses: {reason}", reason=from_daemon(problem.message))) from None
    problems.print(
        _("claimed as {machine}: {name}", machine=enrolled.machine_id, name=enrolled.name),
        style="green",
        highlight=False,
        markup=False,
    )
    return Claimed(address, folder, enrolled)


def _key(path: Path, store: KeyStore) -> EnrolmentKey:
    """The key of an earlier attempt, else a new one; says where it is. Raises `BadAnswer` where the earlier
    one is not where it was asked for."""
    if path.exists():
        there = store_of(path)
        if store not in (KeyStore.AUTO, there):
            why = _("{file} is a key of another kind; remove it first", file=path)
            raise BadAnswer(f"--key-store {store}: {why}")
        key, why_not = read_key(path), ""
    else:
        key, why_not = make_key(path, store)
        there = store_of(path)
    if there is KeyStore.TPM:
        said = _("the machine's key is in the TPM")
    elif why_not:
        said = _("the machine's key is in a file: {reason}", reason=from_daemon(why_not))
    else:
        said = _("the machine's key is in a file")
    problems.print(said, highlight=False, markup=False, soft_wrap=True)
    return key


def _wait(client: EnrolmentClient, pause: Callable[[float], object], show: Show) -> Enrolled:
    """Shows a code and asks until it was entered; a new code when one has expired. Raises `Refusal`."""
    for _number in range(MOST_CLAIMS):
        code = Ids().claim_code()
        accepted = _answered(partial(client.ask, code, board_serial()), pause)
        problems.print()
        problems.print(_("Enter this code at the gateway's fleet page, with the place of the machine:"))
        problems.print(f"    {shown_code(code)}", style="bold", highlight=False)
        problems.print(_("waiting; Ctrl-C ends"))
        show(shown_code(code))
        try:
            while True:
                found = _answered(partial(client.collect, accepted.claim_id), pause)
                if found is not None:
                    return found
                pause(POLL_S)
        except Refusal as refusal:
            if refusal.code is not Code.EXPIRED:
                raise
        finally:
            show(None)
    raise Refusal(Code.EXPIRED, "nobody has entered a code")


def _answered(ask: Callable[[], T], pause: Callable[[float], object]) -> T:
    """Asks until the gateway answers; says once why it does not."""
    said = ""
    while True:
        try:
            return ask()
        except GatewayUnreachable as problem:
            if str(problem) != said:
                said = str(problem)
                problems.print(from_daemon(said), style="yellow", highlight=False, markup=False)
            pause(POLL_S)


def _for_the_service(folder: Path) -> None:
    """Gives folder and files to the service's user, if root has written them for it."""
    if os.geteuid() != 0 or folder.parent != STATE_FOLDER:
        return
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, GROUP, GROUP)
