package relay

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	otherPID = clientPID + 1
	realPID  = 4321
)

// newCaller returns a machine of a shared session with a backend, whose client was told clientPID.
func newCaller(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, Params{}).attach()
	r.m.Identify(clientPID)
	return r
}

// wantMention checks of whom the message that waits speaks, and translates that.
func (r *rig) wantMention(next Next, signals bool, pids []uint32, backends ...uint32) {
	r.t.Helper()
	if next != NeedPIDs {
		r.t.Fatalf("next = %v, want NeedPIDs", next)
	}
	if r.m.Free() {
		r.t.Error("free with a message that is still to be sent")
	}
	got, gotSignals := r.m.Mentioned()
	if !slices.Equal(got, pids) || gotSignals != signals {
		r.t.Fatalf("mentioned: %v, signals = %v, want %v, %v", got, gotSignals, pids, signals)
	}
	r.m.Translate(backends)
}

func TestPIDsInAQueryAreReplacedInPlace(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"SELECT pg_terminate_backend(5000001)":                                 "SELECT pg_terminate_backend(4321   )",
		"SELECT pg_cancel_backend('5000001'), 5000001, 1, '5000001 '":          "SELECT pg_cancel_backend('4321   '), 4321   , 1, '5000001 '",
		"SELECT pg_terminate_backend(5000001::int) -- 5000001":                 "SELECT pg_terminate_backend(4321   ::int) -- 5000001",
		"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE pid IN(5000001)": "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE pid IN(4321   )",
	} {
		t.Run(sql, func(t *testing.T) {
			t.Parallel()
			r := newCaller(t)
			next := r.client("", "", query(sql))
			for range 2 { // however often it is asked
				r.wantMention(next, true, []uint32{otherPID}, 0)
				r.m.mention.backends = nil
				next = r.client("", "")
			}
			r.wantMention(next, true, []uint32{otherPID}, realPID)
			r.client("Q:"+want, "")
			r.answer("", "C Z:I", done, idle)
			if !r.m.Free() {
				t.Error("not free")
			}
		})
	}
}

func TestWhoIsNotFoundStaysInTheText(t *testing.T) {
	t.Parallel()
	const sql = "SELECT pg_terminate_backend(5000001), pg_terminate_backend(5000002), pg_terminate_backend(5000003)"
	r := newCaller(t)
	r.wantMention(r.client("", "", query(sql)), true, []uint32{otherPID, otherPID + 1, otherPID + 2}, 0, 7, 123456789)
	r.client("Q:SELECT pg_terminate_backend(5000001), pg_terminate_backend(7      ), pg_terminate_backend(5000003)", "")
}

func TestPIDsThatWereFoundAreForgotten(t *testing.T) {
	t.Parallel()
	r := newCaller(t)
	const sql = "SELECT pg_cancel_backend(5000001)"
	r.wantMention(r.client("", "", query(sql)), true, []uint32{otherPID}, realPID)
	r.m.Unmention() // the message has not been sent, and nobody keeps the backend
	r.wantMention(r.client("", ""), true, []uint32{otherPID}, 0)
	r.client("Q:"+sql, "")
	r.answer("", "C Z:I", done, idle)
}

func TestPIDsThatWereLookedUpAreSoughtAnewForASignal(t *testing.T) {
	t.Parallel()
	r := newCaller(t)
	r.m.mention = &mention{pids: []uint32{otherPID}, backends: []uint32{realPID}}
	r.wantMention(r.client("", "", query("SELECT pg_cancel_backend(5000001)")), true, []uint32{otherPID}, 0)
}

func TestLookUpsSendNoSignals(t *testing.T) {
	t.Parallel()
	r := newCaller(t)
	r.wantMention(r.client("", "", query("SELECT 1 FROM pg_stat_activity WHERE pid = 5000001")), false, []uint32{otherPID}, realPID)
	r.client("Q:SELECT 1 FROM pg_stat_activity WHERE pid = 4321   ", "")
}

func TestTextsThatAreKeptKeepTheirPIDs(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"CREATE VIEW v AS SELECT pg_terminate_backend(5000001)",
		"SELECT 5000001",
		"SELECT 'pg_terminate_backend(5000001)'",
		"SELECT pg_terminate_backend(1234)",
		"SELECT pg_terminate_backend(pg_backend_pid())",
	} {
		newCaller(t).client("Q:"+sql, "", query(sql))
	}
	r := newRig(t, Params{Raw: true}).attach()
	r.client("Q:SELECT pg_terminate_backend(5000001)", "", query("SELECT pg_terminate_backend(5000001)"))
	failed := newCaller(t)
	failed.client("Q:begin", "", query("begin"))
	failed.answer("", "C Z:E", done, &pgproto3.ReadyForQuery{TxStatus: 'E'})
	failed.client("Q:SELECT pg_terminate_backend(5000001)", "", query("SELECT pg_terminate_backend(5000001)"))
}

// bindWith returns a Bind with these formats and values.
func bindWith(name string, formats []int16, values ...[]byte) *pgproto3.Bind {
	return &pgproto3.Bind{PreparedStatement: name, ParameterFormatCodes: formats, Parameters: values}
}

func binary4(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func binary8(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// sent passes a message from the client and returns the Bind that goes to the backend.
func (r *rig) sent(msgs ...pgproto3.Message) (next Next, b *pgproto3.Bind) {
	r.t.Helper()
	r.held = append(r.held, encode(r.t, msgs...)...)
	var toBackend, toClient Out
	n, next, err := r.m.FromClient(r.held, &toBackend, &toClient)
	if err != nil {
		r.t.Fatal(err)
	}
	if p := toBackend.Bytes(); next == More {
		size := binary.BigEndian.Uint32(p[1:]) + 1
		b = &pgproto3.Bind{}
		if err := b.Decode(p[5:size]); p[0] != 'B' || err != nil {
			r.t.Fatalf("sent %q, %v, want a Bind", p, err)
		}
	}
	r.held = r.held[n:]
	return next, b
}

func TestPIDsAmongBoundValuesAreReplaced(t *testing.T) {
	t.Parallel()
	text := func(s string) []byte { return []byte(s) }
	for name, tc := range map[string]struct {
		formats []int16
		values  [][]byte
		want    [][]byte
	}{
		"text":                {nil, [][]byte{text("5000001"), text("x"), nil}, [][]byte{text("4321   "), text("x"), nil}},
		"text, said once":     {[]int16{0}, [][]byte{text("5000001"), text("5000001")}, [][]byte{text("4321   "), text("4321   ")}},
		"four bytes":          {[]int16{1}, [][]byte{binary4(otherPID)}, [][]byte{binary4(realPID)}},
		"eight bytes":         {[]int16{1}, [][]byte{binary8(otherPID)}, [][]byte{binary8(realPID)}},
		"mixed":               {[]int16{0, 1, 0}, [][]byte{text("1"), binary4(otherPID), text("5000001")}, [][]byte{text("1"), binary4(realPID), text("4321   ")}},
		"not what they seem":  {[]int16{1, 0, 1}, [][]byte{binary4(otherPID), text("\x00\x4c\x4b\x41"), text("5000001")}, [][]byte{binary4(realPID), text("\x00\x4c\x4b\x41"), text("5000001")}},
		"more than a pid has": {[]int16{1, 1}, [][]byte{binary8(1<<32 + otherPID), binary4(otherPID)}, [][]byte{binary8(1<<32 + otherPID), binary4(realPID)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newCaller(t)
			r.client("P:sluice_1 S", "", parse("s", "SELECT pg_terminate_backend($1)"), syncMsg)
			r.answer("", "1 Z:I", parsed, idle)
			next, _ := r.sent(bindWith("s", tc.formats, tc.values...))
			r.wantMention(next, true, []uint32{otherPID}, realPID)
			next, got := r.sent()
			if next != More || got.PreparedStatement != "sluice_1" || !slices.EqualFunc(got.Parameters, tc.want, bytes.Equal) {
				t.Errorf("next = %v, sent %q of %q, want %q", next, got.Parameters, got.PreparedStatement, tc.want)
			}
		})
	}
}

func TestPIDsInASharedStatementAreReplacedForOneRun(t *testing.T) {
	t.Parallel()
	const sql = "SELECT pg_terminate_backend(5000001)"
	for _, name := range []string{"s", ""} {
		r := newCaller(t)
		as := map[string]string{"s": "sluice_1", "": ""}[name]
		for i := range 2 {
			if i == 0 {
				r.client("P:"+as, "", parse(name, sql))
			}
			r.wantMention(r.client("", "", bind(name), exec, syncMsg), true, []uint32{otherPID}, realPID)
			next := r.client("P: B: E S", "")
			if next != More {
				t.Fatalf("next = %v", next)
			}
			if i == 0 {
				r.answer("", "1", parsed)
			}
			r.answer("", "2 C Z:I", parsed, bound, done, idle)
		}
		r.wantMention(r.client("", "", bind(name)), true, []uint32{otherPID}, 0)
		if next := r.client(map[string]string{"s": "B:sluice_1", "": "P: B:"}[name], ""); next != More {
			t.Errorf("next = %v", next)
		}
	}
}

func TestTextThatIsBoundInsteadSaysTheRealPID(t *testing.T) {
	t.Parallel()
	r := newCaller(t)
	r.client("P:sluice_1", "", &pgproto3.Parse{Name: "s", Query: "SELECT pg_cancel_backend('5000001'), $1", ParameterOIDs: []uint32{23}})
	r.held = encode(t, bindWith("s", nil, []byte("5")))
	var toBackend, toClient Out
	_, next, _ := r.m.FromClient(r.held, &toBackend, &toClient)
	r.wantMention(next, true, []uint32{otherPID}, realPID)
	if _, _, err := r.m.FromClient(r.held, &toBackend, &toClient); err != nil {
		t.Fatal(err)
	}
	want := encode(t, &pgproto3.Parse{Query: "SELECT pg_cancel_backend('4321   '), $1", ParameterOIDs: []uint32{23}}, bindWith("", nil, []byte("5")))
	if got := toBackend.Bytes(); !bytes.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}

func TestPIDsAmongTheArgumentsOfExecuteAreReplaced(t *testing.T) {
	t.Parallel()
	const sql = "prepare p as select pg_terminate_backend($1)"
	for _, known := range []bool{true, false} {
		r := newCaller(t)
		if known {
			r.prepares(true, sql, "PREPARE", bySQL("p", sql))
		} else {
			r.client("Q:"+sql, "", query(sql))
			r.answer(questionWords, "C Z:I", command("PREPARE"), idle)
		}
		r.wantMention(r.client("", "", query("execute p(5000001)")), true, []uint32{otherPID}, realPID)
		r.client("Q:execute p(4321   )", "")
	}
	r := newCaller(t)
	r.prepares(true, "prepare p as select $1", "PREPARE", bySQL("p", "prepare p as select $1"))
	r.client("Q:execute p(5000001)", "", query("execute p(5000001)"))
}

func TestPIDsOfAStatementOfSQLAreReplacedAmongItsValuesOnly(t *testing.T) {
	t.Parallel()
	const sql = "prepare p as select pg_terminate_backend($1), 5000002"
	r := newCaller(t)
	r.prepares(true, sql, "PREPARE", bySQL("p", sql))
	next, _ := r.sent(bindWith("p", nil, []byte("5000001")))
	r.wantMention(next, true, []uint32{otherPID}, realPID)
	if next, got := r.sent(); next != More || got.PreparedStatement != "p" || string(got.Parameters[0]) != "4321   " {
		t.Errorf("next = %v, sent %+v", next, got)
	}
}

func TestBackendProvesThatItLives(t *testing.T) {
	t.Parallel()
	r := newCaller(t)
	r.m.Excuse()
	if !r.m.Free() {
		t.Fatal("not free, although no message is to come")
	}
	var b Out
	r.m.Prove(&b)
	r.check("to the backend", "S", words(b.Bytes()))
	if r.m.Free() || r.m.Running() {
		t.Error("free, or running, before the answer")
	}
	r.client("Q:select 1", "", query("select 1")) // need not wait
	r.answer("", "", idle)
	r.answer("", "C Z:I", done, idle)
	if !r.m.Free() {
		t.Error("not free behind the answer")
	}
}

// FuzzBoundPIDs holds that nothing but pids of clients is overwritten in what a Bind has behind its names, however malformed.
func FuzzBoundPIDs(f *testing.F) {
	for _, b := range []*pgproto3.Bind{
		bindWith("", nil, []byte("5000001"), nil, []byte("x")),
		bindWith("", []int16{1}, binary4(otherPID), binary8(otherPID)),
		bindWith("", []int16{0, 1}, []byte("5000001"), binary4(otherPID)),
	} {
		p, err := b.Encode(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p[5+2:])
	}
	f.Fuzz(func(t *testing.T, values []byte) {
		before := bytes.Clone(values)
		found, same := boundPIDs(values), boundPIDs(before)
		for i, v := range found {
			if v.pid <= MaxPID || v.pid >= 1<<31 {
				t.Errorf("%d is no pid of a client's", v.pid)
			}
			v.put(realPID)
			if again := v; !again.binary && string(bytes.TrimRight(v.value, " ")) != "4321" || again.binary && again.read() && again.pid != realPID {
				t.Errorf("%q is no %d", v.value, realPID)
			}
			clear(v.value)
			clear(same[i].value)
		}
		if !bytes.Equal(values, before) {
			t.Errorf("something else was overwritten: %q, %q", values, before)
		}
	})
}
