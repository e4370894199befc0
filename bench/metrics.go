package main

// What is measured. Less is better but for the rates.
const (
	metricCPU           = "pooler_cpu"
	metricTogether      = "together_cpu"
	metricPostgres      = "postgres_cpu"
	metricSyscalls      = "system_calls"
	metricRate          = "throughput"
	metricLatency       = "latency_p50"
	metricAdded         = "added_latency_p50"
	metricMemory        = "idle_rss"
	metricLogin         = "login_cpu"
	metricLoginTogether = "login_together_cpu"
	metricLoginRate     = "login_rate"
	metricStorm         = "storm_latency_p50"
	metricCopy          = "copy_cpu"
	metricCopyTogether  = "copy_together_cpu"
	metricCopyRate      = "copy_rate"
	metricPins          = "pins"
	metricQuestions     = "questions"
	metricCarried       = "settings_carried"
)

// metric says how a number is shown.
type metric struct {
	id     string
	title  string
	unit   string
	digits int // behind the point
}

// metrics are in the order in which they are reported.
func metrics() []metric {
	return []metric{
		{metricCPU, "Pooler's CPU", "µs per transaction", 2},
		{metricTogether, "Pooler's and Postgres's CPU", "µs per transaction", 1},
		{metricPostgres, "Postgres's CPU", "µs per transaction", 1},
		{metricSyscalls, "Pooler's system calls", "per transaction", 2},
		{metricRate, "Throughput", "transactions per second", 0},
		{metricLatency, "Latency, median", "µs", 1},
		{metricAdded, "Latency added to the direct one, median", "µs", 1},
		{metricMemory, "Resident memory", "bytes per idle client", 0},
		{metricLogin, "Pooler's CPU", "µs per login", 1},
		{metricLoginTogether, "Pooler's and Postgres's CPU", "µs per login", 1},
		{metricLoginRate, "Logins", "per second", 0},
		{metricStorm, "Latency during a storm of logins, median", "µs", 1},
		{metricCopy, "Pooler's CPU", "s per GB copied", 3},
		{metricCopyTogether, "Pooler's and Postgres's CPU", "s per GB copied", 3},
		{metricCopyRate, "Copied", "MB per second", 0},
		{metricPins, "Sessions pinned", "in the whole run", 0},
		{metricQuestions, "Questions of Sluice about what a session holds", "in the whole run", 0},
		{metricCarried, "Settings carried", "per transaction", 4},
	}
}

// goal is what Sluice should reach: a number of its own, or its ratio to another one in the same round.
type goal struct {
	title  string
	of     key
	over   key // zero: none
	atMost float64
}

// goals are in the order in which they are reported.
func goals() []goal {
	var all []goal
	ratio := func(scenario, metric string, atMost float64) {
		of := key{scenario, nameSluice, metric}
		all = append(all, goal{"", of, key{scenario, namePgBouncer, metric}, atMost})
	}
	absolute := func(scenario, metric string, atMost float64) {
		all = append(all, goal{"", key{scenario, nameSluice, metric}, key{}, atMost})
	}
	ratio(pgbenchName(modeSimple, fewClients), metricCPU, 1.00)
	ratio(pgbenchName(modeExtended, fewClients), metricCPU, 0.95)
	ratio(pgbenchName(modePrepared, fewClients), metricCPU, 0.85)
	ratio(pgbenchName(modePrepared, manyClients), metricCPU, 0.95)
	ratio(tlsName(modeSimple), metricCPU, 0.90)
	ratio(tlsName(modePrepared), metricCPU, 0.90)
	for _, mode := range []string{modeSimple, modeExtended, modePrepared} {
		ratio(pgbenchName(mode, 1), metricCPU, 1.05)
	}
	extended := pgbenchName(modeExtended, fewClients)
	ratio(extended, metricTogether, 0.75)
	all = append(all, goal{
		"to Postgres alone", key{extended, nameSluice, metricTogether}, key{extended, nameDirect, metricTogether}, 1,
	})
	for _, mode := range []string{modeSimple, modeExtended, modePrepared} {
		absolute(pgbenchName(mode, fewClients), metricSyscalls, 4.4)
	}
	for _, mode := range []string{modeSimple, modePrepared} {
		ratio(latencyName(mode), metricAdded, 1.00)
	}
	absolute(idleName(false), metricMemory, 1000)
	absolute(idleName(true), metricMemory, 10<<10)
	ratio(loginName(false), metricLogin, 1.5)
	ratio(loginName(true), metricLogin, 0.9)
	ratio(stormName, metricStorm, 0.25)
	ratio(copyName("out", false), metricCopy, 0.75)
	for _, mode := range []string{modeSimple, modePrepared} {
		of := settingsName(mode, settingValues)
		all = append(all, goal{
			"to the same without", key{of, nameSluice, metricCPU}, key{settingsName(mode, 0), nameSluice, metricCPU}, 1.10,
		})
		absolute(of, metricPins, 0)
	}
	counts := connectedClients()
	for _, from := range counts[:2] {
		most := counts[len(counts)-1]
		all = append(all, goal{
			"to " + connectedName(from), key{connectedName(most), nameSluice, metricCPU}, key{connectedName(from), nameSluice, metricCPU}, 1.10,
		})
	}
	return all
}

// against says what the goal's number is a ratio to.
func (g goal) against() string {
	switch {
	case g.title != "":
		return g.title
	case g.over == key{}:
		return ""
	}
	return "to " + g.over.target
}

// value is what was reached; false: it was not measured.
func (g goal) value(r *record) (float64, bool) {
	if g.over == (key{}) {
		return r.median(g.of)
	}
	return r.ratio(g.of, g.over)
}
