package leakhunt

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"
)

// samples returns those of a metric for a tenant, by reason; of one without reasons by "".
func (w *world) samples(page, metric, tenant string) map[string]float64 {
	found := make(map[string]float64)
	for line := range strings.Lines(page) {
		labels, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), metric+"{"), "} ")
		if !ok || !strings.HasPrefix(line, metric+"{") || !strings.Contains(labels, `tenant="`+tenant+`"`) {
			continue
		}
		_, reason, _ := strings.Cut(labels, `reason="`)
		reason, _, _ = strings.Cut(reason, `"`)
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			w.t.Errorf("%s: %v", line, err)
		}
		found[reason] += n
	}
	return found
}

// report prints how much was multiplexed, and fails a run in which it was little, or sessions ended as they should not.
func (w *world) report(took time.Duration) {
	answer := httptest.NewRecorder()
	w.srv.Metrics().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	page := answer.Body.String()
	w.mu.Lock()
	for _, what := range slices.Sorted(maps.Keys(w.counts)) {
		w.t.Logf("%-40s %d", what, w.counts[what])
	}
	w.mu.Unlock()
	for _, tn := range tenants() {
		one := func(metric string) float64 { return w.samples(page, metric, tn.name)[""] }
		pins, seconds := w.samples(page, "sluice_pins_total", tn.name), w.samples(page, "sluice_pinned_seconds_total", tn.name)
		ended := w.samples(page, "sluice_sessions_ended_total", tn.name)
		total := 0.0
		for _, s := range seconds {
			total += s
		}
		share := total / (float64(tn.clients) * took.Seconds())
		questions, asking := one("sluice_state_questions_total"), one("sluice_state_question_seconds_total")
		w.t.Logf("%s: %d clients on %d backends: %.0f transactions in %.0f leases; pinned for %.1f %% of the clients' time (at most %.0f %%)",
			tn.name, tn.clients, backends, one("sluice_transactions_total"), one("sluice_wait_seconds_count"), 100*share, 100*tn.share)
		w.t.Logf("  asked %.0f times, %.2f ms each, %.0f failed; %.0f settings carried", questions, 1000*asking/max(1, questions),
			one("sluice_state_questions_failed_total"), one("sluice_settings_carried_total"))
		for _, reason := range slices.Sorted(maps.Keys(pins)) {
			w.t.Logf("  pinned by %-16s %5.0f times, %6.1f s", reason, pins[reason], seconds[reason])
		}
		w.t.Logf("  sessions ended: %s", listed(ended))
		if share > tn.share {
			w.t.Errorf("%s: sessions were pinned for %.1f %% of their time, at most %.0f %% is expected", tn.name, 100*share, 100*tn.share)
		}
		for reason := range ended {
			if !slices.Contains([]string{"client_terminated", "client_disconnected", "too_many_pinned", "query_cancelled"}, reason) {
				w.t.Errorf("%s: %.0f sessions ended by %s", tn.name, ended[reason], reason)
			}
		}
	}
}

func listed(counts map[string]float64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%.0f %s", counts[name], name))
	}
	return strings.Join(parts, ", ")
}
