"""Writes all that is derived from the contracts, as a step of `make generate`: `python -m deploy.render`."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.renderers.asyncapi import render_asyncapi
from deploy.renderers.envoy import render_distributed_envoy, render_envoy
from deploy.renderers.grpc_service_config import render_service_config
from deploy.renderers.istio import render_istio
from deploy.renderers.linkerd import render_linkerd
from deploy.renderers.openapi import render_openapi
from deploy.renderers.policy_table import render_policy_table
from deploy.renderers.signals import read_signals
from resilience.contract import read_descriptor_set

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "envoy" / "template.yaml"


def render(descriptors: Path) -> dict[str, str]:
    """The generated files: their text by their path in the repository.

    Args:
        descriptors: The descriptor set, with imports and comments
            (`protoc --include_imports --include_source_info --descriptor_set_out`).

    Raises:
        LookupError: An RPC has no policy, or an incomplete one.
    """
    signals = read_signals(read_descriptor_set(descriptors))
    files = {
        "envoy/envoy.yaml": render_envoy(TEMPLATE.read_text(encoding="utf-8"), signals),
        "envoy/distributed.yaml": render_distributed_envoy(TEMPLATE.read_text(encoding="utf-8"), signals),
        "deploy/grpc/service_config.json": render_service_config(signals),
        "docs/policies.md": render_policy_table(signals),
        "docs/openapi.yaml": render_openapi(signals, descriptors),
        "docs/asyncapi.yaml": render_asyncapi(signals, descriptors),
    }
    for signal in signals:
        files[f"deploy/istio/{signal.name}.yaml"] = render_istio(signal)
        files[f"deploy/linkerd/{signal.name}.yaml"] = render_linkerd(signal)
    return files


def main() -> None:
    """Writes the files below a folder, the repository if no other is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("descriptors", type=Path, help="the descriptor set, with imports and source information")
    parser.add_argument("--into", type=Path, default=ROOT, help="the folder to write below")
    arguments = parser.parse_args()
    for path, text in render(arguments.descriptors).items():
        target = arguments.into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
