"""SPEED-Bench: measures speculative decoding so that two people get the same number."""

from speed_bench.errors import SpeedBenchError
from speed_bench.types import Conversation, Failure, Request, SpecCounts, Step, TurnRecord

__all__ = ["Conversation", "Failure", "Request", "SpecCounts", "SpeedBenchError", "Step", "TurnRecord"]
