package sessionstate

import (
	"bytes"
	"strings"
	"testing"
)

var fuzzSeeds = []string{
	"", ";", "SELECT 1", "SET LOCAL x = 1", "SET local.x = 1", "PREPARE transaction AS SELECT 1",
	"SELECT set_config('a', f(b[1], 2), true)", "SELECT E'a\\'b''c', U&\"a\", $1, $a$ ; $$ $a$ /* /* */ */ -- x\n",
	"CREATE TABLE t AS EXECUTE function WITH NO DATA", "SELECT '\\'", "SELECT dbl\xc4\xb0nk('x')", "\x83[$$",
	"BEGIN IF a THEN SET x = 1; ELSE EXECUTE b; END IF; END",
}

// whole reports whether sql ends outside of literals and comments, so that what is put behind it is read as it is
// alone. (A line comment ends with the line.)
func whole(sql string) bool { return ScanString(sql)&Ambiguous == 0 }

func FuzzScan(f *testing.F) {
	for i, sql := range fuzzSeeds {
		f.Add([]byte(sql), []byte(fuzzSeeds[len(fuzzSeeds)-1-i]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		before := bytes.Clone(a)
		got := Scan(a)
		if !bytes.Equal(a, before) {
			t.Fatalf("Scan changed its argument %q", before)
		}
		if got != ScanString(string(a)) {
			t.Errorf("%q: Scan and ScanString differ", a)
		}
		if got>>len(reasonWords) != 0 {
			t.Errorf("Scan(%q) = %b: unnamed bits", a, got)
		}
		checkAppended(t, string(a), string(b))
		checkCase(t, string(a))
		ScanBody(a)
		ScanTag(a)
	})
}

// checkAppended holds that a text behind another keeps its signals.
func checkAppended(t *testing.T, a, b string) {
	t.Helper()
	if !whole(a) {
		return
	}
	if got := ScanString(a + "\n; SET x = 1"); got&Set == 0 {
		t.Errorf("%q with a SET behind it = %v, want set among them", a, got.Reasons())
	}
	joined, first, second := ScanString(a+"\n;"+b), ScanString(a), ScanString(b)
	if missing := (first | second) &^ joined; missing != 0 {
		t.Errorf("%q and %q joined = %v, lost %v", a, b, joined.Reasons(), missing.Reasons())
	}
	if got := ScanString("/* x /* y */ */ -- z\n" + a); got != first {
		t.Errorf("%q behind comments = %v, want %v", a, got.Reasons(), first.Reasons())
	}
}

// checkCase holds that ASCII case does not matter, where no dollar tag (which is case-sensitive) is in the text.
func checkCase(t *testing.T, a string) {
	t.Helper()
	if strings.Contains(a, "$") {
		return
	}
	swapped := []byte(a)
	for i, c := range swapped {
		if c|0x20 >= 'a' && c|0x20 <= 'z' {
			swapped[i] = c ^ 0x20
		}
	}
	if got, want := Scan(swapped), ScanString(a); got != want {
		t.Errorf("Scan(%q) = %v, want %v as for %q", swapped, got.Reasons(), want.Reasons(), a)
	}
}

// FuzzScanFindsHidden puts a signal behind literals made of the fuzzer's bytes, quoted as a careful client would.
func FuzzScanFindsHidden(f *testing.F) {
	for _, sql := range fuzzSeeds {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, content string) {
		double := strings.NewReplacer("'", "''")
		escape := strings.NewReplacer("'", "''", `\`, `\\`)
		tag := "$t$"
		if strings.Contains(content+"$", "$t$") {
			tag = "$other$"
		}
		for _, literal := range []string{
			"'" + double.Replace(content) + "'",
			"E'" + escape.Replace(content) + "'",
			`"` + strings.ReplaceAll(content, `"`, `""`) + `"`,
			tag + strings.ReplaceAll(content, tag, "") + tag,
			"-- " + strings.NewReplacer("\n", "", "\r", "").Replace(content) + "\n 1",
			"/* " + strings.NewReplacer("*", "", "/", "").Replace(content) + " */ 1",
		} {
			for tail, want := range map[string]Signals{"; SET x = 1": Set, "; LISTEN a; SELECT '": Listen} {
				if got := ScanString("SELECT " + literal + tail); got&(want|Ambiguous) == 0 {
					t.Errorf("SELECT %s%s = %v, want %v among them", literal, tail, got.Reasons(), want.First())
				}
			}
			if got := ScanString("SELECT "+literal) &^ (anywhere | Ambiguous); got&^(StateFunction|Dynamic|Replication|Backup|Clock|MaybeClock|Notify|Process) != 0 {
				t.Errorf("SELECT %s = %v: statements found inside a literal", literal, got.Reasons())
			}
		}
	})
}
