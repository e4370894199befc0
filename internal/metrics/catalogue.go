package metrics

import (
	"cmp"
	"runtime"
	"slices"

	"sluice/pool"
)

//go:generate go test -run TestDocumentationIsUpToDate -update .

// catalogue is everything exported but the metrics of the Go runtime and the operating system.
func catalogue() []family { return slices.Concat(processFamilies(), poolFamilies(), eventFamilies()) }

// processFamilies is about the process and its tenants. It is a table.
func processFamilies() []family {
	tenant := []string{"tenant"}
	return []family{
		process("up", "1: this process answers.", nil, func(_ *Process, k sink) { k.flag(true) }),
		process("build_info", "1, with the version of Sluice and of Go.", []string{"version", "goversion"},
			func(p *Process, k sink) { k.number(1, clean(cmp.Or(p.Version, "unknown")), runtime.Version()) }),
		process("draining", "1 while the process shuts down: it takes no new clients and ends the others when they are free.", nil,
			func(p *Process, k sink) { k.flag(p.Draining) }),
		process("loops", "Event loops that relay.", nil, func(p *Process, k sink) { k.number(float64(p.Loops)) }),
		process("process_clients", "Client connections of the process, those that log in included.", nil,
			func(p *Process, k sink) { k.number(float64(p.Clients)) }),
		process("process_max_clients", "Limit of the client connections of the process (limits.max_clients).", nil,
			func(p *Process, k sink) { k.limit(p.MaxClients) }),
		process("tenant_backends", "Backends of a tenant in all its pools, those that are being opened or closed included.", tenant,
			func(p *Process, k sink) {
				for _, b := range p.Budgets {
					k.number(float64(b.Used), clean(b.Tenant))
				}
			}),
		process("tenant_max_backends", "Limit of a tenant's backends (max_backends); absent without a limit.", tenant,
			func(p *Process, k sink) {
				for _, b := range p.Budgets {
					k.limit(b.Max, clean(b.Tenant))
				}
			}),
		process("backend_dial_limit", "Backends of a tenant that may be opened at a time: more while Postgres bears it, half as many when it does not.", tenant,
			func(p *Process, k sink) {
				for _, b := range p.Budgets {
					k.limit(b.DialLimit, clean(b.Tenant))
				}
			}),
		process("backend_dials_waiting", "Backends of a tenant that are to be opened and wait for their turn.", tenant,
			func(p *Process, k sink) {
				for _, b := range p.Budgets {
					k.number(float64(b.DialsWaiting), clean(b.Tenant))
				}
			}),
		process("bans", "Addresses that are banned now because of failed logins.", tenant,
			func(p *Process, k sink) {
				for name, n := range p.Bans {
					k.number(float64(n), clean(name))
				}
			}),
		process("certificate_expiry_timestamp_seconds", "When the first of the certificates facing clients ends; absent without TLS.", nil,
			func(p *Process, k sink) {
				if !p.CertificateExpiry.IsZero() {
					k.number(float64(p.CertificateExpiry.Unix()))
				}
			}),
		process("backend_certificate_expiry_timestamp_seconds", "When the first of the certificates that a tenant's Postgres is shown ends; absent without any.", tenant,
			func(p *Process, k sink) {
				for name, end := range p.BackendCertificateExpiry {
					k.number(float64(end.Unix()), clean(name))
				}
			}),
		{"sluice_config_last_reload_successful", gauge, "1 if the last reload of the configuration took effect; 0 if it was refused and changed nothing.", nil,
			func(s *scrape, k sink) { ok, _ := s.events.reload(); k.flag(ok) }},
		{"sluice_config_last_reload_success_timestamp_seconds", gauge, "When the configuration in effect was loaded.", nil,
			func(s *scrape, k sink) { _, at := s.events.reload(); k.number(float64(at.UnixNano()) / 1e9) }},
		{"sluice_role_max_clients", gauge, "Limit of a role's clients in a mode, over its databases (max_clients); absent without a limit.",
			[]string{"tenant", "role", "mode"}, roleLimits},
	}
}

// poolFamilies has the families with tenant, database, role and mode. It is a table.
func poolFamilies() []family {
	return []family{
		perPool("clients", gauge, "state", "Clients, each in one state: active (a statement is under way), waiting (for a backend, those that log in included),"+
			" idle_in_transaction, pinned (between transactions, but keeping its backend), idle.", clients),
		poolGauge("tls_clients", "Clients with TLS, in whatever state.", func(s *pool.Stats) int { return s.Traffic.TLSClients }),
		perPool("backends", gauge, "state", "Connections to Postgres, each in one state: active (held by a session), pinned (held past the transaction), idle,"+
			" login (being opened), closing.", backends),
		poolGauge("pool_size", "Limit of the pool's backends (pool_size, session_pool_size).", func(s *pool.Stats) int { return s.Limits.Size }),
		poolGauge("pool_parts", "Parts of the pool, each on an event loop of its own (spread).", func(s *pool.Stats) int { return s.Parts }),
		poolGauge("pool_max_pinned", "Limit of the pool's backends that may be pinned (max_pinned).", func(s *pool.Stats) int { return s.Limits.MaxPinned }),
		perPool("oldest_wait_seconds", gauge, "", "How long the first client in the line has waited for a backend; 0 if none waits.",
			func(s *pool.Stats, k sink) { k.number(s.OldestWait.Seconds()) }),
		poolDurations("wait_seconds", "How long sessions waited for a backend, those that got one at once included.",
			func(t *pool.Traffic) *pool.Histogram { return &t.Waits }),
		poolCounter("logins_total", "Clients that have logged in.", func(t *pool.Traffic) uint64 { return t.Logins }),
		poolCounter("transactions_total", "Transactions that have ended, single statements included.", func(t *pool.Traffic) uint64 { return t.Transactions }),
		poolCounter("queries_total", "Statements that were run.", func(t *pool.Traffic) uint64 { return t.Queries }),
		poolDurations("transaction_seconds", "How long transactions took, the client's pauses inside included.",
			func(t *pool.Traffic) *pool.Histogram { return &t.TransactionTime }),
		poolDurations("query_seconds", "How long statements took, or batches of them that were sent together.",
			func(t *pool.Traffic) *pool.Histogram { return &t.QueryTime }),
		perPool("bytes_total", counter, "direction", "Bytes exchanged with clients after their login, without TLS: in (from clients), out (to clients).",
			func(s *pool.Stats, k sink) {
				k.number(float64(s.Traffic.BytesIn), "in")
				k.number(float64(s.Traffic.BytesOut), "out")
			}),
		poolCounter("client_parses_total", "Prepared statements that clients sent (Parse).", func(t *pool.Traffic) uint64 { return t.ClientParses }),
		poolCounter("backend_parses_total", "Prepared statements that were sent to Postgres (Parse).", func(t *pool.Traffic) uint64 { return t.BackendParses }),
		poolCounter("state_questions_total", "How often Postgres was asked what a session holds past its transaction.", func(t *pool.Traffic) uint64 { return t.Questions }),
		poolCounter("state_questions_failed_total", "How often that failed: it is asked again.", func(t *pool.Traffic) uint64 { return t.QuestionsFailed }),
		poolCounter("state_leaks_prevented_total", "Changes of a session that no statement's text had announced and that would have reached another client: they were found by asking"+
			" and taken off the backend, or the backend was closed.", func(t *pool.Traffic) uint64 { return t.LeaksPrevented }),
		perPool("state_question_seconds_total", counter, "", "How long backends worked on that.",
			func(s *pool.Stats, k sink) { k.number(s.Traffic.QuestionTime.Seconds()) }),
		poolCounter("settings_carried_total", "Settings put on a backend for a session, or taken off it.", func(t *pool.Traffic) uint64 { return t.Carried }),
		poolCounter("binds_total", "Prepared statements that clients bound to parameters (Bind).", func(t *pool.Traffic) uint64 { return t.Binds }),
		poolCounts("errors_total", "class", "Errors that Postgres sent, by SQLSTATE class; other: a class that is not PostgreSQL's own.",
			func(t *pool.Traffic) map[string]uint64 { return t.Errors }),
		poolCounts("pins_total", "reason", "Sessions that were pinned to their backend, by what they held.",
			func(t *pool.Traffic) map[string]uint64 { return t.Pins }),
		perPool("pinned_clients", gauge, "reason", "Clients that are pinned to their backend, whatever they do now, by what they hold.",
			func(s *pool.Stats, k sink) {
				for reason, n := range s.Traffic.PinnedClients {
					k.number(float64(n), reason)
				}
			}),
		perPool("pinned_seconds_total", counter, "reason", "How long sessions were pinned, by what they held; those that still are included.",
			func(s *pool.Stats, k sink) {
				for reason, d := range s.Traffic.PinnedTime {
					k.number(d.Seconds(), reason)
				}
			}),
		poolCounts("sessions_ended_total", "reason", "Sessions that have ended, by reason.",
			func(t *pool.Traffic) map[string]uint64 { return t.Ended }),
	}
}

// eventFamilies is about what happens outside of pools.
func eventFamilies() []family {
	return []family{
		counted("refusals_total", "Clients that were refused before they had logged in, by reason; tenant and mode are empty where they were not known yet.",
			[]string{"tenant", "mode", "reason"}, func(e *events) *tally { return &e.refusals }),
		counted("login_failures_total", "Clients whose proof was wrong, by role; other: roles that had no pool at the last scrape before.",
			[]string{"tenant", "role"}, func(e *events) *tally { return &e.loginFailures }),
		counted("login_delays_total", "Clients that had to wait because of failed logins before theirs.",
			[]string{"tenant"}, func(e *events) *tally { return &e.loginDelays }),
		counted("logins_by_tls_total", "Clients that have logged in over TCP, by TLS version and cipher suite; version none: without TLS.",
			[]string{"tenant", "version", "cipher"}, func(e *events) *tally { return &e.logins }),
		counted("plain_logins_total", "Clients that have logged in over TCP without TLS, by role and by what tls_enforcement says of them;"+
			" other: roles for which there is no room.",
			[]string{"tenant", "role", "stage"}, func(e *events) *tally { return &e.plainLogins }),
		counted("bans_total", "Addresses that were banned because of failed logins.",
			[]string{"tenant"}, func(e *events) *tally { return &e.bans }),
		counted("backend_login_failures_total", "Logins of Sluice that Postgres refused, or that could not be tried, by reason.",
			[]string{"tenant", "reason"}, func(e *events) *tally { return &e.backendLoginFailures }),
		counted("cancels_total", "Cancel requests, by what became of them.",
			[]string{"outcome"}, func(e *events) *tally { return &e.cancels }),
		{"sluice_panics_total", counter, "Panics that were caught: each is a bug, with its stack in the log.", nil,
			func(s *scrape, k sink) { k.number(float64(s.events.panics.Load())) }},
		{"sluice_session_moves_total", counter, "Sessions that went to another part of their pool (spread).", nil,
			func(s *scrape, k sink) { k.number(float64(s.process.Moves)) }},
	}
}

// limit emits a limit; 0 is none.
func (k sink) limit(n int, labels ...string) {
	if n > 0 {
		k.number(float64(n), labels...)
	}
}

// clients emits the states so that each client is in one.
func clients(s *pool.Stats, k sink) {
	t := &s.Traffic
	pinned := max(0, min(s.Pinned, s.Active-t.Working-t.InBlock))
	idle := t.Clients - t.Working - t.InBlock - pinned
	if s.Key.Mode != "session" {
		idle -= s.Waiting // in session mode who waits has not logged in yet
	}
	k.number(float64(t.Working), "active")
	k.number(float64(s.Waiting), "waiting")
	k.number(float64(max(0, idle)), "idle")
	k.number(float64(t.InBlock), "idle_in_transaction")
	k.number(float64(pinned), "pinned")
}

func backends(s *pool.Stats, k sink) {
	k.number(float64(s.Active-s.Pinned), "active")
	k.number(float64(s.Pinned), "pinned")
	k.number(float64(s.Idle), "idle")
	k.number(float64(s.Login), "login")
	k.number(float64(s.Closing), "closing")
}

// roleLimits emits each limit once, in however many databases the role has pools.
func roleLimits(s *scrape, k sink) {
	limits := make(map[labelSet]int)
	for _, p := range s.pools {
		if p.Key == foldedInto(p.Key) {
			continue // several roles
		}
		set := labelSet{p.Key.Tenant, p.Key.Role, p.Key.Mode}
		limits[set] = max(limits[set], p.Traffic.MaxClients)
	}
	for set, n := range limits {
		k.limit(n, set[:]...)
	}
}
