"""A copy of the protos that a test may change, and what is generated from it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def compile_protos(protos: Path, into: Path) -> Path:
    """Compiles the contracts as `make generate` does, with their comments."""
    folder = protos / "opentelemetry"
    files = [*protos.glob("airis/**/*.proto"), *protos.glob("buf/**/*.proto"), *folder.glob("**/*_service.proto")]
    names = [str(file.relative_to(protos)) for file in sorted(files)]
    target = into / "commented.binpb"
    arguments = ["--include_imports", "--include_source_info", f"--descriptor_set_out={target}"]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{protos}",
            *arguments,
            *names,
            "google/rpc/error_details.proto",
        ],
        check=True,
        cwd=protos,
    )
    return target


def changed(tmp_path: Path, proto: str, old: str, new: str) -> Path:
    """The descriptor set of the contracts with one text replaced, at its first place in one of the protos."""
    protos = tmp_path / "proto"
    shutil.copytree(ROOT / "proto", protos)
    path = protos / proto
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return compile_protos(protos, tmp_path)
