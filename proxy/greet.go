package proxy

import (
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"sluice/internal/wire"
)

// greet tells the client that it is logged in: what Postgres has reported to its baseline, with the client's own
// application_name, and its key. tooLong are names that the client is told about first.
func (a *admission) greet(wc *wire.Conn, s *session, tooLong []string, params []wire.Param) error {
	first := []wire.Message{&pgproto3.AuthenticationOk{}}
	for _, name := range tooLong {
		first = append(first, noticeTooLong(name))
	}
	if err := wc.Queue(first...); err != nil {
		return err
	}
	if err := queueStatus(wc, params, s.application); err != nil {
		return err
	}
	last := []wire.Message{&pgproto3.BackendKeyData{ProcessID: s.pid, SecretKey: a.srv.cancels.key(s)}}
	if a.plainWarned() {
		last = append(last, noticePlain())
	}
	if err := wc.Send(append(last, &pgproto3.ReadyForQuery{TxStatus: 'I'})...); err != nil {
		return err
	}
	return a.nc.SetDeadline(time.Time{})
}

// queueStatus queues a ParameterStatus for each of params, and one for application_name, whose value is the client's own.
func queueStatus(wc *wire.Conn, params []wire.Param, application string) error {
	named := false
	var status pgproto3.ParameterStatus // which serves for one after the other
	for _, p := range params {
		status = pgproto3.ParameterStatus{Name: p.Name, Value: p.Value}
		if p.Name == "application_name" {
			status.Value, named = application, true
		}
		if err := wc.Queue(&status); err != nil {
			return err
		}
	}
	if named {
		return nil
	}
	status = pgproto3.ParameterStatus{Name: "application_name", Value: application}
	return wc.Queue(&status)
}
