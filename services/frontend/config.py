"""The configuration of a frontend."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FrontendConfig(BaseModel):
    """Settings of a frontend.

    Attributes:
        number: Which one it is: ten times that is added to each port of the services.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(1, ge=1, le=16)

    @property
    def port_offset(self) -> int:
        """Added to the ports of a service."""
        return 10 * self.number
