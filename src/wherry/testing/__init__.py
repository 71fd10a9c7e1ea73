"""What tests need: models that play a script, and the conformance suites that every backend runs."""

from wherry.models.scripted import FunctionModel, ScriptedModel
from wherry.sandbox.conformance import check_sandbox
from wherry.store.conformance import check_store

__all__ = ["FunctionModel", "ScriptedModel", "check_sandbox", "check_store"]
