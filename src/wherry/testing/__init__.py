"""What tests of agents need: models that play a script."""

from wherry.models.scripted import FunctionModel, ScriptedModel

__all__ = ["FunctionModel", "ScriptedModel"]
