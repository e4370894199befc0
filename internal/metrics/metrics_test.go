package metrics

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"sluice/pool"
)

// fixed is a Source that says what it was told to.
type fixed struct {
	mu      sync.Mutex // guards below
	pools   []pool.Stats
	process Process
}

func (f *fixed) PoolStats() []pool.Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.pools)
}

func (f *fixed) Process() Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.process
}

func (f *fixed) set(pools ...pool.Stats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pools = pools
}

// newMetrics returns Metrics that name at most limit pools.
func newMetrics(limit int, pools ...pool.Stats) (*Metrics, *fixed) {
	source := &fixed{pools: pools}
	m := New(source)
	m.ledger.limit = limit
	return m, source
}

// samples returns the samples of a scrape by name and labels. The registry finds what does not fit the descriptions.
func samples(t *testing.T, m *Metrics) map[string]string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m)
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if answer.Code != 200 {
		t.Fatalf("scrape: %d %s", answer.Code, answer.Body)
	}
	found := make(map[string]string)
	for line := range strings.Lines(answer.Body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && !strings.HasPrefix(line, "#") {
			found[name+"}"] = value
		} else if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			found[name] = value
		}
	}
	return found
}

// want compares the samples of a family, named without prefix.
func want(t *testing.T, got map[string]string, family string, want map[string]string) {
	t.Helper()
	found := make(map[string]string)
	for name, value := range got {
		if labels, ok := strings.CutPrefix(name, "sluice_"+family); ok && (labels == "" || labels[0] == '{') {
			found[labels] = value
		}
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("sluice_%s (-want +got):\n%s", family, diff)
	}
}

func key(role, mode string) pool.Key {
	return pool.Key{Tenant: "acme", Database: "app", Role: role, Mode: mode}
}

func busy() pool.Stats {
	s := pool.Stats{
		Key: key("alice", "transaction"), Limits: pool.Limits{Size: 20, MaxPinned: 19},
		Idle: 3, Active: 8, Pinned: 4, Login: 2, Closing: 1, Waiting: 5, OldestWait: 1500 * time.Millisecond,
		Traffic: pool.Traffic{
			Clients: 100, TLSClients: 60, Working: 4, InBlock: 1, MaxClients: 200,
			Logins: 1000, Transactions: 5000, Queries: 7000, ClientParses: 30, BackendParses: 9, Binds: 800, Questions: 12, QuestionsFailed: 2, LeaksPrevented: 3, Carried: 40,
			QuestionTime: 1500 * time.Millisecond,
			BytesIn:      1 << 40, BytesOut: 1<<40 + 1,
			Errors: map[string]uint64{"23": 7, "Z9": 1, "\xff\xff": 2},
			Pins:   map[string]uint64{"temp": 2}, PinnedTime: map[string]time.Duration{"temp": 90 * time.Second}, PinnedClients: map[string]int{"temp": 1},
			Ended: map[string]uint64{"client_terminated": 900},
		},
	}
	s.Traffic.Waits.Observe(0)
	s.Traffic.Waits.Observe(3 * time.Millisecond)
	s.Traffic.Waits.Observe(2 * time.Minute)
	s.Traffic.TransactionTime.Observe(time.Second)
	s.Traffic.QueryTime.Observe(250 * time.Millisecond)
	return s
}

func TestPoolIsExportedWithItsLabels(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics(500, busy())
	got := samples(t, m)
	labelled := func(more string) string {
		return `{` + more + `database="app",mode="transaction",role="alice",tenant="acme"}`
	}
	plain := labelled("")
	for family, value := range map[string]string{
		"tls_clients": "60", "pool_size": "20", "pool_max_pinned": "19", "oldest_wait_seconds": "1.5", "logins_total": "1000",
		"transactions_total": "5000", "queries_total": "7000", "client_parses_total": "30", "backend_parses_total": "9", "binds_total": "800",
		"state_questions_total": "12", "state_questions_failed_total": "2", "state_question_seconds_total": "1.5", "state_leaks_prevented_total": "3", "settings_carried_total": "40",
		"transaction_seconds_sum": "1", "query_seconds_sum": "0.25", "transaction_seconds_count": "1", "query_seconds_count": "1",
	} {
		want(t, got, family, map[string]string{plain: value})
	}
	want(t, got, "bytes_total", map[string]string{
		`{database="app",direction="in",mode="transaction",role="alice",tenant="acme"}`:  "1.099511627776e+12",
		`{database="app",direction="out",mode="transaction",role="alice",tenant="acme"}`: "1.099511627777e+12",
	})
	want(t, got, "errors_total", map[string]string{labelled(`class="23",`): "7", labelled(`class="other",`): "3"})
	for family, value := range map[string]string{"pins_total": "2", "pinned_seconds_total": "90", "pinned_clients": "1"} {
		want(t, got, family, map[string]string{`{database="app",mode="transaction",reason="temp",role="alice",tenant="acme"}`: value})
	}
	want(t, got, "sessions_ended_total", map[string]string{`{database="app",mode="transaction",reason="client_terminated",role="alice",tenant="acme"}`: "900"})
	want(t, got, "role_max_clients", map[string]string{`{mode="transaction",role="alice",tenant="acme"}`: "200"})
}

func TestEachClientAndBackendIsInOneState(t *testing.T) {
	t.Parallel()
	session := pool.Stats{
		Key: key("bob", "session"), Active: 7, Waiting: 2,
		Traffic: pool.Traffic{Clients: 7, Working: 3, InBlock: 1},
	}
	m, _ := newMetrics(500, busy(), session)
	got := samples(t, m)
	states := func(mode, role string, values map[string]string) map[string]string {
		labelled := make(map[string]string)
		for state, value := range values {
			labelled[fmt.Sprintf(`{database="app",mode="%s",role="%s",state="%s",tenant="acme"}`, mode, role, state)] = value
		}
		return labelled
	}
	clients := states("transaction", "alice", map[string]string{"active": "4", "waiting": "5", "idle": "87", "idle_in_transaction": "1", "pinned": "3"})
	for labels, value := range states("session", "bob", map[string]string{"active": "3", "waiting": "2", "idle": "3", "idle_in_transaction": "1", "pinned": "0"}) {
		clients[labels] = value
	}
	want(t, got, "clients", clients)
	backends := states("transaction", "alice", map[string]string{"active": "4", "pinned": "4", "idle": "3", "login": "2", "closing": "1"})
	for labels, value := range states("session", "bob", map[string]string{"active": "7", "pinned": "0", "idle": "0", "login": "0", "closing": "0"}) {
		backends[labels] = value
	}
	want(t, got, "backends", backends)
}

func TestHistogramsAreCumulative(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics(500, busy())
	got := samples(t, m)
	const labels = `{database="app",mode="transaction",role="alice",tenant="acme"`
	for name, value := range map[string]string{
		"_bucket" + labels + `,le="0.0001"}`: "1", "_bucket" + labels + `,le="0.0025"}`: "1", "_bucket" + labels + `,le="0.005"}`: "2",
		"_bucket" + labels + `,le="60"}`: "2", "_bucket" + labels + `,le="+Inf"}`: "3", "_count" + labels + "}": "3", "_sum" + labels + "}": "120.003",
	} {
		if got["sluice_wait_seconds"+name] != value {
			t.Errorf("sluice_wait_seconds%s: got %q, want %q", name, got["sluice_wait_seconds"+name], value)
		}
	}
}

func TestPartsOfAPoolAreAddedUp(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics(500, busy(), busy())
	got := samples(t, m)
	const labels = `{database="app",mode="transaction",role="alice",tenant="acme"}`
	for family, value := range map[string]string{"logins_total": "2000", "pool_size": "40", "oldest_wait_seconds": "1.5"} {
		want(t, got, family, map[string]string{labels: value})
	}
	want(t, got, "role_max_clients", map[string]string{`{mode="transaction",role="alice",tenant="acme"}`: "200"})
}

func TestProcessIsExported(t *testing.T) {
	t.Parallel()
	m, source := newMetrics(500)
	source.process = Process{
		Version: "1.2.3", Budgets: []Budget{{"acme", 12, 80, 16, 5}, {"globex", 3, 0, 4, 0}}, Clients: 40, MaxClients: 10000,
		CertificateExpiry: time.Unix(1900000000, 0), Draining: true, Loops: 2, Moves: 7,
	}
	got := samples(t, m)
	for family, value := range map[string]string{
		"up": "1", "draining": "1", "loops": "2", "process_clients": "40", "process_max_clients": "10000",
		"certificate_expiry_timestamp_seconds": "1.9e+09", "panics_total": "0", "session_moves_total": "7",
	} {
		want(t, got, family, map[string]string{"": value})
	}
	want(t, got, "tenant_backends", map[string]string{`{tenant="acme"}`: "12", `{tenant="globex"}`: "3"})
	want(t, got, "tenant_max_backends", map[string]string{`{tenant="acme"}`: "80"})
	source.process = Process{}
	got = samples(t, m)
	for _, family := range []string{"certificate_expiry_timestamp_seconds", "process_max_clients"} {
		want(t, got, family, map[string]string{})
	}
	want(t, got, "draining", map[string]string{"": "0"})
}

func TestEventsAreCounted(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics(500)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for range 100 {
				m.Refused("acme", "session", "too_many_clients")
				m.BackendLoginFailed("acme", "backend_unreachable")
				m.Cancelled("sent")
				m.Panicked()
			}
		})
	}
	workers.Wait()
	m.Refused("", "", "denied_address")
	got := samples(t, m)
	want(t, got, "refusals_total", map[string]string{
		`{mode="session",reason="too_many_clients",tenant="acme"}`: "800", `{mode="",reason="denied_address",tenant=""}`: "1",
	})
	want(t, got, "backend_login_failures_total", map[string]string{`{reason="backend_unreachable",tenant="acme"}`: "800"})
	want(t, got, "cancels_total", map[string]string{`{outcome="sent"}`: "800"})
	want(t, got, "panics_total", map[string]string{"": "800"})
}

func TestReloadStateKeepsTheLastSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newMetrics(500)
		loaded := fmt.Sprintf("%.9e", float64(time.Now().Unix()))
		check := func(ok, at string) {
			t.Helper()
			got := samples(t, m)
			want(t, got, "config_last_reload_successful", map[string]string{"": ok})
			if v := got["sluice_config_last_reload_success_timestamp_seconds"]; parse(t, v) != parse(t, at) {
				t.Errorf("timestamp: got %s, want %s", v, at)
			}
		}
		check("1", loaded)
		<-time.After(time.Hour)
		m.Reloaded(errors.New("no such key"))
		check("0", loaded)
		m.Reloaded(nil)
		check("1", fmt.Sprintf("%.9e", float64(time.Now().Unix())))
	})
}

func parse(t *testing.T, value string) (f float64) {
	t.Helper()
	if _, err := fmt.Sscan(value, &f); err != nil {
		t.Fatalf("%q: %v", value, err)
	}
	return f
}

func TestFailedLoginsNameOnlyRolesThatHaveLoggedIn(t *testing.T) {
	t.Parallel()
	m, source := newMetrics(500, busy())
	m.LoginFailed("acme", "alice") // nobody has asked yet who has logged in
	samples(t, m)
	m.LoginFailed("acme", "alice")
	m.LoginFailed("acme", "' or 1=1")
	m.LoginFailed("globex", "alice")
	source.set()
	samples(t, m)
	m.LoginFailed("acme", "alice") // has its series already
	want(t, samples(t, m), "login_failures_total", map[string]string{
		`{role="alice",tenant="acme"}`: "2", `{role="other",tenant="acme"}`: "2", `{role="other",tenant="globex"}`: "1",
	})
}

func TestEventLabelsAreBounded(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics(500)
	m.events.refusals.limit = 2
	for i := range 10 {
		m.Refused(fmt.Sprintf("t%d", i), "session", "denied_address")
	}
	want(t, samples(t, m), "refusals_total", map[string]string{
		`{mode="session",reason="denied_address",tenant="t0"}`: "1", `{mode="session",reason="denied_address",tenant="t1"}`: "1",
		`{mode="session",reason="denied_address",tenant="other"}`: "8",
	})
}

func TestRolesOfPlainLoginsAreBounded(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics(500)
	m.events.plainLogins.limit = 1
	for i := range 5 {
		m.PlainLogin("acme", fmt.Sprintf("role%d", i), "warn")
		m.LoggedIn("acme", "none", "")
	}
	got := samples(t, m)
	want(t, got, "plain_logins_total", map[string]string{
		`{role="role0",stage="warn",tenant="acme"}`: "1", `{role="other",stage="warn",tenant="other"}`: "4",
	})
	want(t, got, "logins_by_tls_total", map[string]string{`{cipher="",tenant="acme",version="none"}`: "5"})
}

func TestNamesInOtherEncodingsDoNotBreakTheScrape(t *testing.T) {
	t.Parallel()
	a, b := busy(), busy()
	a.Key.Role, b.Key.Role = "caf\xe9", "caf\xe8" // Latin-1
	a.Traffic.Ended, a.Traffic.Pins = map[string]uint64{"\xff": 1}, map[string]uint64{"\xff": 1}
	m, source := newMetrics(500, a, b)
	source.process = Process{Version: "\xff", Budgets: []Budget{{Tenant: "\xff"}}}
	samples(t, m)
	m.LoginFailed("acme", "caf\xe9")
	m.Refused("\xff", "\xff", "\xff")
	got := samples(t, m)
	want(t, got, "logins_total", map[string]string{`{database="app",mode="transaction",role="caf` + "\uFFFD" + `",tenant="acme"}`: "2000"})
	want(t, got, "login_failures_total", map[string]string{`{role="caf` + "\uFFFD" + `",tenant="acme"}`: "1"})
}

func TestEveryFamilyOfTheCatalogueIsExported(t *testing.T) {
	t.Parallel()
	m, source := newMetrics(500, busy())
	source.process = Process{Budgets: []Budget{{"acme", 1, 2, 3, 4}}, MaxClients: 1, CertificateExpiry: time.Now(), Bans: map[string]int{"acme": 1},
		BackendCertificateExpiry: map[string]time.Time{"acme": time.Now()}}
	m.Refused("acme", "session", "x")
	m.LoginFailed("acme", "alice")
	m.BackendLoginFailed("acme", "x")
	m.Cancelled("x")
	m.LoginDelayed("acme")
	m.Banned("acme")
	m.LoggedIn("acme", "TLS 1.3", "TLS_AES_128_GCM_SHA256")
	m.PlainLogin("acme", "alice", "warn")
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, f := range families {
		types[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	for _, f := range catalogue() {
		if types[f.name] != string(f.kind) {
			t.Errorf("%s: exported as %q, want %q", f.name, types[f.name], f.kind)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
}

func TestHandlerAddsRuntimeAndProcess(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics(500, busy())
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for _, family := range []string{"sluice_up 1", "go_goroutines ", "process_start_time_seconds ", "promhttp_metric_handler_errors_total"} {
		if !strings.Contains(answer.Body.String(), "\n"+family) {
			t.Errorf("%d: no %q", answer.Code, family)
		}
	}
}

func TestConcurrentScrapesAndEvents(t *testing.T) {
	t.Parallel()
	m, source := newMetrics(1, busy())
	handler := m.Handler()
	var workers sync.WaitGroup
	for i := range 4 {
		workers.Go(func() {
			for range 20 {
				source.set(busy(), pool.Stats{Key: key(fmt.Sprint("r", i), "session")})
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
				if answer.Code != 200 || strings.Contains(answer.Body.String(), "handler_errors_total{cause=\"gathering\"} 1") {
					t.Errorf("scrape: %d %s", answer.Code, answer.Body)
				}
				m.LoginFailed("acme", "alice")
			}
		})
	}
	workers.Wait()
}
