package relay

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

const sleep = "select pg_sleep(60)"

var described = &pgproto3.ParameterDescription{}

func column(name string) *pgproto3.RowDescription {
	return &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte(name), DataTypeOID: 23}}}
}

// wantWaits checks that a cancel request waits for what is Sluice's own to be answered.
func (r *rig) wantWaits() {
	r.t.Helper()
	if r.m.Running() || !r.m.Owes() {
		r.t.Errorf("running = %t, owes = %t, want a cancel request to wait", r.m.Running(), r.m.Owes())
	}
}

// wantRuns checks that a cancel request would hit what the client has sent.
func (r *rig) wantRuns() {
	r.t.Helper()
	if !r.m.Running() {
		r.t.Error("what the client has sent does not run")
	}
}

func TestCancelRequestWaitsForWhatLeads(t *testing.T) {
	t.Parallel()
	r, _, other := proven(t, "set app.tenant = 7", tenant)
	r.attachTo(other)
	r.m.application = "other"
	r.carry("B:sluice_set E S " + leadWords)
	r.client("Q:"+sleep, "", query(sleep))
	r.wantWaits()
	r.answer("", "", bound, row, done, idle)
	r.wantWaits()
	r.answer("", "", led[:len(led)-1]...)
	r.wantWaits()
	r.answer("", "", done)
	r.wantRuns()
}

func TestCancelRequestWaitsForWhoSpeaks(t *testing.T) {
	t.Parallel()
	voices := "voices"
	r := newSpeaker(t, clientPID, &voices).attachTo(listenerBackend())
	const sql = "notify c; " + sleep
	r.client(speaks(clientPID)+"Q:"+sql, "", query(sql))
	r.wantWaits()
	r.answer("", "", spoken...)
	r.wantRuns()
}

func TestCancelRequestWaitsForTheQuestionInFrontOfTheNextStatement(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:set work_mem = '8MB'", "", query("set work_mem = '8MB'"))
	r.wantRuns()
	r.answer(questionWords, "C Z:I", done, idle)
	if r.m.Running() || r.m.Owes() {
		t.Error("a cancel request would mean the question")
	}
	r.client("Q:"+sleep, "", query(sleep))
	r.wantWaits()
	r.answer("", "", held(true)...)
	r.wantRuns()
}

// In a block no Sync ends what is injected: Postgres would keep its answers back, and a cancel request wait, to the client's next.
func TestWhatIsInjectedInABlockIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:begin", "", query("begin"))
	r.answer("", "C Z:T", done, inBlock)
	const sql = "select lastval(); " + sleep
	r.client(discardAsideWords+" H Q:"+sql, "", query(sql))
	r.wantWaits()
	r.answer("", "", parsed, bound, done, closed, closed)
	r.wantRuns()
}

func TestCancelRequestWaitsForTheStatementThatIsBeingPrepared(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 D:sluice_1 S", "", parse("a", sleep), describe("a"), syncMsg)
	r.answer("", "1 t T Z:I", parsed, described, column("a"), idle)
	r.m.Detach()
	r.attach()
	if next := r.client("P:sluice_1 D:sluice_1 H", "", bind("a"), exec, syncMsg); next != Blocked {
		t.Fatalf("next = %d, want Blocked", next)
	}
	r.answer("", "", parsed)
	if r.m.Running() {
		t.Error("a cancel request would be spent on what is over before it comes")
	}
	r.answer("", "", described, column("a"))
	r.client("B:sluice_1 E S", "")
	r.wantRuns()
}

func TestCancelRequestHitsWhatRunsInFrontOfTheStatementThatIsBeingPrepared(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("P:sluice_1 D:sluice_1 S", "", parse("a", "select 1"), describe("a"), syncMsg)
	r.answer("", "1 t T Z:I", parsed, described, column("a"), idle)
	r.m.Detach()
	r.attach()
	r.client("P: B: E P:sluice_1 D:sluice_1 H", "", parse("", sleep), bind(""), exec, bind("a"), exec, syncMsg)
	r.wantRuns()
}

func TestNothingIsInjectedWhileACancelRequestIsOnItsWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:set work_mem = '8MB'", "", query("set work_mem = '8MB'"))
	r.m.Cancelling()
	r.answer("", "C Z:I", done, idle)
	if r.m.Free() {
		t.Error("free before Postgres has been asked")
	}
	if next := r.client("", "", query("select 1")); next != Blocked {
		t.Errorf("next = %d, want Blocked", next)
	}
	r.cancelOver(questionWords)
	r.client("Q:select 1", "")
	r.answer("", "", held(true)...)
	r.answer("", "C Z:I", done, idle)
	if !r.m.Free() {
		t.Error("not free")
	}
}

func (r *rig) cancelOver(want string) {
	r.t.Helper()
	var b Out
	r.m.CancelOver(&b)
	r.check("behind the cancel request", want, words(b.Bytes()))
}

func TestApplicationNameIsNotPutBackWhileACancelRequestIsOnItsWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Baseline: nil}).attach()
	r.client("Q:select 1", "", query("select 1"))
	r.backend.application = "" // it was reset
	r.m.Cancelling()
	r.answer("", "C Z:I", done, idle)
	r.cancelOver("P:sluice_set B:sluice_set E S")
}

func TestTimeoutsStayWhileACancelRequestIsOnItsWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.sets(true, "set statement_timeout = 5000", [4]string{"s", "statement_timeout", "5000", "0"})
	r.client("Q:"+sleep, "", query(sleep))
	r.m.Cancelling()
	r.answer("", "E:57014 Z:I", cancelled, idle)
	var b Out
	if !r.m.Calm(&b) || !b.Empty() || r.m.Free() {
		t.Errorf("sent %q, free = %t: it must stay till then", words(b.Bytes()), r.m.Free())
	}
	r.cancelOver("")
	if !r.m.Free() || !r.m.Calm(&b) || words(b.Bytes()) != "P:sluice_set B:sluice_set E S" {
		t.Errorf("sent %q, free = %t", words(b.Bytes()), r.m.Free())
	}
}

func TestRollbackBehindAClientThatIsGoneWaitsForTheCancelRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:begin", "", query("begin"))
	r.answer("", "C Z:T", done, inBlock)
	r.client("Q:"+sleep, "", query(sleep))
	var b Out
	r.m.Abandon(true, &b)
	r.m.Cancelling()
	r.answer("", "", cancelled, &pgproto3.ReadyForQuery{TxStatus: 'E'})
	if r.m.Free() {
		t.Error("free in a transaction")
	}
	r.cancelOver("Q:ROLLBACK")
	r.answer("Q:DISCARD ALL", "", done, idle)
	r.answer("", "", done, idle)
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestHandOverOfChannelsWaitsForTheCancelRequest(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.listen("a")
	r.client("Q:load 'x'", "", query("load 'x'"))
	r.m.Cancelling()
	r.answer("", "C", done, idle)
	r.wantWish(WishNothing)
	r.cancelOver("")
	r.wantWish(WishReturn)
}

func TestNewsDoesNotWaitForTheCancelRequest(t *testing.T) {
	t.Parallel()
	r := newListener(t)
	r.listen("a")
	r.client("Q:"+sleep, "", query(sleep))
	r.m.Cancelling()
	r.answer("", "E:57014", cancelled, idle)
	r.wantWish(WishCaughtUp)
	r.settle("Z:I", "a")
	r.cancelOver("")
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestSessionOfItsOwnIsNotHeldUpByACancelRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{Raw: true}).attach()
	r.client("Q:"+sleep, "", query(sleep))
	r.m.Cancelling()
	r.client("Q:select 1", "", query("select 1"))
	r.answer("", "E:57014 Z:I C Z:I", cancelled, idle, done, idle)
	if !r.m.Free() {
		t.Error("not free")
	}
}

func TestRequestsAreTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, Params{}).attach()
	r.client("Q:set work_mem = '8MB' Q:select 1", "", query("set work_mem = '8MB'"), query("select 1"))
	r.answer("", "C Z:I", done, idle)
	if got := r.m.Served(); got != 1 {
		t.Errorf("served %d requests, want 1", got)
	}
	r.answer(questionWords, "C Z:I", done, idle)
	r.answer("", "", held(true)...)
	if got := r.m.Served(); got != 2 {
		t.Errorf("served %d requests, want 2: the question is none", got)
	}
}
