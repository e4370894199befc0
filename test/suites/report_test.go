package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/proxy"
)

func TestParseReadsWhatPgRegressPrints(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, output string }{
		{"its own lines", `
(using existing database "regression")
test test_setup                   ... ok          224 ms
parallel group (2 tests):  boolean char
     boolean                      ... ok           70 ms
     char                         ... FAILED       99 ms
test tablespace                   ... FAILED (test process exited with exit code 2) 1 ms
     random                       ... failed (ignored)  14 ms
 2 of 5 tests failed.
`},
		{"TAP", `
# using existing database "regression"
ok 1         - test_setup                                224 ms
# parallel group (2 tests):  boolean char
ok 2         + boolean                                    70 ms
not ok 3     + char                                       99 ms
not ok 4     - tablespace                                  1 ms
not ok 5     + random                                     14 ms
1..5
`},
	}
	want := []test{{"test_setup", true}, {"boolean", true}, {"char", false}, {"tablespace", false}, {"random", false}}
	for _, c := range cases {
		if diff := cmp.Diff(want, parse([]byte(c.output)), cmp.AllowUnexported(test{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestReportCountsWhatFailsOnlyThroughSluice(t *testing.T) {
	t.Parallel()
	runs := []*result{
		{way: wayDirect, tests: []test{{"boolean", true}, {"stats", true}, {"numeric", false}, {"guc", true}}},
		{way: waySession, tests: []test{{"boolean", true}, {"stats", true}, {"numeric", false}, {"guc", true}}},
		{
			way: wayTransaction, tests: []test{{"boolean", false}, {"stats", false}, {"numeric", false}},
			pool: proxy.PoolStatus{Transactions: 7, Pins: map[string]uint64{"temp": 2, "do": 1, "set": 0}},
		},
	}
	var out strings.Builder
	if got := report(&out, suiteRegress, runs); got != 2 {
		t.Errorf("got %d tests that are worse, want 2: boolean and guc", got)
	}
	blanks := regexp.MustCompile(` +`)
	printed := blanks.ReplaceAllString(out.String(), " ")
	for _, want := range []string{
		"\nboolean ok ok FAILED !\n",
		"\nstats ok ok FAILED (by design)\n",
		"\nnumeric FAILED FAILED FAILED\n",
		"\nguc ok ok missing !\n",
		"\npassed 3 of 4 3 of 4 0 of 3\n",
		" in 7 transactions: do 1, temp 2\n",
		"\nstats fails by design: a backend keeps",
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("the report has no %q:\n%s", want, out.String())
		}
	}
}

func TestReportCountsByStateCheckWhatMayFail(t *testing.T) {
	t.Parallel()
	cases := []struct {
		stateCheck string
		want       int
	}{{"strict", 1}, {"learn", 0}, {"hint", 0}}
	for _, c := range cases {
		runs := []*result{
			{way: wayDirect, tests: []test{{"sequence", true}, {"stats", true}}},
			{way: wayTransaction, stateCheck: c.stateCheck, tests: []test{{"sequence", false}, {"stats", false}}},
		}
		var out strings.Builder
		if got := report(&out, suiteRegress, runs); got != c.want {
			t.Errorf("state_check %s: got %d tests that are worse, want %d:\n%s", c.stateCheck, got, c.want, out.String())
		}
	}
}
