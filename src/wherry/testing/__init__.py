"""What tests need: models that play a script, and the conformance suites that every backend runs."""

from wherry.models.scripted import FunctionModel, ScriptedModel
from wherry.sandbox.conformance import check_sandbox

__all__ = ["FunctionModel", "ScriptedModel", "check_sandbox"]
