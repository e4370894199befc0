package sessionstate

import (
	"strconv"
	"strings"
	"testing"
)

const pgbenchSelect = "SELECT abalance FROM pgbench_accounts WHERE aid = $1;"

// insert is an INSERT of at least size bytes, in rows of numbers and prose.
func insert(size int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO articles (id, title, body, price) VALUES ")
	for i := 0; b.Len() < size; i++ {
		b.WriteString("(" + strconv.Itoa(i) + ", 'A title of some words', 'Several sentences here: the reader''s time " +
			"is precious, so they say as little as possible, and then they stop.', 12.50),\n")
	}
	b.WriteString("(0, '', '', 0)")
	return b.String()
}

func TestScanDoesNotAllocate(t *testing.T) {
	for _, sql := range []string{
		pgbenchSelect, insert(4 << 10), `SET LOCAL "x" = E'a\'b'; SELECT set_config('a', $$b$$, true)`,
		"SELECT dbl\xc4\xb0nk('a very long name', pg_create_log\xc4\xb0cal_replication_slot_and_more())",
	} {
		bytes := []byte(sql)
		if n := testing.AllocsPerRun(100, func() { Scan(bytes); ScanString(sql); ScanBody(bytes) }); n != 0 {
			t.Errorf("scanning %.40q allocates %v times", sql, n)
		}
	}
	tag := []byte("CREATE TABLE")
	if n := testing.AllocsPerRun(100, func() { ScanTag(tag) }); n != 0 {
		t.Errorf("ScanTag allocates %v times", n)
	}
}

func BenchmarkScan(b *testing.B) {
	for name, sql := range map[string]string{
		"pgbench-select": pgbenchSelect,
		"insert-1MiB":    insert(1 << 20),
		"literal-1MiB":   "INSERT INTO t VALUES ('" + strings.Repeat("0123456789abcdef", 1<<16) + "')",
	} {
		b.Run(name, func(b *testing.B) {
			text := []byte(sql)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				Scan(text)
			}
		})
	}
}

func BenchmarkScanTag(b *testing.B) {
	tag := []byte("SELECT 1")
	for b.Loop() {
		ScanTag(tag)
	}
}
