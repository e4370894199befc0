package sessionstate

// minName is the length of the shortest name that mentioned knows.
const minName = 6

// secondLetters holds for the first letter of a word which second letters, by their low five bits (the same for
// capitals), begin a name that mentioned knows.
var secondLetters = [256]uint32{
	'c': 1<<('o'&31) | 1<<('r'&31) | 1<<('u'&31), 'C': 1<<('o'&31) | 1<<('r'&31) | 1<<('u'&31),
	'd': 1 << ('b' & 31), 'D': 1 << ('b' & 31),
	'h': 1 << ('y' & 31), 'H': 1 << ('y' & 31),
	'j': 1 << ('w' & 31), 'J': 1 << ('w' & 31),
	'l': 1 << ('a' & 31), 'L': 1 << ('a' & 31),
	'n': 1<<('e'&31) | 1<<('o'&31), 'N': 1<<('e'&31) | 1<<('o'&31),
	'p': 1<<('g'&31) | 1<<('l'&31), 'P': 1<<('g'&31) | 1<<('l'&31),
	'q': 1 << ('u' & 31), 'Q': 1 << ('u' & 31),
	'r': 1 << ('e' & 31), 'R': 1 << ('e' & 31),
	's': 1 << ('e' & 31), 'S': 1 << ('e' & 31),
	't': 1 << ('s' & 31), 'T': 1 << ('s' & 31),
	'u': 1 << ('t' & 31), 'U': 1 << ('t' & 31),
	'x': 1 << ('p' & 31), 'X': 1 << ('p' & 31),
}

// mayBeName rules out most words that mentioned does not know.
func mayBeName(word string) bool {
	return len(word) >= minName && secondLetters[word[0]]>>(word[1]&31)&1 != 0
}

// mentioned returns what the mention of word, the name of a function, view or schema, is a signal of.
//
// Under a Turkish locale with a single-byte encoding Postgres folds the capital dotted I to an ASCII i, so a word with
// one is looked up folded as well.
func mentioned(word string) Signals {
	found := known(word)
	if found != 0 || !beyondASCII(word) {
		return found
	}
	var folded [32]byte // longer than anything by which known tells names apart
	n := 0
	for i := 0; i < len(word) && n < len(folded); i++ {
		c := word[i]
		if c == 0xc4 && i+1 < len(word) && word[i+1] == 0xb0 { // UTF-8
			i++
			c = 'i'
		} else if c == 0xdd { // LATIN5, WIN1254
			c = 'i'
		}
		folded[n] = c
		n++
	}
	return known(view(folded[:n]))
}

func beyondASCII(word string) bool {
	for i := range len(word) {
		if word[i] >= 0x80 {
			return true
		}
	}
	return false
}

func known(word string) Signals {
	if len(word) < minName {
		return 0
	}
	switch lower(word[0]) {
	case 'p':
		return knownP(word)
	case 's':
		return knownS(word)
	case 'c':
		return knownC(word)
	case 'l':
		return when(is(word, "lastval"), Sequence)
	case 'n':
		return when(is(word, "nextval") || is(word, "nextval_oid"), Nextval) | when(is(word, "notify"), Notify)
	case 'd':
		return when(begins(word, "dblink"), Dblink) |
			when(begins(word, "dbms_"), StateFunction) // orafce: buffers, alerts, seeds
	case 'h':
		return when(begins(word, "hypopg"), StateFunction)
	case 'j':
		return when(begins(word, "jwt_session_init"), StateFunction) // pg_session_jwt
	case 'q':
		return when(begins(word, "query_to_xml"), Dynamic)
	case 'r':
		return when(is(word, "reset_user"), StateFunction) // set_user
	case 't':
		return when(begins(word, "ts_stat") || begins(word, "ts_rewrite"), Dynamic)
	case 'u':
		return when(is(word, "utl_file"), StateFunction) // orafce
	case 'x':
		return when(is(word, "xpath_table"), Dynamic) // xml2
	}
	return 0
}

func knownC(word string) Signals {
	return when(is(word, "currval") || is(word, "currval_oid"), Sequence) |
		when(begins(word, "crosstab") || begins(word, "connectby"), Dynamic) // tablefunc
}

func knownS(word string) Signals {
	switch {
	case is(word, "set_config"), is(word, "set_config_by_name"):
		return SetConfig
	case is(word, "setseed"):
		return Setseed
	case is(word, "setval"), is(word, "setval_oid"), is(word, "setval3_oid"):
		return Nextval
	case is(word, "set_limit"), // pg_trgm
		is(word, "set_user"), is(word, "set_session_auth"), is(word, "set_user_u"), // set_user
		is(word, "set_system_time"), // temporal_tables
		is(word, "set_nls_sort"),    // orafce
		is(word, "sepgsql_setcon"):
		return StateFunction
	}
	return 0
}

func knownP(word string) Signals {
	switch {
	case word[2] == '_' && begins(word, "pg_"):
		return knownPg(word[len("pg_"):])
	case lower(word[1]) == 'g' && word[3] != '_':
		return 0
	case begins(word, "pgr_"): // pgRouting: the graph is the result of a text
		return Dynamic
	case begins(word, "pgv_"), // pg_variables
		begins(word, "pldbg_"), begins(word, "plpgsql_oid_debug"), // pldebugger
		begins(word, "pl_profiler_"), begins(word, "plpgsql_check_"),
		is(word, "plvdate"), is(word, "plvsubst"): // orafce
		return StateFunction
	}
	return 0
}

// knownPg looks up the rest of a name behind pg_.
func knownPg(rest string) Signals {
	switch {
	case is(rest, "temp"), begins(rest, "temp_"), begins(rest, "toast_temp"):
		return Temp
	case begins(rest, "advisory_xact_"), begins(rest, "try_advisory_xact_"):
		return 0
	case begins(rest, "advisory_"), begins(rest, "try_advisory_"):
		return AdvisoryLock
	case begins(rest, "prepared_statement"): // the view, and the function behind it
		return PreparedStatements
	case is(rest, "settings"):
		return sawSettings
	case begins(rest, "replication_origin_session_"),
		begins(rest, "create_logical_repl"), begins(rest, "create_physical_repl"),
		begins(rest, "copy_logical_repl"), begins(rest, "copy_physical_repl"):
		return Replication
	case is(rest, "notify"):
		return Notify
	case is(rest, "terminate_backend"), is(rest, "cancel_backend"), is(rest, "log_backend_memory_contexts"),
		is(rest, "stat_activity"), is(rest, "stat_get_activity"), is(rest, "locks"), is(rest, "lock_status"),
		is(rest, "blocking_pids"), is(rest, "safe_snapshot_blocking_pids"):
		return Process
	case is(rest, "backup_start"), is(rest, "backup_stop"), is(rest, "start_backup"), is(rest, "stop_backup"):
		return Backup
	}
	return 0
}

func when(claim bool, s Signals) Signals {
	if claim {
		return s
	}
	return 0
}
