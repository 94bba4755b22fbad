"""What a session asks of latencies: who is timed together, and how many answers can be wrong by chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class LatencyPlan:
    """Filled in when collection ends; without one, as for a test alone, one question is open.

    Args:
        together: names of the qconfigs whose latency is asked for, by the id of their suite.
        questions: by test id, how many are asked of latencies there.
    """

    together: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    questions: Mapping[str, int] = field(default_factory=dict)
    _rejected: set[str] = field(default_factory=set)

    def open_questions(self, nodeid: str) -> int:
        """Those that are not yet rejected, the ones of the test `nodeid` always among them."""
        rejected = self._rejected - {nodeid}
        return max(1, sum(asked for test, asked in self.questions.items() if test not in rejected))

    def reject(self, nodeid: str) -> None:
        """A latency of this test has failed."""
        self._rejected.add(nodeid)
