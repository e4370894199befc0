package sessionstate

// Ending returns the first of several statements in sql, if it is one that ends a transaction, or goes back to a savepoint in it, and
// it is certain where it ends.
func Ending(sql string) (first string, ok bool) {
	all, ok := statements(sql)
	if !ok || len(all) < 2 {
		return "", false
	}
	pieces := all[0]
	for _, word := range []string{"rollback", "abort", "commit", "end"} {
		if pieces[0].word(word) {
			return sql[pieces[0].from:pieces[len(pieces)-1].to()], true
		}
	}
	return "", false
}
