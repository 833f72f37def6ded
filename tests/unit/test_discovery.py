"""Settings of discovery, and which addresses a client may be given."""

from __future__ import annotations

import pytest
from airis.client import AirisClient, Discovery
from airis.client.discovery import DISCOVERY_VARIABLE, Instance
from airis.client.errors import InvalidArgumentError as ClientInvalidArgumentError
from pydantic import ValidationError

from services.config import read
from services.shared.discovery.config import ConsulConfig
from services.shared.discovery.registration import AUTO, OwnInstance, Registration
from services.shared.errors import InvalidArgumentError


def test_an_address_of_consul_is_read() -> None:
    assert Discovery.parse("consul://127.0.0.1:8500") == Discovery("127.0.0.1:8500", "airis")
    assert Discovery.parse("consul://[::1]:8500/mine/").service("metrics") == "mine-metrics"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8500", "consul://", "consul://host", "consul://u:p@host:1", "consul://host:0", "http://host:1"]
)
def test_what_is_no_directory_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ClientInvalidArgumentError, match=r"consul://127\.0\.0\.1:8500"):
        Discovery.parse(url)


def test_a_given_target_wins_over_the_environment() -> None:
    environment = {DISCOVERY_VARIABLE: "consul://host:8500"}
    assert Discovery.find(None, use_environment=True, environment=environment) == Discovery("host:8500")
    assert Discovery.find(None, use_environment=False, environment=environment) is None
    with pytest.raises(ValueError, match="not both"):
        AirisClient("127.0.0.1:8080", discovery="consul://host:8500")


def test_the_variable_of_clients_is_none_of_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISCOVERY_VARIABLE, "consul://host:8500")
    assert read().discovery.kind == "static"


def test_targets_of_ipv6_are_written_with_brackets() -> None:
    assert Instance("i", "::1", 8001).target == "[::1]:8001"


def test_consul_forgets_nobody_sooner_than_it_can() -> None:
    assert ConsulConfig().deregister_after == 90
    with pytest.raises(ValidationError, match="Consul forgets no instance sooner"):
        ConsulConfig(deregister_after=30)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_nobody_can_call_is_not_registered(host: str) -> None:
    instance = OwnInstance("metrics", host, 8001, 9101, "1", "all", "airis.metrics.v1.MetricsService")
    with pytest.raises(InvalidArgumentError, match="advertise_host"):
        Registration(ConsulConfig(), instance)
    assert Registration(ConsulConfig(advertise_host="10.0.0.7"), instance).id == "airis-metrics-10.0.0.7-8001"
    assert host not in Registration(ConsulConfig(advertise_host=AUTO), instance).id
