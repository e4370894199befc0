package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	scriptFile = "script.sql" // in the folder where pgbench runs

	graceTime = 2 * time.Minute // what transactions that have begun, and a slow machine, may take beyond the duration
	warmUp    = time.Second     // until pgbench's first line of progress

	// What a login takes when a thousand clients come at once, the client's own work included.
	pooledLogin = 2 * time.Millisecond
	directLogin = 5 * time.Millisecond
)

var (
	errProgress = errors.New("malformed progress of pgbench")
	errSummary  = errors.New("malformed summary of pgbench")
	errLog      = errors.New("malformed log of pgbench")
	errTooShort = errors.New("the logins left too little time for transactions")
)

// load is how pgbench is run: with its built-in SELECT by primary key, if there is no script.
type load struct {
	mode      string // of the protocol: simple, extended, prepared
	clients   int
	encrypted bool
	reconnect bool   // for each transaction
	script    string // instead; its variable started is 0 when a client begins
	prelude   int    // transactions of each client that do not count
	duration  time.Duration
}

// pgbenchRun is what pgbench did. The rates are those between its first and its last line of progress, when every client has
// long been logged in.
type pgbenchRun struct {
	transactions int // all of them, those before the first line included
	rate         float64
	window       float64 // transactions between the lines
	used         usage   // between the lines
	latency      float64 // median, microseconds
}

// runPgbench blocks until pgbench has ended. Logging in counts as pgbench's time; where it took nearly all of it, pgbench
// is run again with more.
func (r *rig) runPgbench(ctx context.Context, t target, l load) (pgbenchRun, error) {
	const attempts = 4
	logins := time.Duration(l.clients) * pooledLogin
	if t.pid == 0 {
		logins = time.Duration(l.clients) * directLogin
	}
	for attempt := 1; ; attempt++ {
		run, err := r.runPgbenchFor(ctx, t, l, l.duration+warmUp+logins.Truncate(time.Second))
		if attempt == attempts || !errors.Is(err, errTooShort) {
			return run, err
		}
		logins = 2*logins + l.duration
	}
}

func (r *rig) runPgbenchFor(ctx context.Context, t target, l load, whole time.Duration) (pgbenchRun, error) {
	ctx, cancel := context.WithTimeout(ctx, whole+graceTime)
	defer cancel()
	dir, err := os.MkdirTemp(r.dir, "pgbench-")
	if err != nil {
		return pgbenchRun{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()

	if err := os.WriteFile(filepath.Join(dir, scriptFile), []byte(l.script), 0o600); err != nil {
		return pgbenchRun{}, err
	}
	cmd := exec.CommandContext(ctx, r.pgbench, append(l.arguments(whole), r.connection(t)...)...)
	cmd.Dir, cmd.Env = dir, r.libpqEnvironment(l.encrypted)
	var summary bytes.Buffer
	cmd.Stdout = &summary
	progress, err := cmd.StderrPipe()
	if err != nil {
		return pgbenchRun{}, err
	}
	if err := cmd.Start(); err != nil {
		return pgbenchRun{}, err
	}
	m := meter{prelude: float64(l.prelude * l.clients)}
	followErr := m.follow(progress, func() (usage, error) { return r.usage(t) })
	if err := errors.Join(cmd.Wait(), followErr); err != nil {
		return pgbenchRun{}, fmt.Errorf("pgbench: %w\n%s", err, m.complaints.String())
	}
	return l.result(&m, summary.String(), dir)
}

func (l load) arguments(whole time.Duration) []string {
	seconds := int(whole / time.Second)
	threads, sampled := min(l.clients, 2), "0.05"
	if l.clients == 1 || l.reconnect {
		sampled = "1"
	}
	arguments := []string{"-S"}
	if l.script != "" {
		arguments = []string{"-f", scriptFile, "-D", "started=0"}
	}
	arguments = append(arguments,
		"-n", "-M", l.mode, "-c", strconv.Itoa(l.clients), "-j", strconv.Itoa(threads), "-T", strconv.Itoa(seconds),
		"-P", "1", "--progress-timestamp", "-l", "--sampling-rate="+sampled,
	)
	if l.reconnect {
		arguments = append(arguments, "-C")
	}
	return arguments
}

// connection is whom pgbench connects to; it comes behind the options.
func (r *rig) connection(t target) []string {
	address, port, _ := net.SplitHostPort(t.address) // it was joined from both
	return []string{"-h", address, "-p", port, "-U", role, database}
}

// libpqEnvironment leaves nothing to variables that the user may have set. Postgres offers channel binding over TLS, and
// poolers do not: all do without.
func (r *rig) libpqEnvironment(encrypted bool) []string {
	mode := "disable"
	if encrypted {
		mode = "require"
	}
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "LC_ALL=C", "PGPASSWORD=" + r.password, "PGSSLMODE=" + mode,
		"PGGSSENCMODE=disable", "PGCHANNELBINDING=disable", "PGCONNECT_TIMEOUT=60",
	}
}

// result puts together what pgbench printed and logged.
func (l load) result(m *meter, summary, dir string) (pgbenchRun, error) {
	transactions, err := parseSummary(summary)
	if err != nil {
		return pgbenchRun{}, fmt.Errorf("%w: %q", err, summary)
	}
	if m.window == 0 || m.last.at-m.start.at < l.duration.Seconds()/2 {
		return pgbenchRun{}, fmt.Errorf("pgbench: %d lines of progress: %w", m.lines, errTooShort)
	}
	latency, err := medianOfLogs(dir)
	if err != nil {
		return pgbenchRun{}, err
	}
	return pgbenchRun{
		transactions: transactions,
		rate:         m.window / (m.last.at - m.start.at),
		window:       m.window,
		used:         m.last.used.since(m.start.used),
		latency:      latency,
	}, nil
}

// meter reads usage at each of pgbench's lines of progress.
type meter struct {
	lines       int
	start, last struct {
		at   float64 // seconds
		used usage
	}
	prelude    float64 // transactions that are to pass before the first line that counts
	window     float64 // transactions since the first line
	complaints strings.Builder
}

// follow blocks until pgbench closes its output.
func (m *meter) follow(output io.Reader, now func() (usage, error)) error {
	var failure error
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), progressPrefix) {
			m.complaints.WriteString(lines.Text() + "\n")
			continue
		}
		at, rate, err := parseProgress(lines.Text())
		if err == nil {
			err = m.take(at, rate, now)
		}
		failure = errors.Join(failure, err)
	}
	_, _ = io.Copy(io.Discard, output) // what follows a line that is too long
	return errors.Join(failure, lines.Err())
}

func (m *meter) take(at, rate float64, now func() (usage, error)) error {
	used, err := now()
	if err != nil {
		return err
	}
	if m.lines > 0 && m.prelude > 0 {
		m.prelude -= rate * (at - m.last.at)
		m.lines = 0
	}
	if m.lines == 0 {
		m.start.at, m.start.used = at, used
	} else {
		m.window += rate * (at - m.last.at)
	}
	m.last.at, m.last.used = at, used
	m.lines++
	return nil
}

const progressPrefix = "progress: "

// parseProgress reads when a line was printed, in seconds, and the transactions per second since the line before:
//
//	progress: 1700000000.123 s, 9012.3 tps, lat 3.331 ms stddev 1.200, 0 failed
func parseProgress(line string) (at, rate float64, err error) {
	fields := strings.Split(strings.TrimPrefix(line, progressPrefix), ", ")
	if len(fields) < 2 {
		return 0, 0, fmt.Errorf("%w: %q", errProgress, line)
	}
	at, err1 := parseWithUnit(fields[0], " s")
	rate, err2 := parseWithUnit(fields[1], " tps")
	if err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("%w: %q", errProgress, line)
	}
	return at, rate, nil
}

func parseWithUnit(field, unit string) (float64, error) {
	number, ok := strings.CutSuffix(field, unit)
	value, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || value < 0 || math.IsInf(value, 0) || math.IsNaN(value) {
		return 0, errProgress
	}
	return value, nil
}

// parseSummary reads how many transactions there were. That some failed is an error, which it is not for pgbench.
func parseSummary(text string) (transactions int, err error) {
	const processed, failed = "number of transactions actually processed: ", "number of failed transactions: "
	found := false
	for line := range strings.Lines(text) {
		if count, ok := strings.CutPrefix(line, processed); ok {
			transactions, err = strconv.Atoi(strings.TrimSpace(count))
			found = err == nil && transactions >= 0
		}
		if count, ok := strings.CutPrefix(line, failed); ok && !strings.HasPrefix(count, "0 ") {
			return 0, fmt.Errorf("%w: failed transactions", errSummary)
		}
	}
	if !found {
		return 0, errSummary
	}
	return transactions, nil
}

// medianOfLogs reads every log in a folder and returns the median of the latencies, in microseconds.
func medianOfLogs(dir string) (float64, error) {
	names, err := filepath.Glob(filepath.Join(dir, "pgbench_log.*"))
	if err != nil {
		return 0, err
	}
	var latencies []float64
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return 0, err
		}
		if latencies, err = appendLatencies(latencies, string(content)); err != nil {
			return 0, err
		}
	}
	if len(latencies) == 0 {
		return 0, fmt.Errorf("%w: it is empty", errLog)
	}
	return median(latencies), nil
}

// appendLatencies reads the third column: client, transaction, microseconds, …
func appendLatencies(to []float64, log string) ([]float64, error) {
	for line := range strings.Lines(log) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return to, fmt.Errorf("%w: %q", errLog, line)
		}
		latency, err := strconv.ParseUint(fields[2], 10, 48)
		if err != nil {
			return to, fmt.Errorf("%w: %q", errLog, line)
		}
		to = append(to, float64(latency))
	}
	return to, nil
}
