package parity

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/internal/pgscript"
)

// pipeline is messages between two Syncs from which scripts are made.
type pipeline struct {
	name    string
	a       string // the parameters of the statement a
	unnamed string // those of the unnamed statement
	lines   []string
}

func pipelines() []pipeline {
	return []pipeline{
		{"unnamed", "", " value", []string{
			`Parse "" "SELECT $1::text"`, `Describe S ""`, `Bind "" "" value`, `Describe P ""`, `Execute ""`, `Close P ""`, `Close S ""`,
		}},
		{"named", " 1", "", []string{
			`Parse a "SELECT 'a' || $1"`, `Bind "" a 1`, `Execute ""`, `Parse b "SELECT 'b'"`, `Bind p b`, `Execute p`, `Close S a`, `Parse a "SELECT 'again' || $1"`, `Bind "" a 2`, `Execute ""`,
		}},
		{"written", " 500 six", "", []string{
			`Parse a "INSERT INTO parity_log VALUES ($1, $2)"`, `Bind "" a 500 five`, `Execute ""`, `Parse "" "SELECT count(*) FROM parity_log WHERE x = 500"`, `Bind "" ""`, `Execute ""`, `Parse "" "DELETE FROM parity_log WHERE x = 500"`, `Bind "" ""`, `Execute ""`,
		}},
		{"copied", "", "", []string{
			`Parse a "SELECT 1"`, `Parse "" "COPY (SELECT generate_series(1, 2)) TO STDOUT"`, `Bind "" ""`, `Execute ""`, `Bind "" a`, `Execute ""`,
		}},
		{"limited", "", "", []string{
			`Parse a "SELECT generate_series(1, 4)"`, `Bind p a`, `Execute p 1`, `Execute p 2`, `Close S a`, `Execute p`, `Close P p`,
		}},
	}
}

// failures are messages that fail, each at another stage. A message out of place fails as well.
func failures() []string {
	return []string{
		`Parse "" nonsense`, `Parse bad "SELECT nowhere"`, `Bind "" nobody`, `Describe S nobody`, `Describe P nobody`, `Execute nobody`, `msg D "X\x00"`,
	}
}

// again is what follows each pipeline: it tells what is left of the pipeline's names. Nothing of it is kept.
func again(a, unnamed string) []string {
	return []string{
		`Describe S ""`, "Sync", `Bind "" ""` + unnamed, `Describe P ""`, "Sync", "Describe S a", "Sync", "Describe S b", "Sync",
		`Parse b "SELECT 'b'"`, "Sync", "> ZZZZZ", "Query BEGIN", "> Z", `Bind "" a` + a, `Execute ""`, "Sync", "> Z", "Query ROLLBACK", "> Z",
		`Parse a "SELECT 'anew'"`, "Sync", "> Z", "Query DELETE FROM parity_log WHERE x = 500", "> Z",
	}
}

// generatedScripts are each pipeline with an error at each position, with a Sync and with a Flush at each, and inside of a block.
func generatedScripts() (scripts []pgscript.Script) {
	failures := failures()
	for _, p := range pipelines() {
		add := func(name string, lines []string, behind ...string) {
			lines = slices.Concat(lines, behind, again(p.a, p.unnamed))
			text := strings.ReplaceAll(strings.Join(lines, "\n"), "500", strconv.Itoa(500+len(scripts))) // rows of its own
			scripts = append(scripts, script(p.name+", "+name, text))
		}
		add("whole", p.lines, "Sync", "> Z")
		add("with a Flush behind each", strings.Split(strings.Join(p.lines, "\nFlush\n"), "\n"), "Flush", "Sync", "> Z")
		add("with a Sync behind each", strings.Split(strings.Join(p.lines, "\nSync\n"), "\n"), "Sync", "> "+strings.Repeat("Z", len(p.lines)))
		add("in a block", slices.Concat([]string{"Query BEGIN", "> Z"}, p.lines), "Sync", "> Z", "Query COMMIT", "> Z")
		add("in a failed block", slices.Concat([]string{"Query BEGIN", "> Z", "Query nonsense", "> Z"}, p.lines), "Sync", "> Z", "Query ROLLBACK", "> Z")
		for i := range len(p.lines) + 1 {
			failure := failures[i%len(failures)]
			broken := slices.Insert(slices.Clone(p.lines), i, failure)
			add(fmt.Sprintf("error at %d", i), broken, "Sync", "> Z")
			add(fmt.Sprintf("error at %d of a block", i), slices.Concat([]string{"Query BEGIN", "> Z"}, broken), "Sync", "> Z", "Query COMMIT", "> Z")
			waiting := slices.Insert(slices.Clone(p.lines), i, failure, "Flush", "> E")
			add(fmt.Sprintf("error at %d that is waited for", i), waiting, "Sync", "> Z")
		}
		for i := range p.lines {
			without := slices.Delete(slices.Clone(p.lines), i, i+1)
			add(fmt.Sprintf("without %d", i), without, "Sync", "> Z")
		}
	}
	return scripts
}

// script reads a script from its text.
func script(name, text string) pgscript.Script {
	some, err := pgscript.ReadScripts(strings.NewReader("== " + name + "\n" + text))
	if err != nil || len(some) != 1 {
		panic(fmt.Sprintf("script %q: %v", name, err))
	}
	return some[0]
}
