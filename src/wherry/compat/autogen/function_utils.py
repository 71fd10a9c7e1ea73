"""The names that programs import from `autogen.function_utils`."""

from __future__ import annotations

from wherry.compat.autogen.schemas import get_function_schema, load_basemodels_if_needed, serialize_to_str

__all__ = ["get_function_schema", "load_basemodels_if_needed", "serialize_to_str"]
