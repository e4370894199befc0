package relay

import "testing"

func TestRolesAreChangedWhenTheTransactionIsOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	want := func(when string, want bool) {
		t.Helper()
		if got := r.m.TakeRoles(); got != want {
			t.Errorf("%s: changed = %t, want %t", when, got, want)
		}
	}
	r.client("Q:alter user x password 'y'", "", query("alter user x password 'y'"))
	r.answer("", "C", command("ALTER ROLE"))
	want("before ReadyForQuery", false)
	r.answer("", "Z:I", idle)
	want("behind ReadyForQuery", true)
	want("asked again", false)
	r.client("Q:begin", "", query("begin"))
	r.answer("", "C Z:T", done, inBlock)
	r.client("Q:drop role x", "", query("drop role x"))
	r.answer("", "C Z:T", command("DROP ROLE"), inBlock)
	want("in a block", false)
	r.client("Q:commit", "", query("commit"))
	r.answer("", "C Z:I", done, idle)
	want("behind the block", true)
	r.client("Q:create table t()", "", query("create table t()"))
	r.answer("", "C Z:I", command("CREATE TABLE"), idle)
	want("behind another command", false)
}
