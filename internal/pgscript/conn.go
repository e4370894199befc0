package pgscript

import (
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// ServerConn is a connection to a Server: what Postgres calls a backend.
type ServerConn struct {
	PID            uint32
	Key            []byte
	User, Database string
	Startup        map[string]string // all start-up parameters
	TLS            bool

	server    *Server
	raw, nc   net.Conn // raw is below TLS
	be        *pgproto3.Backend
	cancelled chan struct{}
	killed    chan struct{}
	endOnce   sync.Once

	// Below belongs to the goroutine that runs the connection.
	status     byte // I, T or E
	settings   map[string]string
	defaults   map[string]string // what RESET goes back to
	saved      map[string]string // settings when the transaction began
	local      map[string]string // what SET LOCAL hides until the transaction ends
	reported   map[string]string
	statements map[string]statement
	portals    map[string]*portal
	skipping   bool // an extended query failed: ignore all up to Sync
	notifying  []notifying
	box        mailbox

	mu  sync.Mutex // guards below
	log []string
}

type statement struct {
	sql    string
	params []uint32
}

// Log returns what has been received behind the start-up message, as Format writes it.
func (c *ServerConn) Log() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.log)
}

// firstSettings are the defaults, over them the server's, over them the client's.
func (c *ServerConn) firstSettings() map[string]string {
	c.defaults = map[string]string{
		"server_version": "17.0", "server_encoding": "UTF8", "client_encoding": "UTF8", "application_name": "",
		"DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "TimeZone": "UTC", "integer_datetimes": "on",
		"standard_conforming_strings": "on", "is_superuser": "off", "session_authorization": c.User,
		"search_path": `"$user", public`, "statement_timeout": "0",
	}
	maps.Copy(c.defaults, c.server.options.Settings)
	options := strings.Fields(c.Startup["options"])
	for i, o := range options {
		if o == "-c" && i+1 < len(options) {
			name, value, _ := strings.Cut(options[i+1], "=")
			c.defaults[canonical(name)] = value
		}
	}
	for name, value := range c.Startup {
		switch name {
		case "user", "database", "options", "replication":
		default:
			c.defaults[canonical(name)] = value
		}
	}
	return maps.Clone(c.defaults)
}

// kill ends the connection, with a FATAL from the goroutine that runs it or at once.
func (c *ServerConn) kill(withFatal bool) {
	c.endOnce.Do(func() {
		if !withFatal {
			_ = c.raw.Close() // first, so that nothing more can be said
		}
		close(c.killed)
		if withFatal {
			_ = c.raw.SetReadDeadline(time.Now().Add(-time.Second))
		}
	})
}

func (c *ServerConn) run() {
	err := c.login()
	for err == nil {
		err = c.next()
	}
	select {
	case <-c.killed:
		err = fatal("57P01", "terminating connection due to administrator command")
	default:
	}
	if e, ok := errors.AsType[*sqlError](err); ok {
		c.be.Send(e.response())
		_ = c.be.Flush()
	}
}

func (c *ServerConn) login() error {
	knobs := c.server.now()
	if err := c.pause(knobs.LoginDelay); err != nil {
		return err
	}
	if knobs.Refuse != nil {
		c.be.Send(knobs.Refuse)
		_ = c.be.Flush()
		return errEnded
	}
	if want := c.server.options.Passwords; want != nil {
		c.be.Send(&pgproto3.AuthenticationCleartextPassword{})
		if err := c.be.Flush(); err != nil {
			return err
		}
		msg, err := c.be.Receive()
		if err != nil {
			return err
		}
		p, ok := msg.(*pgproto3.PasswordMessage)
		if password, known := want[c.User]; !ok || !known || p.Password != password {
			return fatal("28P01", `password authentication failed for user "`+c.User+`"`)
		}
	}
	c.be.Send(&pgproto3.AuthenticationOk{})
	c.reportSettings()
	c.be.Send(&pgproto3.BackendKeyData{ProcessID: c.PID, SecretKey: c.Key})
	return c.ready()
}

// next receives a message and does what it says.
func (c *ServerConn) next() error {
	c.setIdle(true)
	msg, err := c.be.Receive()
	c.setIdle(false)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.log = append(c.log, Format(msg))
	c.mu.Unlock()
	select {
	case <-c.cancelled: // came while nothing ran
	default:
	}
	switch m := msg.(type) {
	case *pgproto3.Terminate:
		return errEnded
	case *pgproto3.Query:
		c.skipping = false
		if err := c.simple(m.String); err != nil {
			return err
		}
		return c.ready()
	case *pgproto3.Sync:
		c.skipping = false
		if c.status == 'I' {
			clear(c.portals)
		}
		return c.ready()
	case *pgproto3.FunctionCall:
		c.be.Send(&pgproto3.FunctionCallResponse{})
		return c.ready()
	case *pgproto3.CopyData, *pgproto3.CopyDone, *pgproto3.CopyFail:
		return nil // of a COPY that has failed
	}
	if c.skipping {
		return nil
	}
	return c.answer(c.extended(msg))
}

// answer sends an error of the extended protocol; other errors end the session.
func (c *ServerConn) answer(err error) error {
	e, ok := errors.AsType[*sqlError](err)
	if !ok || e.severity != "ERROR" {
		return err
	}
	c.be.Send(e.response())
	c.failed()
	c.skipping = true
	return nil
}

// failed notes an error in the transaction.
func (c *ServerConn) failed() {
	if c.status == 'T' {
		c.status = 'E'
	}
}

// ready sends what Postgres sends when it is ready.
func (c *ServerConn) ready() error {
	if c.status == 'I' {
		c.commitNotifying()
	}
	c.reportSettings()
	c.sendNotifications()
	c.be.Send(&pgproto3.ReadyForQuery{TxStatus: c.status})
	return c.be.Flush()
}

// reportSettings sends ParameterStatus for what has changed.
func (c *ServerConn) reportSettings() {
	for _, name := range reportedNames() {
		if old, ok := c.reported[name]; !ok || old != c.settings[name] {
			c.be.Send(&pgproto3.ParameterStatus{Name: name, Value: c.settings[name]})
			c.reported[name] = c.settings[name]
		}
	}
}

// pause waits as a query does: a cancel request or the end of the connection ends it early.
func (c *ServerConn) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.cancelled:
		return &sqlError{"ERROR", "57014", "canceling statement due to user request"}
	case <-c.killed:
		return errEnded
	}
}
