package sessionstate

import (
	"slices"
	"strings"
	"testing"
)

func TestScanFindsWhatSpeaksOfProcesses(t *testing.T) {
	t.Parallel()
	runScan(t, []scanCase{
		{"SELECT pg_terminate_backend(4200000)", Process},
		{"SELECT pg_catalog.pg_cancel_backend($1)", Process},
		{`SELECT "pg_terminate_backend"(1)`, Process},
		{"SELECT state FROM pg_stat_activity WHERE pid = 1", Process},
		{"SELECT * FROM pg_locks", Process},
		{"SELECT pg_blocking_pids(1)", Process},
		{"SELECT 'pg_terminate_backend(1)'", 0},
		{"SELECT 1 -- pg_terminate_backend", 0},
		{"SELECT pg_backend_pid()", 0},
		{"SELECT pg_stat_reset()", 0},
	})
}

func TestPIDsAreNumbersThatStandAlone(t *testing.T) {
	t.Parallel()
	const floor = 4_000_000
	for sql, want := range map[string][]string{
		"SELECT pg_terminate_backend(4200000)":                                                {"4200000"},
		"select pg_terminate_backend( 4200000 )":                                              {"4200000"},
		"SELECT pg_terminate_backend(4200000::int)":                                           {"4200000"},
		"SELECT pg_terminate_backend('4200000')":                                              {"4200000"},
		"SELECT pg_terminate_backend('4200000'::int), 2147483647":                             {"4200000", "2147483647"},
		"SELECT 1 FROM pg_locks WHERE pid=4200000":                                            {"4200000"},
		"SELECT 1 FROM pg_locks WHERE pid IN (4200000,4200001)":                               {"4200000", "4200001"},
		"SELECT/* 4200000 */4200001--4200002":                                                 {"4200001"},
		"EXECUTE x(4200000);":                                                                 {"4200000"},
		"SELECT 4000000, 3999999, 0, 2147483648, 99999999999999":                              nil,
		"SELECT 4200000.5, 4200000e1, 4200000x, 4200000_0, a4200000, a.4200000, $4200000":     nil,
		"SELECT ' 4200000', '4200000 ', '', '+4200000', '4200000''', '''4200000', 'x4200000'": nil,
		"SELECT E'4200000', B'4200000', X'4200000', N'4200000', U&'4200000', $$4200000$$":     nil,
		`SELECT "4200000" FROM "4200001"`:                                                     nil,
	} {
		pids, _ := PIDs(sql, floor)
		var got []string
		for _, p := range pids {
			digits := sql[p.At : p.At+p.Len]
			if n, ok := ParsePID(digits); !ok || n != p.Value {
				t.Errorf("%s: %q is taken for %d", sql, digits, p.Value)
			}
			got = append(got, digits)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: pids %q, want %q", sql, got, want)
		}
	}
}

func TestPIDsTellsOfSignals(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		"SELECT pg_terminate_backend(1)":                         true,
		`SELECT pg_catalog."pg_cancel_backend"(1)`:               true,
		"SELECT PG_Terminate_Backend(pid) FROM pg_stat_activity": true,
		"SELECT pid FROM pg_stat_activity":                       false,
		"SELECT 'pg_cancel_backend' -- pg_cancel_backend":        false,
	} {
		if _, got := PIDs(sql, 0); got != want {
			t.Errorf("%s: signals = %v, want %v", sql, got, want)
		}
	}
}

func FuzzPIDs(f *testing.F) {
	for _, sql := range fuzzSeeds {
		f.Add(sql + " 4200000 '4200001'")
	}
	f.Fuzz(func(t *testing.T, sql string) {
		end := 0
		pids, _ := PIDs(sql, 1<<22)
		for _, p := range pids {
			if p.At < end || p.At+p.Len > len(sql) {
				t.Fatalf("PIDs(%q) = %v: out of order or of the text", sql, pids)
			}
			end = p.At + p.Len
			if n, ok := ParsePID(sql[p.At:end]); !ok || n != p.Value || n <= 1<<22 {
				t.Errorf("%q: %q is taken for %d", sql, sql[p.At:end], p.Value)
			}
		}
		if strings.TrimLeft(sql, "0123456789") == "" && len(pids) > 1 {
			t.Errorf("PIDs(%q) = %v: more than one", sql, pids)
		}
	})
}
