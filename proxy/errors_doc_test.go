package proxy

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite generated files")

// TestEveryReasonHasOneRow checks the one table that feeds wire, log, metric and docs.
func TestEveryReasonHasOneRow(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for i, row := range reasons {
		switch {
		case row.label == "" || row.when == "":
			t.Errorf("reason %d has no label or no explanation: %+v", i, row)
		case seen[row.label]:
			t.Errorf("two reasons are called %q", row.label)
		case strings.ToLower(row.label) != row.label || strings.ContainsAny(row.label, " -"):
			t.Errorf("label %q is not snake_case", row.label)
		case row.severity != "" && len(row.sqlstate) != 5 && Reason(i) != ReasonBackendRefused:
			t.Errorf("%s: SQLSTATE %q", row.label, row.sqlstate)
		case row.sqlstate == "53300" && row.hint == "":
			t.Errorf("%s: a limit without a hint", row.label)
		}
		seen[row.label] = true
	}
}

func TestErrorDocumentationIsUpToDate(t *testing.T) {
	const path = "../docs/errors.md"
	want := errorsMarkdown()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/errors.md is not what the table says; run make generate (-want +got):\n%s", diff)
	}
}

// errorsMarkdown writes the table for people.
func errorsMarkdown() string {
	var b strings.Builder
	b.WriteString(`# Errors

Why a session was refused or ended has one word, the same in the log (` + "`reason`" + `), in the metrics (label ` + "`reason`" + `)
and here. What the client is sent is in the second column; errors that Postgres sends itself pass untouched. This file is
generated from the table in the code.

| reason | severity, SQLSTATE | when | message | hint |
|---|---|---|---|---|
`)
	for _, row := range reasons {
		sent := "nothing is sent"
		switch {
		case row.severity != "" && row.sqlstate == "":
			sent = row.severity + ", as Postgres says"
		case row.severity != "":
			sent = row.severity + " " + row.sqlstate
		case row.sqlstate != "":
			sent = "Postgres's ERROR " + row.sqlstate
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", row.label, sent, row.when, row.message, row.hint)
	}
	n := noticePlain()
	fmt.Fprintf(&b, `
## Notices

What a client is told that is let in all the same.

| severity, SQLSTATE | when | message | hint |
|---|---|---|---|
| %s %s | at the login of a client over TCP without TLS, where `+"`tls_enforcement`"+` is `+"`warn`"+` | %s | %s |
`, n.Severity, n.Code, n.Message, n.Hint)
	return b.String()
}
