// Package parity compares the answers that clients of Sluice get with those that they get from Postgres itself: scripts, legal
// and illegal, are played on a direct connection and through both ports, cut into writes in several ways, and the transcripts
// must be the same to the byte, but for the differences that are listed with a reason. It is for tests.
package parity

import (
	"context"
	"embed"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/internal/pgscript"
)

// answerTimeout is how long a script waits for a message. One that never comes is in the transcript.
const answerTimeout = 30 * time.Second

//go:embed scripts/*.script scripts/alone/*.script
var files embed.FS

// Place is where scripts are played: addresses of a Postgres and of Sluice in front of it. The role alice is to get into the
// database app without a password.
type Place struct {
	Direct string
	Ports  map[string]string // addresses by mode: session, transaction
}

// Prepare makes what the scripts use in the database app of a Postgres, as alice; the role parity_role must exist, and alice
// be a member. The code in the database stays such that no statement can change a session unseen.
func Prepare(ctx context.Context, alice *pgx.Conn) error {
	for _, sql := range []string{
		"CREATE TABLE parity_rows (x int PRIMARY KEY, v text NOT NULL UNIQUE)",
		"INSERT INTO parity_rows SELECT g, 'row ' || g FROM generate_series(1, 5) g",
		"INSERT INTO parity_rows VALUES (6, 'twice')",
		"CREATE TABLE parity_log (x int, v text)",
		"CREATE TABLE parity_copy (x int)",
		"CREATE SEQUENCE parity_seq",
	} {
		if _, err := alice.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// way is how a script's bytes are cut into writes.
type way struct {
	name string
	cut  pgscript.Cut
}

func ways() []way {
	return []way{
		{"whole", pgscript.Whole},
		{"byte by byte", pgscript.Bytewise},
		{"message by message", pgscript.Shifted(0)},
		{"a byte too much", pgscript.Shifted(1)},
		{"a byte too few", pgscript.Shifted(-1)},
	}
}

// Run plays all scripts side by side: those of files and those that are generated. With quick it plays only those of files, and
// sends each in one way.
func Run(t *testing.T, place Place, quick bool) {
	p := &comparison{place: place, differences: deliberate(), rules: common()}
	t.Cleanup(func() { p.wantAllSeen(t) }) // behind the last script
	written, generated := len(ways()), generatedScripts()
	if quick {
		written, generated = 1, nil
	}
	for _, script := range read(t, "scripts") {
		t.Run(script.Name, func(t *testing.T) {
			t.Parallel()
			p.play(t, script, written)
		})
	}
	for _, script := range generated {
		t.Run(script.Name, func(t *testing.T) {
			t.Parallel()
			p.play(t, script, 2)
		})
	}
}

// RunAlone plays the scripts that need a place for themselves, one after the other.
func RunAlone(t *testing.T, place Place) {
	p := &comparison{place: place, differences: deliberateAlone()}
	for _, script := range read(t, "scripts/alone") {
		t.Run(script.Name, func(t *testing.T) { p.play(t, script, len(ways())) })
	}
	p.wantAllSeen(t)
}

// RunPrepared plays the scripts about prepared statements, n at a time: some keep their backend.
func RunPrepared(t *testing.T, place Place, n int) {
	p := &comparison{place: place, differences: deliberate()}
	room := make(chan struct{}, n)
	for _, script := range readFile(t, "scripts/prepared.script") {
		t.Run(script.Name, func(t *testing.T) {
			t.Parallel()
			room <- struct{}{}
			defer func() { <-room }()
			p.play(t, script, len(ways()))
		})
	}
}

// comparison compares the answers of a direct connection with those of both ports.
type comparison struct {
	place       Place
	differences map[string]*difference
	rules       []*everywhere
}

// play plays the script everywhere, through the ports in the first n ways.
func (p *comparison) play(t *testing.T, script pgscript.Script, n int) {
	t.Helper()
	direct := playAt(t, p.place.Direct, script, pgscript.Whole)
	if slices.Contains(direct, pgscript.Silence) {
		t.Fatalf("Postgres itself does not answer:\n%s", strings.Join(direct, "\n"))
	}
	for _, mode := range []string{"session", "transaction"} {
		want := p.differences[script.Name].expect(t, mode, direct)
		for _, w := range ways()[:n] {
			got := playAt(t, p.place.Ports[mode], script, w.cut)
			for _, rule := range p.rules {
				got = rule.allow(want, got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s port, sent %s:\n%s", mode, w.name, compare(want, got))
				break // the other ways would say the same
			}
		}
	}
}

// wantAllSeen fails the test for differences that are listed and did not occur.
func (p *comparison) wantAllSeen(t testing.TB) {
	for name, d := range p.differences {
		if d.seen.Load() == 0 {
			t.Errorf("a difference is listed for %q, which was not played", name)
		}
	}
	for _, rule := range p.rules {
		if rule.seen.Load() == 0 {
			t.Errorf("the listed difference does not occur any more: %s", rule.reason)
		}
	}
}

// compare writes two transcripts that differ, without what they begin and end with in common.
func compare(want, got []string) string {
	from, to := 0, 0
	for from < min(len(want), len(got)) && want[from] == got[from] {
		from++
	}
	for to < min(len(want), len(got))-from && want[len(want)-1-to] == got[len(got)-1-to] {
		to++
	}
	return fmt.Sprintf("behind %d lines Postgres answers\n\t%s\nand Sluice\n\t%s", from,
		strings.Join(want[from:len(want)-to], "\n\t"), strings.Join(got[from:len(got)-to], "\n\t"))
}

// playAt plays the script at an address, as alice.
func playAt(t testing.TB, addr string, script pgscript.Script, cut pgscript.Cut) []string {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	client := pgscript.NewClient(nc)
	if err := client.Login("alice", "app", "alice-secret", "application_name", "parity client"); err != nil {
		_ = nc.Close()
		t.Fatalf("log in at %s: %v", addr, err)
	}
	return script.Play(nc, cut, answerTimeout)
}

// read reads all scripts of a folder; names are unique.
func read(t testing.TB, dir string) (scripts []pgscript.Script) {
	t.Helper()
	entries, err := files.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		some := readFile(t, dir+"/"+entry.Name())
		for _, s := range some {
			if seen[s.Name] {
				t.Fatalf("%s: a second script %q", entry.Name(), s.Name)
			}
			seen[s.Name] = true
		}
		scripts = append(scripts, some...)
	}
	if len(scripts) == 0 {
		t.Fatalf("no scripts in %s", dir)
	}
	return scripts
}

// readFile reads the scripts of a file.
func readFile(t testing.TB, path string) []pgscript.Script {
	t.Helper()
	f, err := files.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	scripts, err := pgscript.ReadScripts(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return scripts
}
