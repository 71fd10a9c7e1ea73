"""Models: the protocol, its records, and the clients."""

from wherry.models.protocol import (
    Counter,
    Model,
    ModelDelta,
    ModelProfile,
    ModelReply,
    ModelRequest,
    Prepared,
)

__all__ = ["Counter", "Model", "ModelDelta", "ModelProfile", "ModelReply", "ModelRequest", "Prepared"]
