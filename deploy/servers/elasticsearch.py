"""Elasticsearch: one node, of the distribution that its own builds test with, and a plugin with what that lacks."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploy.servers import tools
from deploy.servers.accounts import unprivileged
from deploy.servers.http import get
from deploy.servers.ports import LOOPBACK
from deploy.servers.recipe import LOG, SOURCES, MavenLibraries
from deploy.servers.server import Server
from services.supervisor.process import Command

JAVA_RELEASE = 21
# Garbage collection logs and heap dumps are nothing that a test looks at; other options the server needs.
_UNWANTED_OPTIONS = ("-XX:+UseG1GC", "-Xlog:gc", "-XX:+HeapDump", "-XX:ErrorFile", "20-:-XX:ErrorFile")
_LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


@dataclass(frozen=True)
class ElasticsearchDistribution:
    """The distribution in `home`, with our plugin compiled into its `plugins`."""

    libraries: MavenLibraries

    @property
    def name(self) -> str:
        """Such as "kafka"."""
        return self.libraries.name

    @property
    def version(self) -> str:
        """Of Elasticsearch."""
        return self.libraries.version

    @property
    def megabytes(self) -> int:
        """In the cache."""
        return self.libraries.megabytes

    def fetch(self, folder: Path) -> None:
        """Fetches the distribution and nori. Raises `ServerError` when there is no JDK, before it waits for them."""
        tools.java_home(JAVA_RELEASE, compiler=True)
        self.libraries.fetch(folder)

    def build(self, folder: Path) -> None:
        """Unpacks the one, compiles the plugin."""
        archive = folder / "lib" / f"elasticsearch-{self.version}.zip"
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
        archive.unlink()
        home = (folder / f"elasticsearch-{self.version}").rename(folder / "home")
        for script in (home / "bin").iterdir():
            script.chmod(0o755)
        for platform in (home / "lib" / "platform").iterdir():
            if not platform.name.startswith("linux-"):
                shutil.rmtree(platform)
        plugin = home / "plugins" / "airis"
        plugin.mkdir(parents=True)
        shutil.copy(SOURCES / self.name / "plugin" / "plugin-descriptor.properties", plugin)
        for library in (folder / "lib").glob("*.jar"):
            library.rename(plugin / library.name)
        sources = sorted(str(path) for path in (SOURCES / self.name / "plugin" / "src").rglob("*.java"))
        java = tools.java_home(JAVA_RELEASE, compiler=True) / "bin"
        classes, log = folder / "classes", folder / LOG
        path = f"{home / 'lib'}/*:{plugin}/*"
        release = ["--release", str(JAVA_RELEASE)]
        tools.run([str(java / "javac"), *release, "-nowarn", "-d", str(classes), "-cp", path, *sources], folder, log)
        tools.run([str(java / "jar"), "cf", str(plugin / "airis.jar"), "-C", str(classes), "."], folder, log)
        shutil.rmtree(classes)
        shutil.rmtree(folder / "lib")


class Elasticsearch(Server):
    """`config` holds settings of the node, such as {"cluster.routing.allocation.disk.threshold_enabled": "true"}.

    It refuses to run as root: see `accounts`.
    """

    recipe = ElasticsearchDistribution(
        MavenLibraries(
            name="elasticsearch",
            version="9.5.3",
            megabytes=170,
            sha256=(
                ("elasticsearch-9.5.3.zip", "bec49f3b8d00e75c8d1cec85c35298635ec9fbd3ae80ef5aeb6bc05abdb3db2d"),
                ("lucene-analysis-nori-10.5.0.jar", "01c3052bd62f7bfaece34aef36af527951fa30e3010c79fd6f61a813ed0277b9"),
            ),
        )
    )
    port_names: ClassVar[tuple[str, ...]] = ("http", "transport")
    start_seconds = 240.0

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://{self.address}"

    @property
    def settings(self) -> dict[str, str]:
        """The log store on it."""
        return {"AIRIS_LOGS__STORE": "elasticsearch", "AIRIS_LOGS__ELASTICSEARCH__HOSTS": self.url}

    def command(self, installation: Path) -> Command:
        """Writes the configuration anew."""
        home = installation / "home"
        configuration = self.data / "config"
        temporary = self.data / "tmp"
        for folder in (configuration, temporary, self.data / "logs", self.data / "data"):
            folder.mkdir(exist_ok=True)
        settings = {
            "cluster.name": "airis",
            "node.name": "airis-1",
            "discovery.type": "single-node",
            "network.host": LOOPBACK,
            "http.port": str(self.ports["http"]),
            "transport.port": str(self.ports["transport"]),
            "path.data": str(self.data / "data"),
            "path.logs": str(self.data / "logs"),
            "xpack.security.enabled": "false",
            # How full the machine's disk is, is no matter of a test, unless it says so.
            "cluster.routing.allocation.disk.threshold_enabled": "false",
            # It refuses requests while garbage fills the heap, and the serial collector leaves it there until then.
            "indices.breaker.total.use_real_memory": "false",
            **self.config,
        }
        # Settings by path are flat in YAML, too; JSON's strings are YAML's.
        text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items())
        (configuration / "elasticsearch.yml").write_text(text)
        (configuration / "log4j2.properties").write_text(_LOG4J)
        options = (home / "config" / "jvm.options").read_text().splitlines()
        wanted = [line for line in options if not line.startswith(_UNWANTED_OPTIONS)]
        wanted += ["-Xms512m", "-Xmx1g", "-XX:+UseSerialGC"]
        (configuration / "jvm.options").write_text("\n".join(wanted) + "\n")
        arguments, user = unprivileged(self.data, [str(home / "bin" / "elasticsearch")])
        return Command(
            arguments=arguments,
            environment={
                "ES_JAVA_HOME": str(tools.java_home(JAVA_RELEASE)),
                "ES_PATH_CONF": str(configuration),
                "ES_TMPDIR": str(temporary),
                "HOSTNAME": os.environ.get("HOSTNAME", "localhost"),
            },
            user=user,
            stop_seconds=30.0,
        )

    def answers(self) -> bool:
        """Whether it has read what indices there are, and has the primary shards of all."""
        if get(self.address, "/_settings?filter_path=none")[0] != 200:
            return False
        status, _ = get(self.address, "/_cluster/health?wait_for_status=yellow&timeout=1s")
        return status == 200
