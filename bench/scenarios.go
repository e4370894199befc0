package main

import (
	"context"
	"fmt"
	"time"
)

// Modes of the protocol, as pgbench names them.
const (
	modeSimple   = "simple"
	modeExtended = "extended"
	modePrepared = "prepared"
)

// The groups that -only selects.
const (
	groupTLS       = "tls"
	groupReconnect = "reconnect"
	groupSyscalls  = "syscalls"
	groupLatency   = "latency"
	groupIdle      = "idle"
	groupCopy      = "copy"
	groupLogin     = "login"
	groupStorm     = "storm"
	groupConnected = "connected"
	groupSettings  = "settings"
)

func groups() []string {
	return []string{modeSimple, modeExtended, modePrepared, groupTLS, groupReconnect, groupSyscalls, groupLatency, groupIdle,
		groupCopy, groupLogin, groupStorm, groupConnected, groupSettings}
}

// scenario is something to measure, with all targets.
type scenario struct {
	group   string
	name    string
	measure measurement
}

// measurement measures all targets, one round.
type measurement func(ctx context.Context, r *rig, s sheet) error

// targetMeasurement measures one target, one round.
type targetMeasurement func(ctx context.Context, r *rig, t target, s sheet) error

// everywhere measures one target after the other, beginning with another one each round.
func everywhere(m targetMeasurement) measurement {
	return func(ctx context.Context, r *rig, s sheet) error { return inTurns(ctx, r, r.targets(), s, m) }
}

// poolersOnly is everywhere without Postgres itself.
func poolersOnly(m targetMeasurement) measurement {
	return func(ctx context.Context, r *rig, s sheet) error { return inTurns(ctx, r, r.targets()[1:], s, m) }
}

func inTurns(ctx context.Context, r *rig, targets []target, s sheet, m targetMeasurement) error {
	for i := range targets {
		t := targets[(i+s.round)%len(targets)]
		if err := m(ctx, r, t, s); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	s.putAdded()
	return nil
}

const (
	fewClients  = 32 // which keep the pool of 20 busy
	manyClients = 1000
	idlePlain   = 10_000
	idleTLS     = 2000
)

// scenarios returns what is measured in one round, in this order.
func scenarios(duration time.Duration) []scenario {
	var all []scenario
	add := func(group, name string, m measurement) { all = append(all, scenario{group, name, m}) }
	for _, mode := range []string{modeSimple, modeExtended, modePrepared} {
		for _, clients := range []int{1, fewClients, manyClients} {
			add(mode, pgbenchName(mode, clients), everywhere(transactions(load{mode: mode, clients: clients, duration: duration})))
		}
	}
	for _, mode := range []string{modeSimple, modePrepared} {
		add(groupTLS, tlsName(mode), everywhere(transactions(load{mode: mode, clients: fewClients, encrypted: true, duration: duration})))
	}
	add(groupReconnect, "connecting for each transaction", everywhere(transactions(load{mode: modeSimple, clients: fewClients, reconnect: true, duration: duration})))
	for _, mode := range []string{modeSimple, modeExtended, modePrepared} {
		add(groupSyscalls, pgbenchName(mode, fewClients), poolersOnly(systemCalls(load{mode: mode, clients: fewClients, duration: 2 * time.Second})))
	}
	for _, mode := range []string{modeSimple, modePrepared} {
		add(groupLatency, latencyName(mode), measureLatency(mode, duration))
	}
	add(groupIdle, idleName(false), poolersOnly(memory(idlePlain, false)))
	add(groupIdle, idleName(true), poolersOnly(memory(idleTLS, true)))
	for _, encrypted := range []bool{false, true} {
		add(groupCopy, copyName("out", encrypted), everywhere(copying(copyOut, encrypted, duration)))
		add(groupCopy, copyName("in", encrypted), everywhere(copying(copyInMuch, encrypted, duration)))
	}
	for _, encrypted := range []bool{false, true} {
		add(groupLogin, loginName(encrypted), everywhere(logins(encrypted, duration)))
	}
	add(groupStorm, stormName, poolersOnly(measureDuringStorm(duration)))
	for _, connected := range connectedClients() {
		add(groupConnected, connectedName(connected), poolersOnly(amongIdle(connected, duration)))
	}
	for _, mode := range []string{modeSimple, modePrepared} {
		for _, values := range []int{0, settingValues} {
			add(groupSettings, settingsName(mode, values), settingOnce(mode, values, duration))
		}
	}
	return all
}

const stormName = "plain query during TLS logins"

func connectedClients() []int { return []int{10, 100, 1000, 10_000} }

func pgbenchName(mode string, clients int) string {
	if clients == 1 {
		return mode + ", 1 client"
	}
	return fmt.Sprintf("%s, %s clients", mode, grouped(clients))
}

func tlsName(mode string) string         { return fmt.Sprintf("%s, %d clients, TLS", mode, fewClients) }
func latencyName(mode string) string     { return mode + ", 1 probe" }
func idleName(encrypted bool) string     { return withTLS("idle clients", encrypted) }
func loginName(encrypted bool) string    { return withTLS("SCRAM login", encrypted) }
func connectedName(clients int) string   { return grouped(clients) + " connected" }
func copyName(way string, e bool) string { return withTLS("COPY "+way, e) }

func withTLS(name string, encrypted bool) string {
	if encrypted {
		return name + ", TLS"
	}
	return name
}

// grouped writes a number with a comma between thousands.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

// transactions runs pgbench.
func transactions(l load) targetMeasurement {
	return func(ctx context.Context, r *rig, t target, s sheet) error {
		run, err := r.runPgbench(ctx, t, l)
		if err != nil {
			return err
		}
		run.put(t, s)
		return nil
	}
}

// put takes down what a transaction costs.
func (run pgbenchRun) put(t target, s sheet) {
	s.put(t.name, metricRate, run.rate)
	s.put(t.name, metricLatency, run.latency)
	s.put(t.name, metricPostgres, micros(run.used.postgres)/run.window)
	s.put(t.name, metricTogether, micros(run.used.postgres+run.used.pooler)/run.window)
	if t.pid != 0 {
		s.put(t.name, metricCPU, micros(run.used.pooler)/run.window)
	}
}

// systemCalls counts over the whole of a run, the few calls of the logins included.
func systemCalls(l load) targetMeasurement {
	return func(ctx context.Context, r *rig, t target, s sheet) error {
		tracer, ok := findTracer(ctx)
		if !ok {
			r.say("neither perf nor strace works here: system calls are not counted")
			return nil
		}
		var run pgbenchRun
		calls, err := tracer.during(ctx, t.pid, func() (err error) {
			run, err = r.runPgbench(ctx, t, l)
			return err
		})
		if err != nil {
			return err
		}
		s.put(t.name, metricSyscalls, float64(calls)/float64(run.transactions))
		return nil
	}
}

// logins is a storm of them and what each costs.
func logins(encrypted bool, duration time.Duration) targetMeasurement {
	return func(ctx context.Context, r *rig, t target, s sheet) error {
		storm, err := r.startStorm(ctx, t, encrypted, duration)
		if err != nil {
			return err
		}
		start, err := r.usage(t)
		if err != nil {
			return err
		}
		began := time.Now()
		n, err := storm.wait()
		if err != nil {
			return err
		}
		seconds := time.Since(began).Seconds()
		end, err := r.usage(t)
		if err != nil {
			return err
		}
		used := end.since(start)
		s.put(t.name, metricLoginRate, float64(n)/seconds)
		s.put(t.name, metricLoginTogether, micros(used.pooler+used.postgres)/float64(n))
		if t.pid != 0 {
			s.put(t.name, metricLogin, micros(used.pooler)/float64(n))
		}
		return nil
	}
}

// amongIdle runs pgbench with the clients that are active, while others are connected and do nothing.
func amongIdle(connected int, duration time.Duration) targetMeasurement {
	return func(ctx context.Context, r *rig, t target, s sheet) error {
		active := min(connected, fewClients)
		idle, err := r.dialer.loginMany(ctx, t.address, false, connected-active, "SELECT 1")
		defer endAll(idle)
		if err != nil {
			return err
		}
		run, err := r.runPgbench(ctx, t, load{mode: modePrepared, clients: active, duration: duration})
		if err != nil {
			return err
		}
		run.put(t, s)
		return nil
	}
}

func endAll(sessions []*session) {
	for _, s := range sessions {
		s.end()
	}
}
