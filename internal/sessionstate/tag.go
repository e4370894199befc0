package sessionstate

import "strings"

// ScanTag returns what the tag of a CommandComplete says was done, for statements whose text was not seen or did not
// tell. The tags SET and RESET are no signal: they are the same for SET LOCAL. Neither is DECLARE CURSOR, the same
// with and without hold, nor CREATE TABLE a sign of a temporary one. It does not allocate.
func ScanTag(tag []byte) Signals {
	switch string(tag) {
	case "PREPARE":
		return Prepare
	case "DEALLOCATE", "DEALLOCATE ALL":
		return Deallocate
	case "DISCARD", "DISCARD ALL", "DISCARD PLANS", "DISCARD SEQUENCES", "DISCARD TEMP":
		return Discard
	case "LISTEN":
		return Listen
	case "UNLISTEN":
		return Unlisten
	case "LOAD":
		return Load
	case "DO":
		return Do
	case "CALL":
		return Call
	case "COMMIT", "COMMIT PREPARED", "PREPARE TRANSACTION":
		return Commit
	case "GRANT", "GRANT ROLE", "REVOKE", "REVOKE ROLE", "IMPORT FOREIGN SCHEMA", "REASSIGN OWNED":
		return DDL
	}
	for _, verb := range [...]string{"CREATE ", "ALTER ", "DROP "} {
		if strings.HasPrefix(view(tag), verb) {
			return DDL
		}
	}
	return 0
}
