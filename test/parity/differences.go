package parity

import (
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// difference is where Sluice answers one script otherwise than Postgres, on purpose.
type difference struct {
	reason string
	modes  []string // in which it occurs
	direct []string // lines of the direct connection's transcript, one behind the other
	sluice []string // what stands in their place
	seen   atomic.Int64
}

// everywhere is a difference in single lines of any script.
type everywhere struct {
	reason string
	direct *regexp.Regexp
	sluice string // as for Regexp.ReplaceAllString
	seen   atomic.Int64
}

// common are the differences of any script on the transaction port.
func common() []*everywhere {
	return []*everywhere{{
		reason: "Sluice says this without asking Postgres, and does not know the line in Postgres's source",
		direct: regexp.MustCompile(`^(E SERROR \| VERROR \| C42P05 \| Mprepared statement ".*" already exists \| Fprepare.c) \| L\d+ (\| RStorePreparedStatement)$`),
		sluice: "$1 $2",
	}}
}

// allow returns got with the lines of want in it that differ only by e.
func (e *everywhere) allow(want, got []string) []string {
	if len(want) != len(got) {
		return got
	}
	got = slices.Clone(got)
	for i, line := range want {
		if got[i] != line && got[i] == e.direct.ReplaceAllString(line, e.sluice) {
			e.seen.Add(1)
			got[i] = line
		}
	}
	return got
}

const (
	ownWords   = "Sluice ends a session whose framing is broken by itself, and says so in words of its own"
	kinder     = "Postgres closes without a word; Sluice says why"
	nobodyThis = "nobody is left to read what Postgres says about the COPY"
	lostSync   = "E SFATAL | VFATAL | C08P01 | Mterminating connection because protocol synchronization was lost | Fpostgres.c | L4429 | RPostgresMain"
	violation  = "E SFATAL | VFATAL | C08P01 | Mprotocol violation"
)

// expect returns what the script's transcript is to be on the port of a mode. A difference that is none fails the test.
func (d *difference) expect(t testing.TB, mode string, direct []string) []string {
	t.Helper()
	if d == nil || !slices.Contains(d.modes, mode) {
		return direct
	}
	if d.reason == "" || slices.Equal(d.direct, d.sluice) {
		t.Fatalf("a difference without a reason, or none: %+v", d)
	}
	d.seen.Add(1)
	for i := len(direct) - len(d.direct); i >= 0; i-- { // the last place counts
		if matches(direct[i:i+len(d.direct)], d.direct) {
			return slices.Concat(direct[:i], d.sluice, direct[i+len(d.direct):])
		}
	}
	t.Fatalf("the listed difference does not occur: Postgres does not answer\n%s\nbut\n%s",
		strings.Join(d.direct, "\n"), strings.Join(direct, "\n"))
	return nil
}

// matches reports whether the lines are the wanted ones, whatever line of its source Postgres names: that differs between
// its versions.
func matches(lines, wanted []string) bool {
	sourceLine := regexp.MustCompile(` \| L\d+ `)
	return slices.EqualFunc(lines, wanted, func(line, want string) bool {
		return sourceLine.ReplaceAllString(line, " | ") == sourceLine.ReplaceAllString(want, " | ")
	})
}
