"""The configuration file: defaults, and every finding with its key path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloud_gateway.settings import Settings, load
from edge_agent.errors import ConfigError

GOOD = """
listen_port = 8080
public_url = "http://127.0.0.1:8080"
[mqtt]
host = "127.0.0.1"
port = 1883
client_id = "gateway"
[[platforms]]
name = "acme"
api_key = "secret-key"
webhook_url = "https://example.org/hook"
"""


def test_defaults(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(GOOD)
    settings = load(path)
    assert settings.listen_host == "127.0.0.1"
    assert settings.database_url == f"sqlite:///{tmp_path}/gateway.db"
    assert settings.operations_key is None
    assert "secret-key" not in repr(settings)


def test_the_operations_key_is_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('operations_key = "open sesame"\n' + GOOD)
    settings = load(path)
    assert settings.operations_key is not None
    assert settings.operations_key.get_secret_value() == "open sesame"
    assert "sesame" not in repr(settings)


def test_the_example_is_good() -> None:
    path = Path(__file__).parents[2] / "config" / "gateway.example.toml"
    settings = load(path)
    assert settings.platforms[0].name == "example"
    # It names every key of these sections, with the value that it has when it is not there.
    for section in (settings.webhooks, settings.limits, settings.keep):
        assert section.model_fields_set == set(type(section).model_fields)
        assert section == type(section)()
    assert settings.share_group == Settings.model_fields["share_group"].default


def test_the_keys_that_the_example_only_shows_are_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = tmp_path / "seed"
    seed.write_text("A" * 43 + "=")
    seed.chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    text = (Path(__file__).parents[2] / "config" / "gateway.example.toml").read_text()
    mqtt = re.sub(
        r"^# (\w+ = |\[mqtt\.tls\]|\[metrics\])", r"\1", text[text.index("[mqtt]") :], flags=re.MULTILINE
    )
    path = tmp_path / "gateway.toml"
    path.write_text(text[: text.index("[mqtt]")] + mqtt)
    settings = load(path)
    found = settings.mqtt
    assert (found.port, found.transport, found.signing_key_name) == (1883, "websockets", "gateway-2026")
    assert found.tls is not None
    assert found.tls.key_file == str(tmp_path / "key.pem")
    assert settings.metrics is not None
    assert (settings.metrics.listen_host, settings.metrics.listen_port) == ("127.0.0.1", 9464)


def test_a_service_keeps_its_database_in_its_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(GOOD)
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edge-gateway")
    assert load(path).database_url == "sqlite:////var/lib/edge-gateway/gateway.db"
    path.write_text('database_url = "sqlite:////elsewhere/g.db"\n' + GOOD)
    assert load(path).database_url == "sqlite:////elsewhere/g.db"


def test_the_asynchronous_spelling_means_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('database_url = "sqlite+aiosqlite:////var/lib/g.db"\n' + GOOD)
    assert load(path).database_url == "sqlite:////var/lib/g.db"


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("listen_port = 8080", "listen_port = 0", "listen_port"),
        ("listen_port = 8080", 'listen_port = "8080"', "listen_port"),
        ("listen_port = 8080", "listen_port = 8080\nextra = 1", "extra"),
        ("listen_port = 8080", 'listen_port = 8080\noperations_key = ""', "operations_key"),
        ("port = 1883", "port = 1883\nuser = 1", "mqtt.user"),
        ('client_id = "gateway"', 'client_id = "a/b"', "mqtt.client_id"),
        ("https://example.org/hook", "http://example.org/hook", "platforms[0].webhook_url"),
        ('api_key = "secret-key"', 'api_key = ""', "platforms[0].api_key"),
        ('"http://127.0.0.1:8080"', '"http://127.0.0.1:8080/"', "public_url"),
        ("[mqtt]", "[mqtt", ""),
        ("[mqtt]", '[webhooks]\nallow_networks = ["10.0.0.1/8"]\n[mqtt]', "webhooks.allow_networks[0]"),
        ("[mqtt]", "[webhooks]\ngive_up_days = 0\n[mqtt]", "webhooks.give_up_days"),
        ("[mqtt]", "[limits]\nwrong_keys = 0\n[mqtt]", "limits.wrong_keys"),
        ("[mqtt]", 'trusted_proxies = ["lb"]\n[mqtt]', "trusted_proxies[0]"),
        ("[mqtt]", "[keep]\nevents = 1\n[mqtt]", "keep.events"),
        ("listen_port = 8080", 'listen_port = 8080\nshare_group = "a/b"', "share_group"),
        ('api_key = "secret-key"', 'api_key = "secret-key"\nburst = 0', "platforms[0].burst"),
        ("listen_port = 8080", 'listen_port = 8080\ndatabase_url = "nonsense"', ""),
        ("listen_port = 8080", 'listen_port = 8080\ndatabase_url = "nosuch://x"', ""),
    ],
)
def test_every_finding_has_its_path(tmp_path: Path, old: str, new: str, path: str) -> None:
    file = tmp_path / "gateway.toml"
    assert old in GOOD
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert [finding.path for finding in caught.value.findings] == [path]
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("listen", "section", "problem"),
    [
        ('listen_host = "0.0.0.0"\n', 'platform = "acme"', "wall needs a listen_host on loopback"),
        ("", 'platform = "nobody"', "wall.platform names none of the platforms"),
        ("", 'platform = "acme"\nextra = 1', "wall.extra"),
    ],
)
def test_the_wall_is_for_loopback_and_for_a_known_platform(
    tmp_path: Path, listen: str, section: str, problem: str
) -> None:
    file = tmp_path / "gateway.toml"
    wall = f'[wall]\nsimulator_url = "http://127.0.0.1:8081"\n{section}\n[mqtt]'
    file.write_text(listen + GOOD.replace("[mqtt]", wall, 1))
    with pytest.raises(ConfigError, match=problem.replace(".", "[.]")):
        load(file)


def test_two_platforms_with_one_key_or_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    for name, key in (("acme", "another"), ("other", "secret-key")):
        file.write_text(GOOD + f'[[platforms]]\nname = "{name}"\napi_key = "{key}"\n')
        with pytest.raises(ConfigError, match="different"):
            load(file)
