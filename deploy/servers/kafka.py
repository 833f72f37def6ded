"""Kafka: one node that is broker and controller (KRaft)."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import ClassVar

from deploy.servers import tools
from deploy.servers.ports import LOOPBACK
from deploy.servers.recipe import MavenLibraries
from deploy.servers.server import Server
from services.supervisor.process import Command

JAVA_RELEASE = 17
# Of one node; every start of the same data needs the same.
_CLUSTER_ID = "airisAirisAirisAirisAA"
_NODE = 1
_LOG4J = """\
Configuration:
  Appenders:
    Console:
      name: stdout
      PatternLayout: {pattern: "%d %p %c %m%n"}
  Loggers:
    Root: {level: INFO, AppenderRef: [{ref: stdout}]}
"""


class Kafka(Server):
    """`config` holds settings of the broker, such as {"log.retention.bytes": "1000000"}."""

    recipe = MavenLibraries(name="kafka", version="4.3.1", megabytes=46)
    port_names: ClassVar[tuple[str, ...]] = ("kafka", "controller")

    @property
    def settings(self) -> dict[str, str]:
        """The bus on it."""
        return {"AIRIS_BUS__KIND": "kafka", "AIRIS_BUS__KAFKA__BOOTSTRAP_SERVERS": self.address}

    def command(self, installation: Path) -> Command:
        """Formats the storage before the first start."""
        logs = self.data / "logs"
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(_NODE),
            "controller.quorum.voters": f"{_NODE}@{self.address_of('controller')}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{self.address_of('controller')}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(logs),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "8",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # A broker that was killed is let in again only after its session: 9 s unless told.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "log.cleaner.dedupe.buffer.size": str(16 * 1024**2),
            **self.config,
        }
        file = self.data / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        log4j = self.data / "log4j2.yaml"
        log4j.write_text(_LOG4J)
        java = str(tools.java_home(JAVA_RELEASE) / "bin" / "java")
        options = ["-cp", f"{installation / 'lib'}/*", f"-Dlog4j2.configurationFile={log4j}"]
        if not (logs / "meta.properties").exists():
            tool = [java, "-Xmx128m", *options, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
            self.run_to_end([*tool, "--cluster-id", _CLUSTER_ID, "--config", str(file)])
        # Quick to start and small, for tests: no server class machine's heap, and the fast compiler first.
        memory = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        return Command(arguments=[java, *memory, *options, "kafka.Kafka", str(file)], stop_seconds=30.0)

    def answers(self) -> bool:
        """Whether the broker takes part: its listener opens only then."""
        with socket.create_connection((LOOPBACK, self.ports["kafka"]), timeout=1):
            return True
