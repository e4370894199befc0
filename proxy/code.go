package proxy

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"sluice/auth"
	"sluice/internal/backend"
	"sluice/internal/relay"
	"sluice/internal/sessionstate"
)

const (
	// codeEvery is how old the knowledge of a database's code may become before the next backend reads it again.
	codeEvery = time.Minute
	// codeTimeout bounds reading it.
	codeTimeout = 5 * time.Second
)

// codeQuery finds the code that may run behind a statement without standing in it: functions that are not Postgres's own,
// with words in their source that could change a session or make other code, or in languages whose source tells nothing (those in C that came
// with an extension are trusted, as are the constructors that Postgres makes for a type of ranges, and information_schema), and rules,
// policies, defaults and constraints that call Postgres's own functions that change a session. A search_path that roles or the database
// have by default counts as such code where CREATE TABLE makes a temporary one under it.
const codeQuery = `SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text, l.lanname, p.prosrc
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
AND n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema}'::pg_catalog.name[])
AND NOT (l.lanname OPERATOR(pg_catalog.=) ANY ('{c,internal}'::pg_catalog.name[]) AND EXISTS (
 SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
 AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"))
AND NOT (l.lanname OPERATOR(pg_catalog.=) 'internal'::pg_catalog.name AND p.prosrc OPERATOR(pg_catalog.~) '^(multi)?range_constructor[0-3]$')
AND (l.lanname OPERATOR(pg_catalog.<>) ALL ('{sql,plpgsql}'::pg_catalog.name[])
 OR p.prosrc OPERATOR(pg_catalog.=) '' OR p.prosrc OPERATOR(pg_catalog.~*)
 '(\mcreate\M|\malter\M|set_config|\mset\M|\mreset\M|advisory|\mlisten|\munlisten|\mload\M|temp|\mhold\M|\mprepare\M|execute|deallocate|discard|currval|lastval|setseed|dblink|set_limit|replication|\mdo\M|\mcall\M|pg_settings|query_to_xml|cursor_to_xml|ts_stat|ts_rewrite|crosstab|connectby|xpath_table)')
UNION ALL
SELECT 'an expression of '::pg_catalog.text OPERATOR(pg_catalog.||) e.what, 'catalog', pg_catalog.replace(CASE e.kind
 WHEN 'r' THEN pg_catalog.pg_get_ruledef(e.id) WHEN 'c' THEN pg_catalog.pg_get_constraintdef(e.id)
 ELSE pg_catalog.concat_ws(' ', pg_catalog.pg_get_expr(e.a, e.rel), pg_catalog.pg_get_expr(e.b, e.rel)) END, '::text', '')
FROM (SELECT 'r' AS kind, ev_class::pg_catalog.regclass::pg_catalog.text AS what, ev_class::pg_catalog.oid AS rel, oid AS id,
  ev_action AS a, ev_qual AS b FROM pg_catalog.pg_rewrite
 UNION ALL SELECT 'd', adrelid::pg_catalog.regclass::pg_catalog.text, adrelid, oid, adbin, NULL FROM pg_catalog.pg_attrdef
 UNION ALL SELECT 'c', conname::pg_catalog.text, conrelid, oid, conbin, NULL FROM pg_catalog.pg_constraint
 UNION ALL SELECT 'p', polname::pg_catalog.text, polrelid, oid, polqual, polwithcheck FROM pg_catalog.pg_policy) e
WHERE e.id OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
AND pg_catalog.concat(e.a::pg_catalog.text, e.b::pg_catalog.text) OPERATOR(pg_catalog.~) (
 SELECT ':funcid (' OPERATOR(pg_catalog.||) pg_catalog.string_agg(f.oid::pg_catalog.text, '|') OPERATOR(pg_catalog.||) ') '
 FROM pg_catalog.pg_proc f WHERE f.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
 AND f.proname OPERATOR(pg_catalog.~) '^(set_config|setseed|pg_(try_)?advisory_(lock|unlock).*|currval|lastval|query_to_xml.*|pg_replication_origin_session.*)$')
UNION ALL
SELECT 'a default search_path with pg_temp', 'catalog', 'pg_temp' FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c
WHERE s.setdatabase OPERATOR(pg_catalog.=) ANY (ARRAY[0, (SELECT d.oid FROM pg_catalog.pg_database d
 WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())]::pg_catalog.oid[]) AND c OPERATOR(pg_catalog.~) '^search_path=.*pg_temp'`

// code is what is known of a database's code.
type code struct {
	read  time.Time
	does  *sessionstate.Code // nil: it is not known
	first string             // the first function that could change a session behind a statement; empty: there is none
	epoch uint64             // how often clients have changed it
}

// codeBook keeps what is known of the code of a tenant's databases, by their names in Postgres. It is safe for concurrent
// use.
type codeBook struct {
	mu        sync.Mutex // guards below
	databases map[string]code
	readings  map[string]int // readings under way
}

// reading counts the readings of a database that are under way, and returns how many are left: n is 1 at the beginning
// of one and -1 at its end.
func (b *codeBook) reading(database string, n int) (left int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.readings == nil {
		b.readings = make(map[string]int)
	}
	bump(b.readings, database, n)
	return b.readings[database]
}

// look returns what is known of the database.
func (b *codeBook) look(database string) code {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.databases[database]
}

// note takes down what has been read of the database since before was looked up. What clients have changed meanwhile may be
// missing in it: then the code stays unknown.
func (b *codeBook) note(database string, before, c code) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.databases[database]
	if c.epoch = now.epoch; now.epoch != before.epoch {
		c.does = nil
	}
	b.put(database, c)
}

// forget takes down that the code is another now.
func (b *codeBook) forget(database string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.databases[database]
	c.does = nil
	c.epoch++
	b.put(database, c)
}

// put is called with the mutex held.
func (b *codeBook) put(database string, c code) {
	if b.databases == nil {
		b.databases = make(map[string]code)
	}
	b.databases[database] = c
}

// codeReader opens a lane's backends, and reads the database's code with them when that is not known or has not been read
// for long.
type codeReader struct {
	*backend.Dialer
	lane *lane
	read bool // whether the code matters
}

// dialer returns what opens the lane's backends, with its present settings.
func (l *lane) dialer() *codeReader {
	return &codeReader{Dialer: l.settings.dialer, lane: l, read: (l.key.Mode == modeTransaction || l.settings.observe) && l.settings.check != relay.Hint}
}

// Dial implements pool.Dialer.
func (r *codeReader) Dial(ctx context.Context, t backend.Target) (*backend.Conn, error) {
	conn, err := r.Dialer.Dial(ctx, t)
	if err != nil {
		reason := describe(err).reason
		r.lane.srv.metrics.BackendLoginFailed(r.lane.key.Tenant, reason.String())
		if reason == ReasonBackendAuthFailed {
			r.lane.doubtSecret()
		}
		return nil, err
	}
	if !r.read || time.Since(r.lane.tenant.code.look(r.lane.code).read) < codeEvery {
		return conn, nil
	}
	r.lane.readCode(ctx, conn)
	if !conn.Broken() {
		return conn, nil
	}
	_ = conn.Close()
	return r.Dialer.Dial(ctx, t)
}

// doubtSecret has the role's secret asked for anew at its next login: Postgres has another one.
func (l *lane) doubtSecret() {
	if ts := l.srv.state.Load().tenants[strings.ToLower(l.key.Tenant)]; ts != nil {
		ts.auth.Doubt(l.key.Role)
	}
}

// readCode reads the database's code over a connection to it, and has all pools of the database learn it. Code that Postgres
// will not show, or too much of it, may do anything; where the connection is lost, all stays as it was known. It blocks, and must not be called on a loop.
func (l *lane) readCode(ctx context.Context, conn *backend.Conn) {
	ctx, cancel := context.WithTimeout(ctx, codeTimeout)
	defer cancel()
	before := l.tenant.code.look(l.code)
	rows, err := conn.Query(ctx, backend.Limit{Rows: 10_000, Bytes: 16 << 20}, codeQuery)
	c := code{read: time.Now()}
	var binding string
	if _, refused := errors.AsType[*auth.ServerError](err); refused || errors.Is(err, backend.ErrLimit) {
		c.does, c.first, binding = understand([][]*string{nil})
	} else if err == nil {
		c.does, c.first, binding = understand(rows)
	}
	if err != nil {
		l.srv.log.Warn("code of the database could not be read", logPool, l.key.String(), logError, err)
	}
	if c.does == nil {
		return
	}
	l.tenant.code.note(l.code, before, c)
	for _, other := range l.tenant.all() {
		if other.code == l.code {
			other.loop.Do(other.learnCode)
		}
	}
	if c.first == "" || c.first == before.first {
		return
	}
	attrs := []any{logTenant, l.key.Tenant, logDatabase, l.key.Database, logSetting, "state_check"}
	if binding != "" {
		l.srv.log.Warn("code in this database may change the session behind any statement in ways that cannot be asked about: "+
			"sessions of the transaction port are pinned", append(attrs, logFunction, binding)...)
		return
	}
	l.srv.log.Warn("code in this database may change the session behind any statement: PostgreSQL is asked after each transaction",
		append(attrs, logFunction, c.first)...)
}

// learnCode takes over what is known of the database's code; sessions that wait for that go on. To be called on the loop.
func (l *lane) learnCode() {
	waited, c := !l.behind.Known(), l.tenant.code.look(l.code)
	l.behind.Set(l.settings.check, c.does)
	if c.does != nil {
		l.mistrust(c)
		l.learnt = c
	}
	if !waited || !l.behind.Known() {
		return
	}
	for _, b := range l.pool.Held() {
		if bc, ok := b.Owner.(*backendConn); ok && bc.session != nil && !bc.session.ended {
			s := bc.session
			s.m.CodeKnown(&l.toBackend)
			s.flush()
			s.settle()
		}
	}
}

// mistrust has no backend lent again on which something may have run that was not known to change sessions: in the instant
// before a client's change of the code was heard of, or since somebody else has changed it.
func (l *lane) mistrust(c code) {
	if l.learnt.does == nil || l.learnt.does.Equal(c.does) || !c.does.Opaque {
		return
	}
	l.pool.Renew()
	if l.learnt.epoch != c.epoch {
		return
	}
	for _, b := range l.pool.Held() {
		if bc, ok := b.Owner.(*backendConn); ok {
			bc.set.Mistrust()
		}
	}
}

// schemaChanged is called when a transaction has ended that may have changed the schema: what is interned may mean something
// else, and there may be other code. While new code is being read, no transaction begins on the transaction port.
func (l *lane) schemaChanged(change relay.Change) {
	l.codeStale = true
	hold := change == relay.ChangedCode && l.settings.check != relay.Hint
	if hold {
		l.tenant.code.forget(l.code)
	}
	for _, other := range l.tenant.all() {
		switch {
		case other.code != l.code:
		case other == l:
			l.takeChange(hold)
		default:
			other.loop.Post(func() { other.takeChange(hold) })
		}
	}
	if hold || time.Since(l.tenant.code.look(l.code).read) >= sweepEvery {
		l.refreshCode()
	}
}

// redefined is called when a transaction has ended that may have changed what new sessions begin with: clients log in with what is
// so now.
func (l *lane) redefined(settings bool) {
	if settings {
		l.tenant.redefined.Add(1)
	}
	if ts := l.srv.state.Load().tenants[strings.ToLower(l.tenant.name)]; ts != nil {
		ts.store.Forget()
	}
}

// takeChange is one lane's part of a change of the schema.
func (l *lane) takeChange(hold bool) {
	l.ageStatements()
	l.learnCode()
	if hold && l.key.Mode == modeTransaction {
		l.pool.Pause()
	}
}

func (l *lane) ageStatements() {
	for _, b := range l.baselines {
		b.table.Age()
	}
}

// sweepCode reads the code again when that was long ago, as others may change it, or when it was put off.
func (l *lane) sweepCode() {
	l.learnCode()
	known := l.tenant.code.look(l.code)
	age := time.Since(known.read)
	if l.key.Mode == modeTransaction && (age >= codeEvery || known.does == nil) && l.traffic.Clients > 0 || l.codeStale && age >= sweepEvery {
		l.refreshCode()
	}
}

// refreshCode reads the code again, over a connection of its own. To be called on the loop.
func (l *lane) refreshCode() {
	if l.reading || l.settings.check == relay.Hint || l.pool.Vacated() {
		return
	}
	l.codeStale, l.reading = false, true
	l.tenant.code.reading(l.code, 1)
	target, dialer := l.target, l.settings.dialer
	l.done.Go(func() {
		ctx, cancel := context.WithTimeout(l.srv.ctx, codeTimeout)
		defer cancel()
		conn, err := dialer.Dial(ctx, *target)
		if err == nil {
			l.readCode(ctx, conn)
			_ = conn.Close()
		}
		l.loop.Post(l.codeRead)
	})
}

// codeRead goes on after the code has been read, or could not be.
func (l *lane) codeRead() {
	l.reading = false
	left := l.tenant.code.reading(l.code, -1)
	if l.codeStale && l.settings.check != relay.Hint { // it has changed meanwhile
		l.refreshCode()
		return
	}
	if left > 0 {
		return // who reads last resumes
	}
	for _, other := range l.tenant.all() {
		if other.code == l.code {
			other.loop.Post(other.pool.Resume)
		}
	}
}

// understand returns what the code that has been read may do, and the names of the first that could change a session, and of
// the first that could do so in ways that Postgres cannot be asked about; empty if there is none.
func understand(rows [][]*string) (does *sessionstate.Code, first, binding string) {
	does = &sessionstate.Code{}
	for _, row := range rows {
		name := "?"
		switch {
		case len(row) != 3 || row[0] == nil || row[1] == nil || row[2] == nil || *row[2] == "":
			does.AddUnreadable()
		case *row[1] == "sql" || *row[1] == "plpgsql" || *row[1] == "catalog":
			name = *row[0]
			if !does.Add(*row[2]) {
				continue
			}
		default:
			name = *row[0]
			does.AddUnreadable()
		}
		first = cmp.Or(first, name)
		if does.Unknown {
			binding = cmp.Or(binding, name)
		}
	}
	return does, first, binding
}
