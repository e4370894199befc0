package relay

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

var failed = &pgproto3.ReadyForQuery{TxStatus: 'E'}

// failing returns a machine whose client has prepared p by the protocol and is in a transaction that has failed, on a backend
// that does not have p.
func failing(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("p", "select 1"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("Q:begin", "", query("begin"))
	r.answer("", "C Z:T", done, inBlock)
	r.client("Q:nonsense", "", query("nonsense"))
	r.answer("", "E:42601 Z:E", errSyntax, failed)
	return r
}

func TestTextThatEndsAFailedTransactionFindsTheClientsStatements(t *testing.T) {
	t.Parallel()
	const sql = "rollback; execute p"
	r := failing(t)
	if next := r.client("Q:rollback", "", query(sql)); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.answer("", "", command("ROLLBACK"), idle)
	if r.m.Free() {
		t.Error("free before the text has been sent")
	}
	if next := r.client("P:p S Q:BEGIN D:sluice_? S", ""); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.answer("", "", parsed, idle, command("BEGIN"), inBlock, errNoStmt, failed)
	if r.m.Free() {
		t.Error("free before the text has been sent")
	}
	r.client("Q:"+sql, "")
	r.answer("", "C C Z:I", command("ROLLBACK"), done, idle)
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestTextThatGoesBackToASavepointFindsTheClientsStatements(t *testing.T) {
	t.Parallel()
	const sql = "rollback to s; execute p"
	r := failing(t)
	r.client("Q:rollback to s", "", query(sql))
	r.answer("", "", command("ROLLBACK"), inBlock)
	r.client("Q:SAVEPOINT sluice_names P:p S Q:ROLLBACK TO SAVEPOINT sluice_names Q:RELEASE SAVEPOINT sluice_names D:sluice_? S", "")
	r.answer("", "", done, inBlock, parsed, inBlock, done, inBlock, done, inBlock, errNoStmt, failed)
	r.client("Q:"+sql, "")
	r.answer("", "C C Z:T", command("ROLLBACK"), done, inBlock)
}

func TestWhatIsWrongWithTheEndOfAFailedTransactionIsSaidToTheClient(t *testing.T) {
	t.Parallel()
	const sql = "rollback to nobody; execute p"
	r := failing(t)
	r.client("Q:rollback to nobody", "", query(sql))
	r.answer("", "", errSyntax, failed)
	r.client("Q:"+sql, "")
	r.answer("", "E:42601 Z:E", errSyntax, failed)
}

func TestClientThatGoesWhileItsFailedTransactionIsEndedLeavesACleanBackend(t *testing.T) {
	t.Parallel()
	r := failing(t)
	r.client("Q:rollback", "", query("rollback; execute p"))
	var b Out
	r.m.Abandon(false, &b)
	r.answer("", "", command("ROLLBACK"), idle)
	if !r.m.Free() || !b.Empty() {
		t.Errorf("free = %t, sent %q", r.m.Free(), words(b.Bytes()))
	}
}
