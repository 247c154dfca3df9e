"""The gateway's configuration file (TOML) and its timing.

An unknown key or a value outside its bounds is an error with its key path.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from cloud_gateway.signer import Signer
from cloud_gateway.webhook_signature import key_of
from edge_agent.errors import ConfigError, Finding, LinkRefused
from edge_agent.protocol.api import WebhookUrl
from edge_agent.protocol.broker import BrokerSection, FileName
from edge_agent.protocol.service_commands import Right
from edge_agent.validation_findings import findings_of

Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=128)]

DAY_S = 86_400.0
ENROLMENT_FILES = ("ca_cert_file", "ca_key_file", "broker_ca_file")


class Section(BaseModel):
    """Base of all sections: immutable, an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MqttSettings(BrokerSection):
    """The broker. `client_id` names the persistent session and the reply topics: one per gateway.

    With `signing_key_file` (an Ed25519 seed in base64) commands are signed; machines know the key by
    `signing_key_name`. `service_key_file` and `service_key_name`: the same for service commands; without them
    the gateway requests no remote work.
    """

    client_id: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    signing_key_file: FileName | None = None
    signing_key_name: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    service_key_file: FileName | None = None
    service_key_name: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None

    @model_validator(mode="after")
    def _both(self) -> MqttSettings:
        if (self.signing_key_file is None) != (self.signing_key_name is None):
            raise ValueError("signing_key_file and signing_key_name have to be set together")
        if (self.service_key_file is None) != (self.service_key_name is None):
            raise ValueError("service_key_file and service_key_name have to be set together")
        return self


def _checked_secret(secret: SecretStr) -> SecretStr:
    key_of(secret.get_secret_value())
    return secret


Days = Annotated[float, Field(gt=0, le=3650, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(lambda value: ip_network(value))]
WebhookSecret = Annotated[SecretStr, AfterValidator(_checked_secret)]
Burst = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]


class Platform(Section):
    """A client of the API: its key, and the address of its webhooks unless a reservation names another.

    `webhook_secrets`: its webhooks are signed with each of them (see `webhook_signature`); two while one is
    replaced. `requests_per_s`: how many requests a second it may make on average (absent: no limit), counted
    by each gateway for itself; `burst`: how many at once (absent: as many as in two seconds).
    """

    name: Name
    api_key: Annotated[SecretStr, Field(min_length=1, max_length=1024)]
    webhook_url: WebhookUrl = ""
    webhook_secrets: Annotated[tuple[WebhookSecret, ...], Field(max_length=2)] = ()
    requests_per_s: Rate | None = None
    burst: Burst | None = None


class WebhookSettings(Section):
    """Delivery. Receivers must have public addresses and port 443 or one of `ports`, or be in one of
    `allow_networks`, at any port. A webhook that was not accepted for `give_up_days`, in at least a dozen
    attempts, is put aside for an operator."""

    allow_networks: tuple[Network, ...] = ()
    ports: tuple[Port, ...] = ()
    give_up_days: Days = 3.0


class LimitSettings(Section):
    """Limits for clients without a key: after `wrong_keys` wrong keys from one address, more of them have to
    wait; the address gets `wrong_keys_per_min` more each minute. Requests with a right key are never delayed.
    QR images, which need no key, are limited in the same way; so are the connections of one address that is
    not a trusted proxy."""

    wrong_keys: Burst = 30
    wrong_keys_per_min: Rate = 30.0
    qr_images: Burst = 60
    qr_images_per_min: Rate = 120.0
    connections_per_address: Burst = 64


class KeepSettings(Section):
    """How long finished things are kept: applied events, answered requests, delivered webhooks,
    reservations."""

    events_days: Days = 30.0
    requests_days: Days = 7.0
    webhooks_days: Days = 30.0
    reservations_days: Days = 30.0


class MetricsSettings(Section):
    """The listener of `/metrics`. Beyond loopback a request needs `token`, as `Authorization: Bearer`."""

    listen_host: Name = "127.0.0.1"
    listen_port: Port
    token: Annotated[SecretStr, Field(min_length=16, max_length=1024)] | None = None

    @model_validator(mode="after")
    def _closed(self) -> MetricsSettings:
        if self.token is None and not _is_loopback(self.listen_host):
            raise ValueError("token: is needed where listen_host is not on loopback")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class EnrolmentSettings(Section):
    """Machines that are claimed by a code (`enrolment`). `ca_cert_file`, `ca_key_file`: the authority of the
    machines' certificates; `broker_ca_file`: what machines trust at the broker; `service_rights`: what the
    service key may request of new machines."""

    ca_cert_file: Annotated[str, Field(strict=True, min_length=1)]
    ca_key_file: Annotated[str, Field(strict=True, min_length=1)]
    broker_ca_file: Annotated[str, Field(strict=True, min_length=1)]
    broker_host: Annotated[str, Field(strict=True, min_length=1, max_length=255)]
    broker_port: Port = 8883
    certificate_days: Days = 90.0
    grace_days: Days = 30.0
    claim_minutes: Annotated[float, Field(ge=1, le=1440, allow_inf_nan=False)] = 30.0
    service_rights: tuple[Right, ...] = get_args(Right)


class WallSettings(Section):
    """The locker wall at `/`, for a bench: anybody who reaches the gateway acts there as `platform`, and as a
    person at the simulated machine whose control API is `simulator_url`."""

    simulator_url: Annotated[str, Field(strict=True, pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$")]
    platform: Name


class Settings(Section):
    """The whole file. `public_url` is the base of the QR images' addresses, without a slash at its end;
    without `operations_key` there is no operators' page. From `trusted_proxies` the gateway accepts the
    client's address in X-Forwarded-For. Gateways of one `share_group` behind one broker share the machines'
    events among them; they also share one database. `keys_file`: further API keys, as hashes
    (`cloud_gateway.api_keys`). `users_file`: people who may use the operators' pages by their names
    (`cloud_gateway.users`). Without `metrics` nothing is served at `/metrics`."""

    listen_host: Name = "127.0.0.1"
    listen_port: Port
    public_url: Annotated[str, Field(strict=True, pattern=r"^https?://[^\s]*[^\s/]$")]
    trusted_proxies: tuple[Network, ...] = (IPv4Network("127.0.0.1"), IPv6Network("::1"))
    database_url: Annotated[str, Field(strict=True)] = ""
    operations_key: Annotated[SecretStr, Field(min_length=1, max_length=1024)] | None = None
    keys_file: Annotated[str, Field(strict=True, min_length=1)] | None = None
    users_file: Annotated[str, Field(strict=True, min_length=1)] | None = None
    share_group: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "gateway"
    mqtt: MqttSettings
    webhooks: WebhookSettings = WebhookSettings()
    limits: LimitSettings = LimitSettings()
    keep: KeepSettings = KeepSettings()
    metrics: MetricsSettings | None = None
    enrolment: EnrolmentSettings | None = None
    wall: WallSettings | None = None
    platforms: Annotated[list[Platform], Field(min_length=1)]

    @property
    def has_operators(self) -> bool:
        """Whether anybody may use the operators' pages and their API."""
        return self.operations_key is not None or self.users_file is not None

    @model_validator(mode="after")
    def _unique(self) -> Settings:
        if len({platform.name for platform in self.platforms}) < len(self.platforms):
            raise ValueError("platforms must have different names")
        if len({platform.api_key.get_secret_value() for platform in self.platforms}) < len(self.platforms):
            raise ValueError("platforms must have different api_key values")
        if self.wall is not None:
            if self.listen_host not in ("127.0.0.1", "::1", "localhost"):
                raise ValueError("wall needs a listen_host on loopback: it asks nobody for a key")
            if self.wall.platform not in {platform.name for platform in self.platforms}:
                raise ValueError("wall.platform names none of the platforms")
        if self.database_url:
            try:
                make_url(self.database_url).get_dialect()
            except (ArgumentError, NoSuchModuleError):
                raise ValueError("database_url is not a SQLAlchemy URL") from None
        return self


@dataclass(frozen=True, slots=True)
class Timing:
    """The durations that tests make short, in seconds; modules have others as constants."""

    wait_s: float = 10.0
    """How long a caller waits for the machine."""
    life_s: float = 8.0
    """For how long after its request a command may begin to act. Less than `wait_s`: one that begins at the
    last moment still ends before its caller gets EXPIRED, so no door opens after that answer."""
    webhook_timeout_s: float = 10.0
    connect_timeout_s: float = 3.0
    """How long one address of a receiver may be silent before the next one is tried."""
    retry_first_s: float = 1.0
    retry_max_s: float = 600.0
    storage_pause_s: float = 1.0
    """Pause before the database is retried after a failure."""
    webhook_poll_s: float = 2.0
    """Pause between two searches for webhooks that another gateway queued."""
    completion_s: float = 15.0
    """Age at which a reservation known only from events is requested, and the pause between two requests."""
    check_pause_s: float = 1.0
    """Pause between two checks for missing events."""
    missing_after_s: float = 3.0
    """If no event of a machine was applied for this long, an event that is still awaited counts as
    missing."""
    ask_again_s: float = 5.0
    """Shortest pause before a machine is asked again for what it did not send; it doubles up to ten
    minutes."""
    sync_lease_s: float = 20.0
    """How long one gateway alone may ask a machine for missing events, from page to page."""
    replica_lost_s: float = 15.0
    """A gateway without a sign of life for this time is dead; what the broker holds for it may be lost."""
    session_s: float = 75.0
    """For this time after a gateway's death the broker may still reserve events for it."""
    retry_wait_s: float = 5.0
    """How long a reservation whose caller was answered EXPIRED or OFFLINE waits for a retry before it is
    cancelled."""
    cancel_pause_s: float = 0.5
    """Pause between two searches for given-up reservations that turned up."""
    stop_s: float = 12.0
    """How long requests and webhooks under way may go on after the stop began: a caller waits for `wait_s`, a
    receiver is waited for as long as `webhook_timeout_s`."""
    prune_s: float = 600.0
    """Pause between two rounds of deleting old rows."""


def load(path: Path) -> Settings:
    """The settings in the file at `path`. The database is by default in the folder that systemd keeps for the
    service ($STATE_DIRECTORY, systemd.exec(5)), else beside the file.

    Raises `ConfigError` naming every wrong key.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError([Finding("", f"{path}: {error.strerror}")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([Finding("", f"{path}: {error}")]) from None
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise ConfigError(findings_of(error, data)) from None
    place = os.environ.get("STATE_DIRECTORY", "").split(":")[0] or path.resolve().parent
    url = settings.database_url or f"sqlite:///{Path(place) / 'gateway.db'}"
    # The store is synchronous; a URL for the asynchronous driver names the same file.
    url = url.replace("sqlite+aiosqlite:", "sqlite:", 1)
    mqtt = settings.mqtt.placed(path.resolve().parent, os.environ)
    for key, make_signer in (("signing", signer_of), ("service", service_signer_of)):
        try:
            make_signer(mqtt)
        except LinkRefused as error:
            raise ConfigError([Finding(f"mqtt.{key}_key_file", str(error))]) from None
    folder = path.resolve().parent
    files: dict[str, Any] = {
        name: None if (given := getattr(settings, name)) is None else str(folder / given)
        for name in ("keys_file", "users_file")
    }
    enrolment = settings.enrolment
    if enrolment is not None:
        placed = {name: str(folder / getattr(enrolment, name)) for name in ENROLMENT_FILES}
        files["enrolment"] = enrolment.model_copy(update=placed)
    return settings.model_copy(update={"database_url": url, "mqtt": mqtt, **files})


def signer_of(mqtt: MqttSettings) -> Signer | None:
    """The signer of commands; None if they are not signed. Raises `LinkRefused` if its key is bad."""
    if mqtt.signing_key_file is None or mqtt.signing_key_name is None:
        return None
    return Signer.from_file(Path(mqtt.signing_key_file), mqtt.signing_key_name)


def service_signer_of(mqtt: MqttSettings) -> Signer | None:
    """The signer of service commands; None if there is none. Raises `LinkRefused` if its key is bad."""
    if mqtt.service_key_file is None or mqtt.service_key_name is None:
        return None
    return Signer.from_file(Path(mqtt.service_key_file), mqtt.service_key_name)
