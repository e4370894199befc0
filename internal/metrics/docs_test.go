package metrics

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// update rewrites docs/metrics.md.
var update = flag.Bool("update", false, "rewrite docs/metrics.md")

func TestDocumentationIsUpToDate(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "metrics.md")
	if *update {
		if err := os.WriteFile(path, []byte(markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(markdown(), string(data)); diff != "" {
		t.Errorf("%s is not what the catalogue says; run go generate (-want +got):\n%s", path, diff)
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range catalogue() {
		if seen[f.name] {
			t.Errorf("%s stands twice in the catalogue", f.name)
		}
		seen[f.name] = true
		if !strings.HasPrefix(f.name, "sluice_") || f.help == "" || !strings.HasSuffix(f.help, ".") {
			t.Errorf("%s: help %q", f.name, f.help)
		}
		if total := strings.HasSuffix(f.name, "_total"); total != (f.kind == counter) {
			t.Errorf("%s is a %s", f.name, f.kind)
		}
	}
}

const preface = `<!-- Generated from internal/metrics by "make generate". Do not edit. -->

# Metrics

` + "`GET /metrics`" + ` on the admin address answers in the formats of Prometheus. Numbers are read when Prometheus asks; counters count from the
start of the process. Beside what stands here there are the usual families of the Go runtime (` + "`go_*`" + `) and the operating system (` + "`process_*`" + `).

- ` + "`tenant`, `database`, `role` and `mode`" + ` name a pool. The role is the one that logged in, whatever ` + "`SET ROLE`" + ` says. A pool
  that nobody uses any more goes away with its series; when it comes back, its counters start at 0.
- The first %d pools have series of their own, for as long as they exist. All others of a tenant and mode are added up
  as ` + "`database=\"other\", role=\"other\"`" + `. There the counters never go backwards: what a pool has counted stays in the sum when it is gone.
- Reasons are the words of the log and of [errors.md](errors.md). No label is an address or SQL.
`

func markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, preface, maxLabelSets)
	for _, section := range []struct {
		title    string
		families []family
	}{{"Process and tenants", processFamilies()}, {"Pools", poolFamilies()}, {"Events", eventFamilies()}} {
		fmt.Fprintf(&out, "\n## %s\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", section.title)
		for _, f := range section.families {
			labels := ""
			if len(f.labels) > 0 {
				labels = "`" + strings.Join(f.labels, "`, `") + "`"
			}
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", f.name, f.kind, labels, f.help)
		}
	}
	return out.String()
}
