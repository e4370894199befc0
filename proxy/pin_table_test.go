package proxy

import (
	"testing"

	"sluice/internal/relay"
	"sluice/internal/sessionstate"
)

func TestEveryReasonToPinHasOneRow(t *testing.T) {
	t.Parallel()
	rows := make(map[string]int)
	for _, row := range pinReasons {
		rows[row.reason]++
		if row.words == "" || row.suggestion == "" {
			t.Errorf("%q lacks words or a suggestion", row.reason)
		}
	}
	wanted := []string{relay.PinParameter, relay.PinLarge, relay.PinFunctionCall, relay.PinClock, relay.PinOpaque, relay.PinSequence}
	for s := sessionstate.Signals(1); s <= sessionstate.Ambiguous; s <<= 1 {
		if s.Sticky() && s != sessionstate.Sequence {
			wanted = append(wanted, s.First())
		}
	}
	for _, reason := range wanted {
		if rows[reason] != 1 {
			t.Errorf("%d rows for %q, want 1", rows[reason], reason)
		}
	}
	if len(rows) != len(wanted) {
		t.Errorf("%d rows for %d reasons", len(rows), len(wanted))
	}
}
