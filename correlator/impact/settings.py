"""Settings of the impact model; part of what decides."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Gamma = Literal["max", "capped_sum", "noisy_or"]


class ImpactSettings(BaseModel):
    """How impact is computed and bounded.

    Every bound has a counter (`ImpactModel.counters`); an impact that met one says so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gamma: Gamma = Field(
        default="max",
        description="How protections of one asset against one threat combine. max never promises more than the "
        "best of them: two of the same kind add nothing (SAFECARE). noisy_or takes them as independent, "
        "capped_sum as complementary.",
    )
    cutoff: float = Field(default=0.05, ge=0.001, le=0.5, description="Likelihood below which nothing is followed.")
    max_paths: int = Field(
        default=20_000, ge=10, description="Paths one impact follows; beyond it the likeliest ones are kept."
    )
    told_from: float = Field(default=0.05, ge=0, le=1, description="Least likelihood of an impact that is told.")
    told: int = Field(default=20, ge=1, le=500, description="Impacts a threat lists; the rest is counted.")
    severity_from: float = Field(default=0.3, ge=0, le=1, description="Likelihood from which a hit service counts.")
    advice: int = Field(default=3, ge=0, le=3, description="Most counter-measures in the advised set.")
    max_measures: int = Field(
        default=12, ge=1, le=40, description="Candidates of which sets are tried; the best ones alone are taken."
    )
    max_places: int = Field(
        default=40, ge=1, description="Measures at places that are tried alone, those on the gravest paths first."
    )
    least_saving: float = Field(default=0.02, ge=0, description="Expected loss that an advice must save, net of cost.")
