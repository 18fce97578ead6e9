"""The page of the policies, and a system that policies are bound to."""

from __future__ import annotations

from pathlib import Path

from llmsched_env.config import Server, SimConfig
from llmsched_env.profiles import load_profile

SYSTEM = SimConfig((Server(load_profile("h100-80gb_llama2-70b_tp4")),))

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "policies.md").read_text(encoding="utf-8")
