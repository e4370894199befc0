package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// What the audit log tells of.
const (
	auditLogin      = "login"
	auditRefusal    = "refusal"
	auditPolicy     = "policy changed"
	auditConfirmed  = "policy confirmed"
	auditRolledBack = "policy rolled back"
	auditExpired    = "policy entry expired"
	auditReload     = "configuration reloaded"
	auditBanned     = "address banned"
	auditCleared    = "bans cleared"
)

// Author is who changes the policy, or ends bans, as far as that can be known.
type Author struct {
	Via        string // "api", "socket" (the same, through admin.socket), "signal", "watch"; "clock" is Sluice itself
	ClientAddr string // of the caller; empty: there is none
	Name       string // what the caller calls himself, which nobody has checked
	User       string // of the operating system, which the system vouches for; empty: it is not known
}

func (a Author) attrs() []any {
	attrs := []any{logAuthor, a.Via}
	if a.ClientAddr != "" {
		attrs = append(attrs, logClientAddr, a.ClientAddr)
	}
	if a.Name != "" {
		attrs = append(attrs, logAuthorName, a.Name)
	}
	if a.User != "" {
		attrs = append(attrs, logAuthorUser, a.User)
	}
	return attrs
}

// String returns the author in one line, as the state file keeps it.
func (a Author) String() string {
	text := a.Via
	if a.User != "" {
		text += " " + a.User
	}
	if a.ClientAddr != "" {
		text += " " + a.ClientAddr
	}
	if a.Name != "" {
		text += fmt.Sprintf(" (calls himself %q)", a.Name)
	}
	return text
}

// audit is the record of who was let in, who was not, and who changed the policy: lines of JSON in a file of their own,
// log.audit. It is safe for concurrent use. It writes at once, so that no loop may call it.
type audit struct {
	lines slog.Handler
	fault *slog.Logger // is told when the file cannot be written

	mu     sync.Mutex // guards below
	file   *os.File   // nil: nothing is recorded
	broken bool       // the last write failed
}

func newAudit(fault *slog.Logger) *audit {
	a := &audit{fault: fault}
	a.lines = slog.NewJSONHandler(a, &slog.HandlerOptions{ReplaceAttr: auditKeys})
	return a
}

// auditKeys calls the message what it is, and leaves out the level, which says nothing here.
func auditKeys(groups []string, attr slog.Attr) slog.Attr {
	switch {
	case len(groups) > 0:
	case attr.Key == slog.MessageKey:
		attr.Key = "event"
	case attr.Key == slog.LevelKey:
		return slog.Attr{}
	}
	return attr
}

// openAudit opens the file at path to be added to, nil for none.
func openAudit(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log.audit: %w", err)
	}
	return f, nil
}

// use records to f from now on, and closes what it recorded to before. nil: nothing is recorded.
func (a *audit) use(f *os.File) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		_ = a.file.Close()
	}
	a.file, a.broken = f, false
}

// on reports whether anything is recorded.
func (a *audit) on() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.file != nil
}

// note records an event. Keys and values alternate, as slog has them.
func (a *audit) note(event string, attrs ...any) {
	if !a.on() {
		return
	}
	r := slog.NewRecord(time.Now(), slog.LevelInfo, event, 0)
	r.Add(attrs...)
	_ = a.lines.Handle(context.Background(), r) // Write has told
}

// Write implements io.Writer for the one line of an event.
func (a *audit) Write(line []byte) (int, error) {
	a.mu.Lock()
	if a.file == nil {
		a.mu.Unlock()
		return len(line), nil
	}
	n, err := a.file.Write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	news := err != nil && !a.broken
	a.broken = err != nil
	a.mu.Unlock()
	if news {
		a.fault.Error("audit log cannot be written", logError, err)
	}
	return n, err
}

// recordLogin records a client that was let in.
func (a *admission) recordLogin(method string) {
	if !a.srv.audit.on() {
		return
	}
	attrs := append(a.attrs(), logAuthMethod, method)
	if version, cipher := a.agreed(); version != "" {
		attrs = append(attrs, logTLSVersion, version, logTLSCipher, cipher)
	}
	if cert := a.certificate(); cert != nil {
		attrs = append(attrs, logCertificate, shown(cert.Subject.String(), maxShownError))
	}
	if a.subject != "" {
		attrs = append(attrs, logSubject, shown(a.subject, maxShownSubject))
	}
	a.srv.audit.note(auditLogin, attrs...)
}

// refusal records a client that was told no, or not even that.
func (a *audit) refusal(f *facts, e *endError) {
	row := reasons[e.reason]
	if row.severity == "" && e.raw == nil || !a.on() {
		return // it went away by itself
	}
	attrs := append(f.attrs(), logReason, row.label, logSQLState, row.sqlstate)
	if e.detail != "" {
		attrs = append(attrs, logDetail, e.detail)
	}
	if e.err != nil {
		attrs = append(attrs, logError, shownError(e.err))
	}
	a.note(auditRefusal, attrs...)
}
