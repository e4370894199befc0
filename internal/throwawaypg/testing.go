package throwawaypg

import "context"

// TB is the part of testing.TB that MustStart needs, so that programs with a demo do not link the package testing.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(f func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// MustStart starts a cluster that is stopped at the end of the test. A machine without Postgres fails the test. A test
// that fails shows the end of Postgres's output, unless o.Log takes it.
func MustStart(t TB, o Options) *Cluster {
	t.Helper()
	output := &tail{}
	if o.Log == nil {
		o.Log = output
	}
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("%v (test/install installs what the tests need)", err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Logf("%v", err)
		}
		if last := output.String(); t.Failed() && last != "" {
			t.Logf("the end of Postgres's output:\n%s", last)
		}
	})
	return c
}
