package parity

func both() []string        { return []string{"session", "transaction"} }
func transaction() []string { return []string{"transaction"} }

// deliberate are the differences by the scripts' names. One that does not occur any more fails the test.
func deliberate() map[string]*difference {
	list := map[string]*difference{
		"terminate inside a copy": {reason: nobodyThis, modes: both(), direct: []string{
			`E SERROR | VERROR | C08P01 | Munexpected message type 0x58 during COPY from stdin | WCOPY parity_copy, line 2 | Fcopyfromparse.c | L292 | RCopyGetData`, lostSync,
		}},
		"end inside a copy": {reason: nobodyThis, modes: both(), direct: []string{
			`E SERROR | VERROR | C08006 | Munexpected EOF on client connection with an open transaction | WCOPY parity_copy, line 2 | Fcopyfromparse.c | L276 | RCopyGetData`, lostSync,
		}},
		"end inside a row of a copy": {reason: nobodyThis, modes: both(), direct: []string{
			`E SERROR | VERROR | C08006 | Munexpected EOF on client connection with an open transaction | WCOPY parity_copy, line 1 | Fcopyfromparse.c | L301 | RCopyGetData`, lostSync,
		}},
		"length of three inside a copy": {reason: ownWords, modes: both(), direct: []string{
			`E SERROR | VERROR | C08006 | Munexpected EOF on client connection with an open transaction | WCOPY parity_copy, line 1 | Fcopyfromparse.c | L301 | RCopyGetData`, lostSync,
		}, sluice: []string{violation}},
		"message of no type inside a copy": {reason: ownWords, modes: both(), direct: []string{
			`E SERROR | VERROR | C08P01 | Munexpected message type 0x21 during COPY from stdin | WCOPY parity_copy, line 1 | Fcopyfromparse.c | L292 | RCopyGetData`, lostSync,
		}, sluice: []string{violation}},
		"long names": {
			reason: "Postgres looks at the first 63 bytes of a statement's name only; Sluice tells longer ones apart", modes: transaction(),
			direct: []string{`E SERROR | VERROR | C42P05 | Mprepared statement "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2" already exists | Fprepare.c | L412 | RStorePreparedStatement`},
			sluice: []string{"1", "2", `D "\x00\x01\x00\x00\x00\x012"`, "C SELECT 1"},
		},
	}
	for name, typ := range map[string]string{
		"message of no type": "33", "message of type zero": "0", "message of the server's": "90", "password when none was asked for": "112",
		"message of no type in a block": "33", "message of no type in a pipeline": "33", "message of no type behind an error": "33",
	} {
		list[name] = &difference{reason: ownWords, modes: both(), direct: []string{
			"E SFATAL | VFATAL | C08P01 | Minvalid frontend message type " + typ + " | Fpostgres.c | L446 | RSocketBackend",
		}, sluice: []string{violation}}
	}
	for _, name := range []string{
		"length of three", "length of zero", "length that is negative", "length of more than a gigabyte", "length of three behind an error",
		"Sync of more than a small message may be", "Describe of more than a small message may be", "Terminate of more than a small message may be",
	} {
		list[name] = &difference{reason: kinder, modes: both(), direct: []string{"END"}, sluice: []string{violation, "END"}}
	}
	return list
}

// deliberateAlone are those of the scripts that are played alone.
func deliberateAlone() map[string]*difference {
	return map[string]*difference{
		"statement of a table that is gone": {
			reason: "a statement that could not be used is prepared anew, which fails in front of what Describe begins with",
			modes:  transaction(), direct: []string{`t "\x00\x00"`},
		},
	}
}
