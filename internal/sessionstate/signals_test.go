package sessionstate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEverySignalHasItsOwnReason(t *testing.T) {
	t.Parallel()
	all := Process<<1 - 1
	words := all.Reasons()
	seen := map[string]bool{}
	for _, w := range words {
		if w == "" || seen[w] || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("reason %q is empty, double or not snake_case", w)
		}
		seen[w] = true
	}
	if len(words) != len(reasonWords) {
		t.Errorf("got %d signals, want one for each of %d words", len(words), len(reasonWords))
	}
	for s, word := range map[Signals]string{
		Set: "set", PreparedStatements: "pg_prepared_statements", Hold: "hold_cursor", Dblink: "dblink",
		Dynamic: "dynamic_sql", Ambiguous: "ambiguous", Nextval: "nextval", Local: "local", Commit: "commit", DDL: "ddl",
	} {
		if s.First() != word {
			t.Errorf("First() = %q, want %q", s.First(), word)
		}
	}
}

func TestReasonsNameAllSignals(t *testing.T) {
	t.Parallel()
	s := DDL | Temp | Ambiguous
	if diff := cmp.Diff([]string{"temp", "ambiguous", "ddl"}, s.Reasons()); diff != "" {
		t.Errorf("Reasons() (-want +got):\n%s", diff)
	}
	if s.First() != "temp" || Signals(0).First() != "" || Signals(0).Reasons() != nil {
		t.Errorf("First() = %q and %q, Reasons() of none = %v", s.First(), Signals(0).First(), Signals(0).Reasons())
	}
}

func TestOnlySignalsOfTheSessionAreSticky(t *testing.T) {
	t.Parallel()
	for s := Set; s <= DDL; s <<= 1 {
		want := s != Nextval && s != Local && s != Commit && s != DDL
		if s.Sticky() != want {
			t.Errorf("%s: Sticky() = %v, want %v", s.First(), s.Sticky(), want)
		}
	}
	if Signals(0).Sticky() || !(DDL | Temp).Sticky() {
		t.Error("Sticky() is wrong about none, or about a mix")
	}
}
