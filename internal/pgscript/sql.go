package pgscript

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

const textOID = 25

// result is what a statement yields. nil values are NULL.
type result struct {
	columns []string // nil: no rows are returned
	rows    [][][]byte
	tag     string // for rows their number is added
	copyIn  bool
	copyOut bool
}

// simple runs a Query message's statements one after the other up to the first error.
func (c *ServerConn) simple(sql string) error {
	if err := c.pause(c.server.now().QueryDelay); err != nil {
		return c.plainError(err)
	}
	statements := splitTop(sql, ';')
	if len(statements) == 0 {
		c.be.Send(&pgproto3.EmptyQueryResponse{})
	}
	for _, s := range statements {
		r, err := c.execute(s, nil)
		if err == nil && r.columns != nil {
			c.be.Send(describe(r.columns))
		}
		if err == nil {
			_, err = c.send(r, 0, 0)
		}
		if err != nil {
			return c.plainError(err)
		}
	}
	return nil
}

// plainError sends an error of the simple protocol; other errors end the session.
func (c *ServerConn) plainError(err error) error {
	err = c.answer(err)
	c.skipping = false
	return err
}

// send sends the rows from position at, limit of them unless it is 0, or runs the COPY, and then the tag or
// PortalSuspended. It returns the position behind.
func (c *ServerConn) send(r result, at, limit int) (int, error) {
	tag := r.tag
	switch {
	case r.copyIn:
		n, err := c.copyIn()
		if err != nil {
			return at, err
		}
		tag = fmt.Sprintf("COPY %d", n)
	case r.copyOut:
		c.be.Send(&pgproto3.CopyOutResponse{ColumnFormatCodes: []uint16{0}})
		for i := range 3 {
			c.be.Send(&pgproto3.CopyData{Data: fmt.Appendf(nil, "%d\n", i+1)})
		}
		c.be.Send(&pgproto3.CopyDone{})
		tag = "COPY 3"
	case r.columns != nil:
		first := at
		for ; at < len(r.rows) && (limit == 0 || at-first < limit); at++ {
			c.be.Send(&pgproto3.DataRow{Values: r.rows[at]})
		}
		if limit > 0 && at-first == limit {
			c.be.Send(&pgproto3.PortalSuspended{})
			return at, nil
		}
		if r.tag == "SELECT" {
			tag = fmt.Sprintf("SELECT %d", at-first)
		}
	}
	c.be.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
	return at, nil
}

// copyIn takes the client's data and counts its lines.
func (c *ServerConn) copyIn() (lines int, err error) {
	c.be.Send(&pgproto3.CopyInResponse{ColumnFormatCodes: []uint16{0}})
	if err := c.be.Flush(); err != nil {
		return 0, err
	}
	for {
		msg, err := c.be.Receive()
		if err != nil {
			return 0, err
		}
		c.mu.Lock()
		c.log = append(c.log, Format(msg))
		c.mu.Unlock()
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			lines += strings.Count(string(m.Data), "\n")
		case *pgproto3.CopyDone:
			return lines, nil
		case *pgproto3.CopyFail:
			return 0, sqlErrorf("57014", "COPY from stdin failed: %s", m.Message)
		case *pgproto3.Sync, *pgproto3.Flush:
		default:
			return 0, fatal("08P01", "unexpected message during COPY from stdin")
		}
	}
}

// execute runs one statement. The first word decides; there is no grammar.
func (c *ServerConn) execute(sql string, args [][]byte) (result, error) {
	words := strings.Fields(sql)
	if len(words) == 0 {
		return result{}, syntaxError("")
	}
	verb := strings.ToUpper(words[0])
	if !known(verb) {
		return result{}, syntaxError(words[0])
	}
	if c.aborted(verb) {
		return result{}, abortedError()
	}
	switch verb {
	case "BEGIN", "START":
		return result{tag: "BEGIN"}, c.begin()
	case "COMMIT", "END":
		if c.status == 'E' {
			verb = "ROLLBACK"
		}
		return c.end(verb != "ROLLBACK"), nil
	case "ROLLBACK", "ABORT":
		return c.end(false), nil
	case "SET", "RESET", "SHOW", "DISCARD":
		return c.setting(verb, words[1:])
	case "PREPARE", "EXECUTE", "DEALLOCATE":
		return c.prepared(verb, sql, words[1:])
	case "SELECT":
		return c.query(strings.TrimSpace(sql[len("SELECT"):]), args)
	case "LISTEN", "UNLISTEN", "NOTIFY":
		return c.notify(verb, strings.TrimSpace(strings.TrimSpace(sql)[len(verb):])), nil
	case "INSERT":
		return result{tag: "INSERT 0 1"}, nil
	case "UPDATE", "DELETE":
		return result{tag: verb + " 1"}, nil
	case "COPY":
		in := strings.Contains(strings.ToUpper(sql), "STDIN")
		return result{copyIn: in, copyOut: !in}, nil
	case "CREATE", "DROP", "ALTER":
		words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(strings.ToUpper(w), "TEMP") })
		return result{tag: strings.ToUpper(strings.Join(words[:min(2, len(words))], " "))}, nil
	}
	return result{tag: verb}, nil
}

func (c *ServerConn) begin() error {
	if c.status == 'I' {
		c.status, c.saved, c.local = 'T', maps.Clone(c.settings), map[string]string{}
	}
	return nil
}

func (c *ServerConn) end(commit bool) result {
	if c.status != 'I' {
		if commit {
			maps.Copy(c.settings, c.local)
		} else {
			c.settings, c.notifying = c.saved, nil
		}
		c.status = 'I'
		clear(c.portals)
	}
	if commit {
		return result{tag: "COMMIT"}
	}
	return result{tag: "ROLLBACK"}
}

// setting runs SET name {TO|=} value, SET LOCAL, RESET, SHOW and DISCARD ALL.
func (c *ServerConn) setting(verb string, words []string) (result, error) {
	local := verb == "SET" && len(words) > 0 && strings.EqualFold(words[0], "LOCAL")
	if len(words) > 1 && (local || strings.EqualFold(words[0], "SESSION")) {
		words = words[1:]
	}
	name, value, _ := strings.Cut(strings.Join(words, " "), "=")
	if before, after, ok := cutFold(name, " TO "); ok {
		name, value = before, after
	}
	name, value = canonical(strings.TrimSpace(name)), unquote(strings.TrimSpace(value))
	if name == "" {
		return result{}, syntaxError("")
	}
	current, known := c.settings[name]
	switch {
	case verb == "SHOW" && known:
		return result{columns: []string{name}, rows: [][][]byte{{[]byte(current)}}, tag: "SHOW"}, nil
	case verb == "SHOW", verb == "SET" && !known && !strings.Contains(name, "."):
		return result{}, sqlErrorf("42704", "unrecognized configuration parameter %q", name)
	case verb == "DISCARD":
		if c.status != 'I' {
			return result{}, sqlErrorf("25001", "DISCARD ALL cannot run inside a transaction block")
		}
		clear(c.statements)
		clear(c.portals)
		c.settings = maps.Clone(c.defaults)
		return result{tag: "DISCARD ALL"}, nil
	case name == "all":
		c.settings = maps.Clone(c.defaults)
	case verb == "RESET":
		c.set(name, c.defaults[name], false)
	default:
		c.set(name, value, local)
	}
	return result{tag: verb}, nil
}

// set sets a setting, to the end of the transaction if local.
func (c *ServerConn) set(name, value string, local bool) {
	if local && c.status == 'I' {
		return // as Postgres: only a warning
	}
	if _, hidden := c.local[name]; local && !hidden {
		c.local[name] = c.settings[name]
	} else if !local {
		delete(c.local, name)
	}
	c.settings[name] = value
}

// prepared runs PREPARE name AS sql, EXECUTE name and DEALLOCATE {name|ALL}.
func (c *ServerConn) prepared(verb, sql string, words []string) (result, error) {
	if len(words) > 1 && verb == "DEALLOCATE" && strings.EqualFold(words[0], "PREPARE") {
		words = words[1:]
	}
	if len(words) == 0 {
		return result{}, syntaxError("")
	}
	name, list, _ := strings.Cut(strings.Join(words, " "), "(")
	name, _, _ = strings.Cut(name, " ")
	name = strings.Trim(name, `"`)
	if verb == "DEALLOCATE" && strings.EqualFold(name, "ALL") {
		clear(c.statements)
		return result{tag: "DEALLOCATE ALL"}, nil
	}
	if verb == "PREPARE" {
		_, body, _ := cutFold(sql, " AS ")
		return result{tag: "PREPARE"}, c.prepare(name, statement{sql: body, params: parameters(body, nil)})
	}
	st, ok := c.statements[name]
	if !ok {
		return result{}, sqlErrorf("26000", "prepared statement %q does not exist", name)
	}
	if verb == "DEALLOCATE" {
		delete(c.statements, name)
		return result{tag: verb}, nil
	}
	var args [][]byte
	for _, a := range splitTop(strings.TrimSuffix(list, ")"), ',') {
		args = append(args, []byte(unquote(a)))
	}
	return c.execute(st.sql, args)
}

// query runs the expressions of a SELECT.
func (c *ServerConn) query(list string, args [][]byte) (result, error) {
	r := result{columns: names(list), tag: "SELECT"}
	if c.server.options.Answers && strings.Contains(list, "pg_listening_channels()") { // what Sluice asks behind a transaction
		r.columns, r.rows = []string{"kind", "name", "value", "usual"}, c.holdings()
		return r, nil
	}
	if n, ok := call(list, "generate_series"); ok {
		_, last, _ := strings.Cut(n, ",")
		count, _ := strconv.Atoi(strings.TrimSpace(last))
		for i := range count {
			r.rows = append(r.rows, [][]byte{strconv.AppendInt(nil, int64(i+1), 10)})
		}
		return r, nil
	}
	var row [][]byte
	for _, expression := range splitTop(list, ',') {
		expression, _, _ = cutFold(expression, " AS ")
		value, err := c.eval(expression, args)
		if err != nil {
			return result{}, err
		}
		row = append(row, value)
	}
	r.rows = [][][]byte{row}
	return r, nil
}

// eval computes a literal, a parameter or one of a few functions.
func (c *ServerConn) eval(expression string, args [][]byte) ([]byte, error) {
	e, _, _ := strings.Cut(strings.TrimSpace(expression), "::")
	lower := strings.TrimPrefix(strings.ToLower(e), "pg_catalog.")
	inside := splitTop(between(e), ',')
	first := ""
	if len(inside) > 0 {
		first = unquote(inside[0])
	}
	switch name, _, _ := strings.Cut(lower, "("); {
	case lower == "null":
		return nil, nil
	case strings.HasPrefix(e, "'"):
		return []byte(unquote(e)), nil
	case strings.HasPrefix(e, "$"):
		if n, err := strconv.Atoi(e[1:]); err == nil && n >= 1 && n <= len(args) {
			return args[n-1], nil
		}
		return nil, sqlErrorf("42P02", "there is no parameter %s", e)
	case lower == "1/0":
		return nil, sqlErrorf("22012", "division by zero")
	case lower == "current_user":
		return []byte(c.User), nil
	case name == "current_database":
		return []byte(c.Database), nil
	case name == "pg_backend_pid":
		return strconv.AppendUint(nil, uint64(c.PID), 10), nil
	case name == "pg_terminate_backend", name == "pg_cancel_backend":
		return c.signal(name, e, args)
	case name == "pg_sleep":
		seconds, _ := strconv.ParseFloat(first, 64)
		return []byte{}, c.pause(time.Duration(seconds * float64(time.Second)))
	case name == "current_setting":
		return []byte(c.settings[canonical(first)]), nil
	case name == "set_config" && len(inside) == 3:
		return c.setConfig(inside, args)
	case name == "repeat" && len(inside) == 2:
		n, _ := strconv.Atoi(inside[1])
		return []byte(strings.Repeat(first, n)), nil
	}
	if _, err := strconv.ParseFloat(e, 64); err == nil {
		return []byte(e), nil
	}
	return nil, sqlErrorf("42703", "column %q does not exist", e)
}

// setConfig is set_config; NULL is the default.
func (c *ServerConn) setConfig(inside []string, args [][]byte) ([]byte, error) {
	name, err := c.eval(inside[0], args)
	if err != nil {
		return nil, err
	}
	value, err := c.eval(inside[1], args)
	if err != nil {
		return nil, err
	}
	setting := canonical(string(name))
	if value == nil {
		value = []byte(c.defaults[setting])
	}
	c.set(setting, string(value), strings.EqualFold(inside[2], "true"))
	return value, nil
}

// known reports whether execute knows the verb.
func known(verb string) bool {
	return slices.Contains([]string{"ABORT", "ALTER", "BEGIN", "COMMIT", "COPY", "CREATE", "DEALLOCATE", "DELETE", "DISCARD",
		"DROP", "END", "EXECUTE", "INSERT", "LISTEN", "LOCK", "NOTIFY", "PREPARE", "RELEASE", "RESET", "ROLLBACK", "SAVEPOINT",
		"SELECT", "SET", "SHOW", "START", "TRUNCATE", "UNLISTEN", "UPDATE"}, strings.ToUpper(verb))
}

// aborted reports whether the transaction has failed and the verb does not end it.
func (c *ServerConn) aborted(verb string) bool {
	return c.status == 'E' && !slices.Contains([]string{"COMMIT", "END", "ROLLBACK", "ABORT"}, strings.ToUpper(verb))
}

func abortedError() error {
	return sqlErrorf("25P02", "current transaction is aborted, commands ignored until end of transaction block")
}

func syntaxError(near string) error {
	if near == "" {
		return sqlErrorf("42601", "syntax error at end of input")
	}
	return sqlErrorf("42601", "syntax error at or near %q", near)
}

func sqlErrorf(code, format string, v ...any) error {
	return &sqlError{"ERROR", code, fmt.Sprintf(format, v...)}
}
