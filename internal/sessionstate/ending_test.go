package sessionstate

import "testing"

func TestEnding(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"ROLLBACK; EXECUTE p":                               "ROLLBACK",
		" ;; /* ; */ rollback /* ; */ and chain ;execute p": "rollback /* ; */ and chain",
		`Rollback To Savepoint "a;b"; execute p`:            `Rollback To Savepoint "a;b"`,
		"END;EXECUTE p":                                     "END",
		"abort work; execute p; select 1":                   "abort work",
		"commit;execute p":                                  "commit",
		"ROLLBACK":                                          "",
		"ROLLBACK;":                                         "",
		"EXECUTE p; ROLLBACK":                               "",
		`"rollback"; execute p`:                             "",
		"rollbacks; execute p":                              "",
		"ROLLBACK; EXECUTE p('":                             "",
		"":                                                  "",
	} {
		first, ok := Ending(sql)
		if first != want || ok != (want != "") {
			t.Errorf("%q: got %q, %t, want %q", sql, first, ok, want)
		}
	}
}

func FuzzEnding(f *testing.F) {
	f.Add("ROLLBACK; EXECUTE p")
	f.Add("rollback to \"a;b\"; $x$;$x$")
	f.Fuzz(func(t *testing.T, sql string) {
		if first, ok := Ending(sql); ok && (len(first) < len("end") || len(first) >= len(sql)) {
			t.Errorf("%q: %q", sql, first)
		}
	})
}
