package simulation

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// sample is one line of the metrics.
type sample struct {
	labels map[string]string
	value  int
}

// scraped returns what the server exports.
func (w *world) scraped() string {
	response := httptest.NewRecorder()
	w.srv.Metrics().ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return response.Body.String()
}

// metrics returns what the server exports, by name.
func (w *world) metrics() map[string][]sample {
	label := regexp.MustCompile(`(\w+)="([^"]*)"`)
	samples := make(map[string][]sample)
	for line := range strings.Lines(w.scraped()) {
		at := strings.LastIndexByte(line, ' ')
		name, _, labelled := strings.Cut(line, "{")
		if !labelled || at < 0 {
			continue // without labels: none of those that are looked at
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		if err != nil {
			continue
		}
		s := sample{labels: make(map[string]string), value: int(n)}
		for _, m := range label.FindAllStringSubmatch(line, -1) {
			s.labels[m[1]] = m[2]
		}
		samples[name] = append(samples[name], s)
	}
	return samples
}

// scrape looks at the metrics now and then, as Prometheus does.
func (w *world) scrape(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(scrapeEvery):
			if strings.Contains(w.scraped(), "\nsluice_panics_total 0\n") {
				continue
			}
			w.violation("metrics do not say that nothing has panicked")
		}
	}
}

// lives reports whether a session goes on after what is counted as this reason.
func lives(reason string) bool { return reason == "query_timeout" || reason == "query_cancelled" }

// audit compares the metrics with the log, while nothing happens. Pools that nobody uses take their numbers with them;
// where none did, both are equal.
func (w *world) audit() {
	metrics := w.metrics()
	type key struct{ tenant, mode string }
	balance := make(map[key]int) // logins less clients less ends: 0
	seen := make(map[reasonKey]int)
	for _, s := range metrics["sluice_logins_total"] {
		balance[key{s.labels["tenant"], s.labels["mode"]}] += s.value
	}
	for _, tenant := range w.srv.Status().Tenants {
		for _, p := range tenant.Pools {
			balance[key{tenant.Name, p.Mode}] -= p.Clients
		}
	}
	for _, s := range metrics["sluice_sessions_ended_total"] {
		if !lives(s.labels["reason"]) {
			balance[key{s.labels["tenant"], s.labels["mode"]}] -= s.value
			seen[reasonKey{s.labels["tenant"], s.labels["mode"], s.labels["reason"]}] += s.value
		}
	}
	for k, n := range balance {
		if n != 0 {
			w.violation("metrics of %s (%s): logins less clients less ended sessions is %d", k.tenant, k.mode, n)
		}
	}
	for _, s := range metrics["sluice_refusals_total"] {
		seen[reasonKey{s.labels["tenant"], s.labels["mode"], s.labels["reason"]}] += s.value
	}
	logged, counted := 0, 0
	for _, k := range w.ends.reasons() {
		n := w.ends.count(k)
		logged, counted = logged+n, counted+seen[k]
		if seen[k] > n {
			w.violation("%+v: %d in the metrics, %d in the log", k, seen[k], n)
		}
		delete(seen, k)
	}
	for k, n := range seen {
		w.violation("%+v: %d in the metrics, none in the log", k, n)
	}
	w.outcomes.add("audit: log and metrics agree " + strconv.FormatBool(logged == counted))
}
