package relay

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

var (
	errOutdated    = &pgproto3.ErrorResponse{Severity: "ERROR", Code: "0A000", Message: "cached plan must not change result type"}
	describePortal = &pgproto3.Describe{ObjectType: 'P'}
	rowOf1         = &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a"), DataTypeOID: 23}}}
)

// twice returns a machine whose backend has prepared "select * from t" as an unnamed statement and as the client's s.
func twice(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, planning()).attach()
	r.client("P: S P:sluice_1 S", "", parse("", "select * from t"), syncMsg, parse("s", "select * from t"), syncMsg)
	r.answer("", "1 Z:I 1 Z:I", parsed, idle, parsed, idle)
	return r
}

func TestBatchThatParsesWhatHasChangedIsRepeated(t *testing.T) {
	t.Parallel()
	values := bind("")
	values.Parameters = [][]byte{[]byte("value"), nil}
	values.ResultFormatCodes = []int16{1, 0}
	for name, tc := range map[string]struct {
		msgs          []pgproto3.Message
		sent, again   string
		answer        []pgproto3.Message
		answerToAgain string
	}{
		"unnamed": {
			[]pgproto3.Message{parse("", "select * from t"), values, describePortal, exec, syncMsg},
			"B:sluice_1 D: E S", "P:sluice_2 B:sluice_2 D: E S", []pgproto3.Message{parsed, bound, rowOf1, row, done, idle}, "2 T D C Z:I",
		},
		"described": {
			[]pgproto3.Message{parse("", "select * from t"), describe(""), syncMsg},
			"D:sluice_1 S", "P:sluice_2 D:sluice_2 S", []pgproto3.Message{parsed, &pgproto3.ParameterDescription{}, rowOf1, idle}, "t T Z:I",
		},
		"another name": {
			[]pgproto3.Message{parse("other", "select * from t"), bind("other"), exec, syncMsg},
			"B:sluice_1 E S", "P:sluice_2 B:sluice_2 E S", []pgproto3.Message{parsed, bound, row, done, idle}, "2 D C Z:I",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := twice(t)
			r.client(tc.sent, "", tc.msgs...)
			r.answer(tc.again, "1", errOutdated)
			if r.m.Free() {
				t.Error("free with a batch that is repeated")
			}
			r.answer("", tc.answerToAgain, append([]pgproto3.Message{idle}, tc.answer...)...)
			if !r.m.Free() || r.m.readies != 0 {
				t.Errorf("free = %t, %d answers outstanding", r.m.Free(), r.m.readies)
			}
			if got := r.m.TakeChange(); got != ChangedSchema {
				t.Errorf("the change is %d, want that of the schema", got)
			}
			r.client("D:sluice_? E S", "", bind("s"), exec, syncMsg) // was told before what it returns
			r.answer("", "E:0A000 Z:I", errNoStmt, idle)
		})
	}
}

func TestRunThatAsksWhatComesBackIsRepeated(t *testing.T) {
	t.Parallel()
	r := twice(t)
	r.client("B:sluice_1 D: E S", "", bind("s"), describePortal, exec, syncMsg)
	r.answer("P:sluice_2 B:sluice_2 D: E S", "", errOutdated)
	r.answer("", "E:0A000 Z:I", idle, parsed, errOutdated, idle) // once
	r.client("D:sluice_? E S", "", bind("s"), exec, syncMsg)
	r.answer("", "E:0A000 Z:I", errNoStmt, idle)
}

func TestWhatIsNotRepeated(t *testing.T) {
	t.Parallel()
	formats := bind("s")
	formats.Parameters = [][]byte{[]byte("value"), nil}
	formats.ResultFormatCodes = []int16{1, 0} // for two columns
	cut := twice(t)
	cut.client("B:sluice_1 D:", "", bind("s"), describePortal)
	cut.client("E S", "", exec, syncMsg)
	cut.answer("", "E:0A000 Z:I", errOutdated, idle)
	block := twice(t)
	block.client("Q:begin", "", query("begin"))
	block.answer("", "C Z:T", done, inBlock)
	block.client("B:sluice_1 D: E S", "", bind("s"), describePortal, exec, syncMsg)
	block.answer("", "E:0A000 Z:E", errOutdated, &pgproto3.ReadyForQuery{TxStatus: 'E'})
	for name, tc := range map[string]struct {
		msgs     []pgproto3.Message
		sent     string
		answer   []pgproto3.Message
		toClient string
	}{
		"told before":   {[]pgproto3.Message{bind("s"), exec, syncMsg}, "B:sluice_1 E S", []pgproto3.Message{errOutdated, idle}, "E:0A000 Z:I"},
		"a format each": {[]pgproto3.Message{formats, describePortal, exec, syncMsg}, "B:sluice_1 D: E S", []pgproto3.Message{errOutdated, idle}, "E:0A000 Z:I"},
		"something in front": {[]pgproto3.Message{bind("s"), exec, bind("s"), describePortal, exec, syncMsg}, "B:sluice_1 E B:sluice_1 D: E S",
			[]pgproto3.Message{bound, done, errOutdated, idle}, "2 C E:0A000 Z:I"},
		"something behind": {[]pgproto3.Message{bind("s"), describePortal, exec, syncMsg, query("select 1")}, "B:sluice_1 D: E S Q:select 1",
			[]pgproto3.Message{errOutdated, idle, done, idle}, "E:0A000 Z:I C Z:I"},
		"another error": {[]pgproto3.Message{bind("s"), describePortal, exec, syncMsg}, "B:sluice_1 D: E S", []pgproto3.Message{errSyntax, idle}, "E:42601 Z:I"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := twice(t)
			r.client(tc.sent, "", tc.msgs...)
			r.answer("", tc.toClient, tc.answer...)
		})
	}
}

func TestOnlyTheNameThatIsUsedMeansWhatIsParsedAnew(t *testing.T) {
	t.Parallel()
	for unnamed, again := range map[string]string{"select * from t": "sluice_2", "select 1": "sluice_3"} {
		r := twice(t)
		if unnamed == "select 1" {
			r.client("P: S", "", parse("", unnamed), syncMsg)
			r.answer("", "1 Z:I", parsed, idle)
		}
		r.client("B:sluice_1 E S", "", parse("other", "select * from t"), bind("other"), exec, syncMsg)
		r.answer("P:"+again+" B:"+again+" E S", "1", errOutdated)
		r.answer("", "2 C Z:I", idle, parsed, bound, done, idle)
		r.client("D:sluice_? E S", "", bind("s"), exec, syncMsg) // the client was told before what it returns
		r.answer("", "E:0A000 Z:I", errNoStmt, idle)
		r.client("B:"+again+" E S", "", bind("other"), exec, syncMsg)
		r.answer("", "2 C Z:I", bound, done, idle)
	}
}

func TestBatchOfEarlierIsNotRepeatedInPlaceOfOneUnderOwnNames(t *testing.T) {
	t.Parallel()
	r := twice(t)
	r.client("B:sluice_1 D: E S", "", bind("s"), describePortal, exec, syncMsg) // is kept
	r.answer("", "2 T C Z:I", bound, rowOf1, done, idle)
	r.client("P:s S Q:deallocate none", "", query("deallocate none"))
	r.answer(questionWords, "E:26000 Z:I", parsed, idle, errNoStmt, idle)
	r.answer("", "", held(true, byProtocol("s", "select * from t", "{}"))...)
	values := bind("s")
	values.Parameters = [][]byte{[]byte("other")}
	r.client("B:s D: E S", "", values, describePortal, exec, syncMsg)
	r.answer("", "E:0A000 Z:I", errOutdated, idle)
}
