"""Facts of imagined runs for the windows to show, and a bridge that hands them out.

The shapes of the curves are those of a small run; no figure here is a measurement of anything. They are such as the
engine gives, in its own words, and agree with each other.
"""

from __future__ import annotations

from msgspec.structs import replace as replace

from tests.tui.recorded.books import booked as booked
from tests.tui.recorded.books import days as days
from tests.tui.recorded.books import detailed as detailed
from tests.tui.recorded.books import entry as entry
from tests.tui.recorded.books import estimated as estimated
from tests.tui.recorded.bridge import RecordedBridge as RecordedBridge
from tests.tui.recorded.checks import checks as checks
from tests.tui.recorded.checks import closings as closings
from tests.tui.recorded.checks import opened_programs as opened_programs
from tests.tui.recorded.checks import program as program
from tests.tui.recorded.checks import unticked as unticked
from tests.tui.recorded.curves import losses as losses
from tests.tui.recorded.curves import sensors as sensors
from tests.tui.recorded.curves import series as series
from tests.tui.recorded.curves import unknown as unknown
from tests.tui.recorded.facts import CPU as CPU
from tests.tui.recorded.facts import GPU as GPU
from tests.tui.recorded.facts import NOW as NOW
from tests.tui.recorded.facts import plan as plan
from tests.tui.recorded.run import RUN_ID as RUN_ID
from tests.tui.recorded.run import in_span as in_span
from tests.tui.recorded.run import snapshot as snapshot
from tests.tui.recorded.run import summary as summary
from tests.tui.recorded.state import RAMP as RAMP
from tests.tui.recorded.state import in_state as in_state
from tests.tui.recorded.state import with_long_reason as with_long_reason
from tests.tui.recorded.state import without_power as without_power
from tests.tui.recorded.story import EVENTS as EVENTS
from tests.tui.recorded.story import LONG_LINE as LONG_LINE
from tests.tui.recorded.story import TRACEBACK as TRACEBACK
from tests.tui.recorded.story import digest as digest
from tests.tui.recorded.story import recorded_log as recorded_log
