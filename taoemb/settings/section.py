"""What every section of the settings has in common: frozen, strict, with the defaults of its own place."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _keep_the_sections_own_defaults(cls, values: Any) -> Any:
        """A partly given inner section keeps the defaults of where it stands (grpo.optim.lr is not sft.optim.lr)."""
        if not isinstance(values, dict):
            return values
        merged = dict(values)
        for name, field in cls.model_fields.items():
            if isinstance(field.default, BaseModel) and isinstance(values.get(name), dict):
                merged[name] = field.default.model_dump(exclude_unset=True) | values[name]
        return merged
