"""Asks the gateway for a certificate, over HTTPS; blocking, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from edge_agent import __version__
from edge_agent.enrolment.key_store import EnrolmentKey
from edge_agent.errors import Code, EdgeAgentError, Refusal
from edge_agent.protocol.enrolment import (
    PREFIX,
    SIGNATURE_HEADER,
    ClaimAccepted,
    ClaimBody,
    Enrolled,
    RenewBody,
    Renewed,
    code_hash,
    gateway_url,
)

TIMEOUT_S = 20.0
LONGEST_ANSWER = 256 * 1024
Answer = TypeVar("Answer", bound=BaseModel)


class GatewayUnreachable(EdgeAgentError):
    """The gateway gave no usable answer; the same may be asked again."""


class EnrolmentClient:
    """Asks one gateway in the name of one key. Every method raises `GatewayUnreachable`, and `Refusal` with
    the gateway's words."""

    def __init__(self, url: str, key: EnrolmentKey, context: ssl.SSLContext | None = None) -> None:
        """`url`: see `gateway_url`; `context`: which certificates of the gateway are good, else the
        system's."""
        self._parts = urlsplit(gateway_url(url))
        self._key = key
        self._context = context

    def ask(self, code: str, board: str) -> ClaimAccepted:
        """Asks to be claimed: a person enters the code at the gateway."""
        body = ClaimBody(
            public_key=self._key.public_key,
            key_algorithm=self._key.algorithm,
            code_hash=code_hash(code),
            board=board,
            agent_version=__version__,
        )
        return _read(ClaimAccepted, self._send("POST", "/claims", body)[1])

    def collect(self, claim_id: str) -> Enrolled | None:
        """The certificate; None while nobody has entered the code."""
        status, found = self._send("GET", f"/claims/{claim_id}/certificate")
        return _read(Enrolled, found) if status == 200 else None

    def renew(self, machine_id: str) -> Renewed:
        """A new certificate for the same key."""
        body = RenewBody(
            machine_id=machine_id, public_key=self._key.public_key, key_algorithm=self._key.algorithm
        )
        return _read(Renewed, self._send("POST", "/renewals", body)[1])

    def _send(self, method: str, path: str, body: BaseModel | None = None) -> tuple[int, Any]:
        raw = b"" if body is None else body.model_dump_json().encode()
        place = f"{self._parts.path}{PREFIX}{path}"
        headers = {
            SIGNATURE_HEADER: self._key.signature(f"{PREFIX}{path}", raw),
            "Content-Type": "application/json",
        }
        connection = self._connection()
        try:
            connection.request(method, place, raw or None, headers)
            response = connection.getresponse()
            answer = json.loads(response.read(LONGEST_ANSWER) or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise GatewayUnreachable(f"{self._parts.hostname}: {error}") from None
        finally:
            connection.close()
        if response.status >= 400:
            raise _refusal(answer, response.status)
        return response.status, answer

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        context = self._context or ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


def _read(model: type[Answer], answer: Any) -> Answer:
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise GatewayUnreachable(f"the answer is not usable: {error.error_count()} wrong fields") from None


def _refusal(answer: Any, status: int) -> EdgeAgentError:
    try:
        return Refusal(Code(answer["code"]), str(answer["message"]))
    except (KeyError, TypeError, ValueError):
        return GatewayUnreachable(f"HTTP status {status}")
