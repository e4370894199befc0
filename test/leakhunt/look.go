package leakhunt

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// lookSQL reads the whole state that a session can see, in a text that is no signal by itself and calls nothing by a name that
// the session's own search_path could hide. The backend's pid comes first, and is not compared. Settings are
// shown with their defaults where one of them is not Postgres's; that of the application_name is known to Sluice alone.
const lookSQL = `SELECT pg_catalog.pg_backend_pid()::pg_catalog.text, pg_catalog.concat_ws(' | ',
 current_user, session_user, pg_catalog.current_setting('role'), pg_catalog.current_setting('session_authorization'),
 pg_catalog.current_setting('application_name'), 'unusual', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', s.name, s.setting, s.reset_val), ', ' ORDER BY s.name) FROM pg_catalog.pg_settings s
  WHERE s.name OPERATOR(pg_catalog.<>) 'application_name' AND s.context OPERATOR(pg_catalog.=) ANY ('{user,superuser}'::pg_catalog.text[])
  AND (s.setting OPERATOR(pg_catalog.<>) s.boot_val OR s.reset_val OPERATOR(pg_catalog.<>) s.boot_val)),
 (SELECT pg_catalog.string_agg(pg_catalog.concat_ws('=', n, pg_catalog.current_setting(n, true)), ', ' ORDER BY n)
  FROM pg_catalog.unnest('{app.user_id,app.tenant,my.flag,app.trigger,app.entered,app.maybe}'::pg_catalog.text[]) n
  WHERE pg_catalog.length(pg_catalog.current_setting(n, true)) OPERATOR(pg_catalog.>) 0),
 'cursors', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.name, c.is_holdable::pg_catalog.text), ', ' ORDER BY c.name) FROM pg_catalog.pg_cursors c
  WHERE pg_catalog.length(c.name) OPERATOR(pg_catalog.>) 0),
 'locks', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', l.locktype, l.classid::pg_catalog.text, l.objid::pg_catalog.text, l.mode), ', ' ORDER BY l.locktype, l.objid, l.mode)
  FROM pg_catalog.pg_locks l WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.locktype OPERATOR(pg_catalog.=) 'advisory'),
 'objects', (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.relkind::pg_catalog.text, c.relname), ', ' ORDER BY c.relname) FROM pg_catalog.pg_class c
  WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()),
 (SELECT pg_catalog.string_agg(p.proname, ', ' ORDER BY p.proname) FROM pg_catalog.pg_proc p
  WHERE p.pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()),
 'channels', (SELECT pg_catalog.string_agg(h, ', ' ORDER BY h) FROM pg_catalog.pg_listening_channels() h))`

// reported are the settings that Postgres reports when they change, as the client was told last.
var reported = [...]string{"application_name", "client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings",
	"session_authorization", "is_superuser", "default_transaction_read_only", "search_path"}

// look is what a session sees of itself.
func look(ctx context.Context, conn *pgconn.PgConn) (string, error) {
	results, err := conn.Exec(ctx, lookSQL).ReadAll()
	if err != nil || len(results) != 1 || len(results[0].Rows) != 1 {
		return answer(conn, results, err)
	}
	var b strings.Builder
	b.Write(results[0].Rows[0][1])
	for _, name := range reported {
		b.WriteString(" | " + name + "=" + conn.ParameterStatus(name))
	}
	return b.String(), nil
}
