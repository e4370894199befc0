package proxy_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/pgscript"
)

// sample returns the value of a metric with that label.
func (h *harness) sample(name, label string) string {
	h.t.Helper()
	w := httptest.NewRecorder()
	h.srv.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, label) {
			return strings.TrimSpace(line[strings.LastIndexByte(line, ' '):])
		}
	}
	return ""
}

func TestPinsAreCountedByReasonWhileTheyLastAndAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(5))
		check := func(clients, pins, seconds string) {
			t.Helper()
			for name, want := range map[string]string{
				"sluice_pinned_clients": clients, "sluice_pins_total": pins, "sluice_pinned_seconds_total": seconds,
			} {
				if got := h.sample(name, `reason="temp"`); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		}
		first := h.login(transactionPort, "alice")
		query(t, first, "CREATE TEMP TABLE x (i int)")
		time.Sleep(3 * time.Second)
		query(t, h.login(transactionPort, "alice"), "CREATE TEMP TABLE x (i int)")
		time.Sleep(4 * time.Second)
		check("2", "2", "11")
		first.Run(t, "C: Terminate", "B: EOF")
		time.Sleep(10 * time.Second)
		check("1", "2", "21")
	})
}

func TestFirstStatementThatPinsIsLoggedWithASuggestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, pgscript.Options{}, small(10))
		for _, sql := range []string{"CREATE TEMP TABLE x AS SELECT 'one' AS a", "CREATE TEMP  TABLE x AS SELECT 'two' AS a", "CREATE TEMP TABLE y (i int)"} {
			query(t, h.login(transactionPort, "alice"), sql)
			synctest.Wait() // the client has its answer before the pin is known
		}
		var logged []string
		for line := range strings.Lines(h.log.String()) {
			if strings.Contains(line, "session pinned") && strings.Contains(line, "level=INFO") {
				_, what, _ := strings.Cut(line, "pin=")
				logged = append(logged, strings.TrimSpace(what))
			}
		}
		suggestion := ` suggestion="create it ON COMMIT DROP and use it in that transaction, or drop it when it is done with"`
		want := []string{
			`temp statement="CREATE TEMP TABLE x AS SELECT ? AS a"` + suggestion, `temp statement="CREATE TEMP TABLE y (i int)"` + suggestion,
		}
		if strings.Join(logged, "\n") != strings.Join(want, "\n") {
			t.Errorf("got %q, want %q", logged, want)
		}
		if log := h.log.String(); strings.Contains(log, "'one'") || strings.Contains(log, "'two'") {
			t.Errorf("a literal is in the log:\n%s", log)
		}
	})
}
