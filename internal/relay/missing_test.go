package relay

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

const ofGone = "prepare p as select * from gone"

var (
	errGone = &pgproto3.ErrorResponse{Severity: "ERROR", Code: "42P01", Message: `relation "gone" does not exist`, Position: 29}
	errNoP  = &pgproto3.ErrorResponse{Severity: "ERROR", Code: "26000", Message: `prepared statement "p" does not exist`}
)

// withoutP returns a machine with a client that has prepared p, on a backend where that is not possible any more.
func withoutP(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, Params{}).attach()
	r.prepares(true, ofGone, "PREPARE", bySQL("p", ofGone))
	r.m.Detach()
	r.attachTo(NewBackend(10, application))
	r.carry(replayWords)
	r.unseen(parsed, bound, errGone, idle)
	return r
}

func TestExecuteOfAMissingStatementSaysWhatIsWrongWithIt(t *testing.T) {
	t.Parallel()
	r := withoutP(t)
	r.client(replayWords+" Q:execute p", "", query("execute p"))
	want := *errGone
	want.Position = 0
	var b, c Out
	if _, err := r.m.FromBackend(encode(t, parsed, bound, errGone, idle, errNoP, idle), &b, &c); err != nil {
		t.Fatal(err)
	}
	if got := string(c.Bytes()); got != string(encode(t, &want, idle)) {
		t.Errorf("the client got %q", got)
	}
	r.client(replayWords+" Q:execute p", "", query("execute p")) // it has been made again
	r.answer("", "D C Z:I", append(replayed, row, done, idle)...)
	r.client("Q:execute p", "", query("execute p"))
	r.answer("", "D C Z:I", row, done, idle)
	r.client("Q:execute q", "", query("execute q"))
	r.answer("", "E:26000 Z:I", errNoStmt, idle)
}

func TestMissingStatementCanBeGivenUp(t *testing.T) {
	t.Parallel()
	for name, inBlockFirst := range map[string]bool{"alone": false, "in a block": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := withoutP(t)
			stand, standing := "P:p S ", []pgproto3.Message{parsed, idle}
			if inBlockFirst {
				r.client("Q:begin", "", query("begin"))
				r.answer("", "C Z:T", done, inBlock)
				stand, standing = "P:p H ", standing[:1]
			}
			r.client(stand+"Q:deallocate q; deallocate p; commit", "", query("deallocate q; deallocate p; commit"))
			r.answer(questionWords, "C Z:I", append(standing, command("DEALLOCATE"), idle)...)
			r.unseen(held(true)...)
			if r.m.names.SQL() || r.backend.Own.Len() != 0 {
				t.Error("p is still there")
			}
		})
	}
}

func TestWhatStandsInForAMissingStatementIsNotUsed(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("p", "select * from gone"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("P:p S Q:deallocate q", "", query("deallocate q"))
	r.answer(questionWords, "E:26000 Z:I", errGone, idle, errNoStmt, idle)
	r.unseen(held(true)...)
	r.client("P:p S Q:deallocate q", "", query("deallocate q"))
	r.answer(againWords, "C Z:I", parsed, idle, command("DEALLOCATE"), idle)
	r.unseen(held(false, byProtocol("p", "", "{}"))...)
	if st := r.m.names.Lookup([]byte("p")); st == nil || st.Query() != "select * from gone" {
		t.Fatalf("p is %v", st)
	}
	r.client("C:p P:p B:p E S", "", bind("p"), exec, syncMsg)
	r.answer("", "2 C Z:I", closed, parsed, bound, done, idle)
}

func TestStatementThatCannotBePreparedInABlockDoesNoHarm(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 P:sluice_2 S Q:begin", "", parse("a", "select * from gone"), parse("b", "select 1"), syncMsg, query("begin"))
	r.answer("", "1 1 Z:I C Z:T", parsed, parsed, idle, done, inBlock)
	r.client("Q:SAVEPOINT sluice_names P:a S Q:ROLLBACK TO SAVEPOINT sluice_names P:b S Q:ROLLBACK TO SAVEPOINT sluice_names "+
		"Q:RELEASE SAVEPOINT sluice_names Q:execute b", "", query("execute b"))
	failed := &pgproto3.ReadyForQuery{TxStatus: 'E'}
	r.unseen(done, inBlock, errGone, failed, done, inBlock, parsed, inBlock, done, inBlock, done, inBlock)
	r.answer("", "D C Z:T", row, done, inBlock)
	if !r.m.isMissing("a") || r.m.isMissing("b") {
		t.Errorf("a is missing: %t, b: %t", r.m.isMissing("a"), r.m.isMissing("b"))
	}
}

func TestWhatIsMadeAgainUnderItsOwnNameIsNotTakenForShared(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 S", "", parse("p", "select * from gone"), syncMsg)
	r.answer("", "1 Z:I", parsed, idle)
	r.client("P:p S Q:deallocate q", "", query("deallocate q"))
	r.answer(questionWords, "E:26000 Z:I", errGone, idle, errNoStmt, idle)
	r.unseen(held(true)...)
	r.client("P:p S Q:deallocate all", "", query("deallocate all"))
	r.client("C:p P:p B:p E S", "", bind("p"), exec, syncMsg)
	r.answer(questionWords, "C Z:I 2 C Z:I", parsed, idle, command("DEALLOCATE ALL"), idle, closed, parsed, bound, done, idle)
	r.unseen(held(true, byProtocol("p", "select * from gone", "{}"))...)
	if r.backend.Len() != 0 {
		t.Errorf("the backend is taken to have %d statements for all", r.backend.Len())
	}
}
