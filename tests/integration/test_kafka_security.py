"""The Kafka bus on a broker that asks who comes: the password is in a file, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError

from deploy.servers import make_server
from services.shared.bus.adapters.kafka import KafkaBus
from services.shared.bus.config import KafkaConfig
from services.shared.bus.port import Batch, Header, InsertLimits
from services.shared.errors import UnavailableError

LOGIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p" user_u="p" {more};'
BROKER = {
    "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.plaintext.plain.sasl.jaas.config": LOGIN.format(more='user_airis="se cret"'),
}


def decode(header: Header, payload: bytes) -> bytes:
    return payload


@pytest.mark.servers
@pytest.mark.timeout(300)
async def test_a_broker_with_passwords_takes_the_right_one_only(tmp_path: Path) -> None:
    server = make_server("kafka", tmp_path / "kafka", config=BROKER)
    server.start()
    password = tmp_path / "password"
    config = KafkaConfig(
        bootstrap_servers=server.address,
        partitions=1,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="airis",
        sasl_password_file=password,
    )
    try:
        with pytest.raises(UnavailableError, match="credentials"):
            await KafkaBus(config, "test", decode).open()
        password.write_text("wrong\n")
        with structlog.testing.capture_logs() as logs, pytest.raises(UnavailableError) as caught:
            await KafkaBus(config, "test", decode).open()
        assert "wrong" not in caught.value.message + str(logs)
        password.write_text("se cret\n")
        bus: KafkaBus[bytes] = KafkaBus(config, "test", decode, limits=InsertLimits(max_age=0.02))
        await bus.open()
        await bus.publish(Batch(Header("default", "airis.test.v1.Batch", 1, 1), b"wire", decode))
        await bus.commit(await bus.next_insert())
        await bus.close()
    finally:
        server.stop()


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValidationError, match="sasl_password_file"):
        KafkaConfig(security_protocol="SASL_SSL", sasl_username="airis")
    with pytest.raises(ValidationError, match="ssl_key_file"):
        KafkaConfig(security_protocol="SSL", ssl_certificate_file=Path("certificate.pem"))
