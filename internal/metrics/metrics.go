// Package metrics names and counts everything exported.
//
// What pools and the process know is read when Prometheus asks; nothing is looked up by label on the query path. What
// happens outside of pools, such as a refusal, is counted here when it happens. The catalogue has one row for each family:
// its name, type, help and labels, and where its numbers come from.
package metrics

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice/pool"
)

const (
	// maxLabelSets bounds the pools that are exported under their own names: about 100 series each.
	maxLabelSets = 500
	// maxEventSets bounds the label sets of a family of events, before those whose labels come from outside are added up.
	maxEventSets = 2000
	// scrapeTimeout ends a scrape whose source does not answer; Prometheus itself gives up after 10 s by default.
	scrapeTimeout = 10 * time.Second
	// other is the label of what is added up.
	other = "other"
)

// Source is what is exported when Prometheus asks. Its methods are called from one goroutine at a time.
type Source interface {
	// PoolStats returns what all pools know. Several with one key, such as the parts of a pool on several loops, are
	// added up. The result belongs to the caller.
	PoolStats() []pool.Stats
	// Process returns what is known of the process.
	Process() Process
}

// Process is what is known of the process at one moment.
type Process struct {
	Version           string // "": unknown
	Budgets           []Budget
	Clients           int       // client connections, those that log in included
	MaxClients        int       // how many there may be; 0: no limit
	CertificateExpiry time.Time // when the first of the certificates facing clients ends; zero: none
	// BackendCertificateExpiry is when the first of the certificates shown to Postgres ends, by tenant; absent: there is none.
	BackendCertificateExpiry map[string]time.Time

	Bans     map[string]int // how many, by tenant
	Draining bool
	Loops    int
	Moves    uint64 // sessions that went to another loop
}

// Budget is how many backends a tenant has in all its pools, and how many it may have; a Max of 0 is no limit.
type Budget struct {
	Tenant       string
	Used, Max    int
	DialLimit    int // backends that may be opened at a time
	DialsWaiting int // that wait for their turn to be opened
}

// Metrics exports a Source and the events that it is told of. It is a prometheus.Collector, and safe for concurrent use.
type Metrics struct {
	source   Source
	events   events
	families []described

	turn   chan struct{} // holds a token: scrapes take turns, so that the ledger sees counters in their order
	ledger *ledger       // belongs to who has the token

	roles atomic.Pointer[map[tenantRole]struct{}] // that are exported under their names, as of the last scrape
}

type tenantRole struct{ tenant, role string }

// described is a row of the catalogue with its description as Prometheus has it.
type described struct {
	family
	desc *prometheus.Desc
}

// New returns the Metrics of source. The configuration at hand counts as one that was loaded now.
func New(source Source) *Metrics {
	m := &Metrics{source: source, turn: make(chan struct{}, 1), ledger: newLedger(maxLabelSets)}
	m.turn <- struct{}{}
	m.events.init(maxEventSets)
	m.Reloaded(nil)
	for _, f := range catalogue() {
		m.families = append(m.families, described{f, prometheus.NewDesc(f.name, f.help, f.labels, nil)})
	}
	return m
}

// Handler returns what answers /metrics: the catalogue, the Go runtime and the operating system's view of the process.
func (m *Metrics) Handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, // one bad family does not blind the operator
		Registry:      registry,                 // counts the errors
		Timeout:       scrapeTimeout,
	})
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, f := range m.families {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector. It blocks while the source does, and while another scrape is under way.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	s := m.scrape()
	for _, f := range m.families {
		f.read(s, sink{desc: f.desc, kind: f.kind, out: out})
	}
}

// scrape is what one answer to Prometheus is made of.
type scrape struct {
	pools   []pool.Stats // bounded, each key once
	process Process
	events  *events
}

func (m *Metrics) scrape() *scrape {
	<-m.turn
	defer func() { m.turn <- struct{}{} }()
	s := &scrape{pools: m.ledger.bound(m.source.PoolStats()), process: m.source.Process(), events: &m.events}
	roles := make(map[tenantRole]struct{}, len(s.pools))
	for _, p := range s.pools {
		roles[tenantRole{p.Key.Tenant, p.Key.Role}] = struct{}{}
	}
	m.roles.Store(&roles)
	return s
}
