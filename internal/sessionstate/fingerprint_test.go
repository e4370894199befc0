package sessionstate

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFingerprint(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"":                                  "",
		"SELECT  pg_advisory_lock( 42 )\n;": "SELECT pg_advisory_lock( ? ) ;",
		"CREATE TEMP TABLE t AS SELECT 'it''s' AS x, 1.5e-3":              "CREATE TEMP TABLE t AS SELECT ? AS x, ?",
		"SELECT * FROM t WHERE id IN (1, 2,3) AND a = $1":                 "SELECT * FROM t WHERE id IN (?) AND a = $1",
		"/* trace=abc /* deep */ */ SELECT 1 -- why\n+ 0x1F":              "SELECT ? + ?",
		"SELECT $$a$$, $x$ $$ b $x$, E'\\'c', U&'d', N'e', B'1'":          "SELECT ?",
		`DECLARE "My Cursor" CURSOR WITH HOLD FOR SELECT 't'`:             `DECLARE "My Cursor" CURSOR WITH HOLD FOR SELECT ?`,
		"SET app.token = hush; LISTEN a":                                  "SET app.token = ?; LISTEN a",
		"SET app.token TO hush":                                           "SET app.token TO ?",
		"SET app.token = 'a;b'; LISTEN a":                                 "SET app.token = ?; LISTEN a",
		"SET a = b, 'c', 4 /* ; */; SELECT 1":                             "SET a = ?; SELECT ?",
		"ALTER ROLE bob SET app.token = hush":                             "ALTER ROLE bob SET app.token = ?",
		"UPDATE t SET a = b WHERE c = 7":                                  "UPDATE t SET a = b WHERE c = ?",
		`SELECT 'a\' || secret || 'b'`:                                    "SELECT ? …",
		"SELECT E'\x83\\' || secret || 'b'":                               "SELECT ? …",
		"SELECT 'without an end":                                          "SELECT ?",
		`SELECT "without an end`:                                          "SELECT …",
		"SELECT 1::int, col1, -2":                                         "SELECT ?::int, col1, -?",
		"SELECT \xff":                                                     "SELECT ?",
		"SELECT x\x83[$$, 'a $$ b'":                                       "SELECT x? …",
		"SELECT " + strings.Repeat("a, ", 100):                            "SELECT " + strings.Repeat("a, ", 76) + "a …",
		"SELECT '" + strings.Repeat("x", 2*maxFingerprinted) + "' FROM t": "SELECT ? …",
	} {
		if got := Fingerprint(sql); got != want {
			t.Errorf("Fingerprint(%.60q) = %q, want %q", sql, got, want)
		}
	}
}

func FuzzFingerprint(f *testing.F) {
	for _, sql := range fuzzSeeds {
		f.Add(sql)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		got := Fingerprint(sql)
		if len(got) > maxFingerprint || !utf8.ValidString(got) {
			t.Errorf("Fingerprint(%q) = %q: %d bytes", sql, got, len(got))
		}
		checkHidden(t, sql)
	})
}

// checkHidden holds that nothing of a literal is in a fingerprint.
func checkHidden(t *testing.T, content string) {
	t.Helper()
	double := strings.NewReplacer("'", "''")
	for _, literal := range []string{
		"'" + double.Replace(content) + "'",
		"E'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(content) + "'",
		"$t$" + strings.ReplaceAll(content, "$", "") + "$t$",
		"/* " + strings.NewReplacer("*", "", "/", "").Replace(content) + " */ 1",
	} {
		want := "SELECT ? FROM t WHERE a = ?"
		got := Fingerprint("SELECT " + literal + " FROM t WHERE a = 'x'")
		if begin, cut := strings.CutSuffix(got, cutOff); got != want && !(cut && strings.HasPrefix(want, begin)) {
			t.Errorf("the fingerprint of %q is %q, want %q or its beginning", literal, got, want)
		}
	}
}
