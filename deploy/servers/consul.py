"""Consul: one server that keeps what it knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from deploy.servers.http import get
from deploy.servers.ports import LOOPBACK
from deploy.servers.recipe import GoProgram
from deploy.servers.server import Server
from services.supervisor.process import Command


class Consul(Server):
    """`config` holds settings of the agent, each as JSON: {"acl": '{"enabled": true}'}."""

    recipe = GoProgram(name="consul", version="1.22.7", megabytes=180, package="github.com/hashicorp/consul")
    port_names: ClassVar[tuple[str, ...]] = ("http", "dns", "server", "serf_lan", "serf_wan")

    @property
    def settings(self) -> dict[str, str]:
        """Discovery on it."""
        return {"AIRIS_DISCOVERY__KIND": "consul", "AIRIS_DISCOVERY__CONSUL__ADDRESS": self.address}

    def command(self, installation: Path) -> Command:
        """Writes the configuration anew."""
        configuration = {
            "server": True,
            "bootstrap_expect": 1,
            "node_name": "airis",
            "datacenter": "dc1",
            "data_dir": str(self.data / "state"),
            "bind_addr": LOOPBACK,
            "client_addr": LOOPBACK,
            "ports": {**self.ports, "https": -1, "grpc": -1, "grpc_tls": -1},
            "disable_update_check": True,
            "ui_config": {"enabled": False},
            "connect": {"enabled": False},
            "log_level": "INFO",
            # One server in one room: it need not wait for others, as it would in the world.
            "performance": {"raft_multiplier": 1},
            "leave_on_terminate": False,
            "server_rejoin_age_max": "8760h",
            **{name: json.loads(value) for name, value in self.config.items()},
        }
        file = self.data / "config.json"
        file.write_text(json.dumps(configuration, indent=2))
        return Command(arguments=[str(installation / "bin" / "consul"), "agent", f"-config-file={file}"])

    def answers(self) -> bool:
        """Whether there is a leader."""
        status, body = get(self.address, "/v1/status/leader")
        return status == 200 and len(body) > len('""')
